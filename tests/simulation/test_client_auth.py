"""A client proves who it is in exactly one way, and one it is registered for."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.simulation.idp import Client, MockIdP, Refreshing
from tests.simulation.parties import FORM, ask, basic

if TYPE_CHECKING:
    import aiohttp


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
    answered, fields = await ask(session, idp, form, headers)
    assert (answered, fields["error"]) == (status, error)


async def test_a_repeated_resource_is_fine(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    form = [("grant_type", "client_credentials"), ("resource", "a"), ("resource", "b")]
    assert (await ask(session, idp, form))[0] == 200


async def test_basic_is_form_decoded_unless_it_is_raw(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.secrets["client"] = {"a+b c"}
    assert (await ask(session, idp, headers=basic(secret="a%2Bb+c")))[0] == 200
    assert (await ask(session, idp, headers=basic(secret="a+b c")))[0] == 401
    idp.basic_encoding = "raw"
    assert (await ask(session, idp, headers=basic(secret="a+b c")))[0] == 200


async def test_a_public_client_names_itself_and_gets_no_client_credentials(
    session: aiohttp.ClientSession, idp: MockIdP
) -> None:
    idp.register("app", Client(auth=frozenset({"none"}), refreshing=Refreshing()))
    form = {"grant_type": "refresh_token", "refresh_token": idp.login("app"), "client_id": "app"}
    assert (await ask(session, idp, form, {}))[0] == 200
    status, fields = await ask(session, idp, FORM | {"client_id": "app"}, {})
    assert (status, fields["error"]) == (400, "unauthorized_client")


async def test_a_client_uses_only_the_methods_it_is_registered_for(
    session: aiohttp.ClientSession, idp: MockIdP
) -> None:
    in_body = FORM | {"client_id": "client", "client_secret": "client-secret"}
    idp.register("client", Client(auth=frozenset({"client_secret_post"})))
    assert (await ask(session, idp, in_body, {}))[0] == 200
    assert (await ask(session, idp))[1]["error"] == "invalid_client"
    idp.register("client", Client(auth=frozenset({"client_secret_basic"})))
    assert (await ask(session, idp, in_body, {}))[1]["error"] == "invalid_client"
    assert (await ask(session, idp))[0] == 200


async def test_a_wrong_basic_secret_is_challenged(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    async with session.post(idp.token_url, data=FORM, headers=basic(secret="wrong")) as response:
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Basic realm="token"')
