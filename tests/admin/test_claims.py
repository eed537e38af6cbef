"""What of a token may be shown, whatever an issuer puts into it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sidecar.admin.claims import LONGEST_VALUE, MOST_VALUES, fingerprint, shown_claims

CANARY = "canary-in-a-claim"


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def jwt(claims: Any) -> str:
    return f"eyJhbGciOiJSUzI1NiJ9.{encoded(json.dumps(claims).encode())}.c2lnbmF0dXJl"


def test_the_registered_claims_are_shown_and_no_other() -> None:
    claims = {
        "exp": 1_700_003_600,
        "iss": "https://idp.example.com",
        "aud": ["https://api.example.com", "other"],
        "client_id": "orders-worker",
        "scope": "orders.read",
        "iat": 1_700_000_000,
        "email": CANARY,
        "jti": CANARY,
        "cnf": {"jkt": CANARY},
        "act": {"sub": CANARY},
    }
    shown = shown_claims(jwt(claims))
    assert shown == {name: claims[name] for name in ("iss", "aud", "client_id", "scope", "iat", "exp")}
    assert list(shown or ()) == ["iss", "aud", "client_id", "scope", "iat", "exp"]


def test_the_subject_is_cut_short() -> None:
    assert shown_claims(jwt({"sub": "ada@example.com"})) == {"sub": "ada@exam…"}
    assert shown_claims(jwt({"sub": ["ada@example.com"]})) == {}


@pytest.mark.parametrize("value", [True, {"a": CANARY}, [{"a": CANARY}], None, [1, 2], 1.5])
def test_a_claim_of_another_kind_is_not_shown(value: object) -> None:
    assert shown_claims(jwt({"iss": value, "scope": value})) == {}


@pytest.mark.parametrize("value", ["tomorrow", -1, 1 << 50, True, float("inf")])
def test_an_instant_that_is_none_is_not_shown(value: object) -> None:
    assert shown_claims(jwt({"exp": value})) == {}


def test_what_is_shown_is_bounded_and_cannot_forge_a_screen() -> None:
    shown = shown_claims(jwt({"iss": "x" * 5000, "aud": ["a"] * 500, "azp": "a\u202eb"})) or {}
    assert len(shown["iss"]) == LONGEST_VALUE + 1
    assert len(shown["aud"]) == MOST_VALUES
    assert shown["azp"] == "a\\u202eb"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "opaque",
        "a.b.c",
        "eyJ",
        "eyJ.e30",
        "eyJhbGciOiJub25lIn0.!!!.x",
        f"eyJhbGciOiJub25lIn0.{encoded(b'[1]')}.x",
        f"eyJhbGciOiJub25lIn0.{encoded(b'{')}.x",
        f"eyJhbGciOiJub25lIn0.{encoded(b'[' * 9000)}.x",
        f"eyJhbGciOiJub25lIn0.{encoded(b'{}' + b' ' * 20_000)}.x",
        f"eyJhbGciOiJkaXIifQ.{encoded(b'{}')}.iv.text.tag",
    ],
)
def test_what_is_no_signed_jwt_has_no_claims(token: str) -> None:
    assert shown_claims(token) is None


def test_a_fingerprint_tells_tokens_apart_and_gives_none_away() -> None:
    one, other = fingerprint("a-token-of-an-idp-0000000001"), fingerprint("a-token-of-an-idp-0000000002")
    assert one is not None
    assert other is not None
    assert one != other
    assert len(one) == 8
    assert fingerprint("short-static-token") is None
