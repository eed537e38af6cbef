"""The metadata document says what the endpoints do."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from sidecar.simulation.idp import MockIdP
from sidecar.simulation.metadata import document, paths

if TYPE_CHECKING:
    import aiohttp


async def test_every_endpoint_that_it_names_is_there(session: aiohttp.ClientSession) -> None:
    async with MockIdP(issuer_path="/tenant", jwt="ES256") as idp:
        published = document(idp)
        for name in ("token", "revocation", "device_authorization", "authorization"):
            async with session.get(published[f"{name}_endpoint"]) as response:
                assert response.status == 400
        async with session.get(published["jwks_uri"]) as response:
            assert len((await response.json())["keys"]) == 1


def test_it_names_only_what_was_set_up() -> None:
    plain = document(MockIdP())
    assert not plain.keys() & {"jwks_uri", "mtls_endpoint_aliases", "scopes_supported"}
    assert plain["authorization_response_iss_parameter_supported"] is True
    full = document(MockIdP(mtls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), scopes=frozenset({"b", "a"}), jwt="RS256"))
    assert full["scopes_supported"] == ["a", "b"]
    assert full["mtls_endpoint_aliases"]["token_endpoint"].startswith("https://localhost:")


@pytest.mark.parametrize(
    ("issuer_path", "form", "path"),
    [
        ("", "openid-configuration", "/.well-known/openid-configuration"),
        ("/a", "openid-configuration", "/a/.well-known/openid-configuration"),
        ("/a", "oauth-authorization-server", "/.well-known/oauth-authorization-server/a"),
    ],
)
def test_each_form_has_its_place(issuer_path: str, form: str, path: str) -> None:
    assert paths(issuer_path, [form]) == {path}
