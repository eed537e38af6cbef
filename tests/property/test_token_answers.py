"""Whatever an IdP answers, it is a token that is safe in a header, or one of our errors."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import TokenRequestError
from sidecar.oauth.discovery import token_endpoint
from sidecar.oauth.token import LONGEST_LIFETIME_SECONDS, Answer, Expected, Token, parse

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
        "token_type": st.sampled_from(["Bearer", "bearer", "mac"]) | anything,
        "expires_in": lifetimes,
        "expires_on": lifetimes,
        "expires_at": lifetimes,
        "scope": st.sampled_from(["a", "a b", ""]) | anything,
        "error": st.sampled_from(["invalid_client", "slow_down", "x y"]) | anything,
        "issuer": st.just("https://idp.test") | anything,
        "token_endpoint": st.just("https://idp.test/t") | st.text().map("https://{}".format) | anything,
    },
)
bodies = st.binary() | objects.map(lambda fields: json.dumps(fields).encode())
headers = st.dictionaries(
    st.sampled_from(["date", "retry-after", "x-rate-limit-reset"]),
    st.text() | st.text("0123456789") | st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT")),
)
answers = st.builds(
    Answer,
    status=st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 408, 429, 500, 503])
    | st.integers(100, 999),
    headers=headers,
    body=bodies,
    sent_at=st.just(0.0),
    wall=st.just(1_800_000_000.0),
)
expectations = st.builds(Expected, required_scopes=st.sampled_from([(), ("a",)]), degraded=st.booleans())


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


@given(answers)
def test_a_metadata_document_is_an_https_address_or_an_error_of_ours(answer: Answer) -> None:
    match outcome(lambda: token_endpoint(answer, "https://idp.test")):
        case TokenRequestError() as error:
            assert error.detail.isprintable()
        case str() as url:
            assert re.fullmatch(r"https://[^\s#@]+", url)
