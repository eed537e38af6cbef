"""The live part of the status page: who is told what, and that nothing is done while nobody looks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.admin.event_stream import HEARTBEAT, MOST_STREAMS, QUIET_TICKS, EventStreams
from sidecar.errors import Overloaded
from sidecar.runtime import SystemClock, Tasks
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sidecar.admin.page_server import Stream


class Eye:
    """Somebody who looks."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.seen.append(data)

    @property
    def last(self) -> dict[str, Any]:
        """The parts of the last update."""
        data = self.seen[-1].partition(b"event: update\ndata: ")[2]
        assert data.endswith(b"\n\n")
        parts: dict[str, Any] = json.loads(data)["parts"]
        return parts


@dataclass
class House:
    """Streams over a snapshot that the test changes."""

    tasks: Tasks = field(default_factory=lambda: Tasks(lambda *_: None))
    made: int = 0
    broken: bool = False
    state: dict[str, Any] = field(
        default_factory=lambda: {"about": {"version": "1"}, "credentials": [{"name": "a"}, {"name": "b"}], "routes": []}
    )

    def __post_init__(self) -> None:
        self.streams = EventStreams(self.snapshot, clock=SystemClock(), tasks=self.tasks)

    def snapshot(self) -> dict[str, Any]:
        self.made += 1
        if self.broken:
            raise RuntimeError("a bug")
        return self.state

    def look(self) -> tuple[Eye, Stream]:
        eye, stream = Eye(), self.streams.stream()
        stream.opened(eye)
        return eye, stream


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.tasks.close()


async def test_whoever_comes_is_told_everything(house: House) -> None:
    eye, _ = house.look()
    assert eye.seen[0].startswith(b"retry: ")
    assert eye.last == {
        "about": {"version": "1"},
        "credentials": ["a", "b"],
        "credentials/a": {"name": "a"},
        "credentials/b": {"name": "b"},
        "routes": [],
    }


async def test_then_only_what_changed_is_told_and_to_everybody(house: House) -> None:
    one, other = house.look()[0], house.look()[0]
    house.state = house.state | {"credentials": [{"name": "a", "state": "due"}, {"name": "b"}]}
    house.streams.tick()
    assert one.last == other.last == {"credentials/a": {"name": "a", "state": "due"}}
    house.state = house.state | {"credentials": [{"name": "b"}]}
    house.streams.tick()
    assert one.last == {"credentials": ["b"]}


async def test_one_snapshot_serves_all_who_look(house: House) -> None:
    for _ in range(4):
        house.look()
    assert house.made == 1
    house.streams.tick()
    assert house.made == 2


async def test_quiet_streams_are_kept_awake(house: House) -> None:
    eye, _ = house.look()
    for _ in range(QUIET_TICKS):
        house.streams.tick()
    assert eye.seen[1:] == [HEARTBEAT]


async def test_there_is_a_bound_on_how_many_look(house: House) -> None:
    looks = [house.look() for _ in range(MOST_STREAMS)]
    with pytest.raises(Overloaded):
        house.streams.stream()
    eye, stream = looks[0]
    stream.closed(eye)
    house.look()


async def test_nothing_runs_while_nobody_looks(house: House) -> None:
    assert (house.made, len(house.tasks)) == (0, 0)
    eye, stream = house.look()
    assert len(house.tasks) == 1
    stream.closed(eye)
    await until(lambda: len(house.tasks) == 0, "the clock stops")
    assert house.made == 1
    house.look()
    assert (house.made, len(house.tasks)) == (2, 1)


async def test_a_bug_in_one_snapshot_does_not_stop_the_next(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.admin.event_stream.TICK_SECONDS", 0.005)
    eye, _ = house.look()
    house.broken = True
    await until(lambda: house.made > 3, "it is tried again")
    house.broken, house.state = False, house.state | {"about": {"version": "2"}}
    await until(lambda: len(eye.seen) > 1, "a snapshot is told")
    assert eye.last == {"about": {"version": "2"}}
