"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeClock:
    """``runtime.Clock`` for tests: time moves only by ``advance``, which wakes sleepers in the order of their instants.

    Real sockets know nothing of this clock. ``idle`` says whether they have come to rest: time does not move on before
    it holds, so that an exchange with a server on this machine takes no time on the clock.
    """

    def __init__(self) -> None:
        self._now = 1000.0
        self._wall_offset = 1_800_000_000.0 - self._now
        self._order = itertools.count()
        self._sleeping: list[tuple[float, int, asyncio.Future[None]]] = []
        self.idle: Callable[[], bool] = lambda: True

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + self._wall_offset

    def set_wall(self, seconds: float) -> None:
        """Set the clock for people, as an administrator or NTP does; ``now`` does not notice."""
        self._wall_offset = seconds - self._now

    async def sleep_until(self, at: float) -> None:
        if at <= self._now:
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleeping, (at, next(self._order), woken))
        await woken

    @property
    def sleepers(self) -> list[float]:
        """The instants that are slept for, in order."""
        return sorted(at for at, _, woken in self._sleeping if not woken.done())

    async def advance(self, seconds: float) -> None:
        """Move time on, stopping at every sleeper's instant on the way and letting the loop come to rest there."""
        target = self._now + seconds
        await self.settle()
        while (at := self._next_instant()) is not None and at <= target:
            self._now = max(self._now, at)
            self._wake_due()
            await self.settle()
        self._now = target
        await self.settle()

    async def advance_until(self, condition: Callable[[], bool], *, at_most: float) -> float:
        """Move time on from sleeper to sleeper until ``condition`` holds; how many seconds that took.

        Raises:
            AssertionError: it does not hold within ``at_most`` seconds.
        """
        began_at = self._now
        await self.settle()
        while not condition():
            at = self._next_instant()
            assert at is not None, "nobody sleeps: time alone changes nothing any more"
            assert at <= began_at + at_most, f"not within {at_most} s"
            await self.advance(at - self._now)
        return self._now - began_at

    async def jump(self, seconds: float) -> None:
        """Move time on at once, as a suspended machine sees it: everybody who slept wakes late, and together."""
        self._now += seconds
        self._wake_due()
        await self.settle()

    def slip(self, seconds: float) -> None:
        """Move time on and wake nobody: timers that a starved CPU does not run."""
        self._now += seconds

    async def settle(self) -> None:
        """Let everything run that can run now, exchanges with real sockets included; at most ten real seconds."""
        async with asyncio.timeout(10):
            rested = False
            while not rested:
                # Idle before and after: what just came to rest has still to be heard of by those who wait for it.
                rested = self.idle()
                for _ in range(10):
                    await asyncio.sleep(0)
                rested = rested and self.idle()

    def _next_instant(self) -> float | None:
        while self._sleeping and self._sleeping[0][2].done():
            heapq.heappop(self._sleeping)
        return self._sleeping[0][0] if self._sleeping else None

    def _wake_due(self) -> None:
        while self._sleeping and self._sleeping[0][0] <= self._now:
            woken = heapq.heappop(self._sleeping)[2]
            if not woken.done():
                woken.set_result(None)

    def __repr__(self) -> str:
        return f"<FakeClock {self._now:g}, {len(self.sleepers)} sleeping>"
