"""An opaque tunnel: bytes both ways, back-pressure both ways, and each side's end passed on (RFC 9110 section 9.3.6).

The tunnel is the protocol of its upstream socket; the client's side is the connection it was opened on. It ends when
both directions have ended, when either side breaks, or when nothing moved for ``limits.tunnel_idle``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.proxy.upstream import WRITE_HIGH_WATER

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.proxy.parties import TunnelClient


class Tunnel(asyncio.Protocol):
    """Joins a client connection and an upstream socket.

    Args:
        client: the client's side.
        idle_seconds: how long nothing may move.
        closed: told once when the tunnel has ended.
    """

    def __init__(self, client: TunnelClient, *, idle_seconds: float, closed: Callable[[], None]) -> None:
        self._client = client
        self._idle_seconds = idle_seconds
        self._closed = closed
        self._transport: asyncio.Transport
        self._client_ended = False
        self._client_reads = True
        self._upstream_ended = False
        self._is_open = False
        self._early = b""
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # always a stream transport
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)

    def open(self) -> None:
        """The client was told that the tunnel stands: what the upstream has said by then may follow."""
        self._is_open = True
        if self._early:
            self._client.write(self._early)
            self._early = b""
        if self._upstream_ended:
            self._client.write_eof()
        elif not self._transport.is_closing() and self._client_reads:
            self._transport.resume_reading()

    # --- from the upstream ---

    def data_received(self, data: bytes) -> None:
        if not self._is_open:
            # Pausing before the first read is without effect on uvloop, so that one read has to be kept.
            self._early += data
            self._transport.pause_reading()
            return
        self._client.write(data)
        self._client.set_deadline(self._idle_seconds)

    def eof_received(self) -> bool:
        self._upstream_ended = True
        if self._client_ended:
            return False
        if self._is_open:
            self._client.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a tunnel passes on no reasons
        self._end()

    def pause_writing(self) -> None:
        self._client.pause_reading()

    def resume_writing(self) -> None:
        self._client.resume_reading()

    # --- from the client ---

    def from_client(self, data: bytes) -> None:
        """Bytes for the upstream."""
        self._transport.write(data)
        self._client.set_deadline(self._idle_seconds)

    def client_eof(self) -> None:
        """The client sends no more; it may still read."""
        self._client_ended = True
        if self._upstream_ended:
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()

    def client_writable(self, writable: bool) -> None:
        """Back-pressure from the client."""
        self._client_reads = writable
        if self._transport.is_closing():
            return
        if writable:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def close(self) -> None:
        """The client is gone or time is up."""
        self._transport.abort()
        self._end()

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._closed()
            self._client.tunnel_over()
