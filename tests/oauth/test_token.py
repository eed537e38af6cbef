"""What counts as a token, how long it lives, and what every failure means."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest

from sidecar.errors import (
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    RateLimited,
    ServerError,
    TerminalTokenError,
    TokenMalformed,
    TokenRefused,
    TokenRequestError,
    TokenTimeout,
    TransientTokenError,
    UnauthorizedClient,
)
from sidecar.oauth.answer import Answer, retry_hint
from sidecar.oauth.token import Expected, Token, bare, parse
from sidecar.secrets import Secret

WALL = 1_800_000_000.0
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"  # WALL


def answer(body: bytes | dict[str, Any], status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, fields, raw, sent_at=100.0, wall=WALL)


def token(expected: Expected | None = None, date: str = DATE, /, **fields: Any) -> Token:
    return parse(
        answer({"access_token": "abc.DEF-1", "token_type": "Bearer", **fields}, date=date), expected or Expected()
    )


def jwt(**claims: Any) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part(claims)}.c2ln"


def failure(body: bytes | dict[str, Any], status: int = 400, **headers: str) -> TokenRequestError:
    with pytest.raises(TokenRequestError) as caught:
        parse(answer(body, status, **headers), Expected())
    return caught.value


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_plain_answer_is_a_token() -> None:
    plain = token(expires_in=3600)
    assert plain.value.reveal() == "abc.DEF-1"
    assert (plain.sent_at, plain.lifetime, plain.missing_scopes) == (100.0, 3600.0, ())


def test_a_token_shows_itself_in_no_repr() -> None:
    assert "abc.DEF-1" not in repr(token())
    assert "abc.DEF-1" not in repr(answer({"access_token": "abc.DEF-1"}))


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("content_type", ["application/json", "text/html", "text/plain; charset=utf-8", ""])
def test_the_content_type_does_not_matter_only_the_body_does(content_type: str, status: int) -> None:
    body = b'\xef\xbb\xbf {"access_token": "x", "expires_in": 60}\n'
    assert parse(answer(body, status, content_type=content_type), Expected()).value == Secret("x")


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", None, ""])
def test_the_type_is_bearer_in_any_case_or_not_stated(kind: str | None) -> None:
    assert token(token_type=kind).value == Secret("abc.DEF-1")


@pytest.mark.parametrize("kind", ["DPoP", "mac", "bot", "BearerToken", 7, ["Bearer"], {}])
def test_a_token_of_another_type_is_refused(kind: object) -> None:
    with pytest.raises(TokenMalformed):
        token(token_type=kind)


@pytest.mark.parametrize("error", [None, "", 0, {}, []])
def test_an_empty_error_beside_a_token_is_none(error: object) -> None:
    assert token(error=error).value == Secret("abc.DEF-1")


@pytest.mark.parametrize(
    "value", ["a\r\nX: y", "a b", "a\tb", "a\x00", "tök", "\u2028", "", " x", "a\x7f", None, 7, ["x"]]
)
def test_a_token_that_could_break_a_header_is_refused(value: object) -> None:
    with pytest.raises(TokenMalformed) as caught:
        token(access_token=value)
    assert not (isinstance(value, str) and value.strip() and value in str(caught.value))


@pytest.mark.parametrize("value", ["00D!AQ.x", "a|b", "a~+/==", "x" * 16384])
def test_odd_but_visible_tokens_are_taken(value: str) -> None:
    assert token(access_token=value).value.reveal() == value


def test_a_token_longer_than_16_kib_is_refused() -> None:
    with pytest.raises(TokenMalformed):
        token(access_token="x" * 16385)


# --- lifetimes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"expires_in": 3600}, 3600.0),
        ({"expires_in": 3599.5}, 3599.5),
        ({"expires_in": "3599"}, 3599.0),
        ({"expires_in": "3599.5"}, 3599.5),
        ({"expires_in": 60, "expires_on": "1"}, 60.0),
        ({"expires_in": None, "expires_on": str(int(WALL) + 900)}, 900.0),
        ({"expires_in": "", "expires_on": WALL + 900}, 900.0),
        ({"expires_at": (WALL + 900) * 1000}, 900.0),
        ({"expires_at": "2027-01-15T08:15:00Z"}, 900.0),
        ({"expires_at": "2027-01-15T09:15:00+01:00"}, 900.0),
        ({"expires_at": "2027-01-15 08:15:00"}, 900.0),
        ({"access_token": jwt(exp=WALL + 600, iat=WALL)}, 600.0),
        ({"access_token": jwt(exp=WALL + 600)}, 600.0),
        ({"access_token": jwt(exp=WALL + 600), "expires_in": 60}, 60.0),
        ({"access_token": jwt(sub="x")}, 300.0),
        ({"access_token": "a.b.c"}, 300.0),
        ({"access_token": "a.!!!.c"}, 300.0),
        ({}, 300.0),
    ],
)
def test_the_lifetime_is_read_from_the_first_field_that_states_it(fields: dict[str, Any], seconds: float) -> None:
    assert token(Expected(default_ttl=300.0), **fields).lifetime == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", [0, -1, "0", "never", "NaN", "inf", True, False, [60], {}, 1e9, 3600_000_000, "9" * 400, "1" * 33]
)
def test_a_senseless_lifetime_is_malformed(value: object) -> None:
    with pytest.raises(TokenMalformed):
        token(expires_in=value)


@pytest.mark.parametrize("value", [WALL - 1, "yesterday", "2020-01-01T00:00:00Z", True, [1]])
def test_a_senseless_stamp_is_malformed(value: object) -> None:
    with pytest.raises(TokenMalformed):
        token(expires_at=value)


def test_an_absolute_stamp_is_read_by_the_servers_clock() -> None:
    an_hour_ahead = "Fri, 15 Jan 2027 09:00:00 GMT"
    assert token(None, an_hour_ahead, expires_at=WALL + 3600 + 900).lifetime == pytest.approx(900.0)


def test_a_jwt_that_the_server_took_from_its_cache_has_only_the_rest_of_its_life() -> None:
    assert token(access_token=jwt(iat=WALL - 3000, exp=WALL + 600)).lifetime == pytest.approx(600.0)


def test_a_clock_that_is_behind_does_not_lengthen_a_jwts_life() -> None:
    assert token(access_token=jwt(iat=WALL + 5000, exp=WALL + 5600)).lifetime == pytest.approx(600.0)


def test_a_jwt_that_has_expired_is_no_token() -> None:
    with pytest.raises(TokenMalformed):
        token(access_token=jwt(iat=WALL - 600, exp=WALL - 1))


# --- scopes ----------------------------------------------------------------------------------------------------------


NEEDS = Expected(scopes=("read", "write"), required_scopes=("read", "write"))


@pytest.mark.parametrize("scope", [None, "", "read write", "write  read extra", ["read", "write"]])
def test_scopes_that_are_granted_or_not_mentioned_are_there(scope: object) -> None:
    assert token(NEEDS, scope=scope).missing_scopes == ()


def test_a_token_without_a_required_scope_is_refused_when_the_credential_fails_closed() -> None:
    with pytest.raises(InvalidScope, match="write") as caught:
        token(NEEDS, scope="read")
    assert caught.value.terminal


def test_a_token_without_a_required_scope_is_taken_when_the_credential_is_degraded() -> None:
    degraded = Expected(scopes=("read", "write"), required_scopes=("read", "write"), degraded=True)
    assert token(degraded, scope="read").missing_scopes == ("write",)


def test_a_scope_that_was_required_but_never_asked_for_is_missing() -> None:
    with pytest.raises(InvalidScope):
        token(Expected(required_scopes=("read",)))


@pytest.mark.parametrize("scope", [7, True, {"read": 1}])
def test_a_scope_of_another_kind_is_malformed(scope: object) -> None:
    with pytest.raises(TokenMalformed):
        token(scope=scope)


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "invalid_client", InvalidClient),
        (400, "invalid_grant", InvalidGrant),
        (403, "invalid_grant", InvalidGrant),
        (400, "invalid_scope", InvalidScope),
        (400, "unauthorized_client", UnauthorizedClient),
        (400, "invalid_request", TokenRefused),
        (400, "unsupported_grant_type", TokenRefused),
        (400, "invalid_target", TokenRefused),
        (403, "access_denied", TokenRefused),
        (400, "some_new_code", TokenRefused),
        (200, "invalid_client", InvalidClient),
        (200, "bad_verification_code", TokenRefused),
        (302, "invalid_client", InvalidClient),
    ],
)
def test_an_oauth_error_is_terminal_whatever_the_status(status: int, code: str, kind: type) -> None:
    error = failure({"error": code, "error_description": "canary"}, status)
    assert type(error) is kind
    assert isinstance(error, TerminalTokenError)
    assert (error.oauth_error, error.http_status) == (code, status)
    assert "canary" not in error.detail


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (408, b"", TokenTimeout),
        (425, b"", ServerError),
        (429, b"Too Many Requests", RateLimited),
        (429, {"message": "slow"}, RateLimited),
        (429, {"error": "invalid_client"}, RateLimited),
        (429, {"error": "Too Many Requests", "statusCode": 429}, RateLimited),
        (500, {"error": "invalid_client"}, ServerError),
        (500, {"error": "Internal Server Error"}, ServerError),
        (502, b"<html>bad gateway</html>", ServerError),
        (503, b"", ServerError),
        (599, b"", ServerError),
        (400, {"error": "temporarily_unavailable"}, ServerError),
        (400, {"error": "server_error"}, ServerError),
        (400, {"error": "internal_failure"}, ServerError),
        (400, {"error": "slow_down"}, RateLimited),
        (403, b"<html>blocked by the firewall</html>", TokenMalformed),
        (403, {"error": "Forbidden"}, TokenMalformed),
        (403, {"error": "forbidden"}, TokenMalformed),
        (404, {"error": "not_found"}, TokenMalformed),
        (404, {"error": "Not Found", "path": "/token"}, TokenMalformed),
        (404, b"", TokenMalformed),
        (400, {"error": {"code": 400, "message": "x", "status": "INVALID"}}, TokenMalformed),
        (400, {"error": "x" * 65}, TokenMalformed),
        (400, {"error": 'say "cheese"\r\n'}, TokenMalformed),
        (401, b"", TokenMalformed),
        (301, b"", TokenMalformed),
        (307, b"", TokenMalformed),
        (200, b"", TokenMalformed),
        (200, b"<html>captive portal</html>", TokenMalformed),
        (200, b"null", TokenMalformed),
        (200, b"[]", TokenMalformed),
        (200, b"{", TokenMalformed),
        (200, b"\xff\xfe{\x00", TokenMalformed),
        (200, b"[" * 100_000, TokenMalformed),
        (200, {}, TokenMalformed),
        (200, {"ok": False, "error": None}, TokenMalformed),
        (204, b"", TokenMalformed),
    ],
)
def test_whatever_may_come_from_between_is_transient(status: int, body: bytes | dict[str, Any], kind: type) -> None:
    error = failure(body, status)
    assert type(error) is kind
    assert isinstance(error, TransientTokenError)
    assert error.http_status == status


def test_no_text_of_the_answer_gets_into_an_error_but_a_well_formed_code() -> None:
    for body in (
        b"canary",
        b'{"error": "canary canary"}',
        b'{"error": "Canary"}',
        b'{"access_token": "canary canary"}',
    ):
        for status in (200, 302, 400, 429, 500):
            assert "anary" not in failure(body, status).detail


# --- hints -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:01:30 GMT"}, 90.0),
        ({"retry-after": "Fri, 15 Jan 2027 09:01:30 GMT", "date": "Fri, 15 Jan 2027 09:00:00 GMT"}, 90.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
        ({"x-rate-limit-reset": str(int(WALL) + 30)}, 30.0),
        ({"x-rate-limit-reset": str(int(WALL) - 30)}, 0.0),
        ({"retry-after": "5", "x-rate-limit-reset": str(int(WALL) + 30)}, 5.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "\u0665"}, None),
        ({"retry-after": "9" * 5000}, 999999999.0),
        ({"x-rate-limit-reset": "1.5"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(WALL) + 30)}, 30.0),
        ({"x-ratelimit-remaining": "7", "x-ratelimit-reset": str(int(WALL) + 30)}, None),
        ({"x-ratelimit-reset": str(int(WALL) + 30)}, None),
        ({"auth0-client-quota-limit": "b=per_hour;q=10;r=0;t=3540,b=per_day;q=50;r=47;t=43200"}, 3540.0),
        ({"auth0-client-quota-limit": "b=per_hour;q=10;r=0;t=3540,b=per_day;q=50;r=0;t=43200"}, 43200.0),
        ({"auth0-client-quota-limit": "b=per_hour;q=10;r=7;t=3540"}, None),
        ({"auth0-client-quota-limit": "b=per_hour;q=10;r=0;t=99999999999"}, None),
        ({}, None),
    ],
)
def test_the_hint_is_retry_after_or_okta_s_reset(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_hint(Answer(429, headers, b"", sent_at=0.0, wall=WALL)) == seconds


def test_a_failure_carries_the_hint() -> None:
    assert failure(b"", 503, retry_after="17").retry_after_seconds == 17.0


@pytest.mark.parametrize(
    ("wall", "skew"), [(WALL, 0.0), (WALL + 0.9, 0.0), (WALL - 60, 60.0), (WALL + 61.0, -60.0), (WALL + 1.5, -0.5)]
)
def test_the_skew_is_what_the_date_proves(wall: float, skew: float) -> None:
    assert Answer(200, {"date": DATE}, b"", sent_at=0.0, wall=wall).clock_skew == pytest.approx(skew)


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 99 Jan 2027 08:00:00 GMT"])
def test_without_a_readable_date_there_is_no_skew_and_our_clock_counts(date: str) -> None:
    undated = Answer(200, {"date": date}, b"", sent_at=0.0, wall=WALL)
    assert undated.clock_skew is None
    assert undated.server_time == WALL


# --- files -----------------------------------------------------------------------------------------------------------


def test_an_opaque_token_in_a_file_never_expires() -> None:
    assert bare(Secret("opaque"), sent_at=0.0, wall=WALL).lifetime == math.inf


def test_a_jwt_in_a_file_lives_until_its_exp() -> None:
    assert bare(Secret(jwt(exp=WALL + 600)), sent_at=0.0, wall=WALL).lifetime == 600.0
    assert bare(Secret(jwt(sub="x")), sent_at=0.0, wall=WALL).lifetime == math.inf


@pytest.mark.parametrize(
    "value", ["a b", "a\nb", "", "ä", jwt(exp=WALL - 1), jwt(exp=WALL), jwt(exp="NaN"), "x" * 16385]
)
def test_a_file_without_a_usable_token_is_malformed(value: str) -> None:
    with pytest.raises(TokenMalformed):
        bare(Secret(value), sent_at=0.0, wall=WALL)
