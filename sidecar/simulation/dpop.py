"""Whether a DPoP proof proves what it says (RFC 9449 section 4.3), and the nonces that it may have to carry.

What is bound to the key of a proof is for the tokens.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from sidecar.simulation.assertions import is_instant, peek, signed_by
from sidecar.simulation.exchange import Refused

if TYPE_CHECKING:
    from sidecar.simulation.provider import Provider

ALGORITHM: Final = "ES256"
CURVE: Final = ("EC", "P-256")
FRESH_SECONDS: Final = 60.0
PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
NONCE_RENEWED: Final = 30.0
NONCE_ACCEPTED: Final = 60.0
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Proofs:
    """The judge of proofs, with its memory of nonces."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._nonces: dict[str, float] = {}
        self._newest = ""

    def check(self, proof: str, *, method: str, url: str, nonce: str | None = None, token: str | None = None) -> str:
        """The thumbprint of the key that the proof was made with (RFC 7638).

        Args:
            nonce: the one that it has to carry; None asks for none.
            token: the access token that it goes along with; its hash has to be in the proof.

        Raises:
            Refused: invalid_dpop_proof.
        """
        claims, jwk = _verified(proof)
        if claims.get("htm") != method:
            raise _invalid("htm is not the method of the request")
        if not isinstance(claims.get("htu"), str) or normal(claims["htu"]) != normal(url):
            raise _invalid("htu is not the URL of the request")
        if nonce is not None and claims.get("nonce") != nonce:
            raise _invalid("nonce is not the one expected")
        if token is not None and claims.get("ath") != hashed(token):
            raise _invalid("ath is not the hash of the token")
        self._check_fresh(claims)
        return thumbprint(jwk)

    def check_request(self, proof: str, *, method: str, url: str) -> str:
        """The same at the provider's own endpoints, with a nonce of its own if it wants one (section 8).

        Raises:
            Refused: invalid_dpop_proof, or use_dpop_nonce with a nonce to use.
        """
        if self._provider.needs_nonce:
            carried = _verified(proof)[0].get("nonce")
            if not isinstance(carried, str) or self._nonces.get(carried, 0.0) <= self._provider.now():
                raise Refused("use_dpop_nonce", why="a nonce is needed", headers={"DPoP-Nonce": self.nonce()})
        return self.check(proof, method=method, url=url)

    def nonce(self) -> str:
        """The nonce to hand out now."""
        now = self._provider.now()
        if self._nonces.get(self._newest, 0.0) <= now + NONCE_ACCEPTED - NONCE_RENEWED:
            self._newest = secrets.token_urlsafe(16)
            self._nonces = {nonce: until for nonce, until in self._nonces.items() if until > now}
            self._nonces[self._newest] = now + NONCE_ACCEPTED
        return self._newest

    def rotate(self) -> None:
        """Accept no nonce that was handed out so far."""
        self._nonces.clear()

    def _check_fresh(self, claims: dict[str, Any]) -> None:
        made: Any = claims.get("iat")
        if not is_instant(made) or abs(self._provider.wall() - made) > FRESH_SECONDS:
            raise _invalid("iat is not now")
        if not isinstance(claims.get("jti"), str) or not claims["jti"]:
            raise _invalid("jti is missing")
        if not self._provider.first_use("dpop", "", claims["jti"], until=made + FRESH_SECONDS):
            raise _invalid("jti was used before")


def hashed(token: str) -> str:
    """What ``ath`` says of a token (section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).decode().rstrip("=")


def normal(url: str) -> tuple[str, str, int | None, str]:
    """A URL without query and fragment, normalised as far as RFC 9449 section 4.3 asks for."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return (url, "", None, "")
    return (parts.scheme, parts.hostname or "", port, parts.path or "/")


def thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638."""
    from joserfc.jwk import import_key

    return import_key(jwk).thumbprint()


def _verified(proof: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        header = peek(proof, 0)
    except ValueError:
        raise _invalid("not a JWT") from None
    if header.get("typ") != "dpop+jwt" or header.get("alg") != ALGORITHM:
        raise _invalid("typ or alg is not what it should be")
    jwk = header.get("jwk")
    if not isinstance(jwk, dict) or (jwk.get("kty"), jwk.get("crv")) != CURVE or PRIVATE_MEMBERS & jwk.keys():
        raise _invalid("jwk is no public key for the algorithm")
    if (claims := signed_by(proof, (jwk,), (ALGORITHM,))) is None:
        raise _invalid("the signature is not the key's")
    return claims, jwk


def _invalid(why: str) -> Refused:
    return Refused("invalid_dpop_proof", why=why)
