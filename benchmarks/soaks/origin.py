"""The origin of the soaks, in the event loop of the load: HTTP/1.1 over TCP or TLS, and misbehaviour on command.

The first segment of a path says which application answers. Applications see a request when its head is there, piece by
piece, and when it is whole, so that they can stop reading, close at the worst moment, or count what they were sent.
Every request has to carry a token of the provider, or the answer is 401 as RFC 6750 section 3.1 has it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, Self

import httptools

from benchmarks.soaks import content

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from sidecar.simulation.idp import MockIdP

BACKLOG: Final = 4096
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER without lingering: the kernel sends RST at the close (socket(7))."""
UNAUTHORIZED: Final = b'WWW-Authenticate: Bearer error="invalid_token"\r\n'


@dataclass(slots=True)
class Exchange:
    """One request at the origin.

    Attributes:
        fields: by lower-case name.
        body: what came of it, unless its application keeps it elsewhere.
    """

    connection: OriginConnection
    path: bytes = b""
    method: bytes = b""
    fields: dict[bytes, bytes] = field(default_factory=dict)
    body: list[bytes] = field(default_factory=list)

    @property
    def segments(self) -> list[str]:
        """The path's parts: ``/size/100`` is ``["size", "100"]``."""
        return self.path.decode().strip("/").split("/")

    def answer(self, body: bytes = b"", *, status: str = "200 OK", fields: bytes = b"", chunked: bool = False) -> None:
        """Answer it whole; HEAD gets the head alone."""
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
        head = b"HTTP/1.1 %b\r\n%b\r\n%b\r\n" % (status.encode(), framing, fields)
        if self.method == b"HEAD":
            self.connection.write(head)
        else:
            self.connection.write(head + (content.chunks(body) if chunked else body))

    def switch(self) -> None:
        """Take the offer of another protocol (RFC 9110 section 7.8); what comes then goes to ``continues``."""
        offer = self.fields.get(b"upgrade", b"")
        self.connection.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % offer)

    def stream(self, size: int) -> None:
        """Answer with a body of this size, as fast as it is taken."""
        self.connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        self.connection.stream(content.pieces(size))


class Application(Protocol):
    """What answers the requests below one path."""

    def begins(self, exchange: Exchange) -> None:
        """The head is there."""

    def continues(self, exchange: Exchange, data: bytes) -> None:
        """A piece of the body."""

    def ends(self, exchange: Exchange) -> None:
        """The request is whole; answer it."""


class Sized:
    """``/size/N`` answers with N bytes, ``/chunked/N`` in chunks, ``/slow/MILLISECONDS`` late; a wrong body: 400."""

    def begins(self, exchange: Exchange) -> None:
        """Nothing to do before its end."""

    def continues(self, exchange: Exchange, data: bytes) -> None:
        exchange.body.append(data)

    def ends(self, exchange: Exchange) -> None:
        received = b"".join(exchange.body)
        kind, number = exchange.segments[:2]
        if received != content.body(len(received)):
            exchange.answer(status="400 Bad Request")
        elif kind == "slow":
            asyncio.get_running_loop().call_later(int(number) / 1000, exchange.answer)
        else:
            exchange.answer(content.body(int(number)), chunked=kind == "chunked")


class Origin:
    """A listening origin; use it as an asynchronous context.

    Args:
        port: on loopback.
        idp: says which tokens are good.
        tls: spoken on it; None for plain TCP.
    """

    def __init__(self, port: int, idp: MockIdP, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.idp = idp
        self.refused = 0
        """Requests that were answered 401."""
        self.connections: set[OriginConnection] = set()
        self._tls = tls
        self._sized = Sized()
        self._applications: dict[str, Application] = {}
        self._server: asyncio.Server | None = None

    def serve(self, name: str, application: Application) -> None:
        """Answer requests below ``/name/`` by this application."""
        self._applications[name] = application

    def application(self, exchange: Exchange) -> Application:
        """The one that the path names."""
        return self._applications.get(exchange.segments[0], self._sized)

    def accepts(self, exchange: Exchange) -> bool:
        """Whether it carries a good token."""
        scheme, _, token = exchange.fields.get(b"authorization", b"").decode().partition(" ")
        return scheme == "Bearer" and self.idp.is_valid(token)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: OriginConnection(self), "127.0.0.1", self.port, ssl=self._tls, backlog=BACKLOG
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.reset()


class OriginConnection(asyncio.Protocol):
    """One accepted connection; the parser's callbacks are among its methods."""

    def __init__(self, origin: Origin) -> None:
        self.served = 0
        self.is_closed = False
        self._origin = origin
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._exchange = Exchange(self)
        self._application: Application | None = None
        self._source: Iterator[bytes] | None = None
        self._writable = True
        self._is_switched = False

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # always a stream transport
        self._origin.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.is_closed:
            return
        if self._is_switched and self._application is not None:
            self._application.continues(self._exchange, data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._is_switched = True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it ended changes nothing
        self.is_closed = True
        self._source = None
        self._origin.connections.discard(self)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._pump()

    # --- the parser's ---

    def on_message_begin(self) -> None:
        self._exchange = Exchange(self)
        self._application = None

    def on_url(self, url: bytes) -> None:
        self._exchange.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._exchange.fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        exchange.method = self._parser.get_method()
        if self._origin.accepts(exchange):
            self._application = self._origin.application(exchange)
            self._application.begins(exchange)

    def on_body(self, data: bytes) -> None:
        if self._application is not None and not self.is_closed:
            self._application.continues(self._exchange, data)

    def on_message_complete(self) -> None:
        if self.is_closed:
            return
        self.served += 1
        if self._application is None:
            self._origin.refused += 1
            self._exchange.answer(status="401 Unauthorized", fields=UNAUTHORIZED)
        else:
            self._application.ends(self._exchange)

    # --- for applications ---

    def write(self, data: bytes) -> None:
        if not self.is_closed:
            self._transport.write(data)

    def stream(self, source: Iterator[bytes]) -> None:
        """Write all of it, as fast as it is taken."""
        self._source = source
        self._pump()

    def pause(self) -> None:
        """Read no more, until ``resume``."""
        self._transport.pause_reading()

    def resume(self) -> None:
        self._transport.resume_reading()

    def close(self) -> None:
        """End it after what is written; what comes is not looked at any more."""
        self.is_closed = True
        self._transport.close()

    def reset(self) -> None:
        """Break it off with RST."""
        self.is_closed = True
        sock = self._transport.get_extra_info("socket")
        if sock is not None and not self._transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _pump(self) -> None:
        while self._writable and self._source is not None:
            piece = next(self._source, None)
            if piece is None:
                self._source = None
            else:
                self.write(piece)
