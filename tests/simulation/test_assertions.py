"""A JWT is believed when its signature, its audience, its times and its single use are right, and for nothing less."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from joserfc.jwk import OctKey, RSAKey

from sidecar.simulation.assertions import check_client_claims, check_trusted, is_instant, peek, secret_key, signed_by
from sidecar.simulation.exchange import Refused
from sidecar.simulation.idp import MockIdP, Trusted
from tests.simulation.parties import claims, new_key, public, signed

if TYPE_CHECKING:
    from tests.fake_clock import FakeClock

ERROR = Refused("invalid_client", 401)
DAY = 86_400


def check(idp: MockIdP, **changes: Any) -> None:
    stated = {name: value for name, value in claims(idp, **changes).items() if value is not None}
    check_client_claims(idp, stated, client_id="client", error=ERROR)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"iat": 1_800_000_000 - 60},  # dated back, as clients do against clocks that differ
        {"iat": None, "exp": 1_800_000_000 + 600},
        {"nbf": 1_800_000_000 + 59},
        {"exp": 1_800_000_000 + 0.5},
    ],
)
def test_right_claims_are_right(idp: MockIdP, changes: dict[str, Any]) -> None:
    check(idp, **changes)


def test_the_audience_is_the_issuer_or_the_token_url_among_others(idp: MockIdP) -> None:
    check(idp, aud=idp.issuer)
    check(idp, aud=idp.token_url)
    check(idp, aud=["https://other.test", idp.issuer])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "other"}, "not the client"),
        ({"sub": "other"}, "not the client"),
        ({"sub": None}, "not the client"),
        ({"aud": "https://other.test"}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": [["nested"]]}, "aud"),
        ({"exp": None}, "exp"),
        ({"exp": "1800000300"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": math.nan}, "exp"),
        ({"exp": 1_800_000_000}, "expired"),
        ({"exp": 1_800_000_000 + 361}, "too far from iat"),
        ({"exp": 1_800_000_000 + 601, "iat": None}, "too far ahead"),
        ({"iat": 1_800_000_000 + 61}, "future"),
        ({"iat": "now"}, "iat"),
        ({"nbf": 1_800_000_000 + 61}, "future"),
        ({"jti": None}, "jti"),
        ({"jti": ""}, "jti"),
        ({"jti": 7}, "jti"),
    ],
)
def test_a_wrong_claim_is_refused_with_its_name(idp: MockIdP, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=f"invalid_client: .*{why}"):
        check(idp, **changes)


def test_an_assertion_is_used_once_and_another_clients_name_for_it_is_its_own(idp: MockIdP) -> None:
    check(idp, jti="same")
    with pytest.raises(Refused, match="used before"):
        check(idp, jti="same")
    check_client_claims(idp, claims(idp, "other", jti="same"), client_id="other", error=ERROR)


@pytest.mark.parametrize("text", ["", ".", "a.b.c", "e30", "W10.W10.x", "\u00e9.\u00e9.x", "bnVsbA.bnVsbA.x"])
def test_what_is_no_jwt_is_told_from_one(text: str) -> None:
    with pytest.raises(ValueError, match="not a JWT"):
        peek(text, 1)
    assert signed_by(text, (public(new_key()),)) is None


def test_a_signature_is_believed_from_a_known_key_alone() -> None:
    mine, other, rsa = new_key(), new_key(), RSAKey.generate_key(2048)
    token = signed({"a": 1}, mine)
    assert signed_by(token, (public(other), public(rsa), public(mine))) == {"a": 1}
    assert signed_by(token, (public(other), public(rsa))) is None
    assert signed_by(signed({"a": 1}, rsa, alg="PS256"), (public(rsa),)) == {"a": 1}


def test_a_header_may_say_more_than_is_understood() -> None:
    key = new_key()
    token = signed({"a": 1}, key, x5c=["A" * 4000], vendor="anything")
    assert signed_by(token, (public(key),)) == {"a": 1}
    assert signed_by(signed({"a": 1}, key, crit=["vendor"], vendor="anything"), (public(key),)) is None


def test_a_public_key_is_never_taken_for_a_secret() -> None:
    secret = secret_key("a secret that is long enough for it")
    forged = signed({"a": 1}, OctKey.import_key(dict(secret)), alg="HS256")
    assert signed_by(forged, (secret,), ("HS256",)) == {"a": 1}
    assert signed_by(forged, (secret,)) is None


@pytest.mark.parametrize("jwk", [{}, {"kty": "EC"}, {"kty": []}, {"kty": "EC", "crv": {}, "x": 1, "y": None}])
def test_a_key_that_is_none_verifies_nothing(jwk: dict[str, Any]) -> None:
    assert signed_by(signed({"a": 1}, new_key()), (jwk,)) is None


@pytest.mark.parametrize("value", [None, "1", True, math.inf, math.nan, [1]])
def test_an_instant_is_a_number(value: object) -> None:
    assert not is_instant(value)
    assert is_instant(0)
    assert is_instant(1.5)


# --- trusted issuers -------------------------------------------------------------------------------------------------


def test_a_platforms_file_may_be_shown_again_but_a_grant_only_once(idp: MockIdP) -> None:
    key = new_key()
    trusted = (Trusted(issuer="https://platform.test", keys=(public(key),), subject="system:serviceaccount:a:b"),)
    stated = claims(idp, "https://platform.test", sub="system:serviceaccount:a:b", exp=int(idp.wall()) + DAY)
    token = signed(stated, key)
    for _ in range(2):
        assert check_trusted(idp, token, trusted, error=ERROR, once=False)["jti"] == stated["jti"]
    check_trusted(idp, token, trusted, error=ERROR, once=True)
    with pytest.raises(Refused, match="used before"):
        check_trusted(idp, token, trusted, error=ERROR, once=True)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "https://other.test"}, "issuer is not known"),
        ({"sub": "other"}, "sub"),
        ({"sub": None}, "sub"),
        ({"aud": "https://other.test"}, "aud"),
        ({"exp": 1_800_000_000}, "expired"),
    ],
)
def test_a_trusted_issuer_has_to_say_the_right_thing(idp: MockIdP, changes: dict[str, Any], why: str) -> None:
    key = new_key()
    trusted = (Trusted(issuer="https://platform.test", keys=(public(key),), subject="worker", audience="api://here"),)
    right = claims(idp, "https://platform.test", sub="worker", aud="api://here")
    with pytest.raises(Refused, match=why):
        check_trusted(idp, signed(right | changes, key), trusted, error=ERROR, once=False)
    with pytest.raises(Refused, match="not signed by a key"):
        check_trusted(idp, signed(right, new_key()), trusted, error=ERROR, once=False)
    assert check_trusted(idp, signed(right, key), trusted, error=ERROR, once=False)["sub"] == "worker"


def test_a_jti_may_come_again_when_the_first_has_expired(idp: MockIdP, clock: FakeClock) -> None:
    check(idp, jti="same", exp=int(idp.wall()) + 10)
    clock.slip(11)
    check(idp, jti="same")
