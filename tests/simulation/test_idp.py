"""The mock provider is as strict as a real one, and fails as told."""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from sidecar.simulation.idp import MockIdP, Step
from tests.fake_clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FORM = {"grant_type": "client_credentials"}


def basic(client: str = "client", secret: str = "client-secret") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def idp() -> AsyncIterator[MockIdP]:
    clock = FakeClock()
    async with MockIdP(now=clock.now, ttl=60) as idp:
        yield idp


async def ask(
    session: aiohttp.ClientSession, idp: MockIdP, form: Any = FORM, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    async with session.post(idp.token_url, data=form, headers=basic() if headers is None else headers) as response:
        return response.status, await response.json()


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


@pytest.mark.parametrize(
    ("form", "headers", "status", "error"),
    [
        (FORM, {}, 401, "invalid_client"),
        (FORM, basic(secret="wrong"), 401, "invalid_client"),
        (FORM, basic(client="other"), 401, "invalid_client"),
        (FORM, {"Authorization": "Basic !!!"}, 400, "invalid_request"),
        (FORM, {"Authorization": "Bearer x"}, 400, "invalid_request"),
        (FORM, {"Authorization": "Basic " + base64.b64encode(b"client").decode()}, 400, "invalid_request"),
        ({"grant_type": "password"}, basic(), 400, "unsupported_grant_type"),
        ({}, basic(), 400, "unsupported_grant_type"),
        (FORM | {"client_secret": "client-secret"}, basic(), 400, "invalid_request"),
        (FORM | {"client_id": "client", "client_secret": "wrong"}, {}, 401, "invalid_client"),
        ([("grant_type", "client_credentials"), ("scope", "a"), ("scope", "b")], basic(), 400, "invalid_request"),
    ],
)
async def test_it_refuses_what_the_rfc_refuses(
    session: aiohttp.ClientSession, idp: MockIdP, form: Any, headers: dict[str, str], status: int, error: str
) -> None:
    answered, fields = await ask(session, idp, aiohttp.FormData(form), headers)
    assert (answered, fields["error"]) == (status, error)


async def test_a_repeated_resource_is_fine(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    form = [("grant_type", "client_credentials"), ("resource", "a"), ("resource", "b")]
    assert (await ask(session, idp, aiohttp.FormData(form)))[0] == 200


async def test_basic_is_form_decoded_unless_it_is_raw(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.secrets["client"] = {"a+b c"}
    assert (await ask(session, idp, headers=basic(secret="a%2Bb+c")))[0] == 200
    assert (await ask(session, idp, headers=basic(secret="a+b c")))[0] == 401
    idp.basic_encoding = "raw"
    assert (await ask(session, idp, headers=basic(secret="a+b c")))[0] == 200


async def test_it_grants_only_its_scopes_and_says_which(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.scopes = frozenset({"read"})
    assert (await ask(session, idp, FORM | {"scope": "read write"}))[1]["scope"] == "read"
    assert "scope" not in (await ask(session, idp))[1]


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


@pytest.mark.parametrize("path", ["", "/tenant"])
async def test_it_publishes_its_metadata_in_both_places(session: aiohttp.ClientSession, path: str) -> None:
    async with MockIdP(issuer_path=path) as idp:
        for url in (
            f"{idp.issuer}/.well-known/openid-configuration",
            f"{idp.origin}/.well-known/oauth-authorization-server{path}",
        ):
            async with session.get(url) as response:
                document = await response.json()
            assert (document["issuer"], document["token_endpoint"]) == (idp.issuer, idp.token_url)
        async with session.get(f"{idp.origin}/nothing") as response:
            assert response.status == 404


async def test_it_remembers_what_it_was_sent(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    await ask(session, idp, FORM | {"audience": "https://api.test"})
    received = idp.token_requests[0]
    assert received.field("audience") == "https://api.test"
    assert received.field("scope") is None
    assert received.headers["authorization"].startswith("Basic ")


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


async def test_it_comes_back_on_the_same_port(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    url = idp.token_url
    await idp.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(session, idp)
    await idp.start()
    assert idp.token_url == url
    assert (await ask(session, idp))[0] == 200


async def test_it_speaks_tls(session: aiohttp.ClientSession) -> None:
    authority, server, client = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    async with MockIdP(tls=server) as idp:
        assert idp.issuer.startswith("https://localhost:")
        async with session.post(idp.token_url, data=FORM, headers=basic(), ssl=client) as response:
            assert response.status == 200
