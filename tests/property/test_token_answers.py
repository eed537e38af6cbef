"""Whatever an IdP answers, it is a token that is safe in a header, or one of our errors."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import TokenRequestError
from sidecar.oauth.answer import Answer
from sidecar.oauth.discovery import metadata
from sidecar.oauth.token import LONGEST_LIFETIME_SECONDS, Expected, Token, parse

if TYPE_CHECKING:
    from collections.abc import Callable

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
tokens = st.text(min_size=1) | st.text("abc-._~+/=!|.", min_size=1) | anything
lifetimes = st.integers(-10, 10**10) | st.floats() | st.text("0123456789.eE-+_ ") | st.datetimes().map(str) | anything
objects = st.fixed_dictionaries(
    {},
    optional={
        "access_token": tokens,
        "token_type": st.sampled_from(["Bearer", "bearer", "mac", "DPoP"]) | anything,
        "refresh_token": tokens,
        "refresh_in": lifetimes,
        "refresh_token_expires_in": lifetimes,
        "ok": st.booleans(),
        "errorCode": st.sampled_from(["E0000011"]) | anything,
        "status": st.dictionaries(st.sampled_from(["token", "expirationTimestamp", "expires_in"]), anything) | anything,
        "expires_in": lifetimes,
        "expires_on": lifetimes,
        "expires_at": lifetimes,
        "scope": st.sampled_from(["a", "a b", ""]) | anything,
        "error": st.sampled_from(["invalid_client", "slow_down", "x y", {"status": "NOT_FOUND"}]) | anything,
        "issuer": st.just("https://idp.test") | anything,
        "token_endpoint": st.just("https://idp.test/t") | st.text().map("https://{}".format) | anything,
    },
)
forms = st.dictionaries(st.sampled_from(["access_token", "expires_in", "error"]) | st.text(), st.text()).map(urlencode)
bodies = st.binary() | objects.map(lambda fields: json.dumps(fields).encode()) | forms.map(str.encode)
headers = st.dictionaries(
    st.sampled_from(["date", "retry-after", "x-rate-limit-reset"]),
    st.text() | st.text("0123456789") | st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT")),
).flatmap(lambda known: st.sampled_from([known, {**known, "content-type": "application/x-www-form-urlencoded"}]))
answers = st.builds(
    Answer,
    status=st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 408, 429, 500, 503])
    | st.integers(100, 999),
    headers=headers,
    body=bodies,
    sent_at=st.just(0.0),
    wall=st.just(1_800_000_000.0),
)
expectations = st.builds(
    Expected,
    required_scopes=st.sampled_from([(), ("a",)]),
    degraded=st.booleans(),
    dpop=st.booleans(),
    issuer=st.sampled_from([None, None, "https://idp.test"]),
    token_field=st.sampled_from(["access_token", "status.token", "a.b.c"]),
    scope_separator=st.sampled_from(["space", "comma"]),
    errors=st.sampled_from([{}, {"404": "refused", "x": "transient"}]),
)


def outcome(ask: Callable[[], Token | str]) -> Token | str | TokenRequestError:
    try:
        return ask()
    except TokenRequestError as exc:
        return exc


@given(answers, expectations)
def test_an_answer_is_a_safe_token_or_an_error_of_ours(answer: Answer, expected: Expected) -> None:
    match outcome(lambda: parse(answer, expected)):
        case TokenRequestError() as error:
            assert error.retry_after_seconds is None or error.retry_after_seconds >= 0
            assert error.detail.isprintable()
        case Token() as token:
            assert re.fullmatch(rb"[!-~]{1,16384}", token.value.reveal().encode("ascii"))
            assert 0 < token.lifetime <= LONGEST_LIFETIME_SECONDS
            assert token.refresh_in is None or 0 < token.refresh_in < math.inf
            if token.refresh_token is not None:
                assert re.fullmatch(rb"[!-~]{1,16384}", token.refresh_token.reveal().encode("ascii"))


@given(answers)
def test_a_metadata_document_is_an_https_address_or_an_error_of_ours(answer: Answer) -> None:
    match outcome(lambda: metadata(answer, "https://idp.test").endpoint("token_endpoint")):
        case TokenRequestError() as error:
            assert error.detail.isprintable()
        case str() as url:
            assert re.fullmatch(r"https://[^\s#@]+", url)
