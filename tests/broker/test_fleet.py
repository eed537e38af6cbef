"""Many sidecars and one IdP, on simulated time: they spread, and they leave it alone while it is down.

The same with a thousand of them, and a day, is ``python -m benchmarks.fleet``.
"""

from __future__ import annotations

import pytest

from benchmarks.fleet.outcomes import most_within
from benchmarks.fleet.runs import HOUR, Plan, Seen, simulate
from sidecar.broker import broker
from sidecar.broker.broker import START_SPREAD_SECONDS

FIVE_MINUTES = 300.0
"""In place of the minute: a fleet ten times as small needs longer stretches to be as even."""


@pytest.fixture(autouse=True)
def spread(first_tokens_at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production."""
    monkeypatch.setattr(broker, "START_SPREAD_SECONDS", START_SPREAD_SECONDS)


def peak_of_mean(seen: Seen) -> float:
    refreshes = seen.refreshes()
    mean = len(refreshes) * FIVE_MINUTES / (seen.ended_at - refreshes[0])
    return most_within(refreshes, FIVE_MINUTES) / mean


@pytest.mark.parametrize("refresh_in", [None, 1800.0])
def test_a_fleet_that_starts_in_one_second_spreads(refresh_in: float | None) -> None:
    seen = simulate(Plan(size=100, hours=5, seed=3, refresh_in=refresh_in))
    starts = seen.gathered()
    assert len(starts) == 100
    assert most_within(starts, 1.0) <= 1.5 * 100 / START_SPREAD_SECONDS
    assert min(seen.refreshes()) >= 0.3 * HOUR
    assert peak_of_mean(seen) <= 2.5


@pytest.mark.parametrize(("minutes", "app_pause", "within"), [(30, 1.0, 30.0), (30, None, 30.0), (0.5, 1.0, 2.0)])
def test_an_outage_costs_few_attempts_and_ends_without_a_stampede(
    minutes: float, app_pause: float | None, within: float
) -> None:
    end = minutes * 60.0
    seen = simulate(Plan(size=40, hours=5, seed=4, down=(0.0, end), app_pause=app_pause))
    returns = seen.gathered()
    assert len(returns) == 40
    assert seen.most_by_one() <= 200
    assert returns[-1] - end <= within
    assert most_within(returns, within / 4) <= 2.5 * 40 / 4
    assert peak_of_mean(seen) <= 3.0


def test_the_same_seed_gives_the_same_run() -> None:
    plan = Plan(size=5, hours=2, seed=7, down=(0.0, 20.0), app_pause=1.0)
    assert simulate(plan) == simulate(plan)
    assert simulate(plan) != simulate(Plan(size=5, hours=2, seed=8, down=(0.0, 20.0), app_pause=1.0))
