"""Bytes both ways, unread: what a CONNECT opens (RFC 9110 section 9.3.6) and what a switch of protocols becomes (7.8).

A tunnel joins two transports. Each has an end here as its protocol, and what one end reads the other writes, with
back-pressure and with the peer's end of stream. It is over when both directions have ended, when either side breaks
(what is written is flushed, then both close), or when nothing moved for ``limits.tunnel_idle``.

A side that TLS carries cannot always be told of the other's end without closing it: Python's TLS has no half-close
that is safe while the peer still sends. Then what is on its way may come, and the tunnel is over when it is quiet.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from sidecar.proxy.ending import FLUSH_SECONDS
from sidecar.proxy.upstream import WRITE_HIGH_WATER

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET_END_SECONDS: Final = 5.0
"""How long a side that cannot be told of the other's end may be silent before it counts as ended, too."""


class Given(NamedTuple):
    """A client's transport that goes to another holder, and the state it is in.

    Attributes:
        early: what was read from it and belongs to the new holder.
        ended: the client sends no more.
        stalled: the client does not read what was written.
    """

    transport: asyncio.Transport
    early: bytes
    ended: bool
    stalled: bool


class TunnelEnd(asyncio.Protocol):
    """The protocol of one side's transport.

    Attributes:
        other: the end on the other side.
        transport: set by ``connection_made``, or by who puts this end onto a transport that exists.
        ended: the peer sends no more.
    """

    __slots__ = ("_held", "_tunnel", "ended", "other", "transport")

    other: TunnelEnd

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        self._held = b""
        self.transport: asyncio.Transport | None = None
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.attach(transport)  # type: ignore[arg-type] # always a stream transport

    def attach(self, transport: asyncio.Transport) -> None:
        """Be the protocol of this transport."""
        self.transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        if not self._tunnel.is_open:
            # Pausing before the first read is without effect on uvloop, so that one read has to be kept.
            self._held += data
            self.pause_reading()
            return
        self.other.write(data)
        self._tunnel.moved()

    def release(self) -> None:
        """The tunnel stands: pass on what was held, and its end if that has come."""
        self.resume_reading()  # first: what is passed on may be more than the other side takes, and stop it again
        if self._held:
            self.other.write(self._held)
            self._held = b""
        if self.ended:
            self._tunnel.pass_on_end(self)

    def eof_received(self) -> bool:
        if not self.ended:
            self.ended = True
            if self._tunnel.is_open:
                self._tunnel.pass_on_end(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a tunnel passes on no reasons
        self._tunnel.lost(self)

    def pause_writing(self) -> None:
        self.other.pause_reading()

    def resume_writing(self) -> None:
        self.other.resume_reading()

    # --- for the other end ---

    @property
    def is_usable(self) -> bool:
        """Whether its transport is there and not on its way out."""
        return self.transport is not None and not self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send to the peer."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def write_eof(self) -> bool:
        """Tell the peer that no more comes; False where its transport cannot say that."""
        if self.transport is None or self.transport.is_closing() or not self.transport.can_write_eof():
            return False
        self.transport.write_eof()
        return True

    def pause_reading(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None and not self.transport.is_closing() and not self.ended:
            self.transport.resume_reading()

    def close(self) -> None:
        """Flush, then end."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()

    def abort(self) -> None:
        """End at once."""
        if self.transport is not None:
            self.transport.abort()

    def __repr__(self) -> str:
        return f"<TunnelEnd ended={self.ended}>"


class Tunnel:
    """Two ends, and the time they may be silent. Stands in the listener's list in the place of the client's connection.

    Args:
        idle_seconds: how long nothing may move.
        loop_time: the event loop's clock.

    Attributes:
        client: the end on the client's side.
        upstream: the end on the upstream's side.
        is_open: both sides are there, and bytes pass.
    """

    __slots__ = (
        "_closing",
        "_left",
        "_loop_time",
        "_moved_at",
        "_silence",
        "client",
        "deadline",
        "is_open",
        "upstream",
    )

    def __init__(self, *, idle_seconds: float, loop_time: Callable[[], float]) -> None:
        self._silence = idle_seconds
        self._loop_time = loop_time
        self._left: Callable[[Tunnel], None] | None = None
        self._moved_at = -math.inf
        self._closing = False
        self.deadline = math.inf
        self.is_open = False
        self.client, self.upstream = TunnelEnd(self), TunnelEnd(self)
        self.client.other, self.upstream.other = self.upstream, self.client

    @classmethod
    def onto(
        cls, upstream: asyncio.Transport, data: bytes, *, idle_seconds: float, loop_time: Callable[[], float]
    ) -> Self:
        """A tunnel whose far side exists already and has sent ``data``."""
        tunnel = cls(idle_seconds=idle_seconds, loop_time=loop_time)
        upstream.set_protocol(tunnel.upstream)
        tunnel.upstream.attach(upstream)
        if data:
            tunnel.upstream.data_received(data)
        return tunnel

    def open(self, client: Given, left: Callable[[Tunnel], None]) -> None:
        """The far side is there, and the client was told: take the client's transport, and let bytes pass.

        Args:
            client: its protocol is ``self.client`` already.
            left: told once, when the client's side is gone.
        """
        self._left = left
        self.client.attach(client.transport)
        if client.early:
            self.client.data_received(client.early)
        self.client.ended = client.ended
        self.is_open = True
        self.moved()
        self.client.release()
        self.upstream.release()
        if client.stalled:
            self.client.pause_writing()
        if not self.upstream.is_usable:
            self._closing = False  # if it has closed already, that was without the client
            self.close()

    def moved(self) -> None:
        """Something moved: the time starts anew."""
        now = self._moved_at = self._loop_time()
        self.deadline = now + self._silence

    def pass_on_end(self, end: TunnelEnd) -> None:
        """The peer of ``end`` sends no more: tell the other side's."""
        if end.other.ended:
            self.close()
        elif not end.other.write_eof():
            self._silence = min(self._silence, QUIET_END_SECONDS)
            self.moved()

    def lost(self, end: TunnelEnd) -> None:
        """One side's connection is gone, so the other ends, too."""
        self.close()
        if end is self.client and self._left is not None:
            left, self._left = self._left, None
            left(self)

    # --- what a listener asks of whoever holds a client's connection ---

    def sweep(self, now: float) -> None:
        """Act on a deadline that has passed."""
        if now >= self.deadline:
            if self._closing:
                self.abort()
            else:
                self.close()

    def drain(self) -> None:
        """A tunnel has no end of a request to wait for: it goes on until its time is up."""

    def is_busy(self, now: float, quiet_seconds: float) -> bool:
        """Whether bytes moved in the last ``quiet_seconds``."""
        return now - self._moved_at < quiet_seconds

    def close(self) -> None:
        """Flush what is written on both sides, and end (RFC 9110 section 9.3.6)."""
        if not self._closing:
            self._closing = True
            self._silence = FLUSH_SECONDS
            self.moved()
            for end in (self.client, self.upstream):
                end.close()

    def abort(self) -> None:
        """End at once."""
        self._closing = True
        self.deadline = math.inf
        for end in (self.client, self.upstream):
            end.abort()

    def __repr__(self) -> str:
        return f"<Tunnel {'closing' if self._closing else 'open' if self.is_open else 'waiting'}>"
