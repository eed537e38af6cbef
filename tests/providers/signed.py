"""What a provider reads in a JWT that the sidecar signed, its signature checked, and JWTs that a provider gives."""

from __future__ import annotations

import base64
import json
from typing import Any

from joserfc import jws

from tests.oauth.keys import jose


def read(token: str, key: Any, algorithm: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims.

    Raises:
        JoseError: it is not signed by this key in this way.
    """
    found = jws.deserialize_compact(token, jose(key), algorithms=[algorithm])
    claims: dict[str, Any] = json.loads(found.payload)
    return dict(found.headers()), claims


def unsigned(**claims: Any) -> str:
    """A JWT whose signature nobody looks at."""
    parts = [{"alg": "RS256", "typ": "JWT"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])
