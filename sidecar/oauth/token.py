"""The token in an answer: one that is safe to put into a header, or one leaf of ``TokenRequestError``.

Decides what counts as a token and how long it lives. Leaves to ``answer`` what an answer without one means, and to the
broker what to do about it. Whatever an IdP puts into its fields, nothing here raises anything but that.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from sidecar.errors import (
    InvalidScope,
    TokenMalformed,
    TokenRefused,
    TokenRequestError,
)
from sidecar.oauth.answer import Answer, failure, json_object
from sidecar.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.oauth.dpop import ProofKey

MAX_TOKEN_CHARACTERS: Final = 16 * 1024
LONGEST_LIFETIME_SECONDS: Final = 366 * 86400.0
"""A longer one is a unit mixed up (milliseconds, an absolute stamp), not a lifetime."""


# RFC 6749 appendix A.12 allows visible ASCII and the space, RFC 6750 section 2.1 the narrower b64token. Some issuers
# use "!" or "|"; a space would split the credentials, so it is out.
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_SCOPE: Final = re.compile(r"[\x20-\x7e]{1,4096}")
ABSOLUTE_EXPIRY: Final = ("expires_on", "expires_at", "expireTime", "expirationTimestamp", "expiration", "Expiration")
"""Where providers put the instant of the end; the later ones are Google's, Kubernetes', and those of AWS's commands."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the configuration expects of a token."""

    default_ttl: float = 300.0
    scopes: tuple[str, ...] = ()
    required_scopes: tuple[str, ...] = ()
    degraded: bool = False
    """Take a token without all required scopes, and say what is missing."""
    issuer: str | None = None
    """The token must be a JWT of this issuer."""
    dpop: bool = False
    """The token is bound to a key (RFC 9449 section 5); otherwise it must not be."""
    token_field: str = "access_token"
    token_types: tuple[str, ...] = ()
    """Further values of ``token_type`` that mean Bearer."""
    scope_separator: str = "space"
    errors: Mapping[str, str] = field(default_factory=dict)
    """The provider's own error codes, alone or after a status (``401 access_denied``), and the statuses of answers
    without a code, to the names in ``CLASSES``."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that may be sent.

    Args:
        value: visible ASCII only.
        sent_at: when its request was sent; the lifetime counts from here, so the server's clock does not matter.
        lifetime: seconds; infinite if it never expires.
        missing_scopes: those required but not granted; only with ``Expected.degraded``.
        refresh_in: seconds after which the provider wants it to be renewed, if it said so.
        refresh_token: what it can be renewed with (RFC 6749 section 6); None if the answer brought none.
        refresh_token_lifetime: seconds, if the answer told them.
        scope: what was granted, if the answer told it.
    """

    value: Secret
    sent_at: float
    lifetime: float
    missing_scopes: tuple[str, ...] = ()
    refresh_in: float | None = None
    refresh_token: Secret | None = field(default=None, repr=False)
    refresh_token_lifetime: float | None = None
    scope: str | None = None
    dpop: ProofKey | None = field(default=None, repr=False)
    """The key it is bound to (RFC 9449)."""


@dataclass(frozen=True, slots=True)
class Successor:
    """A refresh token without its access token, which was refused."""

    refresh_token: Secret
    refresh_token_lifetime: float | None


def parse(answer: Answer, expected: Expected) -> Token:
    """The token in an answer of a token endpoint (RFC 6749 section 5.1).

    Raises:
        TokenRequestError: one of its leaves. If the answer had a token that is refused here, and a refresh token beside
            it, that one is in ``successor``: the old one is spent all the same.
    """
    fields = _fields(answer, expected)
    if (error := failure(answer, fields, expected.errors)) is not None:
        raise error
    assert fields is not None  # noqa: S101 - an answer without fields is a failure
    try:
        return _token(fields, answer, expected)
    except TokenRequestError as exc:
        if (refresh_token := _refresh_token(fields)) is not None:
            exc.successor = Successor(refresh_token, _refresh_lifetime(fields))
        raise


