"""The mock provider listens, publishes what it is, and remembers what it was sent."""

from __future__ import annotations

import ssl

import aiohttp
import pytest
import trustme

from sidecar.simulation.idp import MockIdP
from tests.simulation.parties import FORM, ask, basic


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


ENDPOINTS = ("token", "revoke", "authorize", "device", "device_authorization", "jwks", "consent", "metadata", "", "x/y")
ODD: tuple[dict[str, str], ...] = (
    {},
    {"grant_type": "\u00e9\x00", "client_id": "client", "client_secret": "client-secret"},
    {"client_id": "client", "redirect_uri": "http://[", "client_assertion": "\u00e9.e30.", "token": "\x00"},
    {"user_code": "<>", "decision": "approve", "device_code": "", "code": ""},
)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_no_request_makes_it_fail(session: aiohttp.ClientSession, idp: MockIdP, endpoint: str) -> None:
    for method in ("GET", "POST", "PUT", "OPTIONS"):
        for fields in ODD:
            for headers in ({}, {"Authorization": "Basic \u00e9"}, {"DPoP": "e30.e30."}, basic()):
                url = f"{idp.issuer}/{endpoint}"
                async with session.request(method, url, data=fields, headers=headers) as response:
                    assert response.status < 500
                async with session.request(method, url, json=fields, headers=headers) as response:
                    assert response.status < 500
