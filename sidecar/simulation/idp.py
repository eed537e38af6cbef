"""An identity provider that runs in this process: for the demo, for tests, and for failing on purpose.

Issues tokens by the client_credentials grant to clients whose authentication it checks as strictly as RFC 6749 section
2.3.1 reads, publishes metadata, remembers what it was sent, and follows a script of faults: any status, header or body,
an answer held back, a connection reset, hung or dripping. It decides nothing about the client's side.

What it remembers holds secrets in clear, since tests compare them: it is not for production.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import math
import secrets
import socket
import struct
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from urllib.parse import parse_qsl, unquote_plus

from aiohttp import web

from sidecar.runtime import SystemClock

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

Form = list[tuple[str, str]]
REMEMBERED: Final = 10_000
REPEATABLE: Final = frozenset({"resource", "audience"})
"""Fields that may stand more than once (RFC 8707 section 2, RFC 8693 section 2.1); no others (RFC 6749 section 3.2)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One scripted answer; what is not given is as it would be without a script.

    Args:
        fields: merged into the JSON of the answer; None as a value takes the field out.
        hold: answer only when this is set.
        fault: ``reset`` closes the connection with RST, ``close`` without a word; ``hang`` never answers; ``drip``
            sends the body byte by byte, for ever.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    fields: Mapping[str, object] | None = None
    hold: asyncio.Event | None = None
    fault: Literal["reset", "close", "hang", "drip"] | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came in.

    Args:
        at: the instant, on the provider's clock.
        peer_port: the client's port, which tells connections apart.
    """

    at: float
    method: str
    path: str
    headers: Mapping[str, str]
    form: Form
    peer_port: int

    def field(self, name: str) -> str | None:
        """The first form field of that name."""
        return next((value for key, value in self.form if key == name), None)


class Refused(Exception):
    """The provider's own error answer (RFC 6749 section 5.2)."""

    def __init__(self, error: str, status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.status = status


class MockIdP:
    """An OAuth 2.0 server on an ephemeral port of 127.0.0.1; use it as an asynchronous context.

    Args:
        clients: client id to the secrets that are accepted for it.
        ttl: lifetime of its tokens in seconds.
        marker: what every token begins with.
        scopes: those it grants; None grants whatever is asked for.
        basic_encoding: whether Basic credentials are form-encoded, as RFC 6749 has it, or ``raw``.
        renews_within: hand out the same token until it has less than this to live, as metadata servers do.
        issuer_path: a path for the issuer, as multi-tenant providers have.
        now: the clock that tokens live by.
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
    ) -> None:
        self.secrets = {client: {secret} for client, secret in (clients or {"client": "client-secret"}).items()}
        self.ttl = ttl
        self.marker = marker
        self.scopes = scopes
        self.basic_encoding = basic_encoding
        self.renews_within = renews_within
        self.metadata: dict[str, object] = {}
        """Fields that replace those of the metadata document."""
        self.metadata_forms = {"openid-configuration", "oauth-authorization-server"}
        self.received: deque[Received] = deque(maxlen=REMEMBERED)
        self.issued: deque[str] = deque(maxlen=REMEMBERED)
        self.port = 0
        self._now = now or SystemClock().now
        self._issuer_path = issuer_path
        self._tls = tls
        self._expiry: dict[str, float] = {}
        self._script: deque[Step] = deque()
        self._always: Step | None = None
        self._runner: web.ServerRunner | None = None
        self._hanging: set[asyncio.Event] = set()
        self._count: Counter[str] = Counter()

    # --- addresses --------------------------------------------------------------------------------------------------

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://{'localhost' if self._tls else '127.0.0.1'}:{self.port}"

    @property
    def issuer(self) -> str:
        return self.origin + self._issuer_path

    @property
    def token_url(self) -> str:
        return f"{self.issuer}/token"

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen; after a ``stop`` on the same port as before."""
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Be down: connections are refused until ``start``."""
        for hanging in self._hanging:
            hanging.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    # --- what tests and the demo ask of it --------------------------------------------------------------------------

    def script(self, *steps: Step) -> None:
        """Answer the next token requests like this, one step each."""
        self._script.extend(steps)

    def always(self, step: Step | None) -> None:
        """Answer every token request that no script step is left for like this; None ends it."""
        self._always = step

    def is_valid(self, token: str, now: float | None = None) -> bool:
        """Whether a resource server should accept the token at ``now``, by default at this moment."""
        return (self._now() if now is None else now) < self._expiry.get(token, -math.inf)

    def revoke(self, token: str) -> None:
        """Make the token invalid before its time."""
        self._expiry.pop(token, None)

    @property
    def token_requests(self) -> list[Received]:
        """The requests to the token endpoint."""
        return [received for received in self.received if received.path == f"{self._issuer_path}/token"]

    # --- serving ----------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        form = parse_qsl((await request.read()).decode("utf-8", "replace"), keep_blank_values=True)
        headers = {name.lower(): value for name, value in request.headers.items()}
        peer = request.transport.get_extra_info("peername") if request.transport else None
        received = Received(self._now(), request.method, request.path, headers, form, peer[1] if peer else 0)
        self.received.append(received)
        if received.path == f"{self._issuer_path}/token":
            return await self._token_endpoint(request, received)
        if received.path in map(self._metadata_path, self.metadata_forms):
            return web.json_response(self._metadata())
        return web.json_response({"error": "not_found"}, status=404)

    def _metadata_path(self, form: str) -> str:
        if form == "openid-configuration":
            return f"{self._issuer_path}/.well-known/{form}"
        return f"/.well-known/{form}{self._issuer_path}"

    def _metadata(self) -> dict[str, object]:
        return {
            "issuer": self.issuer,
            "token_endpoint": self.token_url,
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        } | self.metadata

    async def _token_endpoint(self, request: web.BaseRequest, received: Received) -> web.StreamResponse:
        step = self._script.popleft() if self._script else self._always or Step()
        if step.hold is not None:
            await self._until(step.hold)
        if step.fault is not None:
            return await self._fail(step.fault, request)
        status, fields = self._decide(received)
        if step.fields is not None:
            fields = {name: value for name, value in {**fields, **step.fields}.items() if value is not None}
        headers = {"Cache-Control": "no-store", "Content-Type": "application/json", **step.headers}
        body = web.json_response(fields).body if step.body is None else step.body
        return web.Response(status=step.status or status, headers=headers, body=body)

    def _decide(self, received: Received) -> tuple[int, dict[str, Any]]:
        try:
            client = self._authenticated(received)
            if received.field("grant_type") != "client_credentials":
                raise Refused("unsupported_grant_type")
            return 200, self._grant(client, received)
        except Refused as exc:
            return exc.status, {"error": exc.error, "error_description": "scripted by no one"}

    def _authenticated(self, received: Received) -> str:
        """The client's id, if it proved it in exactly one way (RFC 6749 section 2.3)."""
        if received.method != "POST" or self._repeats(received.form):
            raise Refused("invalid_request")
        header, in_body = received.headers.get("authorization"), received.field("client_secret")
        if header is not None and in_body is not None:
            raise Refused("invalid_request")
        client, secret = self._basic(header) if header else (received.field("client_id") or "", in_body or "")
        known = [one for one in self.secrets.get(client, ()) if hmac.compare_digest(one.encode(), secret.encode())]
        if not known:
            raise Refused("invalid_client", 401)
        return client

    def _repeats(self, form: Form) -> bool:
        return any(count > 1 for name, count in Counter(name for name, _ in form).items() if name not in REPEATABLE)

    def _basic(self, header: str) -> tuple[str, str]:
        scheme, _, encoded = header.partition(" ")
        try:
            client, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Refused("invalid_request") from None
        if scheme.lower() != "basic" or not colon:
            raise Refused("invalid_request")
        return (client, secret) if self.basic_encoding == "raw" else (unquote_plus(client), unquote_plus(secret))

    def _grant(self, client: str, received: Received) -> dict[str, Any]:
        asked = (received.field("scope") or "").split()
        granted = [scope for scope in asked if self.scopes is None or scope in self.scopes]
        token, left = self._token(client)
        fields: dict[str, Any] = {"access_token": token, "token_type": "Bearer", "expires_in": _plain(left)}
        return fields | ({"scope": " ".join(granted)} if asked else {})

    def _token(self, client: str) -> tuple[str, float]:
        now = self._now()
        if self.renews_within is not None and self.issued:
            left = self._expiry.get(self.issued[-1], -math.inf) - now
            if left > self.renews_within:
                return self.issued[-1], left
        self._count[client] += 1
        token = f"{self.marker}-{client}-{self._count[client]}-{secrets.token_hex(16)}"
        self._expiry = {known: expiry for known, expiry in self._expiry.items() if expiry > now}
        self._expiry[token] = now + self.ttl
        self.issued.append(token)
        return token, self.ttl

    # --- failing ----------------------------------------------------------------------------------------------------

    async def _until(self, event: asyncio.Event) -> None:
        """Wait for the event, or for ``stop``."""
        self._hanging.add(event)
        try:
            await event.wait()
        finally:
            self._hanging.discard(event)

    async def _fail(self, fault: str, request: web.BaseRequest) -> web.StreamResponse:
        match fault:
            case "hang":
                await self._until(asyncio.Event())
            case "drip":
                await self._drip(request)
            case "reset" if request.transport is not None:
                # No lingering: the kernel sends RST instead of FIN (socket(7), SO_LINGER).
                connection = request.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    async def _drip(self, request: web.BaseRequest) -> None:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        stopped = asyncio.Event()
        self._hanging.add(stopped)
        try:
            while not stopped.is_set() and request.transport is not None:
                await response.write(b" ")
                await asyncio.sleep(0.01)
        except ConnectionError:
            return
        finally:
            self._hanging.discard(stopped)


def _plain(seconds: float) -> float:
    return int(seconds) if float(seconds).is_integer() else seconds
