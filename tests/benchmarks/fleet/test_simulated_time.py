"""Time that leaps."""

from __future__ import annotations

import asyncio
import time

import pytest

from benchmarks.fleet.simulated_time import SimulatedClock, run


def test_a_day_passes_at_once_and_everybody_wakes_in_order() -> None:
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, clock: SimulatedClock, at: float) -> None:
        await clock.sleep_until(at)
        woken.append((name, clock.now()))

    async def everybody() -> float:
        clock = SimulatedClock()
        await asyncio.gather(
            sleeper("late", clock, 86_400.0), sleeper("early", clock, 0.5), sleeper("past", clock, 0.0)
        )
        return clock.wall()

    began = time.monotonic()
    wall = run(everybody())
    assert time.monotonic() - began < 5.0
    assert [name for name, _ in woken] == ["past", "early", "late"]
    assert [at for _, at in woken] == pytest.approx([0.0, 0.5, 86_400.0])
    assert wall == pytest.approx(1_800_086_400.0)


def test_time_does_not_move_while_anything_can_run() -> None:
    async def busy() -> float:
        clock = SimulatedClock()
        pending = asyncio.ensure_future(clock.sleep_until(1.0))
        for _ in range(100):
            await asyncio.sleep(0)
        before = clock.now()
        await pending
        return before

    assert run(busy()) == 0.0


def test_waiting_for_what_never_comes_is_an_error_and_no_hang() -> None:
    async def waits() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="nothing is left to happen"):
        run(waits())
