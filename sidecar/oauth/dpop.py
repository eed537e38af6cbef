"""DPoP: proofs that whoever presents a token holds the key it is bound to (RFC 9449).

Decides what a proof says. When one is made, and which nonce it carries, is for those who send the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.secrets import Secret


@dataclass(frozen=True, slots=True)
class ProofKey:
    """A private key for proofs: an EC key on P-256 as a JWK."""

    jwk: Secret
