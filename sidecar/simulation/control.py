"""Faults by HTTP while the mock provider runs: a listener of its own on loopback, for whoever has its key.

    GET     /_control/faults          those that hold now, and those there are
    POST    /_control/faults          a fault in the body, as it is written on the command line: 429:30s
    DELETE  /_control/faults          end all; with /NAME those of that name

It has a port of its own, so that it answers while the provider is down on purpose. The key is made at each start and
told once, by whoever starts it.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp import web

from sidecar.simulation.catalogue import FAULTS

if TYPE_CHECKING:
    from sidecar.simulation.injection import Injection

PATH: Final = "/_control/faults"
LONGEST_BODY: Final = 4096


class Control:
    """The control endpoint; use it as an asynchronous context.

    Attributes:
        key: what ``Authorization: Bearer`` has to bring.
    """

    def __init__(self, injection: Injection) -> None:
        self.key = secrets.token_urlsafe(24)
        self.port = 0
        self._injection = injection
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._may(request.headers.get("Authorization", "")):
            return _answer(401, {"error": "the key is missing or wrong"}, {"WWW-Authenticate": "Bearer"})
        path, _, name = request.path.removeprefix(PATH).partition("/")
        if not request.path.startswith(PATH) or path:
            return _answer(404, {"error": f"there is {PATH}, and nothing else"})
        match request.method:
            case "GET" if not name:
                return _answer(200, self._state())
            case "POST" if not name:
                return await self._inject(request)
            case "DELETE" if not name or name in FAULTS:
                await self._injection.end(name or None)
                return _answer(200, self._state())
            case "DELETE":
                return _answer(404, {"error": "no fault has this name"})
        return _answer(405, {"error": "GET, POST and DELETE"}, {"Allow": "GET, POST, DELETE"})

    def _may(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), self.key.encode())

    async def _inject(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read(LONGEST_BODY)
        try:
            await self._injection.inject(body.decode("ascii", "replace"))
        except ValueError as exc:
            return _answer(400, {"error": str(exc)})
        return _answer(200, self._state())

    def _state(self) -> dict[str, Any]:
        return {"active": [str(order) for order in self._injection.active()], "known": sorted(FAULTS)}


def _answer(status: int, fields: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(fields, status=status, headers=headers)
