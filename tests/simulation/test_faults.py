"""The provider fails as told, and stops failing."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from sidecar.simulation.faults import Standing
from sidecar.simulation.idp import Client, MockIdP, Refreshing, Step
from tests.simulation.parties import FORM, ask, basic, refresh


async def test_it_follows_its_script_and_then_answers_as_usual(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.script(
        Step(status=503, headers={"Retry-After": "7"}, body=b'{"error": "server_error"}'),
        Step(fields={"expires_in": None, "scope": "x"}),
    )
    async with session.post(idp.token_url, data=FORM, headers=basic()) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "7")
    _, fields = await ask(session, idp)
    assert fields["scope"] == "x"
    assert "expires_in" not in fields
    assert (await ask(session, idp))[1]["expires_in"] == 60


async def test_it_can_fail_for_good_and_stop_failing(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.always(Step(status=500))
    assert [(await ask(session, idp))[0] for _ in range(3)] == [500] * 3
    idp.always(None)
    assert (await ask(session, idp))[0] == 200


async def test_it_holds_an_answer_back_until_told(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    release = asyncio.Event()
    idp.script(Step(hold=release))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask(session, idp))
        async with asyncio.timeout(5):
            while not idp.received:
                await asyncio.sleep(0)
        assert not asking.done()
        release.set()
    assert asking.result()[0] == 200


@pytest.mark.parametrize("fault", ["reset", "close"])
async def test_it_breaks_connections(session: aiohttp.ClientSession, idp: MockIdP, fault: Any) -> None:
    idp.script(Step(fault=fault))
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(session, idp)
    assert (await ask(session, idp))[0] == 200


@pytest.mark.parametrize("fault", ["hang", "drip"])
async def test_it_hangs_and_drips_until_it_is_stopped(idp: MockIdP, fault: Any) -> None:
    idp.script(Step(fault=fault))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.05)) as hasty:
        with pytest.raises(TimeoutError):
            await ask(hasty, idp)
    await idp.stop()


async def test_an_answer_can_be_lost_after_the_deed(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.register("client", Client(refreshing=Refreshing()))
    seed = idp.login()
    idp.script(Step(fault="reset", commits=True))
    with pytest.raises(aiohttp.ClientConnectionError):
        await refresh(session, idp, seed)
    assert (await refresh(session, idp, seed))[1]["error"] == "invalid_grant"


async def test_each_endpoint_has_a_script_of_its_own(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.script(Step(status=503), endpoint="metadata")
    assert (await ask(session, idp))[0] == 200
    async with session.get(f"{idp.issuer}/.well-known/openid-configuration") as response:
        assert response.status == 503


async def test_an_answer_can_come_later(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    loop = asyncio.get_running_loop()
    idp.script(Step(delay=0.05))
    began_at = loop.time()
    assert (await ask(session, idp))[0] == 200
    assert loop.time() - began_at >= 0.05


async def test_what_holds_is_for_so_many_answers_and_beside_the_script(
    session: aiohttp.ClientSession, idp: MockIdP
) -> None:
    idp.faults.impose(Standing(Step(headers={"X-Fault": "a"}), frozenset({"token"})))
    idp.faults.impose(Standing(Step(status=503, headers={"X-Other": "b"}), frozenset({"token"}), left=1))
    idp.script(Step(status=500), Step(status=500))
    seen = []
    for _ in range(2):
        async with session.post(idp.token_url, data=FORM, headers=basic()) as response:
            seen.append((response.status, response.headers["X-Fault"], response.headers.get("X-Other")))
    assert seen == [(503, "a", "b"), (500, "a", None)]


async def test_what_was_lifted_may_be_lifted_again(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    standing = Standing(Step(status=500), frozenset({"token"}))
    idp.faults.impose(standing)
    idp.faults.lift(standing)
    idp.faults.lift(standing)
    assert (await ask(session, idp))[0] == 200
