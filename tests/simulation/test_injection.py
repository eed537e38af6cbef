"""Faults go into a running provider and out of it again, at their time and not before."""

from __future__ import annotations

import base64
import contextlib
import json
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from sidecar.runtime import Tasks
from sidecar.simulation.catalogue import ordered
from sidecar.simulation.idp import Client, MockIdP, Refreshing
from sidecar.simulation.injection import Injection
from tests.simulation.parties import FORM, ask, basic, refresh

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fake_clock import FakeClock


@pytest.fixture
async def ended() -> list[str]:
    """Faults that ended."""
    return []


@pytest.fixture
async def injection(idp: MockIdP, clock: FakeClock, ended: list[str]) -> AsyncIterator[Injection]:
    crashed: list[BaseException] = []
    tasks = Tasks(lambda _, error: crashed.append(error))
    yield Injection(idp, clock=clock, tasks=tasks, on_end=lambda order: ended.append(str(order)))
    await tasks.close()
    assert not crashed


async def status(session: aiohttp.ClientSession, idp: MockIdP) -> int:
    async with session.post(idp.token_url, data=FORM, headers=basic()) as response:
        return response.status


async def test_a_fault_with_a_time_ends_at_it(
    session: aiohttp.ClientSession, idp: MockIdP, injection: Injection, clock: FakeClock, ended: list[str]
) -> None:
    await injection.inject("429=7s:30s")
    async with session.post(idp.token_url, data=FORM, headers=basic()) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
    await clock.advance(29)
    assert await status(session, idp) == 429
    assert [str(order) for order in injection.active()] == ["429=7s:30s"]
    await clock.advance(1)
    assert await status(session, idp) == 200
    assert (injection.active(), ended) == ([], ["429=7s:30s"])


async def test_a_fault_with_a_count_is_for_so_many_answers(
    session: aiohttp.ClientSession, idp: MockIdP, injection: Injection
) -> None:
    await injection.inject("500x2")
    assert [await status(session, idp) for _ in range(3)] == [500, 500, 200]
    assert injection.active() == []


async def test_a_fault_without_either_holds_until_it_is_ended(
    session: aiohttp.ClientSession, idp: MockIdP, injection: Injection
) -> None:
    await injection.inject("503")
    assert [await status(session, idp) for _ in range(3)] == [503] * 3
    assert [str(order) for order in await injection.end("503")] == ["503"]
    assert await status(session, idp) == 200
    assert await injection.end("503") == []


async def test_the_same_fault_again_takes_the_place_of_the_first(
    session: aiohttp.ClientSession, idp: MockIdP, injection: Injection, clock: FakeClock
) -> None:
    await injection.inject("429:10s")
    await injection.inject("429:60s")
    await clock.advance(30)
    assert await status(session, idp) == 429
    await injection.end()
    assert await status(session, idp) == 200


async def test_faults_hold_together(session: aiohttp.ClientSession, idp: MockIdP, injection: Injection) -> None:
    await injection.inject("latency=1ms")
    await injection.inject("500")
    assert await status(session, idp) == 500
    await injection.end("500")
    assert await status(session, idp) == 200
    assert [str(order) for order in injection.active()] == ["latency=1ms"]


@pytest.mark.parametrize(
    ("fault", "expected"), [("empty", b""), ("html", b"<!DOCTYPE html>"), ("malformed", b'{"access_token": "abc", ')]
)
async def test_answers_that_are_no_tokens_come_with_200(
    session: aiohttp.ClientSession, idp: MockIdP, injection: Injection, fault: str, expected: bytes
) -> None:
    await injection.inject(fault)
    async with session.post(idp.token_url, data=FORM, headers=basic()) as response:
        body = await response.read()
        assert (response.status, body[: len(expected) or None]) == (200, expected)


async def test_an_outage_refuses_connections_and_ends_on_the_same_port(
    session: aiohttp.ClientSession, idp: MockIdP, injection: Injection, clock: FakeClock
) -> None:
    port = idp.port
    await injection.inject("outage:5s")
    with pytest.raises(aiohttp.ClientConnectionError):
        await status(session, idp)
    await clock.advance(5)
    async with aiohttp.ClientSession() as other:
        assert await status(other, idp) == 200
    assert idp.port == port


