"""What an endpoint sent back, and what each failure in it means.

Decides which leaf of ``TokenRequestError`` an answer without a token is, and when to ask again. Leaves to ``token``
what a token is, and to ``endpoint`` how the answer came in.

An IdP is trusted to issue tokens, not to be well. A load balancer's page with status 200, an empty body, a clock that
is hours off are all ordinary, so nothing here raises, and no text of the answer but a well-formed error code ever gets
into a message: bodies and descriptions echo secrets.

Failures are *terminal* only if the IdP said so in an OAuth error of its own (RFC 6749 section 5.2). Whatever could come
from something between us and the IdP is transient: 408, 425, 429, 5xx, redirects, pages, a 4xx without an error code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.errors import (
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    RateLimited,
    ServerError,
    TokenMalformed,
    TokenRefused,
    TokenRequestError,
    TokenTimeout,
    UnauthorizedClient,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_QUOTA_SPENT: Final = re.compile(r"b=[a-z_]+;q=[0-9]+;r=0;t=([0-9]{1,9})(?![0-9])")
"""An hour's or a day's tokens that are used up, and in how many seconds there will be more.
https://auth0.com/docs/fine-grained-m2m-token-quotas
"""
# RFC 6749 section 5.2 allows almost any text; every registered code is a lower-case word. "Forbidden" and
# "Internal Server Error" in a JSON body are what frameworks and gateways write, not an OAuth error.
_ERROR_CODE: Final = re.compile(r"[a-z][a-z0-9_.:/-]{1,63}")
_TERMINAL: Final[Mapping[str, type[TokenRequestError]]] = {
    "invalid_client": InvalidClient,
    "invalid_grant": InvalidGrant,
    "invalid_scope": InvalidScope,
    "unauthorized_client": UnauthorizedClient,
    "invalid_request": TokenRefused,
    "unsupported_grant_type": TokenRefused,
    "invalid_target": TokenRefused,  # RFC 8707 section 2
    "access_denied": TokenRefused,
}
CLASSES: Final[Mapping[str, type[TokenRequestError]]] = {
    "invalid_client": InvalidClient,
    "invalid_grant": InvalidGrant,
    "invalid_scope": InvalidScope,
    "unauthorized_client": UnauthorizedClient,
    "refused": TokenRefused,
    "transient": ServerError,
}
"""What a provider's own error codes may stand for (``dialect.errors``)."""
_TRANSIENT: Final[Mapping[str, type[TokenRequestError]]] = {
    "temporarily_unavailable": ServerError,
    "server_error": ServerError,
    "internal_failure": ServerError,  # Google's token endpoint
    "slow_down": RateLimited,  # RFC 8628 section 3.5
}
# A code we do not know counts as the IdP's own word only with the statuses OAuth uses (and 200, as GitHub does):
# {"error": "not_found"} with 404 or {"error": "forbidden"} with 403 is what a gateway says.
_OAUTH_STATUSES: Final = frozenset({200, 400, 401})


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint sent back.

    Args:
        headers: field names in lower case; of repeated fields the first.
        sent_at: when the request was sent, on ``Clock.now()``.
        wall: Unix time when the answer's head came in.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    sent_at: float
    wall: float

    @property
    def server_time(self) -> float:
        """Unix time by the server's ``Date`` (RFC 9110 section 6.6.1), by our own clock without one."""
        return _http_date(self.headers.get("date", "")) or self.wall

    @property
    def clock_skew(self) -> float | None:
        """Seconds by which the server's clock is ahead of ours; None without ``Date``, 0 within its whole second."""
        date = _http_date(self.headers.get("date", ""))
        if date is None:
            return None
        least, most = date - self.wall, date + 1.0 - self.wall
        return 0.0 if least <= 0.0 <= most else least if least > 0 else most


