"""The JWTs that a client signs itself."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jwt
from joserfc.jwk import OctKey

from sidecar.config.model import Credential
from sidecar.errors import TokenRefused
from sidecar.oauth.assertion import bearer_assertion, client_assertion
from sidecar.oauth.inputs import Inputs
from sidecar.secrets import Secret, SecretReference
from tests.oauth.keys import certificate, jose, parts, pem, private, verifies

WALL = 1_700_000_000.75


def credential(**fields: Any) -> Credential:
    return Credential(**{"client_id": "me", "client_auth": "private_key_jwt", **fields})


def inputs(**fields: Any) -> Inputs:
    given: dict[str, Any] = {"token_url": "https://idp.test/token", "private_key": Secret(pem(private("P-256")))}
    return Inputs(wall=WALL, **{**given, **fields})


def chain(kind: str) -> Secret:
    return Secret(certificate(private(kind)).public_bytes(Encoding.PEM).decode())


# --- client assertions -----------------------------------------------------------------------------------------------


def test_a_client_assertion_says_who_for_whom_and_for_how_long() -> None:
    token = client_assertion(credential(key_id="k1"), inputs())
    decoded = jwt.decode(token, jose(private("P-256")), algorithms=["ES256"])
    assert decoded.header == {"typ": "JWT", "alg": "ES256", "kid": "k1"}
    assert len(decoded.claims.pop("jti")) >= 22
    assert decoded.claims == {
        "iss": "me",
        "sub": "me",
        "aud": "https://idp.test/token",
        "iat": 1_699_999_970,
        "nbf": 1_699_999_970,
        "exp": 1_700_000_150,
    }


def test_it_lives_for_three_minutes_at_most() -> None:
    _, claims, _, _ = parts(client_assertion(credential(), inputs()))
    assert claims["exp"] - claims["iat"] == 180


@pytest.mark.parametrize("sign", [client_assertion, lambda *given: bearer_assertion(*given, audience="a")])
def test_no_two_have_the_same_id(sign: Any) -> None:
    same = credential(assertion_claims={"x": "y"}), inputs()
    assert len({parts(sign(*same))[1]["jti"] for _ in range(50)}) == 50


@pytest.mark.parametrize(
    ("configured", "issuer", "audience"),
    [
        (None, None, "https://idp.test/token"),
        (None, "https://idp.test", "https://idp.test"),
        ("https://other.test", "https://idp.test", "https://other.test"),
    ],
)
def test_the_audience_is_the_issuer_where_one_is_known(
    configured: str | None, issuer: str | None, audience: str
) -> None:
    token = client_assertion(credential(assertion_audience=configured), inputs(issuer=issuer))
    assert parts(token)[1]["aud"] == audience


@pytest.mark.parametrize("algorithm", [None, "HS256", "HS384", "HS512"])
def test_a_client_secret_signs_it_too(algorithm: Any) -> None:
    secret = "a secret of forty characters, as one has"
    config = credential(client_auth="client_secret_jwt", assertion_algorithm=algorithm)
    token = client_assertion(config, inputs(secret=Secret(secret), private_key=None))
    decoded = jwt.decode(token, OctKey.import_key(secret), algorithms=[algorithm or "HS256"])
    assert decoded.claims["iss"] == decoded.claims["sub"] == "me"


def test_ps256_is_signed_where_it_is_asked_for() -> None:
    config = credential(assertion_algorithm="PS256")
    token = client_assertion(config, inputs(private_key=Secret(pem(private("RSA")))))
    assert jwt.decode(token, jose(private("RSA")), algorithms=["PS256"]).claims["iss"] == "me"


# --- the certificate -------------------------------------------------------------------------------------------------


def test_the_header_names_the_keys_own_certificate() -> None:
    header, _, _, _ = parts(client_assertion(credential(), inputs(certificate=chain("P-256"))))
    digest = certificate_digest(header["x5t#S256"])
    assert len(digest) == 32


def certificate_digest(text: str) -> bytes:
    assert "=" not in text
    return base64.urlsafe_b64decode(text + "=")


def test_the_thumbprint_is_of_the_first_certificate_in_der() -> None:
    own, issuer = certificate(private("P-256")), certificate(private("RSA"))
    both = Secret((own.public_bytes(Encoding.PEM) + issuer.public_bytes(Encoding.PEM)).decode())
    header, _, _, _ = parts(client_assertion(credential(), inputs(certificate=both)))
    assert certificate_digest(header["x5t#S256"]) == own.fingerprint(hashes.SHA256())


def test_a_certificate_of_another_key_is_an_error() -> None:
    with pytest.raises(TokenRefused, match="certificate: it belongs to another key"):
        client_assertion(credential(), inputs(certificate=chain("RSA")))


def test_a_certificate_for_tls_alone_is_not_named() -> None:
    config = credential(certificate_key=SecretReference.parse("file:/tls.key"))
    assert "x5t#S256" not in parts(client_assertion(config, inputs(certificate=chain("RSA"))))[0]


@pytest.mark.parametrize("text", ["canary", "-----BEGIN CERTIFICATE-----\ncanary==\n-----END CERTIFICATE-----\n"])
def test_a_certificate_that_is_none_is_an_error_that_does_not_show_it(text: str) -> None:
    with pytest.raises(TokenRefused, match="certificate: it holds no certificate") as caught:
        client_assertion(credential(), inputs(certificate=Secret(text)))
    assert "canary" not in str(caught.value)


# --- bearer assertions -----------------------------------------------------------------------------------------------


def test_a_bearer_assertion_speaks_for_the_client_itself() -> None:
    header, claims, message, signature = parts(bearer_assertion(credential(), inputs(), audience="https://idp.test"))
    assert verifies("ES256", message, signature, private("P-256"))
    assert header == {"typ": "JWT", "alg": "ES256"}
    assert len(claims.pop("jti")) >= 22
    begin = 1_699_999_940
    assert claims == {
        "iss": "me",
        "sub": "me",
        "aud": "https://idp.test",
        "iat": begin,
        "nbf": begin,
        "exp": begin + 180,
    }


def test_it_speaks_for_somebody_else_where_that_is_configured() -> None:
    config = credential(assertion_subject="user@example.com")
    assert parts(bearer_assertion(config, inputs(), audience="a", own_subject=False))[1]["sub"] == "user@example.com"


def test_an_app_names_neither_subject_nor_audience() -> None:
    _, claims, _, _ = parts(bearer_assertion(credential(), inputs(), audience=None, own_subject=False))
    assert set(claims) == {"iss", "jti", "iat", "nbf", "exp"}


def test_scopes_and_further_claims_stand_in_it() -> None:
    config = credential(assertion_claims={"target_audience": "https://api.test", "groups": ("a", "b")})
    _, claims, _, _ = parts(bearer_assertion(config, inputs(), audience="a", scope="one two"))
    assert claims["scope"] == "one two"
    assert claims["target_audience"] == "https://api.test"
    assert claims["groups"] == ["a", "b"]


def test_further_claims_change_none_of_its_own() -> None:
    config = credential(assertion_claims=dict.fromkeys(("iss", "sub", "aud", "exp", "jti", "scope"), "mine"))
    _, claims, _, _ = parts(bearer_assertion(config, inputs(), audience="a", scope="s"))
    assert "mine" not in claims.values()


# --- what is missing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [client_assertion, lambda *given: bearer_assertion(*given, audience="a")])
def test_without_a_key_nothing_is_signed(sign: Any) -> None:
    with pytest.raises(TokenRefused, match="needs the key 'private_key'"):
        sign(credential(), inputs(private_key=None))


def test_without_a_secret_nothing_is_signed_with_it() -> None:
    with pytest.raises(TokenRefused, match="needs the key 'client_secret'"):
        client_assertion(credential(client_auth="client_secret_jwt"), inputs())
