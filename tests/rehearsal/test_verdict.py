"""What is expected is held against what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.rehearsal.scenario import Expectation
from sidecar.rehearsal.verdict import findings
from tests.rehearsal.plays import bad, good, timeline

if TYPE_CHECKING:
    from sidecar.rehearsal.timeline import Timeline


def met(kept: Timeline, **expected: Any) -> dict[str, bool]:
    return {each.name: each.met for each in findings(Expectation(**expected), kept, ["orders"])}


def test_no_request_may_fail_unless_it_is_said() -> None:
    assert met(timeline(good(0))) == {"failed": True}
    assert met(timeline(good(0), bad(1))) == {"failed": False}
    assert met(timeline(bad(0), bad(1)), failed=2) == {"failed": True}


def test_the_first_failure_is_named_with_its_reason() -> None:
    [finding] = findings(Expectation(), timeline(good(0), bad(1.25, "upstream_401", 401), bad(2)), [])
    assert finding.what == "2 of 3 requests failed, at most 0 may; the first at 1.2 s on api: 401 upstream_401"


def test_a_request_that_fails_for_another_reason_is_found() -> None:
    kept = timeline(bad(1), bad(2, "upstream_401", 401))
    assert met(kept, failed=9, reasons=("token_unavailable",)) == {"failed": True, "reasons": False}
    assert met(kept, failed=9, reasons=("token_unavailable", "upstream_401"))["reasons"]


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (timeline(bad(4), good(6), quiet_since=5), True),
        (timeline(bad(4), bad(6.5), good(7), quiet_since=5), True),
        (timeline(bad(4), bad(8), good(9), quiet_since=5), False),
        (timeline(good(6), bad(6.5), quiet_since=5), False),
        (timeline(good(4), quiet_since=5), False),
        (timeline(good(6)), True),
    ],
)
def test_recovery_is_counted_from_the_end_of_the_last_event(kept: Timeline, expected: bool) -> None:
    assert met(kept, failed=9, recovered_within=2.0)["recovered_within"] is expected


def test_each_credential_gets_its_tokens() -> None:
    kept = timeline(good(0), refreshes={"orders": 2})
    assert met(kept, refreshes=2)["refreshes orders"]
    assert not met(kept, refreshes=3)["refreshes orders"]
