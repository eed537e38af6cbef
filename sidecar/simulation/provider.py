"""What an identity provider is told and knows: its settings, clients, clocks and addresses.

Decides nothing; the endpoints share it. Settings are plain attributes, to be changed while it runs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from sidecar.runtime import SystemClock
from sidecar.simulation.exchange import Refused
from sidecar.simulation.registration import Client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping


class Provider:
    """The state that all endpoints of one provider share.

    Args:
        clients: client id to the secret that is accepted for it.
        ttl: lifetime of its access tokens in seconds.
        marker: what every token begins with.
        scopes: those it grants; None grants whatever is asked for.
        basic_encoding: whether Basic credentials are form-encoded, as RFC 6749 has it, or ``raw``.
        renews_within: hand out the same token until it has less than this to live, as metadata servers do.
        issuer_path: a path for the issuer, as multi-tenant providers have.
        now: the clock that tokens live by.
        wall: Unix time, for stamps inside JWTs.
    """

    def __init__(
        self,
        *,
        clients: Mapping[str, str] | None = None,
        ttl: float = 3600.0,
        marker: str = "token",
        scopes: frozenset[str] | None = None,
        basic_encoding: Literal["rfc6749", "raw"] = "rfc6749",
        renews_within: float | None = None,
        issuer_path: str = "",
        tls: ssl.SSLContext | None = None,
        now: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.secrets = {client: {secret} for client, secret in (clients or {"client": "client-secret"}).items()}
        self.clients = {client: Client() for client in self.secrets}
        self.ttl = ttl
        self.marker = marker
        self.scopes = scopes
        self.basic_encoding = basic_encoding
        self.renews_within = renews_within
        self.port = 0
        self.now = now or SystemClock().now
        self.wall = wall
        self.issuer_path = issuer_path
        self.tls = tls

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://{'localhost' if self.tls else '127.0.0.1'}:{self.port}"

    @property
    def issuer(self) -> str:
        return self.origin + self.issuer_path

    @property
    def token_url(self) -> str:
        return f"{self.issuer}/token"

    def register(self, client_id: str, client: Client, *, secret: str | None = None) -> None:
        """Know a client from now on, or know it differently; without ``secret`` it keeps those it has."""
        self.clients[client_id] = client
        if secret is not None:
            self.secrets[client_id] = {secret}

    def client(self, client_id: str) -> Client:
        """The registration of a client.

        Raises:
            Refused: there is none of that name.
        """
        if client_id not in self.clients:
            raise Refused("invalid_client", 401)
        return self.clients[client_id]
