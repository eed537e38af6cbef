"""JWTs that the provider signs with a key of its own (RFC 9068), and the key that verifies them.

What a token says is for the tokens.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, RSAKey

KEY_BITS: Final = 2048


class Signer:
    """One key, made when it is first needed."""

    def __init__(self, algorithm: Literal["ES256", "RS256"]) -> None:
        self._algorithm = algorithm

    @functools.cached_property
    def _key(self) -> ECKey | RSAKey:
        from joserfc.jwk import ECKey, RSAKey  # heavy

        return ECKey.generate_key("P-256") if self._algorithm == "ES256" else RSAKey.generate_key(KEY_BITS)

    @property
    def public(self) -> dict[str, Any]:
        """The key to verify with, as a JWK."""
        return {**self._key.as_dict(private=False), "kid": self._kid, "use": "sig", "alg": self._algorithm}

    def sign(self, claims: dict[str, Any]) -> str:
        from joserfc import jwt

        header = {"alg": self._algorithm, "typ": "at+jwt", "kid": self._kid}
        return jwt.encode(header, claims, self._key, algorithms=[self._algorithm])

    @property
    def _kid(self) -> str:
        return self._key.thumbprint()