def json_object(body: bytes) -> Mapping[str, object] | None:
    """The body as a JSON object, whatever its Content-Type says; None if it is none."""
    try:
        value = msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def retry_hint(answer: Answer) -> float | None:
    """Seconds the server asks to wait: ``Retry-After`` (RFC 9110 section 10.2.3), else what rate limits say."""
    after = answer.headers.get("retry-after", "").strip()
    if after.isascii() and after.isdigit():
        return float(after[:9])
    if (date := _http_date(after)) is not None:
        return max(0.0, date - answer.server_time)
    reset = answer.headers.get("x-rate-limit-reset", "").strip()  # Unix time: Okta's rate limits
    if not reset and answer.headers.get("x-ratelimit-remaining", "").strip() == "0":
        reset = answer.headers.get("x-ratelimit-reset", "").strip()  # likewise: GitHub's and Auth0's, in every answer
    if reset.isascii() and reset.isdigit():
        return max(0.0, float(reset[:12]) - answer.server_time)
    if spent := _QUOTA_SPENT.findall(answer.headers.get("auth0-client-quota-limit", "")):
        return max(map(float, spent))
    # Azure's metadata service says so when it is updated, and is back within 70 s (its documentation of retries).
    return 70.0 if answer.status == 410 else None


def failure(
    answer: Answer, fields: Mapping[str, object] | None, aliases: Mapping[str, str]
) -> TokenRequestError | None:
    """The error in an answer, whatever its status: some IdPs send errors with 200. None if it may hold a token."""
    code = error_code(fields)
    foreign = fields is not None and not isinstance(fields.get("error"), str)
    kind, detail = _classify(answer.status, code, aliases, readable=fields is not None, foreign=foreign)
    if kind is None:
        return None
    return kind(detail, retry_after_seconds=retry_hint(answer), oauth_error=code, http_status=answer.status)


def _classify(
    status: int, code: str | None, aliases: Mapping[str, str], *, readable: bool, foreign: bool
) -> tuple[type[TokenRequestError] | None, str]:
    said = f"HTTP {status}" if code is None else f"HTTP {status}, {code}"
    if (kind := passing_status(status)) is not None:
        return kind, f"the IdP answered {said}"
    alias = aliases.get(f"{status} {code}") or aliases.get(str(status) if code is None else code)
    if alias is not None:
        return CLASSES[alias], f"the IdP answered {said}"
    unknown = None if foreign else _unknown(status)  # what is no OAuth error counts where the dialect knows it
    if code is not None and (kind := _TRANSIENT.get(code) or _TERMINAL.get(code) or unknown) is not None:
        return kind, f"the IdP answered {said}"
    if not 200 <= status <= 299:
        return TokenMalformed, f"the IdP's address answered HTTP {status} without an OAuth error"
    if not readable:
        return TokenMalformed, f"HTTP {status} without a JSON object in it"
    return None, ""


def _unknown(status: int) -> type[TokenRequestError] | None:
    return TokenRefused if status in _OAUTH_STATUSES else None


def passing_status(status: int) -> type[TokenRequestError] | None:
    """The transient leaf for a status that means trouble whoever sent it; None for all others."""
    match status:
        case 429:
            return RateLimited
        case 408:
            return TokenTimeout
        case 425:
            return ServerError
        case _:
            return ServerError if status >= 500 else None


def error_code(fields: Mapping[str, object] | None) -> str | None:
    """The error code in an answer, in lower case; None if there is none, or what stands there is no code.

    Beside RFC 6749's ``error`` these are read: an object there with a ``status`` (Google's APIs), ``errorCode`` (Okta's
    and Salesforce's APIs), and a transient code in ``error_description``, where Google's token endpoint may put it.
    """
    if not fields:
        return None
    code = fields.get("error")
    if isinstance(code, dict):
        code = _lower(code.get("status"))
    elif code in (None, ""):
        code = _lower(fields.get("errorCode"))
    if not isinstance(code, str) or not _ERROR_CODE.fullmatch(code):
        return None
    description = fields.get("error_description")
    return description if isinstance(description, str) and description in _TRANSIENT else code


def _lower(code: object) -> object:
    return code.lower() if isinstance(code, str) else code


def _http_date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
