"""Proofs of possession."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from sidecar.errors import TokenRefused
from sidecar.oauth.dpop import ProofKey, new_key, proof, target, valid_nonce
from sidecar.secrets import Secret
from tests.oauth.keys import jwk, parts, private, public_pem, verifies

EXAMPLE = {
    # The key of RFC 9449 section 4.1 as far as it is printed there, and the thumbprint it has in section 6.1.
    "kty": "EC",
    "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
    "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    "crv": "P-256",
}
EXAMPLE_THUMBPRINT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def key() -> ProofKey:
    return ProofKey(Secret(jwk(private("P-256"))))


def prove(**given: Any) -> str:
    return proof(key(), **{"method": "POST", "url": "https://server.example.com/token", "wall": 1562262616.9, **given})


def verified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, checked as a server does: with the key that the proof brings (RFC 9449 section 4.3)."""
    header, _, _, _ = parts(token)
    decoded = jwt.decode(token, ECKey.import_key(header["jwk"]), algorithms=["ES256"])
    return decoded.header, decoded.claims


# --- what a proof says -----------------------------------------------------------------------------------------------


def test_a_proof_has_the_form_of_the_rfcs_example() -> None:
    header, claims = verified(prove())
    assert set(header) == {"typ", "alg", "jwk"}
    assert (header["typ"], header["alg"]) == ("dpop+jwt", "ES256")
    assert set(header["jwk"]) == set(EXAMPLE)
    assert len(claims.pop("jti")) >= 16  # 96 bits in base64url
    assert claims == {"htm": "POST", "htu": "https://server.example.com/token", "iat": 1562262616}


def test_the_signature_is_of_the_key_itself() -> None:
    _, _, message, signature = parts(prove())
    assert verifies("ES256", message, signature, private("P-256"))


def test_a_proof_for_a_token_is_bound_to_it() -> None:
    # The token and its hash are those of RFC 9449 section 7.1.
    _, claims = verified(prove(access_token=Secret("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU")))
    assert claims["ath"] == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"


def test_a_proof_repeats_the_nonce_that_the_server_gave() -> None:
    assert verified(prove(nonce="eyJ7S_zG.eyJH0-Z.HX4w-7v"))[1]["nonce"] == "eyJ7S_zG.eyJH0-Z.HX4w-7v"


def test_no_two_proofs_have_the_same_id() -> None:
    same = key()
    made = [proof(same, method="GET", url="https://a.test/", wall=1.0) for _ in range(50)]
    assert len({parts(token)[1]["jti"] for token in made}) == 50


def test_a_proof_can_stand_in_a_field_whatever_the_url_holds() -> None:
    token = prove(url='https://a.test/"\r\nX: y\\ü', method="GE\nT")
    assert token.isascii()
    assert token.isprintable()
    assert " " not in token


@pytest.mark.parametrize(
    ("url", "htu"),
    [
        ("https://a.test/p?q=1#f", "https://a.test/p"),
        ("https://a.test/p#f?q", "https://a.test/p"),
        ("HTTPS://A.Test/P", "https://a.test/P"),
        ("https://a.test:443/p", "https://a.test/p"),
        ("https://a.test:8443/p", "https://a.test:8443/p"),
        ("https://a.test:80/p", "https://a.test:80/p"),
        ("http://a.test:80/p", "http://a.test/p"),
        ("https://a.test:/p", "https://a.test/p"),
        ("https://a.test", "https://a.test/"),
        ("https://a.test?q", "https://a.test/"),
        ("https://[2001:DB8::443]/p", "https://[2001:db8::443]/p"),
        ("https://[::1]:443/p", "https://[::1]/p"),
        ("https://user:pass@a.test/p@q", "https://a.test/p@q"),
        ("https://a.test/a%2fb/../c//d", "https://a.test/a%2fb/../c//d"),
    ],
)
def test_the_target_is_normalised_without_query_and_path_as_sent(url: str, htu: str) -> None:
    assert target(url) == htu
    assert verified(prove(url=url))[1]["htu"] == htu


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_new_key_is_another_each_time_and_survives_being_stored() -> None:
    first, second = new_key(), new_key()
    assert first.thumbprint != second.thumbprint
    stored = ProofKey(Secret(first.jwk.reveal()))
    assert stored.thumbprint == first.thumbprint
    header, _ = verified(proof(stored, method="GET", url="https://a.test/", wall=1.0))
    assert ECKey.import_key(header["jwk"]).thumbprint() == first.thumbprint


def test_a_thumbprint_is_of_the_public_members_in_their_order() -> None:
    canonical = json.dumps(EXAMPLE, sort_keys=True, separators=(",", ":")).encode()
    expected = base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).decode().rstrip("=")
    assert expected == EXAMPLE_THUMBPRINT
    own = key()
    assert own.thumbprint == ECKey.import_key(json.loads(own.jwk.reveal())).thumbprint()


def test_a_key_does_not_print() -> None:
    assert "canary" not in repr(ProofKey(Secret("canary")))
    used = new_key()
    proof(used, method="GET", url="https://a.test/", wall=1.0)
    assert repr(used) == "ProofKey(jwk=Secret(…))"


def test_what_a_key_says_beside_its_curve_and_point_stays_here() -> None:
    text = jwk(private("P-256"), kid="canary", use="sig", iss="canary")
    header, _ = verified(proof(ProofKey(Secret(text)), method="GET", url="https://a.test/", wall=1.0))
    assert set(header["jwk"]) == {"kty", "crv", "x", "y"}


@pytest.mark.parametrize(
    "text",
    [
        "canary",
        "{}",
        '["canary"]',
        '{"kty": "EC", "crv": "P-256", "x": "canary", "y": "A", "d": "canary"}',
        '{"kty": "EC", "crv": "canary", "x": "AA", "y": "AA", "d": "AA"}',
        jwk(private("P-384")),
        jwk(private("Ed25519")),
        json.dumps(EXAMPLE),
        public_pem(private("P-256")),
    ],
)
def test_a_key_that_cannot_prove_anything_is_an_error_that_does_not_show_it(text: str) -> None:
    broken = ProofKey(Secret(text))
    with pytest.raises(TokenRefused, match="the DPoP key") as caught:
        proof(broken, method="GET", url="https://a.test/", wall=1.0)
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# --- nonces ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a", "!#[]~", "x" * 256])
def test_a_nonce_is_taken_as_it_is(text: str) -> None:
    assert valid_nonce(text) == text


@pytest.mark.parametrize("text", ["", "x" * 257, "a b", 'a"b', "a\\b", "a\nb", "a\n", "\x7f", "ü", "\x00"])
def test_what_is_no_nonce_is_not_taken(text: str) -> None:
    assert valid_nonce(text) is None
