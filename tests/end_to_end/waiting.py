"""Waiting for what another process does: look again until it is so, and fail with a sentence at the deadline."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

Condition = Callable[[], bool] | Callable[[], Awaitable[bool]]


async def until(condition: Condition, what: str, *, seconds: float = 15.0, every: float = 0.02) -> None:
    """Return as soon as the condition holds.

    Raises:
        AssertionError: it did not within ``seconds``; ``what`` is the sentence.
    """
    deadline = time.monotonic() + seconds
    while not await _holds(condition):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(every)


async def _holds(condition: Condition) -> bool:
    answer = condition()
    return answer if isinstance(answer, bool) else await answer


_handed_out: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody has now, and that was not handed out before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _handed_out:
            _handed_out.add(port)
            return port
