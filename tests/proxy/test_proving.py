"""Proofs of possession on upstream requests: each request has its own, bound to it, and the upstream's nonce in it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from sidecar.simulation.idp import Step
from tests.oauth.keys import parts
from tests.proxy.raw_client import get, post
from tests.proxy.raw_origin import Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.rig import Rig

URL = f"http://{API}"


async def start(rig: Rig, **changes: Any) -> None:
    await rig.start(credentials={"orders": rig.credential(dpop=True)}, **changes)


def proof(request: Request) -> dict[str, Any]:
    """The claims of the one proof of a request, checked as an upstream does (RFC 9449 section 4.3)."""
    (value,) = request.values("DPoP")
    header, _, _, _ = parts(value)
    assert header["typ"] == "dpop+jwt"
    return dict(jwt.decode(value, ECKey.import_key(header["jwk"]), algorithms=["ES256"]).claims)


def challenge(error: str, nonce: str = "") -> bytes:
    lines = [f'WWW-Authenticate: DPoP error="{error}", algs="ES256"', *([f"DPoP-Nonce: {nonce}"] if nonce else [])]
    return ok(b"expired", *lines, status="401 Unauthorized")


async def test_every_request_carries_the_token_and_a_proof_of_its_own(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    await client.ask(get(f"{URL}/a?b=c"))
    await client.ask(post(f"{URL}/d", b"body"))
    token = rig.idp.issued[-1]
    first, second = rig.secure.requests
    assert first.values("Authorization") == second.values("Authorization") == [f"DPoP {token}"]
    said, next_said = proof(first), proof(second)
    host = f"https://{API}:{rig.secure.port}"
    assert (said["htm"], said["htu"]) == ("GET", f"{host}/a")
    assert (next_said["htm"], next_said["htu"]) == ("POST", f"{host}/d")
    assert said["ath"] == base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
    assert said["jti"] != next_said["jti"]
    assert "nonce" not in said


async def test_the_token_request_is_proved_with_the_same_key(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    await client.ask(get(f"{URL}/"))
    at_idp = rig.idp.token_requests[-1].headers["dpop"]
    assert parts(at_idp)[0]["jwk"] == parts(rig.secure.requests[0].values("DPoP")[0])[0]["jwk"]


async def test_a_proof_that_the_app_sends_is_taken_off(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    await client.ask(get(f"{URL}/", "DPoP: of-the-app", "dpop:of-the-app-too", "Authorization: DPoP of-the-app"))
    assert "of-the-app" not in rig.secure.requests[0].raw.decode()
    assert proof(rig.secure.requests[0])["htm"] == "GET"


@pytest.mark.parametrize("request_bytes", [get(f"{URL}/"), post(f"{URL}/", b"0123456789")])
async def test_a_nonce_is_answered_with_the_same_token_and_remembered(rig: Rig, request_bytes: bytes) -> None:
    await start(rig)
    client = await rig.client()
    rig.secure.reply(challenge("use_dpop_nonce", "first"))
    assert (await client.ask(request_bytes)).status == 200
    assert (await client.ask(request_bytes)).status == 200
    proofs = [proof(request) for request in rig.secure.requests]
    assert [said.get("nonce") for said in proofs] == [None, "first", "first"]
    assert len({said["jti"] for said in proofs}) == 3
    assert len(rig.idp.token_requests) == 1


async def test_a_nonce_that_comes_with_any_answer_is_for_the_next_request(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    rig.secure.reply(ok(b"fine", "DPoP-Nonce: next"), ok(b"fine", "DPoP-Nonce: bad nonce"))
    for _ in range(3):
        await client.ask(get(f"{URL}/"))
    assert [proof(request).get("nonce") for request in rig.secure.requests] == [None, "next", "next"]


async def test_a_nonce_is_asked_for_once_and_then_the_answer_stands(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    rig.secure.reply(challenge("use_dpop_nonce", "a"), challenge("use_dpop_nonce", "b"))
    assert (await client.ask(get(f"{URL}/"))).status == 401
    assert len(rig.secure.requests) == 2
    assert (await client.ask(get(f"{URL}/"))).status == 200
    assert proof(rig.secure.requests[-1])["nonce"] == "b"


async def test_nonces_of_one_upstream_are_not_anothers(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    rig.secure.reply(ok(b"fine", "DPoP-Nonce: of-api"))
    await client.ask(get(f"{URL}/"))
    await client.ask(get(f"http://localhost:{rig.plain.port}/"))
    assert "nonce" not in proof(rig.plain.requests[0])
    assert proof(rig.plain.requests[0])["htu"] == f"http://localhost:{rig.plain.port}/"


async def test_a_refused_bound_token_is_renewed_and_proved_anew(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))
    rig.secure.reply(challenge("invalid_token"))
    assert (await client.ask(get(f"{URL}/again"))).status == 200
    old, new = rig.idp.issued
    assert [request.values("Authorization") for request in rig.secure.requests] == [
        *([f"DPoP {old}"], [f"DPoP {old}"], [f"DPoP {new}"])
    ]
    assert len({proof(request)["jti"] for request in rig.secure.requests}) == 3


async def test_a_request_that_died_with_its_connection_gets_another_proof(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    await client.ask(get(f"{URL}/"))

    async def break_off(request: Request) -> None:
        request.connection.reset()

    rig.secure.reply(break_off)
    assert (await client.ask(get(f"{URL}/again"))).status == 200
    jtis = [proof(request)["jti"] for request in rig.secure.requests]
    assert len(jtis) == len(set(jtis)) == 3


async def test_a_token_that_came_unbound_is_not_used(rig: Rig) -> None:
    rig.idp.always(Step(fields={"token_type": "Bearer"}))
    await rig.start_cold(credentials={"orders": rig.credential(dpop=True)}, limits={"token_wait": "100ms"})
    client = await rig.client()
    assert (await client.ask(get(f"{URL}/"))).reason == "token_unavailable"
    assert rig.secure.requests == []


async def test_the_idps_nonce_costs_one_more_request_and_is_remembered(rig: Rig) -> None:
    body = b'{"error": "use_dpop_nonce"}'
    rig.idp.script(Step(status=400, headers={"DPoP-Nonce": "idps"}, body=body))
    await start(rig)
    first, second = (request.headers["dpop"] for request in rig.idp.token_requests)
    assert [parts(one)[1].get("nonce") for one in (first, second)] == [None, "idps"]
    rig.orders.request_refresh()
    async with asyncio.timeout(5):
        while len(rig.idp.token_requests) < 3:
            await asyncio.sleep(0)
    assert parts(rig.idp.token_requests[2].headers["dpop"])[1]["nonce"] == "idps"
