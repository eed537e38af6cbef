"""A run in words, as JSON and as JUnit's XML."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from sidecar.rehearsal import reports
from sidecar.rehearsal.run import Result
from sidecar.rehearsal.verdict import findings
from tests.rehearsal.plays import bad, good, scenario, timeline


@pytest.fixture
def result() -> Result:
    """A run in which one request failed that should not have."""
    kept = timeline(good(0), bad(1.5), good(2), refreshes={"orders": 1})
    play = scenario(expect={"refreshes": 1})
    return Result("mine", play, kept, findings(play.expect, kept, ["orders"]), ["a note"])


def test_in_words_it_ends_with_the_verdict(result: Result) -> None:
    text = reports.verdict(result)
    assert "  requests: 2 x 200, 1 x 503 token_unavailable\n" in text
    assert "  FAILED  1 of 3 requests failed, at most 0 may; the first at 1.5 s on api" in text
    assert "  ok      orders got 1 new tokens" in text
    assert text.endswith("FAILED  mine\n")
    assert (
        reports.line(result.timeline.entries[0])
        == "     0.0 s  api              first failed request: 503 token_unavailable"
    )
    assert reports.heading("mine", "A test.") == "mine: A test.\n"


def test_as_json_it_holds_everything(result: Result) -> None:
    [told] = json.loads(reports.as_json([result]))["scenarios"]
    assert (told["name"], told["passed"], told["requests"], told["failed"]) == ("mine", False, 3, 1)
    assert told["first_failed"] == {"at": 1.5, "route": "api", "status": 503, "reason": "token_unavailable"}
    assert [each["met"] for each in told["expectations"]] == [False, True]
    assert told["timeline"][0]["what"] == "first failed request: 503 token_unavailable"
    assert told["notes"] == ["a note"]


def test_as_junit_each_expectation_is_a_case(result: Result) -> None:
    root = ElementTree.fromstring(reports.as_junit([result]))
    [suite] = root.findall("testsuite")
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("mine", "2", "1")
    first, second = suite.findall("testcase")
    assert [failure.get("message", "")[:24] for failure in first.findall("failure")] == ["1 of 3 requests failed, "]
    assert second.find("failure") is None
    assert "first failed request" in (suite.findtext("system-out") or "")
