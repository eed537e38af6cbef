"""What an identity provider is told and knows: its settings, clients, clocks and addresses, and what was shown it once.

Decides nothing; the endpoints share it. Settings are plain attributes, to be changed while it runs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from sidecar.runtime import SystemClock
from sidecar.simulation.exchange import Refused
from sidecar.simulation.registration import Client, Trusted

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping


class Settings(TypedDict, total=False):
    """What a provider can be started with.

    Args:
        clients: client id to the secret that is accepted for it.
        ttl: lifetime of its access tokens in seconds.
        marker: what every token begins with.
        scopes: those it grants; None grants whatever is asked for.
        basic_encoding: whether Basic credentials are form-encoded, as RFC 6749 has it, or ``raw``.
        renews_within: hand out the same token until it has less than this to live, as metadata servers do.
        body: what the requests of clients are written in; ``json`` as Atlassian has it.
        issuer_path: a path for the issuer, as multi-tenant providers have.
        tls: its certificate and key; None for plain http.
        mtls: the same for a second port that asks for client certificates (RFC 8705 section 5), with CERT_OPTIONAL
            and the authorities that may have issued them.
        jwt: whether its access tokens are JWTs (RFC 9068), and signed how.
        trusted: the issuers whose assertions and subject tokens it takes.
        subject_tokens: subject tokens it takes as they are (RFC 8693).
        clientless: grants that need no client beside what they bring, as service accounts of Google do.
        needs_nonce: a DPoP proof has to carry a nonce.
        now: the clock that tokens live by.
        wall: Unix time, for stamps inside JWTs.
    """

    clients: Mapping[str, str]
    ttl: float
    marker: str
    scopes: frozenset[str] | None
    basic_encoding: Literal["rfc6749", "raw"]
    renews_within: float | None
    body: Literal["form", "json"]
    issuer_path: str
    tls: ssl.SSLContext | None
    mtls: ssl.SSLContext | None
    jwt: Literal["ES256", "RS256"] | None
    trusted: Iterable[Trusted]
    subject_tokens: Iterable[str]
    clientless: frozenset[str]
    needs_nonce: bool
    now: Callable[[], float] | None
    wall: Callable[[], float]


class Provider:
    """The state that all endpoints of one provider share."""

    def __init__(self, **settings: Unpack[Settings]) -> None:
        clients = settings.get("clients") or {"client": "client-secret"}
        self.secrets = {client: {secret} for client, secret in clients.items()}
        self.clients: dict[str, Client] = {}
        self.ttl = settings.get("ttl", 3600.0)
        self.marker = settings.get("marker", "token")
        self.scopes = settings.get("scopes")
        self.basic_encoding = settings.get("basic_encoding", "rfc6749")
        self.renews_within = settings.get("renews_within")
        self.body = settings.get("body", "form")
        self.jwt = settings.get("jwt")
        self.trusted = list(settings.get("trusted", ()))
        self.subject_tokens = set(settings.get("subject_tokens", ()))
        self.clientless = settings.get("clientless", frozenset())
        self.needs_nonce = settings.get("needs_nonce", False)
        self.device_interval = 5.0
        """Seconds between two questions about a device code (RFC 8628 section 3.2)."""
        self.device_ttl = 600.0
        self.port = self.mtls_port = 0
        self.now = settings.get("now") or SystemClock().now
        self.skew = 0.0
        """Seconds that its clock for people is wrong by: ``Date`` and the times of JWTs."""
        self._wall = settings.get("wall", time.time)
        self.issuer_path = settings.get("issuer_path", "")
        self.tls = settings.get("tls")
        self.mtls = settings.get("mtls")
        self._used: dict[tuple[str, ...], float] = {}

    # --- addresses --------------------------------------------------------------------------------------------------

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://{'localhost' if self.tls else '127.0.0.1'}:{self.port}"

    @property
    def issuer(self) -> str:
        return self.origin + self.issuer_path

    @property
    def token_url(self) -> str:
        return f"{self.issuer}/token"

    @property
    def mtls_url(self) -> str:
        """The same as ``issuer`` on the port that asks for certificates."""
        return f"https://localhost:{self.mtls_port}{self.issuer_path}"

    @property
    def audiences(self) -> frozenset[str]:
        """What an assertion for this provider may name (RFC 7523 section 3)."""
        return frozenset({self.issuer, self.token_url} | ({f"{self.mtls_url}/token"} if self.mtls else set()))

    def wall(self) -> float:
        """Unix time, as the provider believes it."""
        return self._wall() + self.skew

    # --- clients ----------------------------------------------------------------------------------------------------

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
        if (client := self.known(client_id)) is None:
            raise Refused("invalid_client", 401)
        return client

    def known(self, client_id: str) -> Client | None:
        """The registration of a client, if there is one; a secret alone makes an ordinary client."""
        return self.clients.get(client_id) or (Client() if client_id in self.secrets else None)

    def granted(self, asked: str | None) -> str | None:
        """Of the scopes that were asked for those that it grants; None when none was asked for."""
        scopes = (asked or "").split()
        return " ".join(scope for scope in scopes if self.scopes is None or scope in self.scopes) if scopes else None

    def first_use(self, *names: str, until: float) -> bool:
        """Whether something that may be used once comes for the first time; it is remembered until that Unix time."""
        wall = self.wall()
        self._used = {used: end for used, end in self._used.items() if end >= wall}
        if names in self._used:
            return False
        self._used[names] = until
        return True
