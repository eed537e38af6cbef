"""TLS towards the app, inside a CONNECT: the handshake with a leaf of the local CA, and the transport it becomes.

Only where a route says ``intercept: true``. The app's connection keeps its socket and transport; this layer stands on
it, as protocol towards the socket and as transport towards the connection that reads the requests inside. Unlike the
way to upstreams it runs OpenSSL over memory: a ClientHello that came along with the CONNECT has been read already and
cannot be put back into a socket. The name in the handshake must be the host of the CONNECT (``minting`` sees to it),
and the Host inside must be, too (``entrance``).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from typing import TYPE_CHECKING, Any, Final

from sidecar.errors import HandshakeFailed, SidecarError, SNIMismatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.proxy.minting import LocalCA
    from sidecar.proxy.parties import Inner, Listening
    from sidecar.proxy.tunnel import Given

READ_BYTES: Final = 64 * 1024
"""Decrypted and handed on at a time."""
_DISTRUST: Final = ("UNKNOWN_CA", "CERTIFICATE_UNKNOWN", "BAD_CERTIFICATE")
"""Alerts by which clients say that they do not take the certificate; which of them differs from library to library."""


class TLSLayer(asyncio.Transport, asyncio.Protocol):
    """The server's side of TLS on a transport that exists; until its handshake is done, the holder of the connection.

    Args:
        ca: what made the context; knows whether the client asked for another name.
        context: with the leaf for the host of the CONNECT.
        inner: succeeds this layer as the holder after the handshake.
        listener: what the client's connection came in by.
        deadline: when the handshake must be done, on the loop's clock.
        failed: told why there will be nothing to read inside; the connection ends then.
    """

    def __init__(
        self,
        ca: LocalCA,
        context: ssl.SSLContext,
        *,
        inner: Inner,
        listener: Listening,
        deadline: float,
        failed: Callable[[SidecarError], None],
    ) -> None:
        super().__init__()
        self.deadline = deadline
        self._ca = ca
        self._inner = inner
        self._listener = listener
        self._failed = failed
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._below: asyncio.Transport
        self._protocol: asyncio.Protocol | Inner | None = None
        self._reading = True
        self._below_ended = False
        self._told_end = False
        self._goodbye_due = self._said_goodbye = False

    def start(self, below: Given) -> None:
        """Stand on this transport, whose protocol this layer is already."""
        self._below = below.transport
        if below.stalled:
            self._inner.pause_writing()
        self._below.resume_reading()
        if below.early:
            self.data_received(below.early)

    # --- towards the socket: a protocol ---

    def data_received(self, data: bytes) -> None:
        if self._told_end:
            return  # nothing may follow a close_notify, and OpenSSL would never take it: dropped, not hoarded
        self._incoming.write(data)
        if self._protocol is None:
            self._shake_hands()
        else:
            self._read()

    def eof_received(self) -> bool:
        self._below_ended = True
        if self._protocol is None:
            why = "the client left in the middle of the TLS handshake, as some do that do not trust the local CA"
            self._end_handshake(HandshakeFailed(why))
        else:
            self._tell_end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline = math.inf
        if self._protocol is not None:
            self._protocol.connection_lost(exc)
        else:
            self._listener.closed(self)

    def pause_writing(self) -> None:
        # Told once per crossing of the mark: whoever will write here has to hear of it in the handshake, too.
        (self._protocol or self._inner).pause_writing()

    def resume_writing(self) -> None:
        (self._protocol or self._inner).resume_writing()

    # --- the handshake; meanwhile a listener knows this layer as the holder of the connection ---

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as exc:
            self._flush()  # the alert
            if self._ca.sni_refused(self._tls):
                error: SidecarError = SNIMismatch("the server name of the TLS handshake is not the host of the CONNECT")
            else:
                error = HandshakeFailed(_why(exc.reason or ""))
            self._end_handshake(error)
            return
        self._flush()
        self.deadline = math.inf
        self._protocol = self._inner
        self._inner.attach(self)
        self._listener.succeeded(self, self._inner)
        self._read()

    def _end_handshake(self, error: SidecarError) -> None:
        if not self._below.is_closing():
            self._failed(error)
            self._below.close()

    def sweep(self, now: float) -> None:
        """Act on the handshake's deadline."""
        if now >= self.deadline:
            self.deadline = math.inf
            if not self._below.is_closing():  # otherwise it has failed already, and its alert is not read
                self._failed(HandshakeFailed("the TLS handshake took too long"))
            self.abort()

    def drain(self) -> None:
        """A handshake is work under way: its request may still come."""

    def is_busy(self, now: float, quiet_seconds: float) -> bool:  # noqa: ARG002 - a handshake always is
        """Whether a drain waits for it."""
        return True

    # --- towards the inside: a transport ---

    def _read(self) -> None:
        """Decrypt and hand on, until there is no more or the reader has had enough for now."""
        protocol = self._protocol
        while protocol is not None and self._reading and not self._below.is_closing():
            try:
                data = self._tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError:
                self.abort()
                return
            if not data:
                self._hand_on_end(protocol)
                break
            protocol.data_received(data)
            protocol = self._protocol
        self._flush()  # what TLS itself had to answer
        if self._goodbye_due and not self._incoming.pending:
            self._say_goodbye()
        self._tell_end()

    def _hand_on_end(self, protocol: asyncio.Protocol | Inner) -> None:
        """The client sends no more."""
        if not self._told_end:
            self._told_end = True
            if not protocol.eof_received():
                self.close()

    def _tell_end(self) -> None:
        """The socket's own end, once everything before it was handed on. What a request lacks then, it lacks: a body
        that is not complete is never sent on as complete, with or without a close_notify."""
        if self._below_ended and self._reading and not self._incoming.pending and self._protocol is not None:
            self._hand_on_end(self._protocol)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol  # type: ignore[assignment] # always a stream protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None  # noqa: S101 - nobody has this transport before it has a protocol
        return self._protocol  # type: ignore[return-value] # what reads inside is a protocol in all but name

    def pause_reading(self) -> None:
        self._reading = False
        if not self._below.is_closing():
            self._below.pause_reading()

    def resume_reading(self) -> None:
        if self._reading or self._below.is_closing():
            return
        self._reading = True
        self._below.resume_reading()
        asyncio.get_running_loop().call_soon(self._read)  # not from here: the caller is in the middle of something

    def is_reading(self) -> bool:
        return self._reading

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not data or self._said_goodbye or self._below.is_closing():
            return
        try:
            self._tls.write(data)
        except ssl.SSLError:
            self.abort()
            return
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._said_goodbye and not self._below.is_closing():
            self._below.write(self._outgoing.read())

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Say that no more comes. OpenSSL wants to read at this, and would lose what it finds: so not before all that
        has arrived is read."""
        if self._incoming.pending:
            self._goodbye_due = True
        else:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        self._goodbye_due = False
        if not self._said_goodbye and not self._below.is_closing():
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
            self._said_goodbye = True
            self._below.write_eof()

    def close(self) -> None:
        """Send what is written and close_notify, then end."""
        self._say_goodbye()
        self._below.close()

    def abort(self) -> None:
        self._below.abort()

    def is_closing(self) -> bool:
        return self._below.is_closing()

    def get_write_buffer_size(self) -> int:
        return self._below.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._below.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._below.get_extra_info(name, default)

    def __repr__(self) -> str:
        return f"<TLSLayer {'established' if self._protocol is not None else 'handshake'}>"


def _why(reason: str) -> str:
    """What went wrong in a handshake, from OpenSSL's word for it."""
    if reason.endswith(_DISTRUST):
        return f"the client does not trust the local CA: give it the certificate of 'interception' ({reason.lower()})"
    return f"the client and the sidecar did not agree on TLS ({reason.lower() or 'no reason'})"
