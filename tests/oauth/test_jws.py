"""Keys in every form that operators have them in, and what they sign."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from joserfc.jwk import OctKey
from joserfc.jws import JWSRegistry

from sidecar.errors import TokenRefused
from sidecar.oauth import jws
from sidecar.secrets import Secret
from tests.oauth.keys import certificate, jwk, pem, private, public_pem, verifies

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = {"RSA": "RS256", "P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}


def read(text: str, *, key_id: str | None = None, algorithm: str | None = None) -> jws.SigningKey:
    return jws.signing_key(Secret(text), key_id=key_id, algorithm=algorithm)


def refusal(text: str, **said: Any) -> str:
    with pytest.raises(TokenRefused) as caught:
        read(text, **said)
    shown = "".join(traceback.format_exception(caught.value))
    assert "canary" not in shown
    assert caught.value.detail.startswith("private_key: ")
    return caught.value.detail


# --- every kind ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "algorithm"), KINDS.items())
@pytest.mark.parametrize("form", [pem, jwk])
def test_a_key_signs_with_the_usual_algorithm_of_its_kind(
    kind: str, algorithm: str, form: Callable[[Any], str]
) -> None:
    key = read(form(private(kind)))
    assert (key.algorithm, key.key_id) == (algorithm, None)
    assert verifies(algorithm, b"message", key.sign(b"message"), private(kind))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Ed25519"])
def test_the_older_forms_of_pem_are_read(kind: str) -> None:
    text = pem(private(kind), PrivateFormat.TraditionalOpenSSL)
    assert "BEGIN PRIVATE" not in text  # PKCS#1 and SEC1
    assert verifies(KINDS[kind], b"m", read(text).sign(b"m"), private(kind))


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_an_rsa_key_signs_with_the_algorithm_that_is_configured(algorithm: str) -> None:
    key = read(pem(private("RSA")), algorithm=algorithm)
    assert key.algorithm == algorithm
    assert verifies(algorithm, b"m", key.sign(b"m"), private("RSA"))


@pytest.mark.parametrize("kind", ["P-256", "P-521"])
def test_a_signature_on_a_curve_has_its_full_length_always(kind: str) -> None:
    key = read(pem(private(kind)))
    assert {len(key.sign(str(n).encode())) for n in range(300)} == {64 if kind == "P-256" else 132}


def test_a_jwk_says_its_id_and_its_algorithm() -> None:
    key = read(jwk(private("RSA"), kid="one", alg="PS256", use="sig", key_ops=["sign"]))
    assert (key.key_id, key.algorithm) == ("one", "PS256")


def test_the_configured_id_wins() -> None:
    assert read(jwk(private("RSA"), kid="one"), key_id="two").key_id == "two"


def test_an_rsa_jwk_without_its_primes_is_read() -> None:
    members = json.loads(jwk(private("RSA")))
    text = json.dumps({name: members[name] for name in ("kty", "n", "e", "d")})
    assert verifies("RS256", b"m", read(text).sign(b"m"), private("RSA"))


def test_the_json_of_a_google_service_account_says_its_id() -> None:
    text = json.dumps(
        {"type": "service_account", "private_key_id": "abc", "private_key": pem(private("RSA")), "client_id": "1"}
    )
    key = read(text)
    assert (key.key_id, key.algorithm) == ("abc", "RS256")
    assert verifies("RS256", b"m", key.sign(b"m"), private("RSA"))


def test_a_key_stands_among_other_things_in_its_file() -> None:
    key = private("P-256")
    chain = certificate(key).public_bytes(Encoding.PEM).decode()
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    text = f"Bag Attributes\n{chain}{parameters}{pem(key, PrivateFormat.TraditionalOpenSSL)}"
    assert verifies("ES256", b"m", read(text).sign(b"m"), key)


# --- every refusal ---------------------------------------------------------------------------------------------------

RFC_7520 = {"kty": "oct", "k": "canary-canary-canary"}


def encrypted(form: PrivateFormat) -> str:
    return pem(private("P-256"), form, BestAvailableEncryption(b"canary"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (lambda: "canary", "neither PEM nor JSON"),
        (lambda: '{"canary', "JSON and is none"),
        (lambda: "{" * 100_000, "JSON and is none"),
        (lambda: '{"canary": 1}', "neither a JWK nor a Google"),
        (lambda: '{"private_key": 5, "c": "canary"}', "neither a JWK nor a Google"),
        (lambda: '{"private_key": "canary"}', "neither PEM nor JSON"),
        (lambda: '{"keys": [{"k": "canary"}]}', "a set of keys"),
        (lambda: json.dumps(RFC_7520), "kinds RSA, EC or OKP"),
        (lambda: '{"kty": ["canary"], "d": "x"}', "kinds RSA, EC or OKP"),
        (lambda: '{"kty": "EC", "crv": "canary", "x": "AA", "y": "AA", "d": "canary"}', "JWK is damaged"),
        (lambda: '{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "canary"}', "JWK is damaged"),
        (lambda: '{"kty": "EC", "crv": "P-256", "x": 5, "y": "AA", "d": "canary"}', "JWK is damaged"),
        (lambda: '{"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "canary"}', "JWK is damaged"),
        (lambda: '{"kty": "OKP", "crv": {}, "x": "AA", "d": "canary"}', "JWK is damaged"),
        (lambda: jwk(private("P-256"), key_ops=5), "JWK is damaged"),
        (lambda: jwk(private("P-256"), use="enc"), "not for signatures"),
        (lambda: jwk(private("P-256"), key_ops=["verify"]), "not for signatures"),
        (lambda: json.dumps({"kty": "EC", "crv": "P-256", "x": "canary", "y": "A"}), "public key"),
        (lambda: public_pem(private("RSA")), "public key"),
        (lambda: encrypted(PrivateFormat.PKCS8), "encrypted"),
        (lambda: encrypted(PrivateFormat.TraditionalOpenSSL), "encrypted"),
        (lambda: pem(private("P-256"), PrivateFormat.OpenSSH), "ssh-keygen"),
        (lambda: "-----BEGIN PRIVATE KEY-----\ncanary==\n-----END PRIVATE KEY-----", "damaged"),
        (lambda: pem(private("P-256"))[:-30], "damaged"),
        (lambda: pem(private("P-256")) * 2, "more than one"),
        (lambda: pem(private("RSA 1024")), "2048 bits"),
        (lambda: pem(ec.generate_private_key(ec.SECP256K1())), "none of RSA"),
        (lambda: pem(ed448.Ed448PrivateKey.generate()), "none of RSA"),
        (lambda: pem(dsa.generate_private_key(1024)), "none of RSA"),
    ],
)
def test_what_is_no_usable_key_is_refused_by_its_cause(text: Callable[[], str], why: str) -> None:
    assert why in refusal(text())


def test_an_rsa_jwk_that_is_too_small_is_refused() -> None:
    with pytest.warns(match="Key size"):
        text = jwk(private("RSA 1024"))
    assert "2048 bits" in refusal(text)


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("RSA", "ES256"), ("P-256", "ES384"), ("P-256", "RS256"), ("Ed25519", "ES256"), ("RSA", "HS256")],
)
def test_an_algorithm_that_the_key_has_not_is_refused_by_name(kind: str, algorithm: str) -> None:
    assert f"the algorithm is to be {algorithm}" in refusal(pem(private(kind)), algorithm=algorithm)


def test_a_jwk_for_another_algorithm_than_the_configured_one_is_refused() -> None:
    assert "another algorithm than PS256" in refusal(jwk(private("RSA"), alg="RS256"), algorithm="PS256")


def test_the_algorithm_of_a_jwk_is_not_shown() -> None:
    assert "that of the JWK" in refusal(jwk(private("RSA"), alg="canary"))


# --- secrets as keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_client_secret_signs_however_short_it_is(algorithm: str) -> None:
    key = jws.secret_key(Secret("a client secret €"), key_id="k", algorithm=algorithm)
    assert (key.algorithm, key.key_id) == (algorithm, "k")
    other = OctKey.import_key("a client secret €")
    assert JWSRegistry.algorithms[algorithm].verify(b"m", key.sign(b"m"), other)
    assert jws.secret_key(Secret("short"), key_id=None, algorithm=None).algorithm == "HS256"


def test_a_client_secret_signs_with_hmac_only() -> None:
    with pytest.raises(TokenRefused, match="HS256, HS384 or HS512, not RS256"):
        jws.secret_key(Secret("s"), key_id=None, algorithm="RS256")


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_the_keys_of_many_credentials_are_all_kept() -> None:
    text = pem(private("P-256"))
    first = [read(text, key_id=f"many-{number}") for number in range(100)]
    assert all(read(text, key_id=f"many-{number}") is key for number, key in enumerate(first))


def test_a_key_is_checked_once_and_not_for_ever() -> None:
    text = pem(private("P-256"))
    first = read(text)
    assert read(text) is first
    assert read(text, key_id="another") is not first
    for number in range(jws.KEYS_KEPT):
        read(text, key_id=str(number))
    assert read(text) is not first
    assert len(jws._kept) <= jws.KEYS_KEPT


def test_a_key_does_not_print() -> None:
    shown = repr(read(pem(private("P-256")), key_id="kid"))
    assert shown == "SigningKey(algorithm='ES256', key_id='kid')"


def test_nobody_pays_for_cryptography_who_signs_nothing() -> None:
    code = "import sys, sidecar.oauth.grants, sidecar.oauth.dpop; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "sidecar.oauth.jws" in done.stdout.split()
    assert not {"cryptography", "joserfc"} & set(done.stdout.split())
