"""Finding a token endpoint by its issuer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.errors import RateLimited, ServerError, TokenMalformed
from sidecar.oauth.answer import Answer
from sidecar.oauth.discovery import metadata, metadata_urls

ISSUER = "https://idp.test/tenant"


def document(status: int = 200, /, **fields: Any) -> Answer:
    body = {"issuer": ISSUER, "token_endpoint": "https://idp.test/tenant/token"} | fields
    return Answer(status, {"retry-after": "9"}, json.dumps(body).encode(), sent_at=0.0, wall=0.0)


@pytest.mark.parametrize("issuer", ["https://idp.test/tenant", "https://idp.test/tenant/"])
def test_the_well_known_part_stands_behind_the_path_or_before_it(issuer: str) -> None:
    assert metadata_urls(issuer) == (
        "https://idp.test/tenant/.well-known/openid-configuration",
        "https://idp.test/.well-known/oauth-authorization-server/tenant",
    )


@pytest.mark.parametrize("issuer", ["https://idp.test:8443", "https://idp.test:8443/"])
def test_an_issuer_without_a_path_has_both_at_its_root(issuer: str) -> None:
    assert metadata_urls(issuer) == (
        "https://idp.test:8443/.well-known/openid-configuration",
        "https://idp.test:8443/.well-known/oauth-authorization-server",
    )


def test_the_document_names_the_endpoint() -> None:
    assert metadata(document(), ISSUER).endpoint("token_endpoint") == "https://idp.test/tenant/token"


@pytest.mark.parametrize(
    "named", ["https://idp.test/tenant/", "https://IDP.test/tenant", "https://idp.test/other", "", None, [ISSUER]]
)
def test_a_document_of_another_issuer_is_not_used(named: object) -> None:
    with pytest.raises(TokenMalformed, match="another issuer"):
        metadata(document(issuer=named), ISSUER)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://idp.test/token",
            "http://127.0.0.1/token",
            "ftp://idp.test/",
            "//idp.test/token",
            "/token",
            "",
            None,
            7,
        ),
        *("https:///token", "https://user@idp.test/", "https://idp.test/#x", "https://[::1/", "https://idp.test/a b"),
        *("https://idp.test/\r\nX", "https://idp.test/" + "x" * 2048),
    ],
)
def test_an_endpoint_that_is_not_plainly_https_is_not_used(url: object) -> None:
    with pytest.raises(TokenMalformed):
        metadata(document(token_endpoint=url), ISSUER)


@pytest.mark.parametrize("host", ["127.0.0.1:9", "[::1]:9", "localhost:9"])
def test_a_loopback_issuer_may_name_a_loopback_endpoint(host: str) -> None:
    issuer, url = f"http://{host}", f"http://{host}/token"
    assert metadata(document(issuer=issuer, token_endpoint=url), issuer).endpoint("token_endpoint") == url
    with pytest.raises(TokenMalformed):
        metadata(document(issuer=issuer, token_endpoint="http://10.0.0.1/token"), issuer)


def test_a_busy_idp_is_told_from_a_missing_document() -> None:
    with pytest.raises(ServerError) as caught:
        metadata(document(503), ISSUER)
    assert caught.value.retry_after_seconds == 9.0
    with pytest.raises(RateLimited):
        metadata(document(429), ISSUER)
    with pytest.raises(TokenMalformed):
        metadata(document(404), ISSUER)
    with pytest.raises(TokenMalformed):
        metadata(Answer(200, {}, b"<html>", sent_at=0.0, wall=0.0), ISSUER)


def test_the_further_endpoints_are_there_where_they_are_named() -> None:
    found = metadata(
        document(
            authorization_endpoint="https://idp.test/authorize",
            device_authorization_endpoint="http://idp.test/device",
            revocation_endpoint=7,
            authorization_response_iss_parameter_supported=True,
        ),
        ISSUER,
    )
    assert found.endpoint("authorization_endpoint") == "https://idp.test/authorize"
    assert found.iss_parameter
    for name in ("device_authorization_endpoint", "revocation_endpoint"):
        with pytest.raises(TokenMalformed, match=f"names no {name} that is https"):
            found.endpoint(name)


def test_a_client_with_a_certificate_uses_the_aliases_that_are_there() -> None:
    aliases = {"token_endpoint": "https://mtls.idp.test/token", "revocation_endpoint": "http://mtls.idp.test/revoke"}
    found = metadata(document(mtls_endpoint_aliases=aliases, revocation_endpoint="https://idp.test/revoke"), ISSUER)
    assert found.endpoint("token_endpoint", mtls=True) == "https://mtls.idp.test/token"
    assert found.endpoint("token_endpoint") == "https://idp.test/tenant/token"
    assert found.endpoint("revocation_endpoint", mtls=True) == "https://idp.test/revoke"


@pytest.mark.parametrize("odd", ["yes", 1, None])
def test_a_promise_to_send_iss_is_a_true(odd: object) -> None:
    assert not metadata(document(authorization_response_iss_parameter_supported=odd), ISSUER).iss_parameter


@pytest.mark.parametrize("odd", ["x", [], 7, None])
def test_aliases_that_are_none_are_left(odd: object) -> None:
    assert metadata(document(mtls_endpoint_aliases=odd), ISSUER).mtls == {}
