"""The upstream of the end-to-end tests: https, echoes bodies, and judges the token of every request as it arrives."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import trustme
from aiohttp import web

if TYPE_CHECKING:
    from pathlib import Path

VALID: Final = "valid"
Judge = Callable[[str], str]
"""Takes a token; answers ``VALID`` or what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A test CA: the file that a route names as ``ca_file``, and the TLS of a server it vouches for."""

    ca: trustme.CA
    ca_file: Path
    server: ssl.SSLContext

    @classmethod
    def found(cls, folder: Path) -> Authority:
        """Make a CA, and a certificate of it for the loopback names."""
        ca = trustme.CA()
        ca_file = folder / "ca.pem"
        ca.cert_pem.write_to_path(str(ca_file))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("localhost", "127.0.0.1").configure_cert(server)
        return cls(ca, ca_file, server)

    def files_for(self, *names: str, folder: Path) -> tuple[Path, Path]:
        """A certificate for these names and its key, written into the folder under the first of them."""
        leaf = self.ca.issue_cert(*names)
        certificate, key = folder / f"{names[0]}.pem", folder / f"{names[0]}-key.pem"
        leaf.cert_chain_pems[0].write_to_path(str(certificate))
        leaf.private_key_pem.write_to_path(str(key))
        return certificate, key


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as the origin saw it; ``at`` is Unix time."""

    at: float
    method: str
    path: str
    token: str | None
    verdict: str


@dataclass(slots=True)
class Origin:
    """An https server on loopback. A request without a valid token gets the 401 of RFC 6750 section 3.

    Paths with a meaning: ``/status/CODE`` answers that code, ``/reset`` drops the connection, ``/html`` is a page.
    """

    judge: Judge
    tls: ssl.SSLContext | None
    arrivals: list[Arrival] = field(default_factory=list)
    port: int = 0
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def of(self, verdict: str) -> list[Arrival]:
        """The arrivals with this verdict."""
        return [arrival for arrival in self.arrivals if arrival.verdict == verdict]

    def invalid(self) -> list[Arrival]:
        """The arrivals whose token was not valid, or that had none."""
        return [arrival for arrival in self.arrivals if arrival.verdict != VALID]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        verdict = self.judge(token) if scheme == "Bearer" and token else "missing"
        self.arrivals.append(Arrival(time.time(), request.method, request.path, token or None, verdict))
        if verdict != VALID:
            challenge = 'Bearer error="invalid_token"' if token else "Bearer"
            return web.json_response({"error": verdict}, status=401, headers={"WWW-Authenticate": challenge})
        return await self._granted(request)

    async def _granted(self, request: web.Request) -> web.StreamResponse:
        match request.path.split("/")[1:]:
            case ["status", code]:
                return web.Response(status=int(code), text=f"status {code}\n")
            case ["reset"]:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case ["html"]:
                return web.Response(text="<!doctype html><p>hello", content_type="text/html")
            case _:
                return web.Response(body=await request.read() or b"hello\n")
