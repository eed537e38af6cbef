"""A provider on a real socket that says what a test gives it, word for word, and keeps what it was asked."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl

from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; JSON, unless the type says otherwise."""

    body: str
    status: int = 200
    type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in; field names in lower case."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The fields of a form; each stands once (RFC 6749 section 3.2)."""
        assert self.headers["content-type"] == "application/x-www-form-urlencoded"
        pairs = parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True)
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


class Provider:
    """Answers from a script, in any path; a request that has no answer left is a mistake of the test."""

    def __init__(self, *, wall: Callable[[], float], tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.replies: deque[Reply] = deque()
        self.unscripted = 0
        self._wall = wall
        self._tls = tls
        self._port = 0
        self._runner: web.ServerRunner | None = None

    @property
    def origin(self) -> str:
        return f"https://localhost:{self._port}" if self._tls else f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        headers = {name.lower(): value for name, value in request.headers.items()}
        pairs = parse_qsl(query, keep_blank_values=True)
        self.asked.append(Asked(request.method, path, pairs, headers, await request.read()))
        if not self.replies:
            self.unscripted += 1
            return web.Response(status=418)
        reply = self.replies.popleft()
        fields = {"Date": formatdate(self._wall(), usegmt=True), "Content-Type": reply.type, **reply.headers}
        return web.Response(status=reply.status, headers=fields, body=reply.body.encode())
