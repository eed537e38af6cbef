"""Proofs of possession on requests to upstreams: a DPoP token goes out with a proof made for this very request.

Decides what a request on such a route carries, and remembers the nonce that each upstream wants (RFC 9449 section 9).
A proof is good for one request, so a request that is sent again gets another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.oauth import dpop

if TYPE_CHECKING:
    from sidecar.broker.credential import PublishedToken
    from sidecar.http.message import RequestHead, ResponseHead
    from sidecar.proxy.authority import Origin
    from sidecar.runtime import Clock

MOST_NONCES: Final = 1024
"""Upstreams whose nonces are remembered; a wildcard route may have many hosts, and a forgotten one costs a 401."""


class Prover:
    """Makes the proofs of all requests."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._nonces: dict[Origin, str] = {}

    def lines(self, token: PublishedToken, head: RequestHead, origin: Origin, path: bytes) -> bytes:
        """The Authorization and DPoP lines of a request; what the app sent as a proof of its own is taken off."""
        assert token.dpop is not None  # noqa: S101 - the caller asked
        head.lines[:] = [line for line in head.lines if line.partition(b":")[0].lower() != b"dpop"]
        scheme = "https" if origin.tls else "http"
        proof = dpop.proof(
            token.dpop,
            method=head.method.decode("ascii"),
            url=f"{scheme}://{origin.netloc.decode('ascii')}{path.decode('ascii')}",
            wall=self._clock.wall(),
            access_token=token.secret,
            nonce=self._nonces.get(origin),
        )
        return b"%bDPoP: %b\r\n" % (token.header, proof.encode("ascii"))

    def note(self, origin: Origin, head: ResponseHead) -> None:
        """Remember the nonce for the next request, if the answer brought one."""
        for value in head.values(b"dpop-nonce")[:1]:
            nonce = dpop.valid_nonce(value.decode("latin-1"))
            if nonce is not None:
                if len(self._nonces) >= MOST_NONCES:
                    self._nonces.clear()
                self._nonces[origin] = nonce
