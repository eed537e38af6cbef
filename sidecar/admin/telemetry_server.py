"""The telemetry listener: ``/metrics`` for Prometheus, ``/livez``, ``/readyz`` and ``/startupz`` for the kubelet.

Decides what each probe means: the loop turns; configuration and listeners stand and the tokens that were named as
required are there; the listeners were opened. In a pod this listener stands on all interfaces, so it answers GET and
HEAD on four paths, shows nothing sensitive (what it names are words of the configuration, as the metrics do), and
bounds what a stranger can take: heads, connections, unread answers, and how long one may stay.

Leaves to ``health`` whether something is ready. An IdP that is down reddens nothing here unless a credential says so.

A small protocol on the house's own strict head parser, rather than aiohttp's server: that one costs 20 ms and 2 MiB to
import, knows no bound on connections or on a first head's time, and logs a traceback for every malformed request.
"""

from __future__ import annotations

import asyncio
import json
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from sidecar.errors import BadRequest, ClientError, HeadTooLarge
from sidecar.http.h1 import read_request_head
from sidecar.http.message import END_OF_HEAD
from sidecar.proxy.listener import open_socket
from sidecar.telemetry.log import get_logger
from sidecar.telemetry.loop_lag import observe_loop_lag

if TYPE_CHECKING:
    import socket

    from sidecar.config.model import Bind
    from sidecar.http.message import RequestHead
    from sidecar.runtime import Tasks
    from sidecar.telemetry.metrics import Metrics

HEAD_BYTES: Final = 8 * 1024
FIELDS: Final = 64
TARGET_BYTES: Final = 1024
CONNECTIONS: Final = 64
HEAD_SECONDS: Final = 10.0
"""From the first byte of a connection or of a head to the head's end."""
IDLE_SECONDS: Final = 75.0
"""Longer than Prometheus' usual intervals of 15 to 60 s, so that a scraper keeps its connection; also how long an
answer may stay unread."""
SWEEP_SECONDS: Final = 5.0
NAMES_SHOWN: Final = 32

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}

log = get_logger("telemetry")


class Health(Protocol):
    """What the probes ask about."""

    @property
    def started(self) -> bool:
        """The listeners are open."""

    @property
    def draining(self) -> bool:
        """The process is about to end and wants no new work."""

    def not_ready(self) -> list[str]:
        """What is missing, in words of the configuration; empty when nothing is."""


class Answer(NamedTuple):
    """A response before it is bytes."""

    status: int
    body: bytes
    content_type: str = JSON


class TelemetryServer:
    """Answers metrics and probes on one address.

    Args:
        bind: where; port 0 takes a free one.
        metrics: what ``/metrics`` shows; the lag of the loop is measured into it while the server runs.
        health: what the probes show.
        tasks: owns the background work of the server.
    """

    def __init__(self, bind: Bind, *, metrics: Metrics, health: Health, tasks: Tasks) -> None:
        self._bind = bind
        self._metrics = metrics
        self._health = health
        self._tasks = tasks
        self._connections: set[_Connection] = set()
        self._running: list[asyncio.Task[Any]] = []
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The TCP port, also where the configuration said 0; 0 for a Unix socket."""
        return self.address[1] if self.address is not None else 0

    @property
    def address(self) -> tuple[str, int] | None:
        """Bound host and port; None for a Unix socket, and while it is not open."""
        if self._socket is None or self._bind.is_unix:
            return None
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def open(self) -> None:
        """Bind the socket, without serving it yet.

        Raises:
            CannotBind: with one sentence that names the address and the reason.
        """
        self._socket = open_socket(self._bind, "telemetry")

    async def serve(self) -> None:
        """Answer from now on; opens the socket if that was not done.

        Raises:
            CannotBind: see ``open``.
        """
        if self._socket is None:
            self.open()
        loop = asyncio.get_running_loop()
        create: Any = loop.create_unix_server if self._bind.is_unix else loop.create_server
        self._server = await create(lambda: _Connection(self, loop), sock=self._socket)
        self._running = [
            self._tasks.spawn("event loop lag", observe_loop_lag(self._metrics.event_loop_lag)),
            self._tasks.spawn("telemetry deadlines", self._sweep_forever()),
        ]

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
        if self._bind.is_unix and self._socket is not None:
            Path(self._bind.path).unlink(missing_ok=True)

    def opened(self, connection: _Connection) -> None:
        """Count a connection in. When there are too many, the one that has been silent longest makes room: whoever
        fills the listener with idle connections must not keep the kubelet's probes out."""
        if len(self._connections) >= CONNECTIONS:
            min(self._connections, key=lambda each: each.heard_at).close()
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

    def answer(self, head: RequestHead) -> Answer:
        """The answer to a request; never raises."""
        path = head.target.partition(b"?")[0]
        if path not in _PATHS:
            return Answer(404, b"not found\n", TEXT)
        if head.method not in (b"GET", b"HEAD"):
            return Answer(405, b"only GET and HEAD\n", TEXT)
        try:
            return self._metrics_page(head) if path == b"/metrics" else self._probe(path)
        except Exception:
            log.exception("telemetry_failed", path=path.decode())
            return Answer(500, b"internal error\n", TEXT)

    def _metrics_page(self, head: RequestHead) -> Answer:
        return Answer(200, *self._metrics.render(_accept(head)))

    def _probe(self, path: bytes) -> Answer:
        missing = self._missing(path)
        status = 503 if missing else 200
        return Answer(status, json.dumps({"ok": not missing, "missing": missing[:NAMES_SHOWN]}).encode() + b"\n")

    def _missing(self, path: bytes) -> list[str]:
        # That there is an answer at all says that the loop turns: all that /livez promises.
        missing = [] if path == b"/livez" or self._health.started else ["listeners"]
        if path == b"/readyz":
            missing += ["draining"] if self._health.draining else []
            missing += self._health.not_ready()
        return missing


