"""Each grant gives what the client may have, and names the error of the RFC otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.simulation.idp import Client, MockIdP, Refreshing, Trusted
from tests.simulation.parties import FORM, ask, basic, claims, new_key, post, public, refresh, signed

if TYPE_CHECKING:
    import aiohttp
    from joserfc.jwk import ECKey


async def test_it_grants_only_its_scopes_and_says_which(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.scopes = frozenset({"read"})
    assert (await ask(session, idp, FORM | {"scope": "read write"}))[1]["scope"] == "read"
    assert "scope" not in (await ask(session, idp))[1]


async def test_a_refresh_may_have_to_name_the_redirect_uri(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    policy = Refreshing(needs_redirect_uri=True)
    idp.register("client", Client(refreshing=policy, redirect_uris=("http://127.0.0.1/callback",)))
    seed = idp.login()
    assert (await refresh(session, idp, seed))[1]["error"] == "invalid_grant"
    assert (await refresh(session, idp, seed, redirect_uri="http://127.0.0.1/other"))[1]["error"] == "invalid_grant"
    assert (await refresh(session, idp, seed, redirect_uri="http://127.0.0.1/callback"))[0] == 200


async def test_a_client_without_refresh_tokens_gets_none(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    with pytest.raises(ValueError, match="without refresh tokens"):
        idp.login()
    assert (await refresh(session, idp, "x"))[1]["error"] == "unauthorized_client"
    idp.register("client", Client(refreshing=Refreshing()))
    assert (await ask(session, idp, {"grant_type": "refresh_token"}))[1]["error"] == "invalid_request"


async def test_a_client_uses_only_the_grants_it_is_registered_for(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.register("client", Client(grants=frozenset({"refresh_token"})))
    assert (await ask(session, idp))[1]["error"] == "unauthorized_client"


# --- JWT bearer and token exchange -----------------------------------------------------------------------------------

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}


@pytest.fixture
def service_account(idp: MockIdP) -> ECKey:
    key = new_key()
    idp.trusted.append(Trusted(issuer="robot@project.test", keys=(public(key),)))
    return key


async def test_an_assertion_is_a_grant_once(
    session: aiohttp.ClientSession, idp: MockIdP, service_account: ECKey
) -> None:
    assertion = signed(claims(idp, "robot@project.test"), service_account)
    form = {"grant_type": JWT_BEARER, "assertion": assertion, "scope": "read"}
    status, fields = await ask(session, idp, form)
    assert (status, fields["scope"]) == (200, "read")
    assert idp.is_valid(fields["access_token"])
    assert "refresh_token" not in fields
    assert (await ask(session, idp, form))[1]["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "changes", [{"aud": "https://other.test"}, {"exp": 1_800_000_000}, {"jti": None}, {"iss": "x"}]
)
async def test_an_assertion_that_says_the_wrong_thing_is_no_grant(
    session: aiohttp.ClientSession, idp: MockIdP, service_account: ECKey, changes: dict[str, Any]
) -> None:
    assertion = signed(claims(idp, "robot@project.test") | changes, service_account)
    assert (await ask(session, idp, {"grant_type": JWT_BEARER, "assertion": assertion}))[1]["error"] == "invalid_grant"


async def test_what_is_no_assertion_is_no_grant(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    assert (await ask(session, idp, {"grant_type": JWT_BEARER}))[1]["error"] == "invalid_request"
    assert (await ask(session, idp, {"grant_type": JWT_BEARER, "assertion": "x"}))[1]["error"] == "invalid_grant"


async def test_an_assertion_needs_a_client_beside_it_unless_told_otherwise(
    session: aiohttp.ClientSession, idp: MockIdP, service_account: ECKey
) -> None:
    def form() -> dict[str, str]:
        return {"grant_type": JWT_BEARER, "assertion": signed(claims(idp, "robot@project.test"), service_account)}

    assert (await ask(session, idp, form(), {}))[1]["error"] == "invalid_client"
    idp.clientless = frozenset({JWT_BEARER})
    assert (await ask(session, idp, form(), {}))[0] == 200
    assert (await ask(session, idp, form(), basic(secret="wrong")))[1]["error"] == "invalid_client"
    assert (await ask(session, idp, FORM, {}))[1]["error"] == "invalid_client"


async def test_a_known_subject_token_is_exchanged(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.subject_tokens.add("from the platform")
    form = EXCHANGE | {"subject_token": "from the platform", "scope": "read"}
    status, fields = await ask(session, idp, form)
    assert (status, fields["scope"]) == (200, "read")
    assert fields["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"


async def test_a_subject_token_of_a_trusted_issuer_is_exchanged_again_and_again(
    session: aiohttp.ClientSession, idp: MockIdP, service_account: ECKey
) -> None:
    token = signed(claims(idp, "robot@project.test"), service_account)
    actor = {"actor_token": token, "actor_token_type": EXCHANGE["subject_token_type"]}
    for form in (EXCHANGE, EXCHANGE | actor):
        assert (await ask(session, idp, form | {"subject_token": token}))[0] == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"subject_token": "unknown"},
        {"subject_token": ""},
        {"subject_token_type": ""},
        {"subject_token_type": "jwt"},
        {"actor_token": "known"},
        {"actor_token_type": "urn:ietf:params:oauth:token-type:jwt"},
        {"actor_token": "unknown", "actor_token_type": "urn:ietf:params:oauth:token-type:jwt"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:saml2"},
    ],
)
async def test_a_wrong_exchange_is_an_invalid_request(
    session: aiohttp.ClientSession, idp: MockIdP, changes: dict[str, str]
) -> None:
    idp.subject_tokens.add("known")
    form = EXCHANGE | {"subject_token": "known"}
    assert (await ask(session, idp, form))[0] == 200
    assert (await ask(session, idp, form | changes))[1]["error"] == "invalid_request"


# --- revocation ------------------------------------------------------------------------------------------------------


async def test_a_client_revokes_its_own_tokens_and_unknown_ones(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.register("client", Client(refreshing=Refreshing()))
    _, fields = await refresh(session, idp, idp.login())
    url = f"{idp.issuer}/revoke"
    for token in (fields["refresh_token"], fields["refresh_token"], "unknown"):
        assert (await post(session, url, {"token": token}, basic()))[0] == 200
    assert not idp.is_valid(fields["access_token"])
    assert (await refresh(session, idp, fields["refresh_token"]))[1]["error"] == "invalid_grant"
    access = (await ask(session, idp))[1]["access_token"]
    assert (await post(session, url, {"token": access, "token_type_hint": "access_token"}, basic()))[0] == 200
    assert not idp.is_valid(access)


async def test_nobody_revokes_the_tokens_of_another(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.register("other", Client(), secret="other-secret")
    access = (await ask(session, idp))[1]["access_token"]
    url, headers = f"{idp.issuer}/revoke", basic("other", "other-secret")
    assert (await post(session, url, {"token": access}, headers))[0] == 400
    assert (await post(session, url, {"token": access}, basic(secret="wrong")))[0] == 401
    assert (await post(session, url, {}, basic()))[1]["error"] == "invalid_request"
    assert idp.is_valid(access)
