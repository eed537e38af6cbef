"""A proof proves one request with one key, once, now; and carries the nonce that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from joserfc.jwk import ECKey

from sidecar.simulation.dpop import NONCE_ACCEPTED, hashed, normal, thumbprint
from sidecar.simulation.exchange import Refused
from sidecar.simulation.idp import Client, MockIdP, Refreshing
from tests.simulation.parties import FORM, ask, basic, new_key, proof, public, signed

if TYPE_CHECKING:
    import aiohttp

    from tests.fake_clock import FakeClock

API = "https://api.test/v1/orders"


async def test_a_token_is_bound_to_the_key_of_the_proof(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    key = new_key()
    status, fields = await ask(session, idp, FORM, basic() | {"DPoP": proof(idp, key)})
    assert (status, fields["token_type"]) == (200, "DPoP")
    token = fields["access_token"]
    assert idp.bound_to(token) == {"jkt": thumbprint(public(key))}
    shown = proof(idp, key, API, htm="GET", ath=hashed(token))
    assert idp.check_dpop(token, shown, "GET", f"{API}?page=2#top") == thumbprint(public(key))
    with pytest.raises(Refused, match="used before"):
        idp.check_dpop(token, shown, "GET", API)


async def test_a_resource_server_refuses_what_does_not_belong_together(
    session: aiohttp.ClientSession, idp: MockIdP
) -> None:
    key, other = new_key(), new_key()
    token = (await ask(session, idp, FORM, basic() | {"DPoP": proof(idp, key)}))[1]["access_token"]
    unbound = (await ask(session, idp))[1]["access_token"]
    for shown, made, why in (
        (token, proof(idp, key, API, htm="GET"), "ath"),
        (token, proof(idp, key, API, htm="GET", ath=hashed("other")), "ath"),
        (token, proof(idp, other, API, htm="GET", ath=hashed(token)), "invalid_token"),
        (unbound, proof(idp, key, API, htm="GET", ath=hashed(unbound)), "invalid_token"),
        (token, proof(idp, key, API, htm="POST", ath=hashed(token)), "htm"),
    ):
        with pytest.raises(Refused, match=why):
            idp.check_dpop(shown, made, "GET", API)
    with pytest.raises(Refused, match="nonce"):
        idp.check_dpop(token, proof(idp, key, API, htm="GET", ath=hashed(token)), "GET", API, nonce="n")
    idp.revoke(token)
    with pytest.raises(Refused, match="invalid_token"):
        idp.check_dpop(token, proof(idp, key, API, htm="GET", ath=hashed(token)), "GET", API)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"htm": "GET"}, "htm"),
        ({"htm": "post"}, "htm"),
        ({"htu": "http://127.0.0.1/other"}, "htu"),
        ({"htu": 1}, "htu"),
        ({"htu": "http://[broken"}, "htu"),
        ({"iat": None}, "iat"),
        ({"iat": 1_800_000_000 - 61}, "iat"),
        ({"iat": 1_800_000_000 + 61}, "iat"),
        ({"jti": None}, "jti"),
        ({"header": {"typ": "JWT"}}, "typ"),
        ({"header": {"jwk": None}}, "jwk"),
        ({"header": {"jwk": {"kty": "oct", "k": "AAAA"}}}, "jwk"),
        ({"header": {"jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}}}, "signature"),
        ({"header": {"jwk": public(new_key())}}, "signature"),
    ],
)
async def test_a_proof_that_proves_nothing_is_refused(
    session: aiohttp.ClientSession, idp: MockIdP, changes: dict[str, Any], why: str
) -> None:
    status, fields = await ask(session, idp, FORM, basic() | {"DPoP": proof(idp, new_key(), **changes)})
    assert (status, fields["error"]) == (400, "invalid_dpop_proof")
    assert why in fields["error_description"]


async def test_a_private_key_is_never_in_a_proof(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    key = new_key()
    shown = proof(idp, key, header={"jwk": key.as_dict(private=True)})
    assert (await ask(session, idp, FORM, basic() | {"DPoP": shown}))[1]["error"] == "invalid_dpop_proof"


@pytest.mark.parametrize("text", ["", "x", "a.b.c"])
async def test_what_is_no_jwt_is_no_proof(session: aiohttp.ClientSession, idp: MockIdP, text: str) -> None:
    assert (await ask(session, idp, FORM, basic() | {"DPoP": text}))[1]["error"] == "invalid_dpop_proof"


async def test_two_proofs_are_none(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    headers = [*basic().items(), *(("DPoP", proof(idp, new_key())) for _ in range(2))]
    async with session.post(idp.token_url, data=FORM, headers=headers) as response:
        assert (await response.json())["error"] == "invalid_dpop_proof"


async def test_another_algorithm_is_refused(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    key = ECKey.generate_key("P-384")
    shown = signed({"htm": "POST"}, key, alg="ES384", typ="dpop+jwt", jwk=public(key))
    assert (await ask(session, idp, FORM, basic() | {"DPoP": shown}))[1]["error"] == "invalid_dpop_proof"


async def test_a_client_can_be_held_to_proofs(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.register("client", Client(needs_dpop=True))
    assert (await ask(session, idp))[1]["error"] == "invalid_dpop_proof"
    assert (await ask(session, idp, FORM, basic() | {"DPoP": proof(idp, new_key())}))[0] == 200


async def test_a_nonce_is_asked_for_and_then_accepted_for_its_time(
    session: aiohttp.ClientSession, idp: MockIdP, clock: FakeClock
) -> None:
    idp.needs_nonce, key = True, new_key()

    async def nonce_after(carried: str | None) -> tuple[int, str, str]:
        headers = basic() | {"DPoP": proof(idp, key, nonce=carried)}
        async with session.post(idp.token_url, data=FORM, headers=headers) as response:
            error = (await response.json()).get("error", "")
            return response.status, error, response.headers["DPoP-Nonce"]

    status, error, first = await nonce_after(None)
    assert (status, error) == (400, "use_dpop_nonce")
    assert (await nonce_after("made up"))[1] == "use_dpop_nonce"
    assert await nonce_after(first) == (200, "", first)
    clock.slip(NONCE_ACCEPTED / 2)
    status, _, second = await nonce_after(first)  # still accepted, and told of its successor
    assert (status, second != first) == (200, True)
    clock.slip(NONCE_ACCEPTED / 2)
    assert (await nonce_after(first))[1] == "use_dpop_nonce"
    assert (await nonce_after(second))[0] == 200
    idp.proofs.rotate()
    assert (await nonce_after(second))[1] == "use_dpop_nonce"


async def test_the_refresh_token_of_a_public_client_is_bound_too(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    key, other = new_key(), new_key()
    idp.register("app", Client(auth=frozenset({"none"}), refreshing=Refreshing(rotates=False)))
    seed = idp.login("app", binding={"jkt": thumbprint(public(key))})
    form = {"grant_type": "refresh_token", "refresh_token": seed, "client_id": "app"}
    assert (await ask(session, idp, form, {}))[1]["error"] == "invalid_grant"
    assert (await ask(session, idp, form, {"DPoP": proof(idp, other)}))[1]["error"] == "invalid_grant"
    assert (await ask(session, idp, form, {"DPoP": proof(idp, key)}))[1]["token_type"] == "DPoP"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://API.test:443/a?b#c", "https://api.test/a"),
        ("http://api.test", "http://api.test:80/"),
        ("HTTP://api.test/a", "http://api.test/a"),
    ],
)
def test_urls_are_compared_without_query_and_by_meaning(one: str, other: str) -> None:
    assert normal(one) == normal(other)


@pytest.mark.parametrize("url", ["https://api.test/A", "https://api.test:444/a", "http://api.test/a", "http://x:y/"])
def test_other_urls_stay_others(url: str) -> None:
    assert normal(url) != normal("https://api.test/a")
