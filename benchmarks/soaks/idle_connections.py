"""What a client's connection costs that does nothing: after one request, and without ever having sent one.

Each kind is opened in a sidecar of its own, which has served requests before, so that what is made once is not divided
by a thousand. A pod has its memory limit whether its connections are used or not.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks import measure
from benchmarks.report import Target
from benchmarks.scenarios import Upstream
from benchmarks.soaks.client import Ask, Caller, Connection
from benchmarks.soaks.report import Outcome
from benchmarks.soaks.stage import SoakFailed, open_stage

if TYPE_CHECKING:
    from benchmarks.soaks.stage import Stage

NAME: Final = "idle_connections"
WARM_UP: Final = 2_000
KIB_EACH: Final = 12.0
SETTLE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Cost:
    """MiB of RSS before there were any, with all of them, and after they were closed."""

    count: int
    before: float
    loaded: float
    after: float

    @property
    def kib_each(self) -> float:
        return (self.loaded - self.before) * 1024 / self.count


async def cost(stage: Stage, count: int, *, after_a_request: bool) -> Cost:
    """Open them one after the other, look, and close them.

    Raises:
        SoakFailed: the sidecar did not keep them all.
    """
    async with stage.sidecar() as subject:
        port, pid = subject.ports[Upstream.PLAIN], subject.running.pid
        caller = Caller(port)
        for _ in range(WARM_UP):
            await caller.ask(Ask("/size/100"))
        before = measure.memory(pid).rss
        connections = []
        for _ in range(count):
            connections.append(await Connection.to(port))
            if after_a_request:
                await connections[-1].ask(Ask("/size/100"))
        await asyncio.sleep(SETTLE_SECONDS)
        if not all(connection.is_open for connection in connections):
            raise SoakFailed("the sidecar closed connections that were to be idle")
        loaded = measure.memory(pid).rss
        for connection in connections:
            connection.close()
        caller.close()
        await asyncio.sleep(SETTLE_SECONDS)
        return Cost(count, before, loaded, measure.memory(pid).rss)


async def soak(quick: bool) -> Outcome:
    """Both kinds."""
    count = 200 if quick else 1_000
    async with open_stage(quick=quick) as stage:
        used = await cost(stage, count, after_a_request=True)
        silent = await cost(stage, count, after_a_request=False)
    return outcome(used, silent)


def outcome(used: Cost, silent: Cost) -> Outcome:
    """The targets."""
    kinds = ((f"{used.count:,} connections after one request", used), (f"{silent.count:,} that never sent one", silent))
    return Outcome(
        NAME,
        tuple(Target(f"RSS, {what}", "KiB each", KIB_EACH, each.kib_each) for what, each in kinds),
        tuple(
            f"{what}: {each.before:.1f} MiB before, {each.loaded:.1f} MiB with them, {each.after:.1f} MiB after them."
            for what, each in kinds
        ),
    )
