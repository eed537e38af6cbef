"""What a burst of large bodies leaves behind: memory directly after it, and when nothing happened for a while.

Each transfer is held up by a client that reads late through a narrow connection, so that the sidecar has as much of it
as it ever takes. What the allocator keeps afterwards counts against the pod for as long as it lives.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks import measure
from benchmarks.report import Target
from benchmarks.soaks import content
from benchmarks.soaks.client import Ask, Connection
from benchmarks.soaks.report import Outcome
from benchmarks.soaks.stage import SoakFailed, open_stage

if TYPE_CHECKING:
    from benchmarks.soaks.stage import Subject

NAME: Final = "trim"
HOLD_SECONDS: Final = 2.0
"""Until everything is as full as it gets."""
REST_SECONDS: Final = 15.0
GROWTH_MIB: Final = 8.0


@dataclass(frozen=True, slots=True)
class Burst:
    """MiB of RSS: before, with all transfers held up, directly after them, and after a rest."""

    before: float
    held: float
    after: float
    rested: float


async def held_up(port: int, go_on: asyncio.Event) -> bool:
    """One download that is not read until it may be; True if all of it came."""
    connection = await Connection.to(port, narrow=True)
    connection.pause()
    ask = Ask(f"/size/{content.MIB}")
    connection.begin(ask)
    connection.write(ask.wire())
    await go_on.wait()
    connection.resume()
    answer = await connection.answer()
    connection.close()
    return answer.body == content.BLOCK


async def burst(subject: Subject, count: int, rest_seconds: float) -> Burst:
    """All at once, through both upstreams.

    Raises:
        SoakFailed: a body did not come whole.
    """
    pid, go_on = subject.running.pid, asyncio.Event()
    before = measure.memory(pid).rss
    async with asyncio.TaskGroup() as group:
        ports = list(subject.ports.values())
        transfers = [group.create_task(held_up(ports[number % len(ports)], go_on)) for number in range(count)]
        await asyncio.sleep(HOLD_SECONDS)
        held = measure.memory(pid).rss
        go_on.set()
    after = measure.memory(pid).rss
    if not all(each.result() for each in transfers):
        raise SoakFailed("a body did not come whole")
    await asyncio.sleep(rest_seconds)
    return Burst(before, held, after, measure.memory(pid).rss)


async def soak(quick: bool) -> Outcome:
    """Two bursts in one sidecar: the second shows whether they add up."""
    count, rest = (40, 3.0) if quick else (160, REST_SECONDS)
    async with open_stage(quick=quick) as stage, stage.sidecar() as subject:
        first = await burst(subject, count, rest)
        second = await burst(subject, count, rest)
    return outcome(count, rest, first, second)


def outcome(count: int, rest: float, first: Burst, second: Burst) -> Outcome:
    """The targets."""
    what = f"RSS growth {rest:g} s after a burst of {count} bodies of 1 MiB"
    told = [
        f"{name} burst: {each.before:.1f} MiB before, {each.held:.1f} held up, {each.after:.1f} directly after, "
        f"{each.rested:.1f} after {rest:g} s of rest."
        for name, each in (("First", first), ("Second", second))
    ]
    return Outcome(
        NAME,
        (
            Target(what, "MiB", GROWTH_MIB, first.rested - first.before),
            Target(f"{what}, and another one", "MiB", GROWTH_MIB, second.rested - first.before),
        ),
        tuple(told),
    )