def _token(fields: Mapping[str, object], answer: Answer, expected: Expected) -> Token:
    fields, name = _around(fields, expected.token_field)
    value = _token_value(fields, name, answer.status)
    _check_type(fields, expected, answer.status)
    _check_issuer(value, expected.issuer, answer.status)
    missing = _missing_scopes(fields, expected)
    if missing and not expected.degraded:
        raise InvalidScope(f"the token lacks required scopes: {' '.join(missing)}", http_status=answer.status)
    scope = fields.get("scope")
    return Token(
        Secret(value),
        answer.sent_at,
        _lifetime(fields, value, answer, expected.default_ttl),
        missing,
        refresh_in=_hint(fields.get("refresh_in")),
        refresh_token=_refresh_token(fields),
        refresh_token_lifetime=_refresh_lifetime(fields),
        scope=scope if isinstance(scope, str) and _SCOPE.fullmatch(scope) else None,
    )


def bare(value: Secret, *, sent_at: float, wall: float, default_ttl: float = math.inf) -> Token:
    """A token that came by itself, from a file or a command; its ``exp`` is the only hint at its end (RFC 7519 4.1.4).

    Raises:
        TokenMalformed: it could break a header, is too long, or has expired.
    """
    text = value.reveal()
    _check_characters(text, None)
    claims = jwt_claims(text)
    seconds = default_ttl if claims is None or "exp" not in claims else _until_exp(claims, wall)
    if not seconds > 0:  # an exp that is no number is NaN here
        raise TokenMalformed("the token has expired")
    return Token(value, sent_at, seconds)


# --- failures --------------------------------------------------------------------------------------------------------


# --- the fields of a token -------------------------------------------------------------------------------------------


def _fields(answer: Answer, expected: Expected) -> Mapping[str, object] | None:
    """What an answer says, whatever its form: JSON, a form (GitHub's default), or a JWT by itself (Google's metadata
    service); None if it is something else."""
    fields = json_object(answer.body)
    if fields is not None:
        return fields
    try:
        text = answer.body.decode("ascii").strip()
    except UnicodeDecodeError:
        return None
    if answer.headers.get("content-type", "").partition(";")[0].strip() == "application/x-www-form-urlencoded":
        try:
            return dict(parse_qsl(text, max_num_fields=64))
        except ValueError:
            return None
    return {expected.token_field.rpartition(".")[2]: text} if jwt_claims(text) is not None else None


def _around(fields: Mapping[str, object], path: str) -> tuple[Mapping[str, object], str]:
    """The object that holds the token, over the fields around it, and the token's name in it."""
    *outer, name = path.split(".")
    for part in outer:
        inner = fields.get(part)
        fields = {**fields, **inner} if isinstance(inner, dict) else fields
    return fields, name


