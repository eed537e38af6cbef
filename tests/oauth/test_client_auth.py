"""How the client proves who it is."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qsl

import pytest

from sidecar.config.model import Credential
from sidecar.errors import TokenRefused
from sidecar.oauth.client_auth import TokenRequest, authenticate
from sidecar.secrets import Secret

PLAIN = TokenRequest("https://idp.test/token", {"Accept": "application/json"}, b"grant_type=client_credentials&x=&x=1")
ODD = "a+b%2Fc=d:e €&"


def prove(secret: str, **fields: Any) -> TokenRequest:
    return authenticate(PLAIN, Credential(client_id="me:o n", **fields), Secret(secret))


def basic(request: TokenRequest) -> str:
    scheme, encoded = request.headers["Authorization"].split(" ")
    assert scheme == "Basic"
    return base64.b64decode(encoded).decode()


def test_basic_is_form_encoded_as_the_rfc_has_it() -> None:
    request = prove(ODD)
    assert basic(request) == "me%3Ao+n:a%2Bb%252Fc%3Dd%3Ae+%E2%82%AC%26"
    assert request.body == PLAIN.body


def test_raw_basic_is_utf_8_without_encoding() -> None:
    assert basic(prove(ODD, basic_encoding="raw")) == f"me:o n:{ODD}"


@pytest.mark.parametrize("encoding", ["rfc6749", "raw"])
def test_both_encodings_agree_on_plain_secrets(encoding: str) -> None:
    request = authenticate(PLAIN, Credential(client_id="abc", basic_encoding=encoding), Secret("S3cret"))  # type: ignore[arg-type]
    assert basic(request) == "abc:S3cret"


def test_post_puts_id_and_secret_into_the_body_and_keeps_the_fields() -> None:
    request = prove(ODD, client_auth="client_secret_post")
    assert "Authorization" not in request.headers
    assert parse_qsl(request.body.decode(), keep_blank_values=True) == [
        ("grant_type", "client_credentials"),
        ("x", ""),
        ("x", "1"),
        ("client_id", "me:o n"),
        ("client_secret", ODD),
    ]


def test_the_request_given_is_not_changed() -> None:
    prove("s")
    assert PLAIN.headers == {"Accept": "application/json"}


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_request_shows_no_secret(method: str) -> None:
    assert "canary" not in repr(prove("canary-secret", client_auth=method))


def test_a_method_without_its_feature_is_an_error_and_not_a_guess() -> None:
    with pytest.raises(TokenRefused, match="not supported by this version"):
        prove("s", client_auth="private_key_jwt")
