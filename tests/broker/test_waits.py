"""Bounded waits: a sleep that can be cut short, and news that many wait for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecar.broker.waits import Alarm, News
from sidecar.runtime import Tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fake_clock import FakeClock


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks(lambda name, error: None)
    yield tasks
    await tasks.close()


async def test_a_sleep_ends_at_its_instant(clock: FakeClock, tasks: Tasks) -> None:
    alarm = Alarm("sleep", clock=clock, tasks=tasks)
    sleeping = tasks.spawn("sleeping", alarm.sleep_until(1010.0))
    await clock.advance(9.9)
    assert not sleeping.done()
    await clock.advance(0.1)
    assert sleeping.done()


async def test_a_ring_ends_a_sleep_early_and_leaves_no_sleeper(clock: FakeClock, tasks: Tasks) -> None:
    alarm = Alarm("sleep", clock=clock, tasks=tasks)
    sleeping = tasks.spawn("sleeping", alarm.sleep_until(1010.0))
    await clock.settle()
    alarm.ring()
    await clock.settle()
    assert sleeping.done()
    assert not sleeping.cancelled()
    assert clock.sleepers == []


async def test_a_ring_while_nobody_sleeps_is_not_kept(clock: FakeClock, tasks: Tasks) -> None:
    alarm = Alarm("sleep", clock=clock, tasks=tasks)
    alarm.ring()
    sleeping = tasks.spawn("sleeping", alarm.sleep_until(1010.0))
    await clock.settle()
    assert not sleeping.done()


async def test_cancelling_the_sleeper_ends_its_timer(clock: FakeClock, tasks: Tasks) -> None:
    alarm = Alarm("sleep", clock=clock, tasks=tasks)
    sleeping = tasks.spawn("sleeping", alarm.sleep_until(1010.0))
    await clock.settle()
    sleeping.cancel()
    await clock.settle()
    assert sleeping.cancelled()
    assert clock.sleepers == []
    assert len(tasks) == 0


async def test_news_reaches_everybody_who_waits(clock: FakeClock, tasks: Tasks) -> None:
    news = News("wait", clock=clock, tasks=tasks)
    waiting = [tasks.spawn(f"waiting:{number}", news.wait_until(1010.0)) for number in range(5)]
    await clock.settle()
    waiting[0].cancel()
    await clock.settle()
    assert [one.done() for one in waiting] == [True, False, False, False, False]
    news.tell()
    await clock.settle()
    assert all(one.done() and not one.cancelled() for one in waiting[1:])
    assert clock.sleepers == []


async def test_a_wait_for_news_ends_at_its_deadline(clock: FakeClock, tasks: Tasks) -> None:
    news = News("wait", clock=clock, tasks=tasks)
    waiting = tasks.spawn("waiting", news.wait_until(1010.0))
    await clock.advance(10.0)
    assert waiting.done()


async def test_old_news_is_no_news(clock: FakeClock, tasks: Tasks) -> None:
    news = News("wait", clock=clock, tasks=tasks)
    news.tell()
    first = tasks.spawn("first", news.wait_until(1010.0))
    await clock.settle()
    news.tell()
    second = tasks.spawn("second", news.wait_until(1010.0))
    await asyncio.wait({first})
    await clock.settle()
    assert not second.done()