async def test_a_provider_that_was_stopped_otherwise_is_not_started_twice(idp: MockIdP, injection: Injection) -> None:
    await injection.inject("outage")
    await idp.start()
    await injection.end()
    assert idp.listening


async def test_settings_are_given_back(
    session: aiohttp.ClientSession, idp: MockIdP, injection: Injection, clock: FakeClock
) -> None:
    await injection.inject("ttl=5s:10s")
    assert (await ask(session, idp))[1]["expires_in"] == 5
    await clock.advance(10)
    assert (await ask(session, idp))[1]["expires_in"] == 60


async def test_a_skewed_clock_is_in_the_date_and_in_jwts_and_not_in_the_life_of_tokens(clock: FakeClock) -> None:
    tasks = Tasks(lambda *_: None)
    async with (
        MockIdP(now=clock.now, wall=clock.wall, ttl=60, jwt="ES256") as idp,
        aiohttp.ClientSession() as session,
    ):
        await Injection(idp, clock=clock, tasks=tasks).inject("skew=-5m")
        async with session.post(idp.token_url, data=FORM, headers=basic()) as response:
            token = (await response.json())["access_token"]
            assert parsedate_to_datetime(response.headers["Date"]).timestamp() == clock.wall() - 300
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["exp"] == clock.wall() - 300 + 60
    assert idp.is_valid(token, clock.now() + 59)
    await tasks.close()


async def test_a_revocation_takes_what_is_out_and_leaves_what_comes(
    session: aiohttp.ClientSession, idp: MockIdP, injection: Injection
) -> None:
    before = (await ask(session, idp))[1]["access_token"]
    await injection.inject("revoke")
    after = (await ask(session, idp))[1]["access_token"]
    assert (idp.is_valid(before), idp.is_valid(after)) == (False, True)
    assert injection.active() == []


async def test_logins_can_be_revoked_and_rotate(
    session: aiohttp.ClientSession, idp: MockIdP, injection: Injection, clock: FakeClock
) -> None:
    idp.register("client", Client(refreshing=Refreshing(rotates=False)))
    seed = idp.login()
    assert [(await refresh(session, idp, seed))[0] for _ in range(2)] == [200, 200]
    await injection.inject("rotate=10s")
    successor = (await refresh(session, idp, seed))[1]["refresh_token"]
    await clock.advance(10)
    assert (await refresh(session, idp, seed))[1]["error"] == "invalid_grant"
    assert (await refresh(session, idp, successor))[1]["error"] == "invalid_grant", "reuse revokes the login"
    other = idp.login()
    await injection.inject("revoke_login")
    assert (await refresh(session, idp, other))[1]["error"] == "invalid_grant"


async def test_other_secrets_refuse_the_client_until_they_are_given_back(
    session: aiohttp.ClientSession, idp: MockIdP, injection: Injection
) -> None:
    await injection.inject("wrong_secret")
    assert (await ask(session, idp))[1]["error"] == "invalid_client"
    await injection.end()
    assert (await ask(session, idp))[0] == 200


async def test_what_hangs_is_let_go_when_the_fault_ends(idp: MockIdP, injection: Injection) -> None:
    await injection.inject("hang")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.05)) as hasty:
        with pytest.raises(TimeoutError):
            await status(hasty, idp)
    await injection.end("hang")
    async with aiohttp.ClientSession() as session:
        assert await status(session, idp) == 200


async def test_a_rotation_whose_answer_is_lost_has_happened(
    session: aiohttp.ClientSession, idp: MockIdP, injection: Injection
) -> None:
    idp.register("client", Client(refreshing=Refreshing()))
    seed = idp.login()
    await injection.inject(ordered("lostx1"))
    with contextlib.suppress(aiohttp.ClientConnectionError):
        await refresh(session, idp, seed)
    assert (await refresh(session, idp, seed))[1]["error"] == "invalid_grant"


async def test_what_is_no_fault_changes_nothing(injection: Injection) -> None:
    with pytest.raises(ValueError, match="no fault has this name"):
        await injection.inject("nonsense")
    assert injection.active() == []
