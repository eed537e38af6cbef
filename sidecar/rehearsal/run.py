"""One scenario from its start to its verdict: events at their moments, traffic beside them, everything noted.

Decides the order of things in time. What an event is, and on whom it falls, is for the theatre: a ``stage`` in this
process, or a running sidecar (``remote``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.config.model import NEEDS_LOGIN
from sidecar.errors import ConfigurationInvalid
from sidecar.rehearsal.scenario import EVENTS, Scenario
from sidecar.rehearsal.stage import stage
from sidecar.rehearsal.timeline import Entry, Kind, Timeline
from sidecar.rehearsal.traffic import traffic
from sidecar.rehearsal.verdict import Finding, findings
from sidecar.simulation.catalogue import ordered

if TYPE_CHECKING:
    from sidecar.config.model import Configuration
    from sidecar.runtime import Clock
    from sidecar.simulation.catalogue import Ordered

LOOK_SECONDS: Final = 0.02
PATIENCE_SECONDS: Final = 10.0
"""How much longer than ``limits.token_wait`` an answer is waited for."""
_OF_LOGINS: Final = frozenset({"rotate", "lost", "revoke_login"})


class Standing(Protocol):
    """How a credential stands, as the sidecar itself or its admin API tells it."""

    @property
    def name(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def consecutive_failures(self) -> int: ...
    @property
    def last_error(self) -> str | None: ...
    @property
    def usable(self) -> bool: ...


class Theatre(Protocol):
    """Where events happen."""

    async def happen(self, order: Ordered, credential: str | None) -> None:
        """Let an event happen, to one credential or to all."""

    async def end(self, fault: str, credential: str | None) -> None:
        """End an event before its time."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    name: str
    scenario: Scenario
    timeline: Timeline
    findings: Sequence[Finding]
    notes: Sequence[str] = ()

    @property
    def passed(self) -> bool:
        return all(finding.met for finding in self.findings)


Tell = Callable[[Entry], None]


async def rehearse(
    name: str, scenario: Scenario, configuration: Configuration, *, clock: Clock, tell: Tell = lambda _: None
) -> Result:
    """Run a configuration through a scenario, in this process.

    Raises:
        ConfigurationInvalid: the configuration has no route or no credential that a provider is asked for, the scenario
            names what it does not have, or a credential cannot be rehearsed.
    """
    check_names(name, scenario, configuration)
    began_at = [clock.now()]
    timeline = Timeline(lambda: clock.now() - began_at[0], tell)

    def on_end(order: Ordered) -> None:
        timeline.event(f"end of {order}")

    async with stage(configuration, ttl=scenario.ttl, clock=clock, on_end=on_end) as set_up:
        began_at[0] = clock.now()
        wanted = scenario.traffic.routes
        calls = [call for call in set_up.calls if not wanted or call.route in wanted]
        notes = [*set_up.notes, *_of_no_use(scenario, configuration)]
        for note_ in notes:
            timeline.note(Kind.EVENT, "note", note_)
        happening = set_up.tasks.spawn("events", events(scenario, set_up, timeline, clock))
        looking = set_up.tasks.spawn("look", watch(set_up.statuses, timeline, clock))
        if scenario.traffic.rate:
            timeline.event(
                f"traffic: {scenario.traffic.rate:g} requests/s to {', '.join(call.route for call in calls)}"
            )
            await traffic(
                calls,
                proxy=set_up.proxy,
                rate=scenario.traffic.rate,
                seconds=scenario.duration,
                patience=configuration.limits.token_wait + PATIENCE_SECONDS,
                timeline=timeline,
                clock=clock,
                tasks=set_up.tasks,
            )
        await clock.sleep_until(began_at[0] + scenario.duration)
        await happening
        looking.cancel()
        names = set_up.names
    return Result(name, scenario, timeline, findings(scenario.expect, timeline, names), notes)


def check_names(name: str, scenario: Scenario, configuration: Configuration) -> None:
    """Whether the configuration has what the scenario speaks of.

    Raises:
        ConfigurationInvalid
    """
    asked = [key for key, credential in configuration.credentials.items() if credential.grant != "static"]
    labels = [route.label for route in configuration.routes]
    if not asked:
        raise ConfigurationInvalid("the configuration has no credential whose token an IdP is asked for")
    if scenario.traffic.rate and not labels:
        raise ConfigurationInvalid("the configuration has no route that requests could take")
    for step in scenario.steps:
        if step.credential not in (None, *asked):
            raise ConfigurationInvalid(f"scenario {name}: the configuration has no credential {step.credential}")
    for label in scenario.traffic.routes:
        if label not in labels:
            raise ConfigurationInvalid(f"scenario {name}: the configuration has no route {label}")


def _of_no_use(scenario: Scenario, configuration: Configuration) -> list[str]:
    """Events that nothing here can feel: a scenario that passes because of that should say so."""
    named = [ordered(step.event, EVENTS).fault.name for step in scenario.steps if step.event is not None]
    if _OF_LOGINS.isdisjoint(named) or any(each.grant in NEEDS_LOGIN for each in configuration.credentials.values()):
        return []
    return ["no credential rests on a login, so refresh tokens, and what happens to them, play no part"]


async def events(scenario: Scenario, theatre: Theatre, timeline: Timeline, clock: Clock) -> None:
    """Let everything happen at its moment, and note until when the last of it lasts."""
    start = clock.now()
    for step in scenario.steps:
        await clock.sleep_until(start + step.at)
        to_whom = f" ({step.credential})" if step.credential else ""
        if step.end is not None:
            await theatre.end(step.end, step.credential)
            ends_at = timeline.now()
        else:
            order = ordered(step.event or "", EVENTS)
            timeline.event(f"{order}{to_whom}")
            await theatre.happen(order, step.credential)
            ends_at = timeline.now() + (order.seconds or 0.0)
            if order.fault.name == "rotate_secret":
                ends_at += order.value or 0.0
        timeline.quiet_since = max(timeline.quiet_since, ends_at)


async def watch(statuses: Callable[[], Sequence[Standing]], timeline: Timeline, clock: Clock) -> None:
    """Note each new token, each failed attempt and each end of a token, for ever."""
    told: dict[str, tuple[int, int, bool]] = {}
    while True:
        for status in statuses():
            note(status, told, timeline)
        await clock.sleep_until(clock.now() + LOOK_SECONDS)


def note(status: Standing, told: dict[str, tuple[int, int, bool]], timeline: Timeline) -> None:
    """Note what changed about a credential since the last look.

    Args:
        told: what was seen then: generation, failures, whether it was usable.
    """
    news = (status.generation, status.consecutive_failures, status.usable)
    before = told.get(status.name)
    told[status.name] = news
    if before is None or before == news:
        return
    if news[0] > before[0]:
        timeline.refreshes[status.name] += 1
        after = f" after {before[1]} failed attempts" if before[1] else ""
        timeline.note(Kind.CREDENTIAL, status.name, f"new token, generation {status.generation}{after}")
    elif news[1] > before[1]:
        left = "the old one is still good" if status.usable else "there is no good token"
        what = f"no token: {status.last_error} (attempt {status.consecutive_failures}); {left}"
        timeline.note(Kind.CREDENTIAL, status.name, what)
    elif before[2] and not status.usable:
        timeline.note(Kind.CREDENTIAL, status.name, "the token has ended, and has no successor")
