"""Clients that send a head byte by byte and never finish it: each gets its 408 on time, and the others feel nothing.

Every connection has ``limits.head_timeout`` from its first byte on, however lively it is; the sidecar looks at
deadlines once a sweep. The drip is spread evenly over time, since a burst of our own would be what the probes feel.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final

from benchmarks.report import Target
from benchmarks.soaks.client import Answer, Ask, Broken, Connection
from benchmarks.soaks.probe import probing
from benchmarks.soaks.report import Outcome
from benchmarks.soaks.stage import open_stage
from sidecar.proxy.listener import SWEEP_SECONDS

if TYPE_CHECKING:
    from benchmarks.soaks.probe import Felt, Probe
    from benchmarks.soaks.stage import Subject

NAME: Final = "slowloris"
DRIP_SECONDS: Final = 0.25
"""Between two bytes of one connection."""
HEAD: Final = b"GET /size/1024 HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
SLACK_SECONDS: Final = 0.5
"""Beyond timeout and sweep, for what is not the sidecar's: this process and the machine."""
P99_RATIO: Final = 1.5


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    connections: int
    head_timeout: int
    opening_seconds: float


FULL: Final = Size(500, 10, 5.0)
QUICK: Final = Size(100, 2, 1.0)


@dataclass(frozen=True, slots=True)
class End:
    """How one connection ended: seconds from its first byte, and the answer's status; None for none."""

    seconds: float
    status: int | None

    def on_time(self, head_timeout: float) -> bool:
        """Answered 408, not before its time and within a sweep after it."""
        latest = head_timeout + SWEEP_SECONDS + SLACK_SECONDS
        return self.status == 408 and head_timeout <= self.seconds <= latest


async def drip(port: int, delay: float, patience: float) -> End:
    """One connection, from its first byte to its end."""
    await asyncio.sleep(delay)
    connection = await Connection.to(port)
    connection.begin(Ask("/"))
    began = perf_counter()
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(_send(connection))
        answer = await _answer(connection, patience)
        ended = perf_counter()
        sending.cancel()
    connection.close()
    return End(ended - began, None if answer is None else answer.status)


async def _send(connection: Connection) -> None:
    for byte in HEAD:
        connection.write(bytes((byte,)))
        await asyncio.sleep(DRIP_SECONDS)
    while connection.is_open:
        connection.write(b"x")
        await asyncio.sleep(DRIP_SECONDS)


async def _answer(connection: Connection, patience: float) -> Answer | None:
    try:
        return await connection.answer(patience)
    except Broken:
        return None


async def attack(subject: Subject, probe: Probe, size: Size) -> tuple[list[End], Felt]:
    """All of them; how each ended, and what the others felt meanwhile."""
    began = probe.mark()
    ports = list(subject.ports.values())
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                drip(ports[number % 2], number / size.connections * size.opening_seconds, size.head_timeout * 3)
            )
            for number in range(size.connections)
        ]
    return [task.result() for task in tasks], probe.since(began)


async def soak(quick: bool) -> Outcome:
    """Probe without them, then with them."""
    size = QUICK if quick else FULL
    limits = {"head_timeout": f"{size.head_timeout}s"}
    async with open_stage(quick=quick) as stage, stage.sidecar(limits=limits) as subject:
        async with probing(subject) as probe:
            before = await probe.window(size.head_timeout + size.opening_seconds)
            ends, during = await attack(subject, probe, size)
    return outcome(size, ends, before, during)


def outcome(size: Size, ends: list[End], before: Felt, during: Felt) -> Outcome:
    """The targets."""
    late = sum(not end.on_time(size.head_timeout) for end in ends)
    times = [end.seconds for end in ends]
    return Outcome(
        NAME,
        (
            Target(f"of {size.connections} heads, not answered 408 on time", "", 0, late),
            Target("p99 of other requests", "of that without them", P99_RATIO, during.p99_ms / before.p99_ms),
        ),
        (
            f"p99 {before} before and {during} during it.",
            f"Heads ended {min(times):.2f} to {max(times):.2f} s after their first byte; allowed {size.head_timeout}.",
        ),
    )
