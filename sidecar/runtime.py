"""What the process runs on: a clock that goes on through suspend, tasks that have a name and an end, jitter, and memory
that is given back.

Time and randomness are arguments everywhere else; this is the only file that asks the system for them.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

Uniform = Callable[[float, float], float]
"""Draws a number between the two; ``random.uniform`` in production, a constant in tests."""

SLICE_SECONDS: Final = 5.0
"""Longest uninterrupted sleep. The loop's timer stands still while the machine is suspended (CLOCK_MONOTONIC);
waking this often bounds how late a refresh can be after resume."""


class Clock(Protocol):
    """Seconds from three clocks. ``now`` is what lifetimes are counted on."""

    def now(self) -> float:
        """Seconds since boot, suspend included (CLOCK_BOOTTIME); never set back."""

    def wall(self) -> float:
        """Unix time in seconds, for people, metrics and absolute stamps in IdP answers."""

    async def sleep_until(self, at: float) -> None:
        """Return when ``now()`` has reached ``at``."""


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        # Read for every request: a partial saves the frame and two look-ups of a method.
        self.now = functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        return time.time()

    async def sleep_until(self, at: float) -> None:
        while (left := at - self.now()) > 0:
            await asyncio.sleep(min(left, SLICE_SECONDS))


uniform: Uniform = random.SystemRandom().uniform
"""Production randomness: from the system, so that replicas cloned from one snapshot still differ."""


class Tasks:
    """The owner of background tasks: keeps them alive, reports their crash, ends them all.

    Args:
        on_crash: told the task's name and its exception when one ends by itself with an error.
    """

    def __init__(self, on_crash: Callable[[str, BaseException], None]) -> None:
        self._on_crash = on_crash
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, name: str, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``coro`` as a task called ``name`` until it ends or ``close`` is called."""
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_crash(task.get_name(), error)

    async def close(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._running)

    def __repr__(self) -> str:
        return f"<Tasks {sorted(task.get_name() for task in self._running)}>"


TRIM_AFTER_SECONDS: Final = 10.0
"""Trimming walks the whole heap, 2 to 6 ms in which nothing is served: so only when nothing was for this long."""


class Trimmer:
    """Gives memory back to the system when traffic has stopped: glibc keeps what a burst needed, for the next one.

    Args:
        trim: ``trim_memory``, or a test's.
    """

    def __init__(self, trim: Callable[[], object] | None = None) -> None:
        self._trim = trim or trim_memory
        self._served = 0
        self._quiet_since = 0.0
        self._due = False

    def look(self, now: float, served: int) -> None:
        """Once in a while: trim if nothing was served for a time, and something before.

        Args:
            now: seconds on any clock.
            served: requests served so far.
        """
        if served != self._served:
            self._served, self._quiet_since, self._due = served, now, True
        elif self._due and now - self._quiet_since >= TRIM_AFTER_SECONDS:
            self._due = False
            self._trim()


def trim_memory() -> bool:
    """malloc_trim(3); False on systems without it (musl)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False
    trim(0)
    return True
