"""The lag of the event loop is what a sleep was too long by."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.telemetry.cells import Buckets
from sidecar.telemetry.loop_lag import INTERVAL_SECONDS, observe_loop_lag


async def test_the_lag_is_what_each_sleep_was_too_long_by() -> None:
    now = 100.0
    lates = iter([0.0, 0.3, -0.2])

    async def sleep(seconds: float) -> None:
        nonlocal now
        late = next(lates, None)
        if late is None:
            raise asyncio.CancelledError
        now += seconds + late

    lag = Buckets((0.1, 1.0))
    with pytest.raises(asyncio.CancelledError):
        await observe_loop_lag(lag, monotonic=lambda: now, sleep=sleep)
    assert lag.counts == [2, 1, 0]
    assert lag.total == pytest.approx(0.3)
    assert INTERVAL_SECONDS <= 0.5
