"""What happens to a fleet, and what its IdP sees of it: a day, and an outage that begins with the start or at noon.

A run gives instants; ``outcomes`` makes figures of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from unittest import mock

from benchmarks.fleet.members import Fleet, IdP, silence
from benchmarks.fleet.simulated_time import SimulatedClock, run
from sidecar.broker import broker, credential

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.fleet.members import Member

HOUR: Final = 3600.0
LIFETIME_SECONDS: Final = HOUR
TURN_SECONDS: Final = 300.0
"""The loops turn, and the watchdog looks, this often instead of every 5 s. In such a turn nothing is due, and no file
ever changes here: it decides nothing, and a day of them would take an hour to simulate."""
LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fleet goes through.

    Attributes:
        hours: from the start, or after the outage, to the end.
        down: from when to when the IdP is down, in seconds from the start.
        app_pause: seconds between an app's requests during the outage and until all have a token; None for no apps.
        refresh_in: what the IdP says about renewal.
    """

    size: int
    hours: float
    seed: int
    down: tuple[float, float] | None = None
    app_pause: float | None = None
    refresh_in: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the IdP saw.

    Attributes:
        asked: the instant and the sidecar of each token request, in order.
        troubled: the sidecars whose requests failed when the outage ended; without an outage, all of them.
        ended_at: how long it went.
    """

    plan: Plan
    asked: list[tuple[float, int]] = field(repr=False)
    troubled: frozenset[int] = field(repr=False)
    ended_at: float

    @property
    def back_at(self) -> float:
        """When the IdP was there again; the start, if it always was."""
        return self.plan.down[1] if self.plan.down else 0.0

    def instants(self, since: float, until: float) -> list[float]:
        """When somebody asked."""
        return [at for at, _ in self.asked if since <= at < until]

    def gathered(self) -> list[float]:
        """The first request of each that the start or the outage has brought together."""
        return self._split()[0]

    def refreshes(self) -> list[float]:
        """All requests after those."""
        return self._split()[1]

    def _split(self) -> tuple[list[float], list[float]]:
        firsts: list[float] = []
        others: list[float] = []
        awaited = set(self.troubled)
        for at, member in self.asked:
            if at >= self.back_at:
                (firsts if member in awaited else others).append(at)
                awaited.discard(member)
        return firsts, others

    def most_by_one(self) -> int:
        """Requests in the outage of the sidecar that asked most."""
        since, until = self.plan.down or (0.0, 0.0)
        return max(Counter(member for at, member in self.asked if since <= at < until).values(), default=0)


def simulate(plan: Plan) -> Seen:
    """Carry it out; the same plan gives the same."""
    with silence(), _slow_turns():
        return run(_carried_out(plan))


@contextlib.contextmanager
def _slow_turns() -> Iterator[None]:
    with (
        mock.patch.object(credential, "TURN_SECONDS", TURN_SECONDS),
        mock.patch.object(broker, "WATCH_SECONDS", TURN_SECONDS),
    ):
        yield


async def _carried_out(plan: Plan) -> Seen:
    clock = SimulatedClock()
    idp = IdP(clock, lifetime=LIFETIME_SECONDS, refresh_in=plan.refresh_in)
    async with Fleet(plan.size, idp, clock=clock, uniform=random.Random(plan.seed).uniform) as fleet:
        idp.is_down = plan.down is not None and plan.down[0] == 0
        await fleet.start()
        troubled = fleet.members if plan.down is None else await _outage(fleet, *plan.down, plan.app_pause)
        await asyncio.sleep(plan.hours * HOUR)
    return Seen(plan, idp.asked, frozenset(one.number for one in troubled), clock.now())


async def _outage(fleet: Fleet, begins_at: float, ends_at: float, app_pause: float | None) -> list[Member]:
    """Go through it and on until all are well again; who was not when it ended."""
    await fleet.clock.sleep_until(begins_at)
    fleet.idp.is_down = True
    apps = [] if app_pause is None else fleet.run_apps(app_pause)
    await fleet.clock.sleep_until(ends_at)
    fleet.idp.is_down = False
    troubled = [one for one in fleet.members if one.is_troubled]
    while any(one.is_troubled for one in troubled):
        await asyncio.sleep(LOOK_SECONDS)
    for app in apps:
        app.cancel()
    return troubled
