"""What one token request is made of, read a moment before: secrets, keys, assertions, and the time for their stamps.

Reading is the broker's. Grants and client authentication take from here what they need; what is not configured is None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.oauth.dpop import ProofKey
    from sidecar.secrets import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The inputs of one token request.

    Args:
        token_url: the endpoint that will be asked.
        issuer: as configured or discovered.
        wall: Unix time in seconds, for ``iat`` and ``exp``.
        secret: ``client_secret``.
        private_key: PEM, JWK, or the JSON of a Google service account.
        certificate: PEM text of the client's certificate, for ``x5t#S256``.
        assertion: the client assertion as it is (RFC 7523 section 2.2), from a platform.
        subject_token: RFC 8693 section 2.1; for a platform's token service, what it is asked with.
        refresh_token: RFC 6749 section 6.
        dpop: the key the token is to be bound to (RFC 9449).
        dpop_nonce: the nonce the server asked for (RFC 9449 section 8).
    """

    token_url: str
    issuer: str | None = None
    wall: float
    secret: Secret | None = field(default=None, repr=False)
    private_key: Secret | None = field(default=None, repr=False)
    certificate: Secret | None = field(default=None, repr=False)
    assertion: Secret | None = field(default=None, repr=False)
    subject_token: Secret | None = field(default=None, repr=False)
    actor_token: Secret | None = field(default=None, repr=False)
    refresh_token: Secret | None = field(default=None, repr=False)
    dpop: ProofKey | None = field(default=None, repr=False)
    dpop_nonce: str | None = field(default=None, repr=False)
