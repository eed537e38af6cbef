"""Whether a JWT is to be believed: its signature, and the claims that RFC 7523 section 3 wants.

Which keys and which issuer belong to whom is for the callers; so is the error of the refusal.
"""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sidecar.simulation.exchange import Refused
    from sidecar.simulation.provider import Provider
    from sidecar.simulation.registration import Jwk, Trusted

SIGNATURES: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
HEADER_BYTES: Final = 16_384
"""Enough for a chain of certificates in ``x5c``."""
SKEW: Final = 60.0
"""Seconds that a client's clock may be ahead, and that it may date an assertion back."""
LONGEST_LIFE: Final = 300.0
FURTHEST_END: Final = 600.0


def peek(token: str, part: int) -> dict[str, Any]:
    """The header (0) or the claims (1) before anything is verified: to know whose keys to try.

    Raises:
        ValueError: it is no JWT.
    """
    try:
        segment = token.split(".")[part]
        decoded = json.loads(base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True))
    except (IndexError, ValueError, RecursionError) as exc:
        raise ValueError("not a JWT") from exc
    if not isinstance(decoded, dict):
        raise ValueError("not a JWT")  # it is the text that is wrong
    return decoded


def signed_by(token: str, keys: Iterable[Jwk], algorithms: Collection[str] = SIGNATURES) -> dict[str, Any] | None:
    """The claims, if one of the keys has signed them."""
    from joserfc import jwt  # heavy, and the demo needs none of it
    from joserfc.errors import JoseError
    from joserfc.jwk import import_key
    from joserfc.jws import JWSRegistry

    registry = JWSRegistry(algorithms=algorithms, strict_check_header=False)  # RFC 7515 section 4: ignore the unknown
    registry.max_header_length = HEADER_BYTES
    for jwk in keys:
        try:
            return jwt.decode(token, import_key(dict(jwk)), registry=registry).claims
        except (JoseError, ValueError, TypeError, KeyError):  # the last two on keys and headers of odd types
            continue
    return None


def secret_key(secret: str) -> Jwk:
    """A client secret as a key for HMAC (OpenID Connect Core section 9)."""
    return {"kty": "oct", "k": base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")}


def is_instant(value: object) -> bool:
    """Whether a claim is a NumericDate (RFC 7519 section 2); JSON as Python reads it also has NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_client_claims(provider: Provider, claims: dict[str, Any], *, client_id: str, error: Refused) -> None:
    """The claims of an assertion that a client signed about itself (RFC 7523 section 3).

    Raises:
        Refused: ``error``, with the reason.
    """
    if not claims.get("iss") == claims.get("sub") == client_id:
        raise error.because("iss and sub are not the client")
    _check_audience(provider.audiences, claims, error)
    _check_times(claims, provider.wall(), error)
    if claims["exp"] > provider.wall() + FURTHEST_END:
        raise error.because("exp is too far ahead")
    if "iat" in claims and claims["exp"] - claims["iat"] > LONGEST_LIFE + SKEW:
        raise error.because("exp is too far from iat")
    _check_first_use(provider, claims, error)


def check_trusted(
    provider: Provider, token: str, trusted: Iterable[Trusted], *, error: Refused, once: bool
) -> dict[str, Any]:
    """The claims of an assertion of one of these issuers.

    Args:
        once: it has a ``jti`` and is spent now. The file of a platform may be shown again and again.

    Raises:
        Refused: ``error``, with the reason.
    """
    try:
        issuer = peek(token, 1).get("iss")
    except ValueError:
        raise error.because("not a JWT") from None
    believed = [each for each in trusted if each.issuer == issuer]
    for each in believed:
        if (claims := signed_by(token, each.keys)) is None:
            continue
        if not isinstance(claims.get("sub"), str) or each.subject not in (None, claims["sub"]):
            raise error.because("sub is not the one expected")
        _check_audience({each.audience} if each.audience else provider.audiences, claims, error)
        _check_times(claims, provider.wall(), error)
        if once:
            _check_first_use(provider, claims, error)
        return claims
    raise error.because("not signed by a key of its issuer" if believed else "the issuer is not known")


def _check_audience(expected: Collection[str], claims: dict[str, Any], error: Refused) -> None:
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(each, str) and each in expected for each in named):
        raise error.because("aud is somebody else")


def _check_times(claims: dict[str, Any], wall: float, error: Refused) -> None:
    for name in ("exp", "iat", "nbf"):
        if not is_instant(claims.get(name, 0 if name != "exp" else None)):
            raise error.because(f"{name} is missing or no number")
    if claims["exp"] <= wall:
        raise error.because("it has expired")
    if max(claims.get("iat", 0), claims.get("nbf", 0)) > wall + SKEW:
        raise error.because("it is from the future")


def _check_first_use(provider: Provider, claims: dict[str, Any], error: Refused) -> None:
    if not isinstance(claims.get("jti"), str) or not claims["jti"]:
        raise error.because("jti is missing")
    if not provider.first_use("jti", claims["iss"], claims["jti"], until=claims["exp"]):
        raise error.because("jti was used before")