def _token_value(fields: Mapping[str, object], name: str, status: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise TokenMalformed(f"HTTP {status} without the field {name}", http_status=status)
    _check_characters(value, status)
    return value


def _refresh_token(fields: Mapping[str, object]) -> Secret | None:
    """A new refresh token; an empty one is none (Azure's metadata service). One that could not be sent is none either:
    the old one is kept, and says at its next use what became of it."""
    value = fields.get("refresh_token")
    usable = isinstance(value, str) and len(value) <= MAX_TOKEN_CHARACTERS and _TOKEN.fullmatch(value)
    return Secret(value) if isinstance(value, str) and usable else None


def _refresh_lifetime(fields: Mapping[str, object]) -> float | None:
    """Its seconds, as GitHub and as Keycloak call them."""
    return _hint(fields.get("refresh_token_expires_in", fields.get("refresh_expires_in")))


def _hint(value: object) -> float | None:
    """Seconds that are told on the side; None if they are not, or make no sense."""
    seconds = _number(value)
    return seconds if 0 < seconds <= 10 * LONGEST_LIFETIME_SECONDS else None


def _check_issuer(value: str, issuer: str | None, status: int) -> None:
    if issuer is None:
        return
    claims = jwt_claims(value)
    if claims is None or claims.get("iss") != issuer:
        raise TokenRefused("the token is not a JWT of the issuer in token_issuer", http_status=status)


def _check_characters(value: str, status: int | None) -> None:
    if len(value) > MAX_TOKEN_CHARACTERS:
        raise TokenMalformed(f"the token is longer than {MAX_TOKEN_CHARACTERS // 1024} KiB", http_status=status)
    if not _TOKEN.fullmatch(value):
        raise TokenMalformed("the token holds characters that cannot stand in a header", http_status=status)


def _check_type(fields: Mapping[str, object], expected: Expected, status: int) -> None:
    # RFC 6749 section 7.1: a token of a type that is not understood must not be used. Section 5.1 requires the field,
    # but many leave it out; then there is nothing to misunderstand. With DPoP there is: the token may be unbound
    # (RFC 9449 section 5).
    kind = fields.get("token_type")
    word = kind.lower() if isinstance(kind, str) else kind
    if expected.dpop:
        if word != "dpop":
            raise TokenRefused("the token is not bound to the DPoP key: token_type is not DPoP", http_status=status)
    elif word not in (None, "", "bearer", *(alias.lower() for alias in expected.token_types)):
        raise TokenMalformed("the token_type is not Bearer", http_status=status)


def _missing_scopes(fields: Mapping[str, object], expected: Expected) -> tuple[str, ...]:
    """Required scopes that were not granted. No ``scope`` means: as requested (RFC 6749 section 5.1)."""
    stated = fields.get("scope")
    match stated:
        case None | "":
            granted = set(expected.scopes)
        case str():
            granted = set((stated.replace(",", " ") if expected.scope_separator == "comma" else stated).split())
        case list():
            granted = {scope for scope in stated if isinstance(scope, str)}
        case _:
            raise TokenMalformed("the scope is neither text nor a list")
    return tuple(scope for scope in expected.required_scopes if scope not in granted)


# --- lifetimes -------------------------------------------------------------------------------------------------------


def _lifetime(fields: Mapping[str, object], token: str, answer: Answer, default_ttl: float) -> float:
    """Seconds from the request to the token's end: the first of the usual fields that is there decides."""
    seconds = _stated_lifetime(fields, answer)
    if seconds is None:
        claims = jwt_claims(token)
        if claims is None or "exp" not in claims:
            return default_ttl
        seconds = _until_exp(claims, answer.server_time)
    if not 0 < seconds <= LONGEST_LIFETIME_SECONDS:
        raise TokenMalformed("the token's lifetime is not between 0 and one year", http_status=answer.status)
    return seconds


def _stated_lifetime(fields: Mapping[str, object], answer: Answer) -> float | None:
    if (stated := fields.get("expires_in")) not in (None, ""):
        return _number(stated)
    for name in ABSOLUTE_EXPIRY:
        if (stated := fields.get(name)) not in (None, ""):
            return _instant(stated) - answer.server_time
    return None


def _number(value: object) -> float:
    """A JSON number, or one in a string; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    if isinstance(value, str) and len(value) > 32:
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _instant(value: object) -> float:
    """Unix time of a stamp in seconds, in milliseconds, or in ISO 8601; NaN for anything else."""
    seconds = _number(value)
    if math.isnan(seconds) and isinstance(value, str):
        return _iso_time(value)
    return seconds / 1000 if seconds > 1e11 else seconds


def _iso_time(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return math.nan


def jwt_claims(token: str) -> Mapping[str, object] | None:
    """The claims of a token that looks like a JWT, unverified; None if it does not."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        return json_object(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None


def _until_exp(claims: Mapping[str, object], wall: float) -> float:
    """Seconds until ``exp``, and never more than ``exp - iat``: a clock that is behind must not lengthen a life."""
    exp = _number(claims["exp"])
    iat = _number(claims.get("iat"))
    return exp - wall if math.isnan(iat) else min(exp - wall, exp - iat)
