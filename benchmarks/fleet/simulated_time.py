"""Time that leaps from timer to timer: an asyncio event loop that never waits, and a ``Clock`` on it.

The loop asks its selector to wait until the next timer; this one moves time on by that much instead. So every callback
that can run has run before time moves, and an hour costs what happens in it.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")
WALL_AT_START: Final = 1_800_000_000.0


class _Leap(selectors.SelectSelector):
    """Has no sockets to wait for, only time to pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Pass the time.

        Raises:
            RuntimeError: nobody waits for any moment, and so nothing would ever happen again.
        """
        if timeout is None:
            raise RuntimeError("nothing is left to happen")
        self.now += max(timeout, 0.0)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Runs everything at once, and the same way each time."""

    def __init__(self) -> None:
        self._leap = _Leap()
        super().__init__(self._leap)

    def time(self) -> float:
        return self._leap.now


class SimulatedClock:
    """``runtime.Clock`` on the running loop."""

    def __init__(self) -> None:
        self.now = asyncio.get_running_loop().time

    def wall(self) -> float:
        return WALL_AT_START + self.now()

    async def sleep_until(self, at: float) -> None:
        while (left := at - self.now()) > 0:
            await asyncio.sleep(left)


def run(coro: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns, in simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(coro)
