"""An origin that remembers every byte it was sent and answers with the bytes it was told to.

Heads are recorded raw. Without a script it answers 200 with the method, the target and the body's length, so that each
request can be told from its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    import ssl

PATIENCE_SECONDS: Final = 5.0


@dataclass(slots=True)
class Request:
    """A request as it arrived; ``body`` is without its framing, and empty until it was read."""

    raw: bytes
    connection: Connection
    body: bytes = b""

    @property
    def method(self) -> str:
        return self.raw.partition(b" ")[0].decode()

    @property
    def target(self) -> str:
        return self.raw.split(b" ")[1].decode()

    def values(self, name: str) -> list[str]:
        """The values of a field, line by line."""
        pairs = [line.partition(":") for line in self.raw.decode("latin-1").split("\r\n")[1:] if line]
        return [value.strip() for key, _, value in pairs if key.lower() == name.lower()]

    @property
    def token(self) -> str | None:
        """The bearer token it carries.

        Raises:
            AssertionError: it carries more than one Authorization line, or another scheme.
        """
        lines = self.values("Authorization")
        assert len(lines) <= 1, lines
        if not lines:
            return None
        scheme, _, token = lines[0].partition(" ")
        assert scheme == "Bearer", lines
        return token


@dataclass(slots=True, eq=False)
class Connection:
    """One connection that the origin accepted."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[Request] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the peer has closed or reset it."""
    sent: int = 0

    async def head(self) -> bytes:
        """The next head; empty when the peer has closed before one."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            self.ended.set()
            return b""

    async def body(self, request: Request) -> bytes:
        """Read the request's body."""
        try:
            if lengths := request.values("Content-Length"):
                request.body = await self.reader.readexactly(int(lengths[0]))
            elif request.values("Transfer-Encoding"):
                request.body = await self._chunked()
        except (asyncio.IncompleteReadError, OSError):
            self.ended.set()
            raise
        return request.body

    async def _chunked(self) -> bytes:
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return body

    async def send(self, data: bytes) -> None:
        """Send, and wait until the kernel has nearly all of it."""
        self.writer.write(data)
        self.sent += len(data)
        await self.writer.drain()

    async def read_to_the_end(self) -> bytes:
        """Read until the peer closes or resets."""
        received = b""
        with contextlib.suppress(OSError):
            while data := await self.reader.read(65536):
                received += data
        self.ended.set()
        return received

    def close(self) -> None:
        """End it as servers do: TLS says goodbye first."""
        self.writer.close()

    def reset(self) -> None:
        """Break off: RST, and no close_notify."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None:  # it is None once the peer has broken off
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def cut(self) -> None:
        """FIN from below TLS: the stream ends without a close_notify (a ragged end)."""
        sock = self.writer.get_extra_info("socket")
        if sock is None:  # the peer has broken off already
            return
        below = socket.socket(fileno=os.dup(sock.fileno()))
        below.shutdown(socket.SHUT_WR)
        below.close()


Script = Callable[[Request], Awaitable[None]]
Reply = bytes | Script


def ok(body: bytes = b"hello", *fields: str, status: str = "200 OK") -> bytes:
    """A response with a length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join((*lines, "", "")).encode() + body


REFUSED_TOKEN: Final = ok(b"expired", 'WWW-Authenticate: Bearer error="invalid_token"', status="401 Unauthorized")


class Origin:
    """A server on a port of loopback; use it as an asynchronous context.

    Args:
        tls: spoken on it; None for plain TCP.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.port = 0
        self.connections: list[Connection] = []
        self.requests: list[Request] = []
        self.always: Reply | None = None
        self.instead_of_http: Callable[[Connection], Awaitable[None]] | None = None
        """What is done with a connection from its first byte on."""
        self._script: deque[Reply] = deque()
        self._arrived: asyncio.Queue[Request] = asyncio.Queue()
        self._opened: asyncio.Queue[Connection] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after a ``stop`` on the same port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Break off everything and refuse connections."""
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            connection.writer.transport.abort()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def reply(self, *replies: Reply) -> None:
        """Answer the next requests like this: bytes after the body was read, or whatever a function does."""
        self._script.extend(replies)

    async def next_request(self) -> Request:
        """The next request that has arrived and was not yet asked for here."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._arrived.get()

    async def next_connection(self) -> Connection:
        """The next connection that was accepted and not yet asked for here."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._opened.get()

    @property
    def tokens(self) -> list[str | None]:
        """The tokens of all requests, in the order of their arrival."""
        return [request.token for request in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        connection = Connection(reader, writer)
        self.connections.append(connection)
        self._opened.put_nowait(connection)
        try:
            if self.instead_of_http is not None:
                await self.instead_of_http(connection)
                return
            while raw := await connection.head():
                request = Request(raw, connection)
                connection.requests.append(request)
                self.requests.append(request)
                self._arrived.put_nowait(request)
                await self._answer(request)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # TLS errors are OSErrors: the sidecar has gone
        finally:
            connection.ended.set()
            writer.close()
            self._serving.discard(task)

    async def _answer(self, request: Request) -> None:
        reply = self._script.popleft() if self._script else self.always
        if callable(reply):
            await reply(request)
            return
        await request.connection.body(request)
        if reply is None:
            reply = ok(f"{request.method} {request.target} {len(request.body)}".encode())
            reply = reply.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if request.method == "HEAD" else reply
        await request.connection.send(reply)
