"""What providers make of the token answer: other forms, other fields, other words, and errors of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.errors import (
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    RateLimited,
    ServerError,
    TokenMalformed,
    TokenRefused,
    UnauthorizedClient,
)
from sidecar.oauth.answer import Answer, retry_hint
from sidecar.oauth.token import Expected, parse
from sidecar.secrets import Secret
from tests.oauth.test_token import WALL, jwt


def answered(body: bytes, content_type: str = "application/json", status: int = 200) -> Answer:
    return Answer(status, {"content-type": content_type}, body, sent_at=0.0, wall=WALL)


def test_a_form_is_read_where_the_answer_says_that_it_is_one() -> None:
    body = b"access_token=ghu_abc&expires_in=28800&token_type=bearer&scope="
    found = parse(answered(body, "application/x-www-form-urlencoded; charset=utf-8"), Expected())
    assert (found.value.reveal(), found.lifetime) == ("ghu_abc", 28800.0)
    with pytest.raises(TokenMalformed):
        parse(answered(body, "text/plain"), Expected())


def test_an_error_in_a_form_is_an_error() -> None:
    body = b"error=bad_refresh_token&error_description=x"
    with pytest.raises(InvalidGrant):
        parse(
            answered(body, "application/x-www-form-urlencoded"), Expected(errors={"bad_refresh_token": "invalid_grant"})
        )


def test_a_jwt_by_itself_is_a_token() -> None:
    found = parse(answered(jwt(exp=WALL + 600).encode() + b"\n", "text/plain"), Expected())
    assert found.lifetime == 600.0


@pytest.mark.parametrize("page", [b"<html>a.b.c</html>", b"a.b.c", b"", b"\xff\xfe", b"ok"])
def test_a_page_is_none(page: bytes) -> None:
    with pytest.raises(TokenMalformed):
        parse(answered(page, "text/html"), Expected())


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"token": "t", "expires_at": "2027-01-15T09:00:00Z"}, "token"),
        ({"accessToken": "t", "expireTime": "2027-01-15T09:00:00Z"}, "accessToken"),
        ({"status": {"token": "t", "expirationTimestamp": "2027-01-15T09:00:00Z"}}, "status.token"),
        (
            {"access_token": "other", "authed_user": {"access_token": "t", "expires_in": 3600}},
            "authed_user.access_token",
        ),
        ({"authorizationToken": "t", "expiration": WALL + 3600}, "authorizationToken"),
    ],
)
def test_the_token_and_its_end_stand_where_the_dialect_says(fields: dict[str, Any], path: str) -> None:
    found = parse(answered(json.dumps(fields).encode()), Expected(token_field=path))
    assert found.value.reveal() == "t"
    assert found.lifetime == pytest.approx(3600.0, abs=1.0)


@pytest.mark.parametrize("fields", [{"status": "x"}, {"status": {}}, {"token": "t"}, {"status": {"token": 7}}])
def test_a_token_that_is_not_where_it_should_be_is_none(fields: dict[str, Any]) -> None:
    with pytest.raises(TokenMalformed, match="without the field token"):
        parse(
            answered(json.dumps({k: v for k, v in fields.items() if k != "token"}).encode()),
            Expected(token_field="status.token"),
        )


@pytest.mark.parametrize("kind", ["bot", "BOT", "Bearer"])
def test_a_dialects_own_word_for_bearer_is_taken(kind: str) -> None:
    body = json.dumps({"access_token": "t", "token_type": kind}).encode()
    assert parse(answered(body), Expected(token_types=("bot",))).value.reveal() == "t"


@pytest.mark.parametrize("kind", ["N_A", "mac", "DPoP", "BearerToken", 7])
def test_any_other_type_is_refused(kind: object) -> None:
    body = json.dumps({"access_token": "t", "token_type": kind}).encode()
    with pytest.raises(TokenMalformed, match="not Bearer"):
        parse(answered(body), Expected(token_types=("bot",)))


def test_a_token_that_should_be_bound_and_is_not_is_refused() -> None:
    bound = json.dumps({"access_token": "t", "token_type": "dpop"}).encode()
    assert parse(answered(bound), Expected(dpop=True)).value.reveal() == "t"
    for kind in ("Bearer", None, ""):
        body = json.dumps({"access_token": "t", "token_type": kind}).encode()
        with pytest.raises(TokenRefused, match="not bound"):
            parse(answered(body), Expected(dpop=True))


def test_the_issuer_of_a_token_is_compared_where_it_is_asked_for() -> None:
    wanted = Expected(issuer="https://idp.test")
    good = json.dumps({"access_token": jwt(iss="https://idp.test", exp=WALL + 60)}).encode()
    assert parse(answered(good), wanted).lifetime == 60.0
    for value in (jwt(iss="https://idp.test/", exp=WALL + 60), jwt(exp=WALL + 60), "opaque"):
        with pytest.raises(TokenRefused, match="token_issuer"):
            parse(answered(json.dumps({"access_token": value}).encode()), wanted)


@pytest.mark.parametrize("scope", ["a,b", "a, b", "a b"])
def test_scopes_with_commas_are_several(scope: str) -> None:
    body = json.dumps({"access_token": "t", "scope": scope}).encode()
    assert parse(answered(body), Expected(required_scopes=("a", "b"), scope_separator="comma")).missing_scopes == ()


def test_without_commas_a_comma_is_part_of_a_scope() -> None:
    body = json.dumps({"access_token": "t", "scope": "a,b"}).encode()
    with pytest.raises(InvalidScope):
        parse(answered(body), Expected(required_scopes=("a",)))


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"ok": False, "error": "invalid_refresh_token"}, 200, InvalidGrant),
        ({"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "canary"}}, 403, UnauthorizedClient),
        ({"message": "Bad credentials"}, 401, InvalidClient),
        ({"errorCode": "E0000011", "errorSummary": "canary"}, 401, InvalidClient),
        ({"error": "invalid_grant", "error_description": "internal_failure"}, 400, ServerError),
        ({"error": "invalid_grant"}, 403, InvalidGrant),
        ({"error": "invalid_refresh_token"}, 503, ServerError),
    ],
)
def test_a_providers_own_errors_mean_what_the_dialect_says(body: Any, status: int, kind: type[Exception]) -> None:
    errors = {"invalid_refresh_token": "invalid_grant", "permission_denied": "unauthorized_client"}
    errors |= {"401": "invalid_client", "e0000011": "invalid_client"}
    with pytest.raises(kind) as caught:
        parse(answered(json.dumps(body).encode(), status=status), Expected(errors=errors))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(("status", "kind"), [(401, InvalidClient), (403, UnauthorizedClient), (429, RateLimited)])
def test_a_code_may_mean_something_else_with_another_status(status: int, kind: type[Exception]) -> None:
    errors = {"401 access_denied": "invalid_client", "access_denied": "unauthorized_client"}
    with pytest.raises(kind):
        parse(answered(b'{"error":"access_denied"}', status=status), Expected(errors=errors))


def test_a_refresh_token_and_its_life_are_told() -> None:
    fields = {"access_token": "t", "refresh_token": "r1", "refresh_token_expires_in": "15811200", "refresh_in": 1800}
    found = parse(answered(json.dumps(fields).encode()), Expected())
    assert found.refresh_token == Secret("r1")
    assert (found.refresh_token_lifetime, found.refresh_in) == (15811200.0, 1800.0)
    assert "r1" not in repr(found)


@pytest.mark.parametrize("odd", ["", None, 7, "a b", "a\r\nb", "x" * 20000])
def test_a_refresh_token_that_could_not_be_used_is_none(odd: object) -> None:
    body = json.dumps({"access_token": "t", "refresh_token": odd, "refresh_expires_in": 0}).encode()
    found = parse(answered(body), Expected())
    assert (found.refresh_token, found.refresh_token_lifetime) == (None, None)


def test_a_metadata_service_that_is_being_updated_is_back_in_70_seconds() -> None:
    assert retry_hint(answered(b"", status=410)) == 70.0
