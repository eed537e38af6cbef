"""How late the event loop runs what is due: what every request waits for, whoever holds the loop up.

A coroutine sleeps for half a second again and again and observes by how much each sleep was too long.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecar.telemetry.metrics import Buckets

INTERVAL_SECONDS: Final = 0.5
"""Twice a second: 0.01 % of a core, and a stall of a second is met by at least one observation."""


async def observe_loop_lag(
    lag: Buckets,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Observe the lag until cancelled."""
    # Not the loop's own time: uvloop's is in milliseconds and stands still within one turn.
    while True:
        due = monotonic() + INTERVAL_SECONDS
        await sleep(INTERVAL_SECONDS)
        lag.observe(max(0.0, monotonic() - due))
