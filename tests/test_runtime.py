"""The system's clock, and tasks that have a name, an owner and an end."""

from __future__ import annotations

import asyncio
import platform
import time

import pytest

from sidecar import runtime
from sidecar.runtime import TRIM_AFTER_SECONDS, SystemClock, Tasks, Trimmer, trim_memory


def test_the_clock_goes_on_through_suspend_and_the_wall_clock_is_unix_time() -> None:
    clock = SystemClock()
    assert clock.now() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1.0)
    assert clock.wall() == pytest.approx(time.time(), abs=1.0)


async def test_a_sleep_ends_at_its_instant_and_not_before() -> None:
    clock = SystemClock()
    at = clock.now() + 0.02
    async with asyncio.timeout(5):
        await clock.sleep_until(at)
        assert clock.now() >= at
        await clock.sleep_until(at)


async def test_a_long_sleep_looks_at_the_clock_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    clock = SystemClock()
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += 3600.0 if len(slept) == 2 else seconds  # the machine is suspended in the second slice

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(clock, "now", lambda: now)
    await clock.sleep_until(200.0)
    assert slept == [runtime.SLICE_SECONDS] * 2


def test_jitter_is_drawn_from_the_whole_interval() -> None:
    draws = [runtime.uniform(2.0, 4.0) for _ in range(200)]
    assert 2.0 <= min(draws) < 2.5
    assert 3.5 < max(draws) <= 4.0


async def test_a_task_keeps_its_name_and_is_kept_alive_until_it_ends() -> None:
    tasks = Tasks(lambda name, error: None)
    release = asyncio.Event()

    async def work() -> str:
        await release.wait()
        return "done"

    task = tasks.spawn("work:orders", work())
    assert task.get_name() == "work:orders"
    assert len(tasks) == 1
    assert repr(tasks) == "<Tasks ['work:orders']>"
    release.set()
    assert await task == "done"
    assert len(tasks) == 0


async def test_a_crash_is_reported_with_the_tasks_name() -> None:
    crashes: list[tuple[str, BaseException]] = []
    tasks = Tasks(lambda name, error: crashes.append((name, error)))

    async def crash() -> None:
        raise ZeroDivisionError

    task = tasks.spawn("crash", crash())
    await asyncio.wait({task})
    assert [(name, type(error)) for name, error in crashes] == [("crash", ZeroDivisionError)]


async def test_closing_ends_every_task_and_waits_for_it() -> None:
    crashes: list[str] = []
    tasks = Tasks(lambda name, error: crashes.append(name))
    ended: list[int] = []

    async def endless(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    for number in range(3):
        tasks.spawn(f"endless:{number}", endless(number))
    await asyncio.sleep(0)
    await tasks.close()
    assert sorted(ended) == [0, 1, 2]
    assert len(tasks) == 0
    assert crashes == []


def test_memory_is_given_back_once_after_traffic_has_stopped() -> None:
    trims: list[float] = []
    now = 100.0
    trimmer = Trimmer(lambda: trims.append(now))
    for served in (0, 0, 5, 9, 9, 9):
        trimmer.look(now, served)
        now += 5.0
    assert trims == [125.0]
    for _ in range(5):
        trimmer.look(now, 9)
        now += 60.0
    assert trims == [125.0]
    trimmer.look(now, 10)
    now += TRIM_AFTER_SECONDS
    trimmer.look(now, 10)
    assert len(trims) == 2


def test_without_traffic_nothing_is_trimmed() -> None:
    trims: list[int] = []
    trimmer = Trimmer(lambda: trims.append(1))
    for now in range(0, 1000, 10):
        trimmer.look(float(now), 0)
    assert trims == []


def test_trimming_is_something_this_system_can_do_or_does_without() -> None:
    assert trim_memory() is (platform.libc_ver()[0] == "glibc")
