"""A connection to an upstream: reads answers, and knows where they end.

A connection belongs to one ``Origin`` (scheme, host, port, trust) and serves one exchange at a time. It reads the
answer, knows where it ends and whether the connection can be used again; what to do with the bytes is decided by the
exchange it was lent to (``Receiver``). Bytes that nobody asked for, more bytes than the answer has, or any doubt about
where it ends, and the connection is closed instead of kept: a kept connection that lies poisons the next answer. Which
connections are kept, and how many there may be, is the business of ``pool``.
"""

from __future__ import annotations

import asyncio
import enum
import math
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.errors import SidecarError, UpstreamProtocol, UpstreamReset
from sidecar.http.h1 import ChunkedDecoder, read_response_head
from sidecar.http.message import END_OF_HEAD, ResponseHead, has_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.config.model import Limits
    from sidecar.proxy.authority import Origin

WRITE_HIGH_WATER: Final = 256 * 1024
"""Unsent bytes towards one peer before the other side is told to wait; also what a stalled peer costs in memory."""


class Receiver(Protocol):
    """What an upstream connection asks of the exchange that it is lent to."""

    def interim_response(self, head: ResponseHead) -> None:
        """A 1xx arrived; the final response is still to come."""

    def switching(self, head: ResponseHead, data: bytes) -> None:
        """A 101 arrived, and ``data`` behind it, which is the other protocol's.

        Raises:
            UpstreamProtocol: nobody asked for that.
        """

    def response_begins(self, head: ResponseHead, body: bytes, ended: bool) -> None:
        """The final response's head, with what came of the body in the same read."""

    def response_continues(self, body: bytes, ended: bool) -> None:
        """More of the body; ``ended`` with its last bytes, which may be none."""

    def upstream_lost(self, error: SidecarError) -> None:
        """The answer will not be completed; the connection is closed already."""

    def upstream_writable(self, writable: bool) -> None:
        """Whether more of the request's body may be sent now."""


