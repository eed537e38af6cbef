"""DPoP: proofs that whoever presents a token holds the key it is bound to (RFC 9449).

Decides what a proof says. When one is made, and which nonce it carries, is for those who send the request.

A proof is made for every request that carries such a token. So a key is read once, and its header, which is the same in
every proof, is encoded once.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.errors import TokenRefused
from sidecar.oauth import jws
from sidecar.secrets import Secret

if TYPE_CHECKING:
    from sidecar.oauth.jws import Sign

_NONCE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")
"""NQCHAR of RFC 6749 appendix A, as RFC 9449 section 8.1 has it; the length is ours."""

_DEFAULT_PORTS: Final = {"https": ":443", "http": ":80"}


@dataclass(frozen=True)  # without slots: what is read of the key is kept beside it
class ProofKey:
    """A private key for proofs: an EC key on P-256 as a JWK."""

    jwk: Secret

    @cached_property
    def thumbprint(self) -> str:
        """RFC 7638: by it the IdP binds a token to the key (``jkt``)."""
        public, _ = self._read
        return jws.base64url(hashlib.sha256(msgspec.json.encode(public, order="sorted")).digest())

    def signed(self, claims: dict[str, Any]) -> str:
        """The claims as a proof."""
        _, sign = self._read
        return jws.compact(self._header, claims, sign)

    @cached_property
    def _header(self) -> str:
        public, _ = self._read
        return jws.encoded({"typ": "dpop+jwt", "alg": "ES256", "jwk": public})

    @cached_property
    def _read(self) -> tuple[dict[str, str], Sign]:
        """The public members of the JWK, and what signs."""
        from joserfc.errors import JoseError
        from joserfc.jwk import ECKey

        try:
            key = ECKey.import_key(msgspec.json.decode(self.jwk.reveal(), type=dict[str, Any]))
        except (JoseError, ValueError, KeyError, TypeError):
            raise TokenRefused("the DPoP key is damaged") from None
        if key.private_key is None or key.curve_name != "P-256":
            raise TokenRefused("the DPoP key is no private key on P-256")
        return {name: str(key[name]) for name in ("kty", "crv", "x", "y")}, jws.elliptic(key.private_key)


def new_key() -> ProofKey:
    """A fresh key."""
    from joserfc.jwk import ECKey

    return ProofKey(Secret(msgspec.json.encode(ECKey.generate_key("P-256").as_dict(private=True)).decode()))


def proof(
    key: ProofKey,
    *,
    method: str,
    url: str,
    wall: float,
    access_token: Secret | None = None,
    nonce: str | None = None,
) -> str:
    """The value of a ``DPoP`` field (RFC 9449 section 4.2).

    Args:
        key: the key that the token is or will be bound to.
        method: of the request, as sent.
        url: of the request; query and fragment may stand in it.
        wall: Unix time.
        access_token: the token that the request carries; none at the token endpoint.
        nonce: what the server asked for last, as ``valid_nonce`` let it pass.

    Raises:
        TokenRefused: the key is damaged.
    """
    claims = {"jti": token_urlsafe(16), "htm": method, "htu": target(url), "iat": int(wall)}
    if access_token is not None:
        claims["ath"] = jws.base64url(hashlib.sha256(access_token.reveal().encode()).digest())
    if nonce is not None:
        claims["nonce"] = nonce
    return key.signed(claims)


def target(url: str) -> str:
    """The ``htu`` of a URL: scheme and host in lower case, no default port, no user, query and fragment.

    What servers compare after normalising (RFC 9449 section 4.3, RFC 3986 section 6.2.3). The path stays as it is sent:
    not every server normalises there.
    """
    scheme, _, rest = url.partition("#")[0].partition("?")[0].partition("://")
    scheme = scheme.lower()
    authority, _, path = rest.partition("/")
    host = authority.rpartition("@")[2].lower().removesuffix(":")
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, ':'))}/{path}"


def valid_nonce(text: str) -> str | None:
    """A nonce from a server's ``DPoP-Nonce`` as it is, or None if it is not one (RFC 9449 section 8.1)."""
    return text if _NONCE.fullmatch(text) else None
