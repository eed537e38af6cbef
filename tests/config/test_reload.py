"""Noticing that a file changed."""
# ruff: noqa: ASYNC240 - the files lie in a temporary folder and are tiny

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from sidecar.config.reload import POLL_SECONDS, SETTLE_SECONDS, Watched, watch
from tests.fake_clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

ONE_LOOK = POLL_SECONDS + SETTLE_SECONDS


class Calls:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@asynccontextmanager
async def watching(task: asyncio.Task[None]) -> AsyncIterator[None]:
    await asyncio.sleep(0)  # it takes its first stamps
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("one")
    return path


def start(path: Path, clock: FakeClock, calls: Callable[[], None], since: Watched | None = None) -> asyncio.Task[None]:
    return asyncio.Task(watch(path, clock, calls, since=since))


async def test_a_changed_file_is_noticed_at_the_next_poll(file: Path) -> None:
    clock, calls = FakeClock(), Calls()
    async with watching(start(file, clock, calls)):
        await clock.advance(POLL_SECONDS)
        assert calls.count == 0

        file.write_text("other")
        await clock.advance(POLL_SECONDS)
        assert calls.count == 0
        await clock.advance(SETTLE_SECONDS)
        assert calls.count == 1

        await clock.advance(10 * POLL_SECONDS)
        assert calls.count == 1


async def test_a_file_that_is_still_being_written_is_waited_for(file: Path) -> None:
    clock, calls = FakeClock(), Calls()
    async with watching(start(file, clock, calls)):
        file.write_text("the first half")
        await clock.advance(POLL_SECONDS)
        file.write_text("the first half, and the second")
        await clock.advance(SETTLE_SECONDS)
        assert calls.count == 0

        await clock.advance(SETTLE_SECONDS)
        assert calls.count == 1


async def test_a_file_that_never_rests_is_taken_as_it_is(file: Path) -> None:
    clock, calls = FakeClock(), Calls()
    async with watching(start(file, clock, calls)):
        for number in range(30):
            file.write_text("x" * number)
            await clock.advance(SETTLE_SECONDS)

        assert calls.count == 1


async def test_a_file_replaced_by_one_of_the_same_size_and_time_is_noticed(file: Path, tmp_path: Path) -> None:
    clock, calls = FakeClock(), Calls()
    status = file.stat()
    async with watching(start(file, clock, calls)):
        (tmp_path / "new").write_text("two")
        os.utime(tmp_path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
        (tmp_path / "new").rename(file)
        await clock.advance(ONE_LOOK)

        assert calls.count == 1


async def test_the_swap_of_a_kubernetes_volume_is_noticed(tmp_path: Path) -> None:
    for name in ("..one", "..two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("same")
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    clock, calls = FakeClock(), Calls()
    async with watching(start(tmp_path / "config.yaml", clock, calls)):
        (tmp_path / "..data_tmp").symlink_to("..two")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await clock.advance(ONE_LOOK)

        assert calls.count == 1


async def test_a_file_that_is_gone_is_no_change_until_it_is_back(file: Path) -> None:
    clock, calls = FakeClock(), Calls()
    async with watching(start(file, clock, calls)):
        file.unlink()
        await clock.advance(3 * POLL_SECONDS)
        assert calls.count == 0

        file.write_text("back")
        await clock.advance(ONE_LOOK)
        assert calls.count == 1


async def test_a_file_that_comes_back_as_it_was_is_no_change(file: Path, tmp_path: Path) -> None:
    clock, calls = FakeClock(), Calls()
    async with watching(start(file, clock, calls)):
        file.rename(tmp_path / "aside")
        await clock.advance(ONE_LOOK)
        (tmp_path / "aside").rename(file)
        await clock.advance(ONE_LOOK)

        assert calls.count == 0


async def test_further_files_are_watched_and_may_become_more(file: Path, tmp_path: Path) -> None:
    clock, calls = FakeClock(), Calls()
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("first")
    watched = Watched((file, first))
    async with watching(start(file, clock, calls, watched)):
        first.write_text("first, changed")
        await clock.advance(ONE_LOOK)
        assert calls.count == 1

        second.write_text("second")
        watched.take_in([first, second])
        await clock.advance(ONE_LOOK)
        assert calls.count == 1  # taken in as it is
        second.write_text("second, changed")
        await clock.advance(ONE_LOOK)
        assert calls.count == 2


async def test_taking_a_file_in_again_loses_no_change(file: Path) -> None:
    clock, calls = FakeClock(), Calls()
    watched = Watched((file,))
    async with watching(start(file, clock, calls, watched)):
        file.write_text("changed")
        watched.take_in([file])
        await clock.advance(ONE_LOOK)

        assert calls.count == 1


async def test_a_file_that_does_not_exist_yet_is_noticed_when_it_comes(file: Path, tmp_path: Path) -> None:
    clock, calls = FakeClock(), Calls()
    async with watching(start(file, clock, calls, Watched((file, tmp_path / "late")))):
        await clock.advance(ONE_LOOK)
        assert calls.count == 0
        (tmp_path / "late").write_text("here")
        await clock.advance(ONE_LOOK)

        assert calls.count == 1


async def test_changes_that_are_seen_together_are_told_once(file: Path, tmp_path: Path) -> None:
    clock, calls = FakeClock(), Calls()
    other = tmp_path / "ca.pem"
    other.write_text("ca")
    async with watching(start(file, clock, calls, Watched((file, other)))):
        file.write_text("changed")
        other.write_text("changed")
        await clock.advance(ONE_LOOK)

        assert calls.count == 1


async def test_a_change_between_loading_and_watching_is_not_lost(file: Path) -> None:
    since = Watched((file,))
    file.write_text("changed while it was loaded")
    clock, calls = FakeClock(), Calls()
    async with watching(start(file, clock, calls, since)):
        await clock.advance(ONE_LOOK)

        assert calls.count == 1


async def test_a_reload_that_takes_long_is_waited_for(file: Path) -> None:
    clock = FakeClock()
    started, release = asyncio.Event(), asyncio.Event()
    finished = Calls()

    async def changed() -> None:
        started.set()
        await release.wait()
        finished()

    async with watching(asyncio.Task(watch(file, clock, changed))):
        file.write_text("changed")
        await clock.advance(ONE_LOOK)
        await started.wait()
        file.write_text("changed again")
        await clock.advance(3 * POLL_SECONDS)
        assert finished.count == 0

        release.set()
        await clock.advance(ONE_LOOK)
        await clock.advance(ONE_LOOK)
        assert finished.count == 2
