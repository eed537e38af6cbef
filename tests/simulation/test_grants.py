"""Each grant gives what the client may have, and names the error of the RFC otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from sidecar.simulation.idp import Client, MockIdP, Refreshing
from tests.simulation.parties import FORM, ask, refresh

if TYPE_CHECKING:
    import aiohttp


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
