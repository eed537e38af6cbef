"""A clock that the event loop itself drives: rehearsals of tens of seconds in a few, on real sockets.

Each turn of the loop is so much time at most. On a busy machine, where turns are late, time is slow with them: what
happens between two moments is the same as on an idle one.
"""

from __future__ import annotations

import asyncio

from sidecar.runtime import SystemClock

TURN_SECONDS = 0.005
STEP_SECONDS = 0.02
"""Four times as fast as the machine's, where it keeps up."""


class Hurried(SystemClock):
    """Time passes while somebody sleeps on it."""

    def __init__(self) -> None:
        super().__init__()
        self._at = self.now()
        self.now = lambda: self._at  # type: ignore[assignment]
        self._ticking: asyncio.Task[None] | None = None

    async def sleep_until(self, at: float) -> None:
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._tick(), name="hurried clock")
        while self._at < at:
            await asyncio.sleep(TURN_SECONDS)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TURN_SECONDS)
            self._at += STEP_SECONDS
