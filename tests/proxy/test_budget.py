"""The retry budget: a share of the traffic, and a few more."""

from __future__ import annotations

from sidecar.proxy.budget import FEWEST, SHARE, WINDOW_SECONDS, RetryBudget


class Traffic:
    """How many requests were served so far."""

    def __init__(self) -> None:
        self.served = 0

    def __call__(self) -> int:
        return self.served


def spend(budget: RetryBudget, now: float) -> int:
    """Ask until it says no; how often it said yes."""
    count = 0
    while count < 1_000_000 and budget.allows(now):
        count += 1
    return count


def test_without_traffic_a_few_are_allowed_in_each_window() -> None:
    budget = RetryBudget(Traffic())
    assert spend(budget, 100.0) == FEWEST
    assert spend(budget, 100.0 + WINDOW_SECONDS - 0.1) == 0
    assert spend(budget, 100.0 + WINDOW_SECONDS) == FEWEST


def test_with_traffic_a_share_of_it_is_allowed() -> None:
    traffic = Traffic()
    budget = RetryBudget(traffic)
    assert budget.allows(100.0)
    traffic.served = 10_000
    assert spend(budget, 101.0) == SHARE * 10_000 - 1


def test_a_new_window_begins_with_the_traffic_of_the_last_one() -> None:
    traffic = Traffic()
    budget = RetryBudget(traffic)
    budget.allows(100.0)
    traffic.served = 10_000
    assert spend(budget, 100.0 + WINDOW_SECONDS) == SHARE * 10_000


def test_traffic_of_long_ago_does_not_count() -> None:
    traffic = Traffic()
    budget = RetryBudget(traffic)
    budget.allows(100.0)
    traffic.served = 1_000_000
    assert spend(budget, 100.0 + 2 * WINDOW_SECONDS) == FEWEST


def test_it_is_strained_when_half_of_it_is_spent() -> None:
    budget = RetryBudget(Traffic())
    for _ in range(FEWEST // 2):
        assert not budget.is_strained
        budget.allows(100.0)
    assert budget.is_strained
    budget.allows(100.0 + WINDOW_SECONDS)
    assert not budget.is_strained


def test_it_shows_what_was_spent() -> None:
    budget = RetryBudget(Traffic())
    budget.allows(100.0)
    assert repr(budget) == "<RetryBudget spent=1>"
