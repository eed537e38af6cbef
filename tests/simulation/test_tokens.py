"""Tokens live as long as they should, and a family of them ends together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import pytest

from sidecar.simulation.assertions import signed_by
from sidecar.simulation.idp import Client, MockIdP, Refreshing
from tests.fake_clock import FakeClock
from tests.simulation.parties import FORM, ask, basic, new_key, proof, refresh

if TYPE_CHECKING:
    import aiohttp


async def test_it_issues_a_new_token_each_time_with_its_marker(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.marker = "canary"
    status, first = await ask(session, idp)
    _, second = await ask(session, idp)
    assert status == 200
    assert first["access_token"] != second["access_token"]
    assert first["access_token"].startswith("canary-")
    assert (first["token_type"], first["expires_in"]) == ("Bearer", 60)


async def test_its_tokens_are_valid_for_their_lifetime_or_until_revoked(session: aiohttp.ClientSession) -> None:
    clock = FakeClock()
    async with MockIdP(now=clock.now, ttl=60) as idp:
        first, second = [(await ask(session, idp))[1]["access_token"] for _ in range(2)]
        assert idp.is_valid(first)
        assert not idp.is_valid(first, now=clock.now() + 60)
        assert not idp.is_valid("made up")
        idp.revoke(second)
        assert not idp.is_valid(second)
        clock.slip(61)
        assert not idp.is_valid(first)


async def test_it_can_hand_out_the_same_token_with_less_life_left(session: aiohttp.ClientSession) -> None:
    clock = FakeClock()
    async with MockIdP(now=clock.now, ttl=60, renews_within=10.0) as idp:
        _, first = await ask(session, idp)
        clock.slip(20.0)
        _, second = await ask(session, idp)
        clock.slip(30.5)
        _, third = await ask(session, idp)
    assert second == first | {"expires_in": 40}
    assert third["access_token"] != first["access_token"]


def refreshing(idp: MockIdP, **settings: Any) -> None:
    idp.register("client", Client(refreshing=Refreshing(**settings), redirect_uris=("http://127.0.0.1/callback",)))


async def test_a_refresh_rotates_and_the_new_token_goes_on(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    refreshing(idp)
    seed = idp.login(scope="read write")
    status, first = await refresh(session, idp, seed)
    _, second = await refresh(session, idp, first["refresh_token"])
    assert (status, first["scope"], first["expires_in"]) == (200, "read write", 60)
    assert len({seed, first["refresh_token"], second["refresh_token"]}) == 3
    assert idp.is_valid(first["access_token"])
    assert idp.is_valid(second["access_token"])
    assert "refresh_token_expires_in" not in first


async def test_a_spent_refresh_token_used_again_ends_the_family(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    refreshing(idp)
    seed, other = idp.login(), idp.login()
    _, first = await refresh(session, idp, seed)
    status, fields = await refresh(session, idp, seed)
    assert (status, fields["error"]) == (400, "invalid_grant")
    assert not idp.is_valid(first["access_token"])
    assert (await refresh(session, idp, first["refresh_token"]))[1]["error"] == "invalid_grant"
    assert (await refresh(session, idp, other))[0] == 200


async def test_within_the_grace_the_spent_token_may_be_used_again(
    session: aiohttp.ClientSession, idp: MockIdP, clock: FakeClock
) -> None:
    refreshing(idp, grace=30.0)
    seed = idp.login()
    answers = [await refresh(session, idp, seed)]
    clock.slip(29.9)
    answers.append(await refresh(session, idp, seed))
    assert [status for status, _ in answers] == [200, 200]
    assert (await refresh(session, idp, answers[0][1]["refresh_token"]))[0] == 200
    clock.slip(0.1)  # counted from the first use
    assert (await refresh(session, idp, seed))[1]["error"] == "invalid_grant"
    assert (await refresh(session, idp, answers[1][1]["refresh_token"]))[1]["error"] == "invalid_grant"


async def test_without_rotation_the_token_stays(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    refreshing(idp, rotates=False)
    seed = idp.login()
    for _ in range(3):
        status, fields = await refresh(session, idp, seed)
        assert status == 200
        assert "refresh_token" not in fields


@pytest.mark.parametrize("rotates", [True, False])
async def test_a_refresh_token_expires_and_says_when(
    session: aiohttp.ClientSession, idp: MockIdP, clock: FakeClock, rotates: bool
) -> None:
    refreshing(idp, lifetime=100.0, rotates=rotates)
    seed = idp.login()
    clock.slip(40.0)
    _, fields = await refresh(session, idp, seed)
    assert fields["refresh_token_expires_in"] == (100 if rotates else 60)
    clock.slip(60.0)
    assert (await refresh(session, idp, seed))[1]["error"] == "invalid_grant"
    assert (await refresh(session, idp, fields.get("refresh_token", seed)))[0] == (200 if rotates else 400)


async def test_a_refresh_can_kill_the_access_token_in_use(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    refreshing(idp, kills_access=True)
    _, first = await refresh(session, idp, idp.login())
    _, second = await refresh(session, idp, first["refresh_token"])
    assert not idp.is_valid(first["access_token"])
    assert idp.is_valid(second["access_token"])


async def test_a_refresh_narrows_the_scope_and_never_widens_it(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    refreshing(idp, rotates=False)
    seed = idp.login(scope="read write")
    assert (await refresh(session, idp, seed, scope="read"))[1]["scope"] == "read"
    assert (await refresh(session, idp, seed, scope="read admin"))[1]["error"] == "invalid_scope"
    assert (await refresh(session, idp, seed))[1]["scope"] == "read write"


async def test_a_refused_refresh_spends_nothing(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    refreshing(idp)
    seed = idp.login(scope="read")
    assert (await refresh(session, idp, seed, scope="admin"))[0] == 400
    assert (await refresh(session, idp, seed))[0] == 200


async def test_a_revoked_refresh_token_takes_its_family_along(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    refreshing(idp)
    _, fields = await refresh(session, idp, idp.login())
    idp.revoke(fields["refresh_token"])
    assert not idp.is_valid(fields["access_token"])
    assert (await refresh(session, idp, fields["refresh_token"]))[1]["error"] == "invalid_grant"


async def test_nobody_uses_the_refresh_token_of_another(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    refreshing(idp)
    idp.register("other", Client(refreshing=Refreshing()), secret="other-secret")
    assert (await refresh(session, idp, idp.login("other")))[1]["error"] == "invalid_grant"
    assert (await refresh(session, idp, "made up"))[1]["error"] == "invalid_grant"


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
async def test_an_access_token_can_be_a_jwt_that_its_keys_verify(
    session: aiohttp.ClientSession, idp: MockIdP, algorithm: Literal["ES256", "RS256"]
) -> None:
    idp.jwt, key = algorithm, new_key()
    form = FORM | {"scope": "read", "audience": "https://api.test"}
    _, fields = await ask(session, idp, form, basic() | {"DPoP": proof(idp, key)})
    async with session.get(f"{idp.issuer}/jwks") as response:
        keys = (await response.json())["keys"]
    stated = signed_by(fields["access_token"], keys)
    assert stated is not None
    assert (stated["iss"], stated["sub"], stated["aud"]) == (idp.issuer, "client", "https://api.test")
    assert (stated["client_id"], stated["scope"]) == ("client", "read")
    assert stated["exp"] - stated["iat"] == fields["expires_in"]
    assert stated["cnf"] == idp.bound_to(fields["access_token"])
    assert idp.is_valid(fields["access_token"])
    idp.jwt = None
    assert idp.tokens.jwks() == {"keys": []}


def test_nothing_is_known_of_a_token_that_was_never_issued(idp: MockIdP) -> None:
    assert idp.bound_to("made up") == {}
    assert idp.tokens.owner("made up") is None
