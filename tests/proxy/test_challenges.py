"""Which answers say that a token is bad, and which want a nonce."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from sidecar.http.h1 import read_response_head
from sidecar.proxy.challenges import asks_for_nonce, token_was_refused

if TYPE_CHECKING:
    from sidecar.http.message import ResponseHead


def response(*lines: bytes, start: bytes = b"HTTP/1.1 401 Unauthorized") -> ResponseHead:
    return read_response_head(b"".join(line + b"\r\n" for line in (start, *lines)) + b"\r\n", max_fields=128)


@pytest.mark.parametrize(
    "challenges",
    [
        [b'Bearer error="invalid_token"'],
        [b"Bearer error=invalid_token"],
        [b'bearer Error = "invalid_token"'],
        [b'Bearer realm="api", error="invalid_token", error_description="expired"'],
        [b'Bearer realm="a, b", scope="x y" ,\terror="invalid_token"'],
        [b'Bearer realm="a \\" b", error="invalid_token"'],
        [b'Bearer realm="a\\\\", error="invalid_token"'],
        [b'Basic realm="x", Bearer error="invalid_token"'],
        [b'Basic realm="Bearer", Bearer error="invalid_token"'],
        [b'MyBearer a="b", Bearer error="invalid_token"'],
        [b'Negotiate, Bearer realm="x", error="invalid_token", Basic realm="y"'],
        [b'Negotiate YWJj==, Bearer error="invalid_token"'],
        [b'Bearer, error="invalid_token"'],
        [b', ,Bearer   error="invalid_token",,'],
        [b"Basic", b'Bearer error="invalid_token"'],
        [b'Bearer realm="other"', b'Bearer error="invalid_token"'],
        [b'Bearer scope="" error="invalid_token" error_description="the token has expired"'],
    ],
)
def test_a_401_that_calls_the_token_invalid_is_recognised(challenges: list[bytes]) -> None:
    lines = [b"WWW-Authenticate: " + challenge for challenge in challenges]
    assert token_was_refused(response(*lines, start=b"HTTP/1.1 401 Unauthorized"))


NOT_REFUSED = [
    [],
    [b""],
    [b"Bearer"],
    [b'Bearer realm="api"'],
    [b'Bearer error="insufficient_scope"'],
    [b'Bearer error="invalid_request"'],
    [b'Bearer error="invalid_token_x"'],
    [b'Bearer error="invalid_tokens"'],
    [b'Bearer error_description="invalid_token"'],
    [b'Bearer my_error="invalid_token"'],
    [b'Bearer realm="error=invalid_token"'],
    [b'Bearer realm="x, error=invalid_token"'],
    [b'Bearer realm="\\", error=\\"invalid_token\\""'],
    [b'Basic error="invalid_token"'],
    [b'DPoP error="invalid_token"'],
    [b'MyBearer error="invalid_token"'],
    [b'Bearers error="invalid_token"'],
    [b'Basic realm="a Bearer error=\\"invalid_token\\""'],
    [b'Basic realm="a, Bearer error=invalid_token"'],
    [b'Basic realm="a Bearer", error="invalid_token"'],
    [b'Bearer realm="x", Digest error="invalid_token"'],
    [b'Bearer realm="x"', b'Digest error="invalid_token"'],
    [b"invalid_token"],
    [b'error="invalid_token"'],
]


@pytest.mark.parametrize("challenges", NOT_REFUSED)
def test_any_other_401_is_between_the_upstream_and_the_app(challenges: list[bytes]) -> None:
    lines = [b"WWW-Authenticate: " + challenge for challenge in challenges]
    assert not token_was_refused(response(*lines, start=b"HTTP/1.1 401 Unauthorized"))


@pytest.mark.parametrize("status", [200, 400, 402, 403, 407, 429, 500])
def test_only_a_401_refuses_a_token(status: int) -> None:
    head = response(b'WWW-Authenticate: Bearer error="invalid_token"', start=b"HTTP/1.1 %d X" % status)
    assert not token_was_refused(head)


def test_a_challenge_in_another_field_says_nothing() -> None:
    head = response(b'Proxy-Authenticate: Bearer error="invalid_token"', start=b"HTTP/1.1 401 X")
    assert not token_was_refused(head)


def test_a_bound_token_is_refused_by_its_own_scheme() -> None:
    dpop = response(b'WWW-Authenticate: DPoP error="invalid_token", algs="ES256"')
    assert token_was_refused(dpop, scheme=b"dpop")
    assert not token_was_refused(response(b'WWW-Authenticate: Bearer error="invalid_token"'), scheme=b"dpop")


def test_where_a_providers_apis_do_not_tell_any_401_does() -> None:
    assert token_was_refused(response(), any_401=True)
    assert not token_was_refused(response(start=b"HTTP/1.1 403 Forbidden"), any_401=True)


def test_a_nonce_is_asked_for_with_the_nonce() -> None:
    challenge, nonce = b'WWW-Authenticate: DPoP error="use_dpop_nonce", error_description="x"', b"DPoP-Nonce: abc"
    assert asks_for_nonce(response(challenge, nonce))
    assert not asks_for_nonce(response(challenge))
    assert not asks_for_nonce(response(nonce))
    assert not asks_for_nonce(response(challenge, nonce, start=b"HTTP/1.1 400 Bad Request"))
    assert not asks_for_nonce(response(b'WWW-Authenticate: Bearer error="use_dpop_nonce"', nonce))


@pytest.mark.parametrize("piece", [b"a", b"a ", b"a=", b'a="', b" ", b"a ="])
def test_a_long_challenge_is_read_in_no_time(piece: bytes) -> None:
    line = (b"WWW-Authenticate: Bearer " + piece * 65536)[:65000]
    began_at = time.process_time()
    assert not token_was_refused(response(line))
    assert time.process_time() - began_at < 1.0  # quadratic: 46 s
