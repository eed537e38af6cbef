"""An identity provider that runs in this process: for the demo, for tests, and for failing on purpose.

The server: it listens, remembers what it was sent, finds the endpoint, and lets a script of faults have its way with
the answer. What an endpoint answers is decided in its own file, as strictly as the RFCs read.

What it remembers holds secrets in clear, since tests compare them: it is not for production.
"""

from __future__ import annotations

from collections import deque
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, Self, Unpack
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from sidecar.simulation.authorization import Authorization
from sidecar.simulation.device import Decision, Devices
from sidecar.simulation.dpop import Proofs
from sidecar.simulation.exchange import Received, Refused, Reply, fields_of
from sidecar.simulation.faults import Faults, Step, redirect
from sidecar.simulation.grants import Grants, Sources
from sidecar.simulation.metadata import document, paths
from sidecar.simulation.provider import Provider, Settings
from sidecar.simulation.registration import Client, Refreshing, Trusted
from sidecar.simulation.tokens import REMEMBERED, Ask, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Client", "MockIdP", "Received", "Refreshing", "Refused", "Step", "Trusted"]

TOKEN: Final = "token"
METADATA: Final = "metadata"
CONSENT: Final = "consent"


class MockIdP(Provider):
    """An OAuth 2.0 server on an ephemeral port of 127.0.0.1; use it as an asynchronous context.

    The arguments are ``Settings``. The endpoints are called ``token``, ``authorize`` (the page), ``consent`` (the
    decision on it), ``device_authorization``, ``device``, ``revoke``, ``jwks`` and ``metadata``.
    """

    def __init__(self, **settings: Unpack[Settings]) -> None:
        super().__init__(**settings)
        self.metadata: dict[str, object] = {}
        """Fields that replace those of the metadata document."""
        self.metadata_forms = {"openid-configuration", "oauth-authorization-server"}
        self.received: deque[Received] = deque(maxlen=REMEMBERED)
        self.tokens = Tokens(self)
        self.proofs = Proofs(self)
        self._authorization = Authorization(self, self.tokens)
        self._devices = Devices(self, self.tokens)
        grants = Grants(self, Sources(self.tokens, self._authorization, self._devices, self.proofs))
        self._faults = Faults()
        self._endpoints: dict[str, Callable[[Received], Reply]] = {
            TOKEN: grants.answer,
            "revoke": grants.revoke,
            "authorize": self._authorization.ask,
            CONSENT: self._authorization.decide,
            "device_authorization": self._devices.begin,
            "device": self._devices.page,
            "jwks": lambda _: Reply(self.tokens.jwks()),
            METADATA: lambda _: Reply(document(self) | self.metadata),
        }
        self._runner: web.ServerRunner | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen; after a ``stop`` on the same ports as before."""
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        if self.mtls is not None:
            site = web.TCPSite(self._runner, "127.0.0.1", self.mtls_port, ssl_context=self.mtls, reuse_address=True)
            await site.start()
            self.mtls_port = self._runner.addresses[1][1]

    async def stop(self) -> None:
        """Be down: connections are refused until ``start``."""
        self._faults.release()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    # --- what tests and the demo ask of it --------------------------------------------------------------------------

    def script(self, *steps: Step, endpoint: str = TOKEN) -> None:
        """Answer the next requests to an endpoint like this, one step each."""
        self._faults.script(endpoint, *steps)

    @property
    def faults(self) -> Faults:
        """What is done to its answers."""
        return self._faults

    @property
    def listening(self) -> bool:
        return self._runner is not None

    def always(self, step: Step | None, *, endpoint: str = TOKEN) -> None:
        """Answer every request to an endpoint that no script step is left for like this; None ends it."""
        self._faults.always(endpoint, step)

    @property
    def issued(self) -> deque[str]:
        """The access tokens, in the order they were issued."""
        return self.tokens.issued

    @property
    def token_requests(self) -> list[Received]:
        """The requests to the token endpoint."""
        return [received for received in self.received if received.path == f"{self.issuer_path}/{TOKEN}"]

    def is_valid(self, token: str, now: float | None = None) -> bool:
        """Whether a resource server should accept the token at ``now``, by default at this moment."""
        return self.tokens.is_valid(token, now)

    def bound_to(self, token: str) -> Mapping[str, str]:
        """What a token is bound to, as ``cnf`` writes it: ``jkt``, ``x5t#S256``, or nothing."""
        return self.tokens.bound_to(token) or {}

    def check_dpop(self, token: str, proof: str, method: str, url: str, *, nonce: str | None = None) -> str:
        """What a resource server checks of a DPoP-bound token (RFC 9449 section 7.1); the thumbprint of its key.

        Raises:
            Refused: invalid_token, or invalid_dpop_proof with the reason.
        """
        key = self.proofs.check(proof, method=method, url=url, nonce=nonce, token=token)
        if not self.is_valid(token) or self.bound_to(token).get("jkt") != key:
            raise Refused("invalid_token", 401, why="not valid, or bound to another key")
        return key

    def revoke(self, token: str) -> None:
        """Make the token invalid before its time; a refresh token takes its family along."""
        self.tokens.revoke(token)

    def login(self, client_id: str = "client", *, scope: str = "", binding: Mapping[str, str] | None = None) -> str:
        """A refresh token, as if somebody had logged in and consented; bound to that key, if one is given.

        Raises:
            ValueError: the client is not registered for refresh tokens.
        """
        if (refreshing := self.client(client_id).refreshing) is None:
            raise ValueError(f"{client_id} is registered without refresh tokens")
        return self.tokens.login(Ask(client_id=client_id, scope=scope, refresh_binding=binding or {}), refreshing)

    def consent(self, authorization_url: str, *, approve: bool = True) -> str:
        """Decide as the person in front of the page would; the URL that their browser is then sent to.

        Raises:
            ValueError: the page would have shown an error.
        """
        query = parse_qsl(urlsplit(authorization_url).query, keep_blank_values=True)
        form = [*query, ("decision", "approve" if approve else "deny")]
        received = Received(self.now(), "POST", f"{self.issuer_path}/authorize", {}, form, 0)
        url = redirect(self._authorization.decide(received), self._faults.step(CONSENT))
        if url is None:
            raise ValueError(f"nowhere to go from {authorization_url}")
        return url

    def approve(self, user_code: str) -> None:
        """Connect the device with this code.

        Raises:
            LookupError: none waits with it.
        """
        self._devices.decide(user_code, Decision.APPROVED)

    def deny(self, user_code: str) -> None:
        """Do not connect the device with this code.

        Raises:
            LookupError: none waits with it.
        """
        self._devices.decide(user_code, Decision.DENIED)

    # --- serving ----------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        received = await self._receive(request)
        self.received.append(received)
        name = self._endpoint_name(received)
        if name not in self._endpoints:
            return web.json_response({"error": "not_found"}, status=404)
        response = await self._faults.answer(name, request, lambda: _decided(self._endpoints[name], received))
        if not response.prepared:
            response.headers.setdefault("Date", formatdate(self.wall(), usegmt=True))  # RFC 9110 section 6.6.1
        return response

    def _endpoint_name(self, received: Received) -> str:
        if received.path in paths(self.issuer_path, self.metadata_forms):
            return METADATA
        prefix, _, name = received.path.rpartition("/")
        if prefix != self.issuer_path or name in (CONSENT, METADATA):
            return ""
        return CONSENT if (name, received.method) == ("authorize", "POST") else name

    async def _receive(self, request: web.BaseRequest) -> Received:
        body = (await request.read()).decode("utf-8", "replace")
        headers: dict[str, str] = {}
        for name, value in request.headers.items():  # RFC 9110 section 5.3
            headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
        content_type = headers.get("content-type", "")
        query = parse_qsl(request.query_string, keep_blank_values=True)
        asked = request.transport.get_extra_info if request.transport else lambda _: None
        peer, tls = asked("peername"), asked("ssl_object")
        return Received(
            at=self.now(),
            method=request.method,
            path=request.path,
            headers=headers,
            form=fields_of(content_type, body) if request.method == "POST" else query,
            peer_port=peer[1] if peer else 0,
            url=f"{request.scheme}://{request.host}{request.path}",
            certificate=tls.getpeercert(binary_form=True) if tls else None,
        )


def _decided(endpoint: Callable[[Received], Reply], received: Received) -> Reply:
    try:
        return endpoint(received)
    except Refused as exc:
        return exc.reply
