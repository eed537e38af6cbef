"""Figures of a fleet, out of instants."""

from __future__ import annotations

import pytest

from benchmarks.fleet import outcomes
from benchmarks.fleet.runs import Plan, Seen

DOWN = (0.0, 1800.0)


def seen(asked: list[tuple[float, int]], *, down: tuple[float, float] | None = None, size: int = 2) -> Seen:
    plan = Plan(size=size, hours=1, seed=1, down=down)
    return Seen(plan, asked, frozenset(range(size)), ended_at=36_000.0)


def test_a_peak_is_found_wherever_it_begins() -> None:
    instants = [0.0, 0.9, 1.1, 1.2, 1.8, 5.0]
    assert outcomes.most_within(instants, 1.0) == 4
    assert outcomes.bars(instants, 1.0, 0.0, 6.0) == [2, 3, 0, 0, 0, 1]
    assert outcomes.most_within([], 1.0) == 0


def test_a_stretch_does_not_hold_both_its_ends() -> None:
    assert outcomes.most_within([0.0, 60.0], 60.0) == 1


def test_the_first_request_of_each_is_its_start_and_the_others_are_refreshes() -> None:
    run = seen([(0.1, 0), (0.2, 1), (1000.0, 1), (1100.0, 0), (2000.0, 0)])
    assert run.gathered() == [0.1, 0.2]
    assert run.refreshes() == [1000.0, 1100.0, 2000.0]


def test_after_an_outage_only_those_in_trouble_were_gathered_by_it() -> None:
    plan = Plan(size=2, hours=1, seed=1, down=DOWN)
    run = Seen(plan, [(5.0, 0), (6.0, 0), (7.0, 1), (1801.0, 1), (1802.0, 0), (3000.0, 0)], frozenset({0}), 36_000.0)
    assert run.gathered() == [1802.0]
    assert run.refreshes() == [1801.0, 3000.0]
    assert run.most_by_one() == 2


@pytest.mark.parametrize(("latest", "met"), [(1829.9, True), (1830.1, False)])
def test_a_return_that_one_sidecar_notices_too_late_is_a_miss(latest: float, met: bool) -> None:
    asked = [(1805.0, 0), (latest, 1), *((4000.0 + 1000 * step, step % 2) for step in range(30))]
    outcome = outcomes.outage("outage", seen(asked, down=DOWN), promised_seconds=30.0)
    noticed = next(each for each in outcome.targets if each.unit == "s")
    assert noticed.met is met


def test_a_stampede_at_the_return_is_a_miss() -> None:
    later = [(4000.0 + 30 * step, step % 900) for step in range(900)]
    together = [(1801.0, number) for number in range(900)]
    spread = [(1800.0 + number / 30, number) for number in range(900)]
    for asked, met in ((together, False), (spread, True)):
        outcome = outcomes.outage("outage", seen(asked + later, down=DOWN, size=900), promised_seconds=30.0)
        peak = next(each for each in outcome.targets if "peak second" in each.what)
        assert peak.met is met


def test_refreshes_in_step_are_a_miss() -> None:
    starts = [(number / 300, number) for number in range(900)]
    in_step = [(3000.0 * cycle + number / 300, number) for cycle in range(1, 12) for number in range(900)]
    outcome = outcomes.day("a day", seen(starts + in_step, size=900))
    assert [each.met for each in outcome.targets] == [True, True, False]
    assert "300 300 300" in outcome.facts[0]
