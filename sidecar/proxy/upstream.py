"""Connections to upstreams: one class that reads answers, and the pool that keeps idle ones for the next request.

A connection belongs to one ``Origin`` (scheme, host, port, trust) and serves one exchange at a time. It reads the
answer, knows where it ends and whether the connection can be used again; what to do with the bytes is decided by the
exchange it was lent to (``Receiver``). Bytes that nobody asked for, more bytes than the answer has, or any doubt about
where it ends, and the connection is closed instead of kept: a pooled connection that lies poisons the next answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import math
import socket
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.errors import (
    SidecarError,
    UpstreamConnect,
    UpstreamProtocol,
    UpstreamReset,
    UpstreamTimeout,
)
from sidecar.http.h1 import ChunkedDecoder, read_response_head
from sidecar.http.message import END_OF_HEAD, ResponseHead, has_body
from sidecar.proxy.tls import Contexts, TLSTransport, handshake
from sidecar.runtime import Uniform, uniform

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.config.model import Limits
    from sidecar.proxy.authority import Origin
    from sidecar.proxy.resolver import Resolver

IDLE_PER_ORIGIN: Final = 64
"""Connections kept per origin; more than the largest burst of one app, fewer than a server minds."""
KEEP_ALIVE_MARGIN_SECONDS: Final = 1
"""Closed this much before the time the upstream announced, so that the race for the last moment is not run."""
OLDEST_SECONDS: Final = 300.0
AGE_SPREAD: Final = 0.2
"""A connection that never rests is given up after this time, give or take a fifth: only a new one sees that the
upstream's address or the CA bundle changed."""
WRITE_HIGH_WATER: Final = 256 * 1024
"""Unsent bytes towards one peer before the other side is told to wait; also what a stalled peer costs in memory."""


class Receiver(Protocol):
    """What an upstream connection asks of the exchange that it is lent to."""

    def interim_response(self, head: ResponseHead) -> None:
        """A 1xx arrived; the final response is still to come."""

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
                raise UpstreamProtocol("the upstream switched protocols, which nobody asked for")
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


class UpstreamPool:
    """Idle connections by origin, newest first, and the way to get a fresh one.

    Args:
        resolver: names to addresses that may be dialled.
        contexts: TLS contexts by CA file.
    """

    def __init__(self, *, resolver: Resolver, contexts: Contexts, draw: Uniform = uniform) -> None:
        self._draw = draw
        self._resolver = resolver
        self._contexts = contexts
        self._idle: dict[Origin, list[UpstreamConnection]] = {}
        self._all: set[UpstreamConnection] = set()

    def take(self, origin: Origin, now: float) -> UpstreamConnection | None:
        """An idle connection, the one used last; None if there is none."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            # As ``is_open`` says; an idle connection that the upstream ended, or is ending, is worth nothing.
            if (
                now < connection.idle_until
                and not connection.saw_eof
                and connection.phase is _IDLE
                and not connection.transport.is_closing()
            ):
                return connection
            connection.close()
        return None

    def release(self, connection: UpstreamConnection, now: float, idle_seconds: float) -> None:
        """Take a connection back after an exchange; kept if it can serve another one."""
        if not connection.reusable or now >= connection.retires_at:
            connection.close()
            return
        announced = connection.keep_alive_seconds
        if announced is not None:
            idle_seconds = min(idle_seconds, announced - KEEP_ALIVE_MARGIN_SECONDS)
        idle = self._idle.get(connection.origin)
        if idle is None:
            idle = self._idle[connection.origin] = []
        if idle_seconds <= 0 or len(idle) >= IDLE_PER_ORIGIN:
            connection.close()
            return
        connection.give_back(now + idle_seconds)
        idle.append(connection)

    async def dial(self, origin: Origin, limits: Limits) -> UpstreamConnection:
        """A fresh connection, TLS verified, within ``limits.connect`` for all of it.

        Raises:
            UpstreamDNS, AddressDenied, UpstreamConnect, UpstreamTLS, UpstreamReset, UpstreamTimeout
        """
        try:
            async with asyncio.timeout(limits.connect):
                return await self._connect(origin, limits)
        except TimeoutError as exc:
            raise UpstreamTimeout(f"no connection to the upstream within {limits.connect:g} s") from exc

    async def _connect(self, origin: Origin, limits: Limits) -> UpstreamConnection:
        # Before there is a socket: a bundle that cannot be read must not leave one open.
        context = self._contexts.get(origin.ca_file) if origin.tls else None
        sock = await self._open_socket(origin, limits)
        connection = UpstreamConnection(origin, limits, self._forget)
        if context is not None:
            tls = await handshake(sock, context, origin.host)
            TLSTransport(tls, connection)
        else:
            await asyncio.get_running_loop().create_connection(lambda: connection, sock=sock)
        self._all.add(connection)
        life = OLDEST_SECONDS * self._draw(1 - AGE_SPREAD, 1 + AGE_SPREAD)
        connection.retires_at = asyncio.get_running_loop().time() + life
        return connection

    async def open_tunnel(self, origin: Origin, limits: Limits, protocol: asyncio.Protocol) -> None:
        """Connect a tunnel's protocol to the origin, within ``limits.connect``.

        Raises:
            UpstreamDNS, AddressDenied, UpstreamConnect, UpstreamTimeout
        """
        try:
            async with asyncio.timeout(limits.connect):
                sock = await self._open_socket(origin, limits)
                await asyncio.get_running_loop().create_connection(lambda: protocol, sock=sock)
        except TimeoutError as exc:
            raise UpstreamTimeout(f"no connection to the upstream within {limits.connect:g} s") from exc

    async def _open_socket(self, origin: Origin, limits: Limits) -> socket.socket:
        """A connected non-blocking socket to the first address that answers; the caller bounds the time.

        Raises:
            UpstreamDNS, AddressDenied, UpstreamConnect
        """
        addresses = await self._resolver.resolve(origin.host, origin.port, routed=origin.routed, ttl=limits.dns_ttl)
        share = limits.connect / len(addresses)
        last: Exception | None = None
        for address in addresses:
            try:
                async with asyncio.timeout(share):
                    return await _connect_to(address, origin.port)
            except OSError as exc:  # TimeoutError is one: the next address gets its share
                last = exc
        if isinstance(last, TimeoutError):
            raise UpstreamTimeout(f"no connection to the upstream within {limits.connect:g} s") from last
        raise UpstreamConnect("the upstream refused the connection or is not reachable") from last

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long; called by the coarse timer of the process."""
        for origin, idle in list(self._idle.items()):
            # Oldest first; the list is used from its end, so its head holds what nobody needed.
            while idle and (now >= idle[0].idle_until or not idle[0].is_open):
                idle.pop(0).close()
            if not idle:
                del self._idle[origin]

    def close(self) -> None:
        """Close every connection, also those that serve an exchange."""
        self._idle.clear()
        for connection in list(self._all):
            connection.close()

    def _forget(self, connection: UpstreamConnection) -> None:
        self._all.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle is not None:
            with contextlib.suppress(ValueError):
                idle.remove(connection)

    def __repr__(self) -> str:
        idle = sum(map(len, self._idle.values()))
        return f"<UpstreamPool open={len(self._all)} idle={idle}>"


async def _connect_to(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock
