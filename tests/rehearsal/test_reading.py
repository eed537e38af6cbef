"""Scenario files are read as strictly as the configuration: every error at once, each with its place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from sidecar.config.problems import ConfigurationErrors
from sidecar.errors import UsageError
from sidecar.rehearsal import reading

if TYPE_CHECKING:
    from pathlib import Path

VALID = """\
description: A test.
duration: 10s
steps:
  - {at: 1s, event: outage:4s}
  - {at: 2s, end: outage}
expect:
  failed: 3
  reasons: [token_unavailable, upstream_401]
  recovered_within: 500ms
"""


def test_a_scenario_is_read_with_its_defaults() -> None:
    scenario = reading.parse(VALID, "mine.yaml")
    assert (scenario.duration, scenario.ttl, scenario.traffic.rate) == (10.0, 20.0, 20.0)
    assert [(step.at, step.event, step.end) for step in scenario.steps] == [
        (1.0, "outage:4s", None),
        (2.0, None, "outage"),
    ]
    assert (scenario.expect.failed, scenario.expect.recovered_within) == (3, 0.5)


def test_an_event_may_be_a_bare_number() -> None:
    assert reading.parse("description: x\nduration: 9s\nsteps: [{at: 1s, event: 429}]\n", "x").steps[0].event == "429"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "mine.yaml:"),
        ("duration: 10s\n", "mine.yaml:1:1: the scenario needs the key 'description'"),
        ("description: x\nduration: 10s\ntempo: 3\n", "mine.yaml:3:1: unknown key 'tempo'"),
        ("description: x\nduration: 10\n", "mine.yaml:2:11: 'duration': a duration needs its unit"),
        ("description: x\nduration: 10s\nsteps: [{at: 1s}]\n", "a step has either an 'event' or an 'end'"),
        (
            "description: x\nduration: 10s\nsteps: [{at: 1s, event: outage, end: outage}]\n",
            "a step has either an 'event' or an 'end'",
        ),
        (
            "description: x\nduration: 10s\nsteps: [{at: 1s, event: outtage:3s}]\n",
            "mine.yaml:3:25: 'event': no event has this name; did you mean 'outage'?",
        ),
        ("description: x\nduration: 10s\nsteps: [{at: 1s, event: latency}]\n", "'event': latency needs its value"),
        ("description: x\nduration: 10s\nsteps: [{at: 10s, event: revoke}]\n", "'at' is at or after the end"),
        (
            "description: x\nduration: 9s\nsteps: [{at: 3s, event: revoke}, {at: 2s, event: revoke}]\n",
            "'at' is before the step above",
        ),
        ("description: x\nduration: 9s\nsteps: [{at: 3s, end: outage}]\n", "this event has not begun"),
        ("description: x\nduration: 9s\nsteps: [{at: 3s, end: revoke}]\n", "no event that lasts has this name"),
        ("description: x\nduration: 9s\nexpect: {reasons: [token_unavailible]}\n", "did you mean 'token_unavailable'?"),
        ("description: x\nduration: 9s\nduration: 8s\n", "this key stands here a second time"),
        ("description: x\nduration: 9s\nexpect: {failed: -1}\n", "a number from 0"),
        ("- a\n- list\n", "a mapping is wanted"),
        ("description: [\n", "mine.yaml:"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(ConfigurationErrors, match=re.escape(expected)) as caught:
        reading.parse(text, "mine.yaml")
    assert caught.value.exit_code == 3
    assert "the configuration" not in str(caught.value)


def test_all_errors_come_at_once() -> None:
    with pytest.raises(ConfigurationErrors) as caught:
        reading.parse("duration: 1\nsteps: [{at: 2s, event: nonsense}]\nfoo: 1\n", "mine.yaml")
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("kind", ["absent", "a folder", "no text"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mine.yaml"
    if kind == "a folder":
        path.mkdir()
    elif kind == "no text":
        path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationErrors, match="the scenario"):
        reading.load(path)


def test_a_name_is_a_shipped_scenario_and_a_path_is_a_file() -> None:
    assert reading.find("expiry") == reading.shipped()["expiry"]
    assert str(reading.find("./expiry")) == "expiry"
    assert str(reading.find("mine.yaml")) == "mine.yaml"
    with pytest.raises(UsageError, match="did you mean 'expiry'"):
        reading.find("expiri")


@pytest.mark.parametrize("name", reading.shipped())
def test_every_shipped_scenario_is_valid_and_short(name: str) -> None:
    scenario = reading.load(reading.shipped()[name])
    assert scenario.duration <= 27
    assert scenario.expect.failed == 0 or scenario.expect.reasons


def test_the_common_scenarios_are_shipped() -> None:
    assert set(reading.shipped()) == {
        *("expiry", "idp-outage-short", "idp-outage-longer-than-token", "revocation", "secret-rotation", "clock-skew"),
        *("rate-limit", "malformed-answers", "refresh-token-reuse"),
    }
