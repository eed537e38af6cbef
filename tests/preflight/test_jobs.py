"""Many checks at once, within one time."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.preflight.findings import Finding
from sidecar.preflight.jobs import AT_ONCE, Job, Outcome, run_all
from sidecar.preflight.kinds import Kind, Stage

PATH = ("credentials", "orders")


def at_once(low: float, high: float) -> float:
    return low


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def job(name: str, work: object) -> Job:
    return Job(Stage.NETWORK, name, PATH, work)  # type: ignore[arg-type]


async def test_checks_come_in_the_order_of_their_jobs() -> None:
    second = asyncio.Event()

    async def first() -> Outcome:
        await second.wait()
        return Outcome((Finding(Kind.IDP_DNS, PATH, "why"),))

    async def other() -> Outcome:
        second.set()
        return Outcome(said="well")

    checks = await run_all([job("a", first), job("b", other)], until=soon(30), draw=at_once)

    assert [(check.name, len(check.findings), check.said) for check in checks] == [("a", 1, ""), ("b", 0, "well")]


async def test_only_so_many_run_at_once() -> None:
    running, most = 0, 0
    full = asyncio.Event()

    async def work() -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == AT_ONCE:
            full.set()
        await full.wait()
        running -= 1
        return Outcome()

    jobs = [job(str(number), work) for number in range(3 * AT_ONCE)]
    await run_all(jobs, until=soon(30), draw=at_once)

    assert most == AT_ONCE


async def test_they_are_spread_and_one_alone_is_not() -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    async def work() -> Outcome:
        return Outcome()

    until = soon(30)
    await run_all([job("alone", work)], until=until, draw=draw)
    await run_all([job("one", work), job("two", work)], until=until, draw=draw)
    await run_all([job(str(number), work) for number in range(100)], until=until, draw=draw)

    assert drawn[:3] == [(0.0, 0.0), (0.0, 0.1), (0.0, 0.1)]
    assert drawn[-1] == (0.0, 2.0)


async def test_what_is_not_done_in_time_says_so_and_what_is_stays() -> None:
    async def never() -> Outcome:
        await asyncio.Event().wait()
        return Outcome()

    async def done() -> Outcome:
        return Outcome(said="well")

    checks = await run_all([job("a", done), job("b", never)], until=soon(0.5), draw=at_once)

    assert checks[0].said == "well"
    assert [finding.kind for finding in checks[1].findings] == [Kind.OUT_OF_TIME]


async def test_a_bug_is_not_hidden() -> None:
    async def broken() -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_all([job("a", broken)], until=soon(30), draw=at_once)


async def test_no_jobs_are_no_checks() -> None:
    assert await run_all([], until=0.0, draw=at_once) == []
