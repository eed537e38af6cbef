"""What other requests feel: a steady trickle of small ones over kept connections of their own, and its p99.

Requests go out on a schedule. When one is late because the one before it still waits, its time counts from when it was
due, or a stall of a second would show as one slow request instead of all those that it held up.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final

from benchmarks.soaks.client import Ask, Caller
from benchmarks.soaks.readings import percentile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

CALLERS: Final = 8
PER_SECOND: Final = 400.0
PROBE: Final = Ask("/size/1024")


@dataclass(slots=True)
class Probe:
    """All latencies so far, in seconds, by the instant at which the answer was there."""

    samples: list[tuple[float, float]] = field(default_factory=list)
    failed: int = 0

    async def window(self, seconds: float) -> tuple[float, float]:
        """Wait; the span that it was."""
        start = perf_counter()
        await asyncio.sleep(seconds)
        return start, perf_counter()

    def p99_ms(self, span: tuple[float, float]) -> float:
        """Of the answers in the span, in milliseconds.

        Raises:
            ValueError: there were none.
        """
        return percentile([seconds for at, seconds in self.samples if span[0] <= at < span[1]], 0.99) * 1000

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
async def probing(ports: Sequence[int]) -> AsyncIterator[Probe]:
    """Probe these ports in turn until the block ends.

    Raises:
        ExceptionGroup: a probe got no answer.
    """
    probe = Probe()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(probe.call(port, number / PER_SECOND))
            for number, port in zip(range(CALLERS), itertools.cycle(ports), strict=False)
        ]
        yield probe
        for task in tasks:
            task.cancel()
