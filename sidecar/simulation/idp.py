"""An identity provider that runs in this process: for the demo, for tests, and for failing on purpose.

The server: it listens, remembers what it was sent, finds the endpoint, and lets a script of faults have its way with
the answer. What an endpoint answers is decided in its own file, as strictly as the RFCs read.

What it remembers holds secrets in clear, since tests compare them: it is not for production.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qsl

from aiohttp import web

from sidecar.simulation.exchange import Received, Refused, Reply
from sidecar.simulation.faults import Faults, Step
from sidecar.simulation.grants import Grants
from sidecar.simulation.provider import Provider
from sidecar.simulation.registration import GRANTS, METHODS, Client, Refreshing
from sidecar.simulation.tokens import REMEMBERED, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Client", "MockIdP", "Received", "Refreshing", "Step"]

TOKEN: Final = "token"
METADATA: Final = "metadata"


class MockIdP(Provider):
    """An OAuth 2.0 server on an ephemeral port of 127.0.0.1; use it as an asynchronous context.

    The arguments are those of ``Provider``.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.metadata: dict[str, object] = {}
        """Fields that replace those of the metadata document."""
        self.metadata_forms = {"openid-configuration", "oauth-authorization-server"}
        self.received: deque[Received] = deque(maxlen=REMEMBERED)
        self.tokens = Tokens(self)
        self._faults = Faults()
        self._endpoints: dict[str, Callable[[Received], Reply]] = {TOKEN: Grants(self, self.tokens).answer}
        self._runner: web.ServerRunner | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen; after a ``stop`` on the same port as before."""
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

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

    def always(self, step: Step | None, *, endpoint: str = TOKEN) -> None:
        """Answer every request to an endpoint that no script step is left for like this; None ends it."""
        self._faults.always(endpoint, step)

    @property
    def issued(self) -> deque[str]:
        """The access tokens, in the order they were issued."""
        return self.tokens.issued

    def is_valid(self, token: str, now: float | None = None) -> bool:
        """Whether a resource server should accept the token at ``now``, by default at this moment."""
        return self.tokens.is_valid(token, now)

    def revoke(self, token: str) -> None:
        """Make the token invalid before its time; a refresh token takes its family along."""
        self.tokens.revoke(token)

    def login(self, client_id: str = "client", *, scope: str = "") -> str:
        """A refresh token, as if somebody had logged in and consented.

        Raises:
            ValueError: the client is not registered for refresh tokens.
        """
        if (refreshing := self.client(client_id).refreshing) is None:
            raise ValueError(f"{client_id} is registered without refresh tokens")
        return self.tokens.login(client_id, scope=scope, refreshing=refreshing)

    @property
    def token_requests(self) -> list[Received]:
        """The requests to the token endpoint."""
        return [received for received in self.received if received.path == f"{self.issuer_path}/{TOKEN}"]

    # --- serving ----------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        received = await self._receive(request)
        self.received.append(received)
        if received.path in map(self._metadata_path, self.metadata_forms):
            return await self._faults.answer(METADATA, request, lambda: Reply(self._metadata()))
        name = received.path.removeprefix(f"{self.issuer_path}/")
        if (endpoint := self._endpoints.get(name)) is None or not received.path.startswith(self.issuer_path):
            return web.json_response({"error": "not_found"}, status=404)
        return await self._faults.answer(name, request, lambda: _decided(endpoint, received))

    async def _receive(self, request: web.BaseRequest) -> Received:
        body = (await request.read()).decode("utf-8", "replace")
        headers = {name.lower(): value for name, value in request.headers.items()}
        peer = request.transport.get_extra_info("peername") if request.transport else None
        return Received(
            at=self.now(),
            method=request.method,
            path=request.path,
            headers=headers,
            form=parse_qsl(body or request.query_string, keep_blank_values=True),
            peer_port=peer[1] if peer else 0,
            url=f"{request.scheme}://{request.host}{request.path}",
        )

    def _metadata_path(self, form: str) -> str:
        if form == "openid-configuration":
            return f"{self.issuer_path}/.well-known/{form}"
        return f"/.well-known/{form}{self.issuer_path}"

    def _metadata(self) -> dict[str, object]:
        return {
            "issuer": self.issuer,
            "token_endpoint": self.token_url,
            "grant_types_supported": sorted(GRANTS),
            "token_endpoint_auth_methods_supported": sorted(METHODS),
        } | self.metadata


def _decided(endpoint: Callable[[Received], Reply], received: Received) -> Reply:
    try:
        return endpoint(received)
    except Refused as exc:
        return exc.reply
