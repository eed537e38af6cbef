"""A configuration goes through a scenario, and the verdict says what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.errors import ConfigurationInvalid
from sidecar.rehearsal import run
from sidecar.rehearsal.remote import Standing
from sidecar.rehearsal.timeline import Kind, Timeline
from sidecar.runtime import SystemClock, Tasks
from tests.fake_clock import FakeClock
from tests.rehearsal.plays import ORDERS, STORE, configuration, scenario

if TYPE_CHECKING:
    from sidecar.config.model import Configuration
    from sidecar.rehearsal.run import Result
    from sidecar.rehearsal.scenario import Scenario
    from sidecar.simulation.catalogue import Ordered


async def rehearsed(play: Scenario, original: Configuration | None = None) -> Result:
    return await run.rehearse("mine", play, original or configuration(), clock=SystemClock())


def told(result: Result, kind: Kind) -> list[str]:
    return [entry.what for entry in result.timeline.entries if entry.kind is kind]


async def test_a_revocation_is_made_good_before_the_app_sees_it() -> None:
    result = await rehearsed(scenario({"at": "200ms", "event": "revoke"}, expect={"refreshes": 1}))
    assert result.passed, result.findings
    assert told(result, Kind.EVENT) == ["traffic: 20 requests/s to api", "revoke"]
    assert told(result, Kind.CREDENTIAL) == ["new token, generation 2"]
    assert {outcome.status for outcome in result.timeline.outcomes} == {200}
    assert len(result.timeline.outcomes) == 20


async def test_an_outage_with_a_good_token_is_not_noticed() -> None:
    steps = [{"at": "0s", "event": "outage"}, {"at": "100ms", "event": "refresh"}, {"at": "600ms", "end": "outage"}]
    result = await rehearsed(scenario(*steps))
    assert result.passed, result.findings
    assert any(
        line.startswith("no token: connect (attempt 1); the old one is") for line in told(result, Kind.CREDENTIAL)
    )
    assert told(result, Kind.EVENT)[-1] == "end of outage"


async def test_a_request_that_fails_and_should_not_fails_the_run_and_is_told() -> None:
    impatient = configuration(limits={"token_wait": "0s"})
    steps = [{"at": "0s", "event": "outage"}, {"at": "100ms", "event": "expire"}]
    result = await rehearsed(scenario(*steps), impatient)
    assert not result.passed
    [first] = told(result, Kind.REQUEST)
    assert first == "first failed request: 503 token_unavailable"
    assert {outcome.reason for outcome in result.timeline.failed} == {"token_unavailable"}


async def test_the_same_is_as_expected_where_it_is_expected() -> None:
    impatient = configuration(limits={"token_wait": "0s"})
    steps = [{"at": "0s", "event": "outage"}, {"at": "100ms", "event": "expire"}]
    expected = {"failed": 100, "reasons": ["token_unavailable"]}
    assert (await rehearsed(scenario(*steps, expect=expected), impatient)).passed


async def test_refresh_tokens_play_no_part_without_a_login_and_that_is_said() -> None:
    steps = {"at": "0s", "event": "rotate"}
    assert "no credential rests on a login" in (await rehearsed(scenario(steps, duration="100ms"))).notes[0]
    login = ORDERS | {"grant": "refresh_token", "refresh_token": "file:/absent"}
    with_login = configuration(credentials={"orders": login}, store=STORE)
    assert not (await rehearsed(scenario(steps, duration="100ms"), with_login)).notes


async def test_without_traffic_only_the_credentials_are_looked_at() -> None:
    play = scenario({"at": "0s", "event": "refresh"}, traffic={"rate": 0}, duration="500ms", expect={"refreshes": 1})
    result = await rehearsed(play)
    assert result.passed, result.findings
    assert result.timeline.outcomes == []


@pytest.mark.parametrize(
    ("changes", "original", "complaint"),
    [
        ({"steps": [{"at": "0s", "event": "expire", "credential": "ordres"}]}, {}, "no credential ordres"),
        ({"traffic": {"routes": ["nowhere"]}}, {}, "no route nowhere"),
        ({}, {"routes": []}, "no route that requests could take"),
        (
            {},
            {"credentials": {"orders": {"grant": "static", "token_file": "/absent"}}},
            "no credential whose token an IdP is asked for",
        ),
    ],
)
async def test_a_scenario_that_does_not_fit_the_configuration_is_refused(
    changes: dict[str, Any], original: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationInvalid, match=complaint):
        await rehearsed(scenario(**changes), configuration(**original))


class Record:
    """A theatre that only writes down what it is asked for."""

    def __init__(self, clock: FakeClock) -> None:
        self.asked: list[tuple[float, str]] = []
        self._clock = clock
        self._began_at = clock.now()

    async def happen(self, order: Ordered, credential: str | None) -> None:
        self.asked.append((self._clock.now() - self._began_at, f"{order} {credential}"))

    async def end(self, fault: str, credential: str | None) -> None:
        self.asked.append((self._clock.now() - self._began_at, f"end {fault} {credential}"))


async def test_events_come_at_their_moments_and_the_last_end_is_known() -> None:
    clock = FakeClock()
    start = clock.now()
    timeline, theatre = Timeline(lambda: clock.now() - start), Record(clock)
    play = scenario(
        {"at": "1s", "event": "429:4s"},
        {"at": "2s", "event": "outage", "credential": "orders"},
        {"at": "7s", "end": "outage", "credential": "orders"},
        {"at": "8s", "event": "rotate_secret=3s"},
        duration="20s",
    )
    tasks = Tasks(lambda *_: None)
    happening = tasks.spawn("events", run.events(play, theatre, timeline, clock))
    await clock.advance(20)
    await happening
    assert theatre.asked == [
        (1.0, "429:4s None"),
        (2.0, "outage orders"),
        (7.0, "end outage orders"),
        (8.0, "rotate_secret=3s None"),
    ]
    assert timeline.quiet_since == 11.0


def test_what_changed_about_a_credential_is_told_once() -> None:
    timeline, seen = Timeline(lambda: 0.0), dict[str, tuple[int, int, bool]]()

    def look(generation: int, failures: int, *, usable: bool = True) -> None:
        run.note(Standing("orders", generation, failures, "connect", usable), seen, timeline)

    for generation, failures, usable in ((1, 0, True), (1, 0, True), (1, 1, True), (1, 1, False), (1, 2, False)):
        look(generation, failures, usable=usable)
    look(2, 0)
    assert [entry.what for entry in timeline.entries] == [
        "no token: connect (attempt 1); the old one is still good",
        "the token has ended, and has no successor",
        "no token: connect (attempt 2); there is no good token",
        "new token, generation 2 after 2 failed attempts",
    ]
    assert timeline.refreshes == {"orders": 1}
