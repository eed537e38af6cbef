"""The record tells where failing begins and where it ends, once each."""

from __future__ import annotations

from sidecar.rehearsal.timeline import Entry, Kind, Outcome, Timeline
from tests.rehearsal.plays import bad, good


def test_a_run_of_failures_has_a_line_at_its_begin_and_one_at_its_end() -> None:
    told: list[Entry] = []
    timeline = Timeline(lambda: 7.0, told.append)
    for outcome in (good(0), bad(1), bad(2), good(3), good(4)):
        timeline.came_to(outcome)
    assert [(entry.at, entry.kind, entry.who, entry.what) for entry in told] == [
        (7.0, Kind.REQUEST, "api", "first failed request: 503 token_unavailable"),
        (7.0, Kind.REQUEST, "api", "requests go well again, 2 failed"),
    ]
    assert told == timeline.entries


def test_an_answer_to_an_earlier_request_ends_no_run_of_failures() -> None:
    timeline = Timeline(lambda: 7.0)
    for outcome in (bad(2), good(1)):
        timeline.came_to(outcome)
    assert len(timeline.entries) == 1


def test_routes_fail_each_for_itself_and_failures_are_kept_in_the_order_they_began() -> None:
    timeline = Timeline(lambda: 0.0)
    late, early = Outcome(5.0, "a", 0, "no_answer"), bad(1)
    for outcome in (late, good(2), early):
        timeline.came_to(outcome)
    assert timeline.failed == [early, late]
    assert [entry.what for entry in timeline.entries] == [
        "first failed request: no_answer",
        "first failed request: 503 token_unavailable",
    ]
