"""What of a token may be shown to somebody who may not have it: a few registered claims, and the start of its hash.

Decides which claims those are: who issued the token, for whom, to which client, what it allows, and from when to when
(RFC 7519 section 4.1, RFC 8693 section 4.2, RFC 9068 section 2.2, and ``azp`` of OpenID Connect Core section 2). None
of them lets anybody do anything. The subject is cut short: it may be a person's address. Everything else in a token is
whatever its issuer likes, and stays there. Nothing is verified: that is for the API that the token is sent to.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any, Final

from sidecar.telemetry.redaction import escape

NAMES: Final = ("iss", "sub", "aud", "azp", "client_id", "scope", "scp", "iat", "nbf", "exp")
_INSTANTS: Final = frozenset(("iat", "nbf", "exp"))
LONGEST_VALUE: Final = 200
MOST_VALUES: Final = 16
SUBJECT_SHOWN: Final = 8
LARGEST_PAYLOAD: Final = 12 * 1024
FINGERPRINT: Final = 8
"""Hexadecimal digits: enough to tell two tokens apart, and nothing to begin with for anybody else."""
SHORTEST_FINGERPRINTED: Final = 20
"""Characters. A shorter one, which is no token of an IdP, could be found by trying what gives this hash."""


def fingerprint(token: str) -> str | None:
    """The start of the token's SHA-256; None for what is too short to have one."""
    if len(token) < SHORTEST_FINGERPRINTED:
        return None
    return hashlib.sha256(token.encode()).hexdigest()[:FINGERPRINT]


def shown_claims(token: str) -> dict[str, Any] | None:
    """The claims of a JWT that may be shown, in the order of ``NAMES``; None for what is no signed JWT."""
    claims = _payload(token)
    if claims is None:
        return None
    shown = {name: _shown(name, claims[name]) for name in NAMES if name in claims}
    return {name: value for name, value in shown.items() if value is not None}


def _payload(token: str) -> dict[str, Any] | None:
    header, _, rest = token.partition(".")
    payload, _, signature = rest.partition(".")
    # Five parts are a JWE (RFC 7516 section 3.1), whose second one is a key.
    if not header.startswith("eyJ") or not signature or "." in signature or len(payload) > LARGEST_PAYLOAD:
        return None
    try:
        claims = json.loads(base64.b64decode(payload + "=" * (-len(payload) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _shown(name: str, value: object) -> Any:
    match value:
        case bool():
            return None
        case int() | float() if name in _INSTANTS:
            return value if 0 <= value < 1 << 40 else None
        case str() if name in _INSTANTS:
            return None
        case str() if name == "sub":
            return _cut(value, SUBJECT_SHOWN)
        case str():
            return _cut(value, LONGEST_VALUE)
        case list() if name != "sub":
            texts = [_cut(each, LONGEST_VALUE) for each in value[:MOST_VALUES] if isinstance(each, str)]
            return texts or None
        case _:
            return None


def _cut(text: str, most: int) -> str:
    return escape(text if len(text) <= most else text[:most] + "…")
