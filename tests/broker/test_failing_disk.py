"""A store whose disk refuses, or hangs: what is kept in memory, what is told, and who is not stopped by it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.broker import store as store_module
from sidecar.broker.policy import State
from sidecar.broker.store import TokenStore
from sidecar.errors import (
    LoginNeeded,
    StoreLocked,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.renewal_kit import Rig


LogLines = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def broken_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Makes the disk refuse to be written, or take it again."""
    rename = store_module._rename

    def refuse(*paths: object) -> None:
        raise OSError(28, os.strerror(28))

    return lambda broken: monkeypatch.setattr(store_module, "_rename", refuse if broken else rename)


async def test_a_rotation_that_cannot_be_written_serves_from_memory_and_says_so(
    rig: Rig, broken_disk: Callable[[bool], None], log_lines: LogLines
) -> None:
    rig.log_in()
    credential = await rig.run(rig.source())
    before = rig.on_disk
    broken_disk(True)
    for _ in range(2):
        credential.request_refresh()
        await rig.clock.settle()
    assert len(set(rig.presented)) == 3
    assert credential.status().state is State.FRESH
    assert rig.on_disk == before
    failed = log_lines("store_write_failed")
    assert failed[0]["level"] == "error"
    assert "No space left on device" in failed[0]["detail"]
    await rig.clock.advance(20.0)
    assert len(log_lines("store_write_failed")) == len(failed)
    broken_disk(False)
    await rig.clock.advance(5.0)
    assert len(log_lines("store_write_recovered")) == 1
    assert rig.on_disk != before
    assert rig.on_disk.spent_at is None
    credential.request_refresh()
    await rig.clock.settle()
    assert credential.status().state is State.FRESH
    assert len(rig.presented) == 4


async def test_a_grant_in_memory_gives_way_to_a_login_on_disk(rig: Rig, broken_disk: Callable[[bool], None]) -> None:
    rig.log_in()
    source = rig.source()
    broken_disk(True)
    await source.fetch()
    assert source.watches
    broken_disk(False)
    login = rig.log_in()
    await source.fetch()
    assert rig.presented[1] == login
    assert not source.watches


async def test_a_write_that_is_late_does_not_overwrite_a_newer_one(
    rig: Rig, broken_disk: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, free = store_module._rename, threading.Event()

    def late(fresh: Path, path: Path) -> None:
        free.wait(60)
        rename(fresh, path)

    rig.log_in()
    source = rig.source()
    broken_disk(True)
    await source.fetch()
    monkeypatch.setattr(store_module, "_rename", late)
    source.inputs_changed()
    fetch = asyncio.ensure_future(source.fetch())
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(rig.presented) == 1
    free.set()
    await fetch
    assert len(rig.presented) == 2
    assert rig.on_disk.spent_at is None
    await source.fetch()
    assert len(set(rig.presented)) == 3


@pytest.fixture
def hung_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes a call of the store hang, until the test ends."""
    free = threading.Event()

    def hang(name: str) -> None:
        really = getattr(TokenStore, name)

        def hanging(store: TokenStore, *arguments: Any, **named: Any) -> Any:
            free.wait(60)
            return really(store, *arguments, **named)

        monkeypatch.setattr(TokenStore, name, hanging)

    yield hang
    free.set()


async def test_a_volume_that_hangs_stops_nobody_else(rig: Rig, hung_disk: Callable[[str], None]) -> None:
    hung_disk("own")
    sources = [rig.source() for _ in range(40)]  # more than asyncio has threads
    fetches = [asyncio.ensure_future(source.fetch()) for source in sources]
    async with asyncio.timeout(30):
        while sum(thread.name.startswith("store:orders") for thread in threading.enumerate()) < len(sources):
            await asyncio.sleep(0)
        assert await asyncio.to_thread(lambda: "served") == "served"
    for fetch in fetches:
        fetch.cancel()


async def test_a_look_at_a_volume_that_hangs_is_left_for_later(rig: Rig, hung_disk: Callable[[str], None]) -> None:
    source = rig.source()
    with pytest.raises(LoginNeeded):
        await source.fetch()
    rig.log_in()
    hung_disk("stamp")
    began_at = time.monotonic()
    for _ in range(1000):
        assert not source.inputs_changed()
    assert time.monotonic() - began_at < 20.0


async def test_a_seed_serves_although_it_cannot_be_kept(
    rig: Rig, tmp_path: Path, broken_disk: Callable[[bool], None]
) -> None:
    seed = tmp_path / "seed"
    seed.write_text(rig.idp.login())
    broken_disk(True)
    source = rig.source(seed=seed)
    await source.fetch()
    await source.fetch()
    assert len(set(rig.presented)) == 2
    broken_disk(False)
    await source.fetch()
    assert rig.on_disk.spent_at is None
    assert len(set(rig.presented)) == 3


async def test_what_is_still_being_written_has_an_owner(
    rig: Rig, broken_disk: Callable[[bool], None], hung_disk: Callable[[str], None]
) -> None:
    rig.log_in()
    source = rig.source()
    broken_disk(True)
    await source.fetch()
    hung_disk("replace")
    source.inputs_changed()
    source.close()
    with pytest.raises(StoreLocked):
        rig.store.own("orders")


async def test_what_the_disk_did_not_take_is_offered_once_more_at_the_end(
    rig: Rig, broken_disk: Callable[[bool], None]
) -> None:
    rig.log_in()
    source = rig.source()
    broken_disk(True)
    await source.fetch()
    before = rig.on_disk
    broken_disk(False)
    source.close()
    async with asyncio.timeout(30):
        while "store:" in repr(rig.tasks):
            await asyncio.sleep(0)
    assert rig.on_disk.refresh_token != before.refresh_token
    await rig.source().fetch()
    assert len(set(rig.presented)) == 2
