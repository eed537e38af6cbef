"""How the client proves who it is."""

from __future__ import annotations

import base64
from typing import Any, get_args

import pytest
from joserfc import jwt

from sidecar.config.model import ClientAuth, Credential
from sidecar.errors import TokenRefused
from sidecar.oauth.client_auth import ASSERTION_TYPE, Proof, TokenRequest, proof
from sidecar.oauth.inputs import Inputs
from sidecar.secrets import Secret
from tests.oauth.keys import jose, pem, private

ODD = "a+b%2Fc=d:e €&"
METHODS = get_args(ClientAuth)


def prove(
    method: str, *, client_id: str | None = "me:o n", given: dict[str, str] | None = None, **fields: Any
) -> Proof:
    inputs: dict[str, Any] = {name: Secret(value) for name, value in (given or {}).items()}
    return proof(
        Credential(client_id=client_id, client_auth=method, **fields),  # type: ignore[arg-type]
        Inputs(token_url="https://idp.test/token", wall=1e9, **inputs),
    )


def everything() -> dict[str, str]:
    return {"secret": "canary-secret", "private_key": pem(private("P-256")), "assertion": "canary.canary.canary"}


def basic(proved: Proof) -> str:
    assert proved.fields == ()
    scheme, encoded = proved.headers["Authorization"].split(" ")
    assert scheme == "Basic"
    return base64.b64decode(encoded).decode()


def test_basic_is_form_encoded_as_the_rfc_has_it() -> None:
    proved = prove("client_secret_basic", given={"secret": ODD})
    assert basic(proved) == "me%3Ao%20n:a%2Bb%252Fc%3Dd%3Ae%20%E2%82%AC%26"


def test_raw_basic_is_utf_8_without_encoding() -> None:
    proved = prove("client_secret_basic", given={"secret": ODD}, basic_encoding="raw")
    assert basic(proved) == f"me:o n:{ODD}"


@pytest.mark.parametrize("encoding", ["rfc6749", "raw"])
def test_both_encodings_agree_on_plain_secrets(encoding: str) -> None:
    proved = prove("client_secret_basic", client_id="abc", given={"secret": "S3cret"}, basic_encoding=encoding)
    assert basic(proved) == "abc:S3cret"


def test_post_has_id_and_secret_as_they_are() -> None:
    proved = prove("client_secret_post", given={"secret": ODD})
    assert proved == Proof((("client_id", "me:o n"), ("client_secret", ODD)))


@pytest.mark.parametrize("method", ["private_key_jwt", "client_secret_jwt"])
def test_a_signed_proof_names_the_client_and_its_kind_beside_it(method: str) -> None:
    proved = prove(method, given=everything())
    assert proved.headers == {}
    assert [name for name, _ in proved.fields] == ["client_id", "client_assertion_type", "client_assertion"]
    assert dict(proved.fields)["client_id"] == "me:o n"
    assert dict(proved.fields)["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def test_a_signed_proof_is_verified_with_the_public_key() -> None:
    token = dict(prove("private_key_jwt", given=everything()).fields)["client_assertion"]
    assert jwt.decode(token, jose(private("P-256")), algorithms=["ES256"]).claims["sub"] == "me:o n"


def test_the_jwt_of_a_platform_is_sent_as_it_is() -> None:
    proved = prove("federated", given={"assertion": "aA0-_.bB.cC"})
    assert proved.fields == (
        ("client_id", "me:o n"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", "aA0-_.bB.cC"),
    )


@pytest.mark.parametrize(
    "text",
    ["canary", "canary.b", "canary.b.", "canary.b.c.d", "canary.b.c\n", "canary .b.c", "canary.ü.c", "a.b.c=canary"],
)
def test_what_is_no_jwt_is_not_sent_and_not_shown(text: str) -> None:
    with pytest.raises(TokenRefused, match="is not a signed JWT") as caught:
        prove("federated", given={"assertion": text})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth", "none"])
def test_where_the_request_proves_nothing_it_names_the_client(method: str) -> None:
    assert prove(method, given=everything()) == Proof((("client_id", "me:o n"),))


def test_without_authentication_a_name_is_not_needed() -> None:
    assert prove("none", client_id=None) == Proof()


def test_an_assertion_that_is_the_grant_names_the_client_already() -> None:
    assert prove("none", grant="jwt_bearer") == Proof()


@pytest.mark.parametrize(
    ("method", "key"),
    [
        ("client_secret_basic", "client_secret"),
        ("client_secret_post", "client_secret"),
        ("client_secret_jwt", "client_secret"),
        ("private_key_jwt", "private_key"),
        ("federated", "assertion_file"),
    ],
)
def test_what_a_method_needs_is_named_where_it_is_missing(method: str, key: str) -> None:
    with pytest.raises(TokenRefused, match=f"needs .*'{key}'"):
        prove(method)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "none"])
def test_a_proof_needs_a_name(method: str) -> None:
    with pytest.raises(TokenRefused, match=f"client_auth {method} needs the key 'client_id'"):
        prove(method, client_id=None, given=everything())


@pytest.mark.parametrize("method", METHODS)
def test_a_proof_shows_nothing(method: str) -> None:
    assert repr(prove(method, given=everything())) == "Proof()"


def test_a_request_shows_its_address_and_its_method() -> None:
    request = TokenRequest("https://idp.test/token", {"Authorization": "canary"}, b"canary")
    assert repr(request) == "TokenRequest(url='https://idp.test/token', method='POST')"
