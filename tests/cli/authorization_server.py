"""An authorization server with a person in it who says yes: for logins, by browser and by device.

Checks what a server has to: one-time codes, the redirect URI byte for byte, the PKCE verifier, the client. A test can
bend everything that it answers.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp import web

from tests.cli.browser import Seen, get

if TYPE_CHECKING:
    from collections.abc import Callable

Form = dict[str, str]
CLIENT = "client"
SECRET = "client-secret-canary"


@dataclass
class Issued:
    """A code and what it was asked for with."""

    redirect_uri: str
    challenge: str


@dataclass
class AuthorizationServer:
    """On an ephemeral port of 127.0.0.1; use it as an asynchronous context.

    Attributes:
        callback: changes of the parameters that go back with the browser; None takes one out.
        token: changes of the token answer.
        polls: answers to the next polls of a device, as (status, fields); afterwards it gets its token.
        refusals: answers to the next requests at any endpoint but these of a browser.
        received: every POST: path, headers and fields.
    """

    now: Callable[[], float] = lambda: 0.0
    callback: dict[str, str | None] = field(default_factory=dict)
    token: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    polls: deque[tuple[int, dict[str, Any]]] = field(default_factory=deque)
    refusals: deque[tuple[int, dict[str, Any]]] = field(default_factory=deque)
    received: list[tuple[float, str, dict[str, str], Form]] = field(default_factory=list)
    asked: list[list[tuple[str, str]]] = field(default_factory=list)
    codes: dict[str, Issued] = field(default_factory=dict)
    refresh_tokens: set[str] = field(default_factory=set)
    port: int = 0

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def forms(self, path: str) -> list[Form]:
        """What was posted to a path."""
        return [form for _, where, _, form in self.received if where == path]

    # --- the person ---------------------------------------------------------------------------------------------------

    def consent(self, url: str) -> str:
        """The address the browser is sent to when the person has agreed to what ``url`` asks for."""
        pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
        self.asked.append(pairs)
        query = dict(pairs)
        code = f"code-{secrets.token_hex(8)}"
        self.codes[code] = Issued(query["redirect_uri"], query["code_challenge"])
        answer = {"code": code, "state": query["state"], "iss": self.url()} | self.callback
        return (
            f"{query['redirect_uri']}?{urlencode({name: value for name, value in answer.items() if value is not None})}"
        )

    async def agree(self, url: str) -> Seen:
        """Agree, and go where the browser is sent."""
        return await get(self.consent(url))

    # --- the server ---------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/authorize":
            raise web.HTTPFound(self.consent(str(request.rel_url)))
        if request.method == "GET":
            known = request.path == "/.well-known/openid-configuration"
            return web.json_response(self._metadata() if known else {}, status=200 if known else 404)
        form = dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append((self.now(), request.path, headers, form))
        status, fields = self.refusals.popleft() if self.refusals else self._answer(request.path, headers, form)
        return web.json_response(fields, status=status) if fields else web.Response(status=status)

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url(),
            "authorization_endpoint": self.url("/authorize"),
            "token_endpoint": self.url("/token"),
            "device_authorization_endpoint": self.url("/device"),
            "revocation_endpoint": self.url("/revoke"),
            "authorization_response_iss_parameter_supported": True,
        } | self.metadata

    def _answer(self, path: str, headers: dict[str, str], form: Form) -> tuple[int, dict[str, Any]]:
        basic = f"Basic {base64.b64encode(f'{CLIENT}:{SECRET}'.encode()).decode()}"
        if headers.get("authorization") != basic and form.get("client_id") != CLIENT:
            return 401, {"error": "invalid_client"}
        match path:
            case "/token":
                return self._token(form)
            case "/device":
                return 200, self._device()
            case "/revoke":
                self.refresh_tokens.discard(form["token"])
                return 200, {}
            case _:
                return 404, {}

    def _device(self) -> dict[str, Any]:
        plain = {
            "device_code": "the-device-code",
            "user_code": "WDJB-MJHT",
            "verification_uri": self.url("/enter"),
            "expires_in": 600,
            "interval": 5,
        }
        return plain | self.device

    def _token(self, form: Form) -> tuple[int, dict[str, Any]]:
        if form["grant_type"] == "urn:ietf:params:oauth:grant-type:device_code":
            if form["device_code"] != "the-device-code":
                return 400, {"error": "invalid_grant"}
            return self.polls.popleft() if self.polls else self._tokens()
        issued = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        if issued is None or issued != Issued(form["redirect_uri"], challenge.decode()):
            return 400, {"error": "invalid_grant", "error_description": "SECRET words"}
        return self._tokens()

    def _tokens(self) -> tuple[int, dict[str, Any]]:
        access, refresh = (f"{kind}-{CLIENT}-1-{secrets.token_hex(16)}" for kind in ("access", "refresh"))
        self.refresh_tokens.add(refresh)
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": 300, "refresh_token": refresh}
        return 200, {name: value for name, value in (answer | self.token).items() if value is not None}
