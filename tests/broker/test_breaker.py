"""The breaker and budget that an endpoint's credentials share."""

from __future__ import annotations

import math

import pytest

from sidecar.broker.breaker import THRESHOLD, Breaker


def break_open(breaker: Breaker, *, at: float = 0.0) -> None:
    for _ in range(THRESHOLD):
        breaker.begin()
        breaker.end(at)
        breaker.failed(at)


def test_a_closed_breaker_holds_nothing_back() -> None:
    breaker = Breaker()
    breaker.begin()
    assert breaker.opens_at(0.0, retry=True) == -math.inf


def test_three_failures_in_a_row_open_it_and_space_the_requests() -> None:
    breaker = Breaker()
    break_open(breaker)
    assert breaker.open
    assert breaker.opens_at(0.5, retry=False) == 1.5


def test_after_the_first_minute_the_spacing_is_fifteen_seconds() -> None:
    breaker = Breaker()
    break_open(breaker)
    breaker.begin()
    breaker.end(70.0)
    breaker.failed(70.0)
    assert breaker.opens_at(70.0, retry=False) == 85.0


def test_while_a_probe_is_under_way_no_second_one_is_admitted() -> None:
    breaker = Breaker()
    break_open(breaker)
    breaker.begin()
    assert breaker.opens_at(5.0, retry=True) > 5.0
    breaker.end(6.0)
    assert breaker.answered()
    assert not breaker.open
    assert breaker.opens_at(6.0, retry=True) == -math.inf


def test_an_answer_of_a_working_idp_is_no_recovery() -> None:
    breaker = Breaker()
    breaker.failed(0.0)
    assert not breaker.answered()


@pytest.mark.parametrize("requests", [1, 2])
def test_no_30_minutes_see_more_than_250_failing_requests(requests: int) -> None:
    breaker, now, sent = Breaker(), 0.0, []
    while now < 7200.0:
        sent += [now] * requests
        breaker.charge(now, requests)
        now = max(now, breaker.opens_at(now, retry=True)) + 0.001
    windows = [sum(start <= at < start + 1800.0 for at in sent) for start in sent]
    assert max(windows) <= 250


def test_the_budget_never_delays_a_retry_by_more_than_30_seconds() -> None:
    breaker = Breaker()
    breaker.charge(0.0, 10_000)
    assert breaker.opens_at(0.0, retry=True) == 30.0
    assert breaker.opens_at(0.0, retry=False) == -math.inf
