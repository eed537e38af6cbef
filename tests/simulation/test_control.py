"""Faults by HTTP: for whoever has the key, also while the provider is down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.runtime import Tasks
from sidecar.simulation.control import Control
from sidecar.simulation.injection import Injection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from sidecar.simulation.idp import MockIdP
    from tests.fake_clock import FakeClock


@pytest.fixture
async def control(idp: MockIdP, clock: FakeClock) -> AsyncIterator[Control]:
    tasks = Tasks(lambda *_: None)
    async with Control(Injection(idp, clock=clock, tasks=tasks)) as control:
        yield control
    await tasks.close()


async def ask(
    session: aiohttp.ClientSession, control: Control, method: str, below: str = "", *, key: str = "", data: Any = None
) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key or control.key}"}
    async with session.request(method, control.url + below, headers=headers, data=data) as response:
        return response.status, await response.json()


async def test_a_fault_goes_in_and_out(session: aiohttp.ClientSession, control: Control) -> None:
    assert (await ask(session, control, "GET"))[1]["active"] == []
    status, state = await ask(session, control, "POST", data="429:30s")
    assert (status, state["active"]) == (200, ["429:30s"])
    await ask(session, control, "POST", data="latency=2s\n")
    assert (await ask(session, control, "DELETE", "/429"))[1]["active"] == ["latency=2s"]
    assert (await ask(session, control, "DELETE"))[1]["active"] == []
    assert "outage" in (await ask(session, control, "GET"))[1]["known"]


async def test_it_answers_while_the_provider_is_down(
    session: aiohttp.ClientSession, control: Control, idp: MockIdP
) -> None:
    await ask(session, control, "POST", data="outage")
    assert not idp.listening
    await ask(session, control, "DELETE", "/outage")
    assert idp.listening


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic {key}", "{key}"])
async def test_without_the_key_nothing_happens(
    session: aiohttp.ClientSession, control: Control, idp: MockIdP, header: str
) -> None:
    headers = {"Authorization": header.format(key=control.key)} if header else {}
    async with session.post(control.url, headers=headers, data="outage") as response:
        assert response.status == 401
    assert idp.listening


async def test_keys_are_made_anew_at_each_start(control: Control, idp: MockIdP, clock: FakeClock) -> None:
    other = Control(Injection(idp, clock=clock, tasks=Tasks(lambda *_: None)))
    assert other.key != control.key
    assert len(control.key) >= 32


@pytest.mark.parametrize(
    ("method", "below", "data", "expected"),
    [
        ("POST", "", "nonsense", 400),
        ("POST", "", b"\xff\xfe", 400),
        ("POST", "", "", 400),
        ("POST", "", "x" * 100_000, 400),
        ("DELETE", "/nonsense", None, 404),
        ("PUT", "", "500", 405),
        ("GET", "/429", None, 405),
        ("GET", "thing", None, 404),
    ],
)
async def test_wrong_use_is_told_and_changes_nothing(
    session: aiohttp.ClientSession, control: Control, method: str, below: str, data: Any, expected: int
) -> None:
    status, told = await ask(session, control, method, below, data=data)
    assert status == expected
    assert told["error"]
    assert (await ask(session, control, "GET"))[1]["active"] == []


async def test_elsewhere_there_is_nothing(session: aiohttp.ClientSession, control: Control) -> None:
    headers = {"Authorization": f"Bearer {control.key}"}
    async with session.get(f"http://127.0.0.1:{control.port}/", headers=headers) as response:
        assert response.status == 404
