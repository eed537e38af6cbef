"""A small HTTP server for the sidecar's own pages: what the telemetry and the admin listener have in common.

Decides the form of an answer, and what a stranger can take: heads, connections, unread answers, and how long one may
stay are bounded, and a body is taken from nobody. An answer may also be a stream, which goes on until one side ends it.
Leaves what is answered to its two heirs.

A small protocol on the house's own strict head parser, rather than aiohttp's server: that one costs 20 ms and 2 MiB to
import, knows no bound on connections or on a first head's time, and logs a traceback for every malformed request.
"""

from __future__ import annotations

import abc
import asyncio
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol, cast

from sidecar.errors import BadRequest, ClientError, HeadTooLarge
from sidecar.http.h1 import read_request_head
from sidecar.http.message import END_OF_HEAD
from sidecar.proxy.listener import bound_address, open_socket, serve_on

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine

    from sidecar.config.model import Bind
    from sidecar.http.message import RequestHead
    from sidecar.runtime import Tasks

HEAD_BYTES: Final = 8 * 1024
FIELDS: Final = 64
TARGET_BYTES: Final = 1024
CONNECTIONS: Final = 64
HEAD_SECONDS: Final = 10.0
"""From the first byte of a connection or of a head to the head's end."""
IDLE_SECONDS: Final = 75.0
"""Longer than Prometheus' usual intervals of 15 to 60 s, so that a scraper keeps its connection; also how long an
answer may take, and how long it may stay unread."""
SWEEP_SECONDS: Final = 5.0
UNREAD_BYTES: Final = 512 * 1024
"""Of a stream; whoever leaves more unread is cut off, and asks again."""

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
_PHRASES: Final = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


class Answer(NamedTuple):
    """A response before it is bytes.

    Attributes:
        fields: whole field lines beside those that every answer has.
    """

    status: int
    body: bytes
    content_type: str = JSON
    fields: tuple[str, ...] = ()


class Sink(Protocol):
    """Where a stream's bytes go."""

    def send(self, data: bytes) -> None:
        """Pass some on; nothing happens once the client has gone."""


class Stream(NamedTuple):
    """A response without an end of its own.

    Attributes:
        opened: told the sink once the head is on its way.
        closed: told it when the client has gone.
    """

    content_type: str
    opened: Callable[[Sink], None]
    closed: Callable[[Sink], None]
    fields: tuple[str, ...] = ()


class Request(NamedTuple):
    """A request as the heirs see it.

    Attributes:
        local_host: the address that the client connected to; empty for a Unix socket.
        transport: what it came by.
    """

    head: RequestHead
    local_host: str
    transport: asyncio.Transport