_PATHS: Final = frozenset((b"/metrics", b"/livez", b"/readyz", b"/startupz"))


class _Connection(asyncio.Protocol):
    """One client: a head, an answer, the next head. Never two heads at once, never a body."""

    __slots__ = ("_buffer", "_loop", "_server", "_transport", "deadline", "heard_at")

    def __init__(self, server: TelemetryServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._buffer = b""
        self._transport: asyncio.Transport
        self.heard_at = loop.time()
        self.deadline = self.heard_at + HEAD_SECONDS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        if not self._buffer:
            self.deadline = self._loop.time() + HEAD_SECONDS
        self._buffer += data
        end = self._buffer.find(END_OF_HEAD, 0, HEAD_BYTES)
        if end >= 0:
            raw, rest = self._buffer[: end + 4], self._buffer[end + 4 :]
            self._buffer = b""
            # A client that sends on before it has its answer gets that one and no more: see the class.
            self._serve(raw, alone=not rest)
        elif len(self._buffer) >= HEAD_BYTES:
            self._refuse(HeadTooLarge("the head is too long"))

    def _serve(self, raw: bytes, *, alone: bool) -> None:
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # it asks again without having read
            return
        try:
            head = read_request_head(raw, max_fields=FIELDS, max_target=TARGET_BYTES)
            if head.has_body:
                raise BadRequest("a body where none belongs")
        except ClientError as exc:
            self._refuse(exc)
            return
        close = head.close or not alone
        self._send(self._server.answer(head), close=close, with_body=head.method != b"HEAD")

    def _refuse(self, error: ClientError) -> None:
        self._send(Answer(error.status, f"{error.title}\n".encode(), TEXT), close=True, with_body=True)

    def _send(self, answer: Answer, *, close: bool, with_body: bool) -> None:
        lines = [
            f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}",
            f"Date: {formatdate(usegmt=True)}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
        ]
        if answer.status == 405:
            lines.append("Allow: GET, HEAD")
        if close:
            lines.append("Connection: close")
        head = "\r\n".join((*lines, "", "")).encode()
        self._transport.write(head + answer.body if with_body else head)
        self.deadline = self._loop.time() + IDLE_SECONDS
        if close:
            self._transport.close()

    def close(self) -> None:
        """End the connection, whatever it is doing."""
        self._transport.abort()


def _accept(head: RequestHead) -> str:
    lines = (line.partition(b":") for line in head.lines)
    return ",".join(value.decode("latin-1").strip() for name, _, value in lines if name.lower() == b"accept")
