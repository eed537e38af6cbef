"""Two bounded waits on a ``Clock``: a sleep that can be cut short, and news that many wait for.

Decides how a wait ends; who waits for what is left to ``credential``. Cancelling one who waits cancels nothing else.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.runtime import Clock, Tasks


class Alarm:
    """The sleep of a loop, which anybody may cut short."""

    __slots__ = ("_clock", "_name", "_sleeper", "_tasks")

    def __init__(self, name: str, *, clock: Clock, tasks: Tasks) -> None:
        self._name = name
        self._clock = clock
        self._tasks = tasks
        self._sleeper: asyncio.Task[None] | None = None

    async def sleep_until(self, at: float) -> None:
        """Return at the instant, or when ``ring`` is called."""
        sleeper = self._sleeper = self._tasks.spawn(self._name, self._clock.sleep_until(at))
        try:
            await asyncio.wait({sleeper})
        finally:
            sleeper.cancel()

    def ring(self) -> None:
        """Wake who sleeps now; nobody, if nobody does."""
        if self._sleeper is not None:
            self._sleeper.cancel()


class News:
    """Something that happens again and again; each wait is for the next time."""

    __slots__ = ("_clock", "_name", "_next", "_tasks")

    def __init__(self, name: str, *, clock: Clock, tasks: Tasks) -> None:
        self._name = name
        self._clock = clock
        self._tasks = tasks
        self._next: asyncio.Future[None] | None = None

    def tell(self) -> None:
        """It happened: everybody who waits goes on."""
        if self._next is not None and not self._next.done():
            self._next.set_result(None)

    async def wait_until(self, deadline: float) -> None:
        """Return when it happens the next time, or at the deadline."""
        if self._next is None or self._next.done():
            self._next = asyncio.get_running_loop().create_future()
        sleeper = self._tasks.spawn(self._name, self._clock.sleep_until(deadline))
        try:
            await asyncio.wait({self._next, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
