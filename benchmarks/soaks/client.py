"""The app's side: connections to the sidecar that read answers strictly, and callers that keep one and reconnect.

An answer counts when it is whole. A connection that ends in the middle, or with a request unanswered, is ``Broken``,
whatever the reason: the soaks decide what may break.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import httptools

from benchmarks.soaks import content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ANSWER_SECONDS: Final = 60.0
"""An answer that takes longer is missing."""
SMALL_WINDOW: Final = 4096
SMALL_SEGMENT: Final = 536
"""A sender's buffer grows with the segments that it may have under way, to some MiB with those of loopback."""
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER without lingering: the kernel sends RST at the close (socket(7))."""


class Broken(Exception):
    """The connection ended, or was never made, and the answer is not there."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        size: bytes of its body; None for no body and no framing.
        content: the body's bytes are ``content.body(size)``.
    """

    path: str
    method: str = "GET"
    size: int | None = None
    chunked: bool = False
    fields: str = ""

    def head(self) -> bytes:
        """Its head, framing included."""
        framing = ""
        if self.size is not None:
            framing = "Transfer-Encoding: chunked\r\n" if self.chunked else f"Content-Length: {self.size}\r\n"
        return f"{self.method} {self.path} HTTP/1.1\r\nHost: localhost\r\n{framing}{self.fields}\r\n".encode()

    def wire(self) -> bytes:
        """All of it."""
        if self.size is None:
            return self.head()
        body = content.body(self.size)
        return self.head() + (content.chunks(body) if self.chunked else body)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; ``closes`` if the connection is of no use after it."""

    status: int
    body: bytes
    closes: bool


class Connection(asyncio.Protocol):
    """One connection to the sidecar; the parser's callbacks are among its methods."""

    def __init__(self) -> None:
        self.sink: Callable[[bytes], None] | None = None
        """Takes the body in place of the answer, for bodies that are too large to keep."""
        self.is_open = False
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[Answer] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._body: list[bytes] = []
        self._head_only = False
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def to(cls, port: int, *, narrow: bool = False) -> Self:
        """Connect to a port of loopback.

        Args:
            narrow: with a small window and small segments, so that the kernels between hold next to nothing.

        Raises:
            Broken: nobody accepts.
        """
        sock = socket.socket()
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(sock, ("127.0.0.1", port))
            _, connection = await loop.create_connection(cls, sock=sock)
        except OSError as exc:
            sock.close()
            raise Broken("refused") from exc
        return connection

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # always a stream transport
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self._end("bytes that nobody asked for")
            self._transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end("not HTTP")
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("reset" if exc else "closed")
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _end(self, why: str) -> None:
        self.is_open = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Broken(why))

    # --- the parser's ---

    def on_body(self, data: bytes) -> None:
        if self.sink is not None:
            self.sink(data)
        else:
            self._body.append(data)

    def on_headers_complete(self) -> None:
        if self._head_only:
            self._complete()

    def on_message_complete(self) -> None:
        if not self._head_only:
            self._complete()

    def _complete(self) -> None:
        parser, self._parser = self._parser, None
        if parser is None or self._waiter is None or self._waiter.done():
            return
        closes = not parser.should_keep_alive()
        self._waiter.set_result(Answer(parser.get_status_code(), b"".join(self._body), closes))

    # --- asking ---

    async def ask(self, ask: Ask) -> Answer:
        """Send it and wait for the whole answer.

        Raises:
            Broken: there is none.
        """
        self.begin(ask)
        self.write(ask.wire())
        return await self.answer()

    def begin(self, ask: Ask) -> None:
        """Be ready for its answer; writing it is the caller's.

        Raises:
            Broken: the connection is gone already.
        """
        if not self.is_open:
            raise Broken("closed")
        self._waiter = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._head_only = ask.method == "HEAD"
        self._body = []

    async def answer(self, seconds: float = ANSWER_SECONDS) -> Answer:
        """The answer to what was begun.

        Raises:
            Broken: there is none.
        """
        assert self._waiter is not None
        try:
            async with asyncio.timeout(seconds):
                return await self._waiter
        except TimeoutError:
            self.reset()
            raise Broken("no answer in time") from None

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def write_all(self, pieces: Iterable[bytes]) -> None:
        """Write as fast as it is taken.

        Raises:
            Broken: the connection ended before the last piece.
        """
        for piece in pieces:
            if not self._writable.is_set():
                await self._writable.wait()
            if not self.is_open:
                raise Broken("closed")
            self._transport.write(piece)

    def pause(self) -> None:
        """Read no more, until ``resume``."""
        self._transport.pause_reading()

    def resume(self) -> None:
        self._transport.resume_reading()

    def close(self) -> None:
        """End it; an answer that is still to come is not waited for."""
        self._forget()
        self._transport.close()

    def reset(self) -> None:
        """Break it off with RST."""
        self._forget()
        sock = self._transport.get_extra_info("socket")
        if sock is not None and not self._transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _forget(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.cancel()


class Caller:
    """Asks one request after the other over a kept connection; a new one where the last answer said so.

    Args:
        port: of the sidecar's listener.
        keeps: False for a new connection for each request.
    """

    def __init__(self, port: int, *, keeps: bool = True) -> None:
        self.port = port
        self.connection: Connection | None = None
        self._keeps = keeps

    async def ask(self, ask: Ask) -> Answer:
        """Ask it.

        Raises:
            Broken: there is no whole answer, or nobody accepts.
        """
        if self.connection is None or not self.connection.is_open:
            self.connection = await Connection.to(self.port)
        try:
            answer = await self.connection.ask(ask)
        except Broken:
            self.connection = None
            raise
        if answer.closes or not self._keeps:
            self.close()
        return answer

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