class Phase(enum.Enum):
    """Where the connection stands in reading an answer."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()
    ENDED = enum.auto()
    CLOSED = enum.auto()


# Member access through the class costs a slow metaclass look-up up to Python 3.11; these are looked at all the time.
_IDLE, _HEAD, _LENGTH, _ENDED, _CLOSED = Phase.IDLE, Phase.HEAD, Phase.LENGTH, Phase.ENDED, Phase.CLOSED


class UpstreamConnection(asyncio.Protocol):
    """One connection to an origin.

    Args:
        origin: what it leads to.
        limits: head size and field count of answers.
        closed: told once when the connection is gone.
    """

    __slots__ = (
        "_closed",
        "_decoder",
        "_left",
        "_limits",
        "_method",
        "_partial",
        "_receiver",
        "answered",
        "idle_until",
        "keep_alive_seconds",
        "origin",
        "phase",
        "retires_at",
        "reusable",
        "saw_eof",
        "served",
        "transport",
    )

    def __init__(self, origin: Origin, limits: Limits, closed: Callable[[UpstreamConnection], None]) -> None:
        self.origin = origin
        self.phase = _IDLE
        self.served = 0
        self.reusable = False
        self.answered = False
        self.idle_until = 0.0
        self.retires_at = math.inf
        self.keep_alive_seconds: int | None = None
        self.transport: asyncio.Transport
        self._limits = limits
        self._closed = closed
        self._receiver: Receiver | None = None
        self._method = b""
        self._partial = b""
        self._left = 0
        self._decoder: ChunkedDecoder | None = None
        self.saw_eof = False

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # always a stream transport
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        try:
            if self.phase is _HEAD:
                self._read_head(data)
            else:
                self._read(data)
        except SidecarError as error:
            self._fail(error)

    def eof_received(self) -> bool:
        self.saw_eof = True
        if self.phase is Phase.UNTIL_CLOSE:
            self._end(b"", reusable=False)
        elif self.phase not in (_IDLE, _ENDED, _CLOSED):
            self._fail(UpstreamReset("the upstream closed the connection before its answer was complete"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the phase tells more than the exception
        if self.phase not in (_IDLE, _ENDED, _CLOSED):
            self._fail(UpstreamReset("the upstream closed the connection before its answer was complete"))
        self.phase = _CLOSED
        self._closed(self)

    def pause_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.upstream_writable(False)

    def resume_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.upstream_writable(True)

    # --- for the exchange ---

    def send(self, head: bytes, receiver: Receiver, method: bytes) -> None:
        """Send a request's head, and lend the connection to its exchange until ``give_back``; a body follows by
        ``write``."""
        self._receiver = receiver
        self._method = method
        self.phase = _HEAD
        self.answered = False
        self.reusable = False
        self.transport.write(head)

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def give_back(self, idle_until: float) -> None:
        """The exchange has what it wanted; from now on bytes are unsolicited."""
        self.idle_until = idle_until
        self._receiver = None
        self.served += 1
        self.phase = _IDLE

    def hand_over(self) -> asyncio.Transport:
        """Give the transport to another protocol; this connection is none any more."""
        self._receiver = None
        self.phase = _CLOSED
        self._closed(self)
        return self.transport

    def close(self) -> None:
        """End it without telling the exchange."""
        self._receiver = None
        if self.phase is not _CLOSED:
            self.phase = _CLOSED
            self.transport.abort()

    @property
    def is_open(self) -> bool:
        return self.phase is not _CLOSED and not self.saw_eof and not self.transport.is_closing()

    # --- reading the answer ---

    def _read(self, data: bytes) -> None:
        match self.phase:
            case Phase.LENGTH:
                self._read_length(data)
            case Phase.CHUNKED:
                self._read_chunked(data)
            case Phase.UNTIL_CLOSE:
                self._deliver(data, False)
            case Phase.ENDED:
                self.reusable = False  # more bytes than the answer has: never lend this connection again
                self.transport.pause_reading()
            case Phase.IDLE:
                self.close()  # an answer nobody asked for (RFC 9112 section 9.2)
            case Phase.HEAD | Phase.CLOSED:
                pass

    def _read_head(self, data: bytes) -> None:
        self.answered = True
        if self._partial:
            data = self._partial + data
            self._partial = b""
        while True:
            end = data.find(END_OF_HEAD)
            if end < 0:
                if len(data) > self._limits.head:
                    raise UpstreamProtocol(f"the upstream's head is longer than {self._limits.head} bytes")
                self._partial = data
                return
            end += 4
            if end > self._limits.head:
                raise UpstreamProtocol(f"the upstream's head is longer than {self._limits.head} bytes")
            head = read_response_head(data[:end], max_fields=self._limits.fields)
            data = data[end:]
            if head.status >= 200:
                self._begin_body(head, data)
                return
            if head.status == 101:
                if self._receiver is not None:
                    self._receiver.switching(head, data)
                return
            self._deliver_interim(head)
            if not data:
                return

    def _deliver_interim(self, head: ResponseHead) -> None:
        if self._receiver is not None:
            self._receiver.interim_response(head)

    def _begin_body(self, head: ResponseHead, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        keeps = not head.close
        self.keep_alive_seconds = head.keep_alive_seconds
        length = head.content_length
        if length == 0 or self._method == b"HEAD" or not has_body(head.status, self._method):
            self.phase, self.reusable = _ENDED, keeps and not data
            receiver.response_begins(head, b"", True)
        elif length is not None:
            count = len(data)
            if count < length:
                self.phase, self._left, self.reusable = _LENGTH, length - count, keeps
                receiver.response_begins(head, data, False)
            else:
                self.phase, self.reusable = _ENDED, keeps and count == length
                receiver.response_begins(head, data[:length] if count > length else data, True)
        elif head.chunked:
            decoder = self._decoder = ChunkedDecoder(UpstreamProtocol)
            self.phase = Phase.CHUNKED
            decoded = decoder.feed(data)
            if decoded.done:
                self.phase, self.reusable = _ENDED, keeps and not decoded.rest
            else:
                self.reusable = keeps
            receiver.response_begins(head, b"".join(decoded.pieces), decoded.done)
        else:
            self.phase = Phase.UNTIL_CLOSE
            receiver.response_begins(head, data, False)

    def _read_length(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left > 0:
            self._deliver(data, False)
        elif self._left == 0:
            self._end(data, reusable=self.reusable)
        else:
            self._end(data[: self._left], reusable=False)

    def _read_chunked(self, data: bytes) -> None:
        assert self._decoder is not None  # noqa: S101 - the phase says so
        pieces, done, rest = self._decoder.feed(data)
        if done:
            self._end(b"".join(pieces), reusable=self.reusable and not rest)
        elif pieces:
            self._deliver(pieces[0] if len(pieces) == 1 else b"".join(pieces), False)

    def _deliver(self, data: bytes, ended: bool) -> None:
        if self._receiver is not None:
            self._receiver.response_continues(data, ended)

    def _end(self, data: bytes, *, reusable: bool) -> None:
        self.phase, self.reusable = _ENDED, reusable
        self._deliver(data, True)

    def _fail(self, error: SidecarError) -> None:
        receiver, self._receiver = self._receiver, None
        self.phase = _CLOSED
        self.transport.abort()
        if receiver is not None:
            receiver.upstream_lost(error)

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self.origin.host}:{self.origin.port} {self.phase.name} served={self.served}>"