class PageServer(abc.ABC):
    """Answers on one address.

    Args:
        bind: where; port 0 takes a free one.
        tasks: owns the background work of the server.
    """

    name: ClassVar[str]
    """What messages call it."""
    head_bytes: ClassVar[int] = HEAD_BYTES
    target_bytes: ClassVar[int] = TARGET_BYTES
    fields: ClassVar[int] = FIELDS

    def __init__(self, bind: Bind, *, tasks: Tasks) -> None:
        self.bind = bind
        self._tasks = tasks
        self._connections: set[_Connection] = set()
        self._running: list[asyncio.Task[Any]] = []
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None

    @abc.abstractmethod
    def answer(self, request: Request) -> Answer | Stream | Coroutine[Any, Any, Answer]:
        """The answer to a request, or how to come by it in less than ``IDLE_SECONDS``; never raises.

        Whoever hangs up before has it cancelled.
        """

    @abc.abstractmethod
    def refuse(self, error: ClientError) -> Answer:
        """The answer to what is no request."""

    # --- the socket ---

    @property
    def port(self) -> int:
        """The TCP port, also where the configuration said 0; 0 for a Unix socket."""
        return self.address[1] if self.address is not None else 0

    @property
    def address(self) -> tuple[str, int] | None:
        """Bound host and port; None for a Unix socket, and while it is not open."""
        return bound_address(self._socket)

    def open(self) -> None:
        """Bind the socket, without serving it yet.

        Raises:
            CannotBind: with one sentence that names the address and the reason.
        """
        self._socket = open_socket(self.bind, self.name)

    async def serve(self) -> None:
        """Answer from now on; opens the socket if that was not done.

        Raises:
            CannotBind: see ``open``.
        """
        if self._socket is None:
            self.open()
        assert self._socket is not None  # noqa: S101 - it is open now
        loop = asyncio.get_running_loop()
        self._server = await serve_on(self._socket, lambda: _Connection(self, loop))
        self._running.append(self._tasks.spawn(f"{self.name} deadlines", self._sweep_forever()))

    async def close(self) -> None:
        """Close the listener and its connections."""
        for task in self._running:
            task.cancel()
        if self._server is not None:
            self._server.close()
        elif self._socket is not None:
            self._socket.close()
        for connection in list(self._connections):
            connection.close()
        self._remove_socket_file()
        self._socket = None

    def _remove_socket_file(self) -> None:
        if self.bind.is_unix and self._socket is not None:
            Path(self.bind.path).unlink(missing_ok=True)

    # --- connections ---

    def opened(self, connection: _Connection) -> None:
        """Count a connection in. When there are too many, the one that has been silent longest makes room, one without
        a request first: whoever fills the listener with idle connections must not keep the kubelet's probes out."""
        if len(self._connections) >= CONNECTIONS:
            min(self._connections, key=lambda each: (each.is_waiting, each.heard_at)).close()
        self._connections.add(connection)

    def closed(self, connection: _Connection) -> None:
        """Count it out."""
        self._connections.discard(connection)

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep(asyncio.get_running_loop().time())

    def sweep(self, now: float) -> None:
        """Close connections whose deadline has passed (``now`` on the loop's clock)."""
        for connection in [connection for connection in self._connections if connection.deadline <= now]:
            connection.close()

    def spawn(self, coro: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        """Work on an answer."""
        return self._tasks.spawn(f"{self.name} request", coro)


class _Connection(asyncio.Protocol):
    """One client: a head, an answer, the next head. Never two heads at once, never a body."""

    __slots__ = ("_answering", "_buffer", "_last", "_loop", "_server", "_stream", "_transport", "deadline", "heard_at")

    def __init__(self, server: PageServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._buffer = b""
        self._answering: asyncio.Task[Answer] | None = None
        self._last = False
        self._stream: Stream | None = None
        self._transport: asyncio.Transport
        self.heard_at = loop.time()
        self.deadline = self.heard_at + HEAD_SECONDS

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is worked on, or goes on."""
        return self._answering is not None or self._stream is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._server.closed(self)
        if self._answering is not None:
            self._answering.cancel()
        if self._stream is not None:
            self._stream.closed(self)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        if self.is_waiting:
            self._last = True  # as below; what it sends is not kept
            return
        if not self._buffer:
            self.deadline = self._loop.time() + HEAD_SECONDS
        self._buffer += data
        end = self._buffer.find(END_OF_HEAD, 0, self._server.head_bytes)
        if end >= 0:
            raw, rest = self._buffer[: end + 4], self._buffer[end + 4 :]
            self._buffer = b""
            # A client that sends on before it has its answer gets that one and no more: see the class.
            self._last = bool(rest)
            self._serve(raw)
        elif len(self._buffer) >= self._server.head_bytes:
            self._refuse(HeadTooLarge("the head is too long"))

    def _serve(self, raw: bytes) -> None:
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # it asks again without having read
            return
        server = self._server
        try:
            head = read_request_head(raw, max_fields=server.fields, max_target=server.target_bytes)
            if head.has_body:
                raise BadRequest("a body where none belongs")
        except ClientError as exc:
            self._refuse(exc)
            return
        self._last |= head.close
        answer = server.answer(Request(head, self._local_host(), self._transport))
        with_body = head.method != b"HEAD"
        if isinstance(answer, Answer):
            self._send(answer, with_body=with_body)
        elif isinstance(answer, Stream):
            self._begin_stream(answer, with_body=with_body)
        else:
            self._answer_later(answer, with_body=with_body)

    def _answer_later(self, coro: Coroutine[Any, Any, Answer], *, with_body: bool) -> None:
        def answered(task: asyncio.Task[Answer]) -> None:
            self._answering = None
            if task.cancelled() or task.exception() is not None:  # a crash is told by who owns the task
                self._transport.abort()
            else:
                self._send(task.result(), with_body=with_body)

        self.deadline = self._loop.time() + IDLE_SECONDS
        self._answering = self._server.spawn(coro)
        self._answering.add_done_callback(answered)

    def _local_host(self) -> str:
        name = self._transport.get_extra_info("sockname")
        return str(name[0]).partition("%")[0] if isinstance(name, tuple) else ""

    def _refuse(self, error: ClientError) -> None:
        self._last = True
        self._send(self._server.refuse(error), with_body=True)

    def _send(self, answer: Answer, *, with_body: bool) -> None:
        head = self._head(answer.status, answer.content_type, (f"Content-Length: {len(answer.body)}", *answer.fields))
        self._transport.write(head + answer.body if with_body else head)
        if self._last:
            self._transport.close()

    def _begin_stream(self, stream: Stream, *, with_body: bool) -> None:
        self._last = True  # its end is the connection's (RFC 9112 section 6.3)
        self._transport.write(self._head(200, stream.content_type, stream.fields))
        if with_body:
            self._stream = stream
            stream.opened(self)
        else:
            self._transport.close()

    def _head(self, status: int, content_type: str, fields: tuple[str, ...]) -> bytes:
        self.deadline = self._loop.time() + IDLE_SECONDS
        lines = [
            f"HTTP/1.1 {status} {_PHRASES[status]}",
            f"Date: {formatdate(usegmt=True)}",
            f"Content-Type: {content_type}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            *fields,
        ]
        if self._last:
            lines.append("Connection: close")
        return "\r\n".join((*lines, "", "")).encode()

    def send(self, data: bytes) -> None:
        """Pass on more of a stream."""
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > UNREAD_BYTES:
            self._transport.abort()
            return
        self.deadline = self._loop.time() + IDLE_SECONDS
        self._transport.write(data)

    def close(self) -> None:
        """End the connection, whatever it is doing."""
        self._transport.abort()
