"""What other requests feel: a steady trickle of small ones over kept connections of their own, and its p99.

Requests go out on a schedule. When one is late because the one before it still waits, its time counts from when it was
due, or a stall of a second would show as one slow request instead of all those that it held up.

A p99 is also the machine's: how long the sidecar waited for a core that somebody else had is told with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final

from benchmarks.soaks.client import Ask, Caller
from benchmarks.soaks.readings import percentile, waited_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.soaks.stage import Subject

CALLERS: Final = 8
PER_SECOND: Final = 400.0
PROBE: Final = Ask("/size/1024")


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment, and how long the sidecar had waited for a core until then."""

    at: float
    waited: float


@dataclass(frozen=True, slots=True)
class Felt:
    """What probes felt in a window of time.

    Attributes:
        waited: the share of it that the sidecar was ready and had no core.
    """

    p99_ms: float
    waited: float

    def __str__(self) -> str:
        return f"{self.p99_ms:.2f} ms (no core for {self.waited:.0%} of the time)"


@dataclass(slots=True)
class Probe:
    """All latencies so far, in seconds, by the instant at which the answer was there."""

    pid: int
    samples: list[tuple[float, float]] = field(default_factory=list)
    failed: int = 0

    def mark(self) -> Mark:
        """This moment."""
        return Mark(perf_counter(), waited_seconds(self.pid))

    def since(self, mark: Mark) -> Felt:
        """What was felt from the mark until now."""
        return self.between(mark, self.mark())

    def between(self, start: Mark, end: Mark) -> Felt:
        """What was felt by those whose answers came in between.

        Raises:
            ValueError: none came.
        """
        seconds = [seconds for at, seconds in self.samples if start.at <= at < end.at]
        return Felt(percentile(seconds, 0.99) * 1000, (end.waited - start.waited) / (end.at - start.at))

    async def window(self, seconds: float) -> Felt:
        """Wait; what was felt meanwhile."""
        start = self.mark()
        await asyncio.sleep(seconds)
        return self.since(start)

    async def call(self, port: int, offset: float) -> None:
        """One caller, until it is cancelled."""
        caller, interval = Caller(port), CALLERS / PER_SECOND
        began = perf_counter() + offset
        for turn in itertools.count():
            due = began + turn * interval
            if (wait := due - perf_counter()) > 0:
                await asyncio.sleep(wait)
                due = perf_counter()  # the timer's own lateness is nobody's fault
            answer = await caller.ask(PROBE)
            now = perf_counter()
            self.samples.append((now, now - due))
            self.failed += answer.status != 200


@contextlib.asynccontextmanager
async def probing(subject: Subject) -> AsyncIterator[Probe]:
    """Probe the sidecar, through both upstreams, until the block ends.

    Raises:
        ExceptionGroup: a probe got no answer.
    """
    probe = Probe(subject.running.pid)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(probe.call(port, number / PER_SECOND))
            for number, port in zip(range(CALLERS), itertools.cycle(subject.ports.values()), strict=False)
        ]
        yield probe
        for task in tasks:
            task.cancel()
