"""A client's connection: reads requests one after the other, and hands each to its exchange.

Decides where one message ends and the next begins, what is answered at once (bad syntax, no route), what waits its turn
(pipelined requests, answered in order), and how the connection ends. What happens to a request is the business of
``relay``; what the bytes mean, of ``http``. Where the connection becomes something else (a tunnel, TLS with requests
inside), its transport is handed over, and this is the last that is heard of it here.

The end is the delicate part. An answer sent while the client still writes is lost if the socket is closed under unread
bytes: the kernel resets it. So the connection lingers: it stops sending, and reads and drops for a bounded while
(RFC 9112 section 9.6).
"""

from __future__ import annotations

import asyncio
import enum
import math
from typing import TYPE_CHECKING

from sidecar.errors import Denied, HeadTimeout, HeadTooLarge, Overloaded, SidecarError
from sidecar.http.h1 import Decoder, body_decoder, read_request_head
from sidecar.http.intake import refuse_hopeless, take_head
from sidecar.http.message import END_OF_HEAD, RequestHead
from sidecar.proxy import connect
from sidecar.proxy.answers import answer_as_last
from sidecar.proxy.ending import FLUSH_SECONDS, LINGER_BYTES, LINGER_SECONDS, break_off
from sidecar.proxy.intercept import TLSLayer
from sidecar.proxy.peer import source_of
from sidecar.proxy.reception import named_host, pass_on, receive
from sidecar.proxy.relay import Relay
from sidecar.proxy.tunnel import Given, Tunnel
from sidecar.proxy.upstream import WRITE_HIGH_WATER

if TYPE_CHECKING:
    from sidecar.config.model import Limits
    from sidecar.proxy.entrance import Entrance
    from sidecar.proxy.gateway import Generation
    from sidecar.proxy.parties import Holder, Listening
    from sidecar.proxy.routing import Route
    from sidecar.telemetry.cells import Cell


class Phase(enum.Enum):
    """What bytes from the client mean now."""

    HEAD = enum.auto()
    """the next request's head"""
    BODY = enum.auto()
    """the current request's body"""
    ANSWER = enum.auto()
    """requests to come; the answer to the current one is awaited"""
    DIALLING = enum.auto()
    """what goes into the tunnel once its far end is there"""
    LINGER = enum.auto()
    """nothing: read and dropped"""
    CLOSED = enum.auto()


# Member access through the class costs a slow metaclass look-up up to Python 3.11; these are looked at all the time.
_HEAD, _ANSWER, _CLOSED = Phase.HEAD, Phase.ANSWER, Phase.CLOSED


class ClientConnection(asyncio.Protocol):
    """One connection from the app.

    Args:
        listener: says what is admitted; its entrance changes on reload.
        inside: the tunnel that its requests come out of, which says where they may go.
    """

    __slots__ = (
        *("_advancing", "_buffer", "deadline", "_decoder", "_half_closed", "_head_timed", "_inside", "_left"),
        *("_listener", "_paused", "_phase", "_relay", "_transport", "_write_paused", "gateway", "listener_name"),
    )

    def __init__(self, listener: Listening, inside: connect.Inside | None = None) -> None:
        self.gateway = listener.gateway
        self.listener_name = listener.name
        self._listener = listener
        self._transport: asyncio.Transport
        self._phase = _HEAD
        self._buffer = bytearray()
        self.deadline = math.inf
        self._left = 0
        self._decoder: Decoder | None = None
        self._relay: Relay | None = None
        self._inside = inside
        self._paused = False
        self._write_paused = False
        self._half_closed = False
        self._head_timed = False
        self._advancing = False

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.attach(transport)  # type: ignore[arg-type] # always a stream transport
        if self._listener.opened(self):
            try:
                if self._listener.admission is not None:
                    self._listener.admission.meet(transport)
            except Denied as refused:
                self._refuse(refused)
        else:
            error = Overloaded("too many connections to the sidecar")
            self.write(self.gateway.answer(error, method=b"", close=True))
            if self.gateway.is_flooded:
                self._transport.close()  # no time for a last answer to be read
            else:
                self._linger()

    def attach(self, transport: asyncio.Transport) -> None:
        """Read requests from this transport."""
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self.set_deadline(self.gateway.generation.limits.client_idle)

    def data_received(self, data: bytes) -> None:
        if self._phase is _HEAD:
            self._read_heads(data)
            return
        match self._phase:
            case Phase.BODY:
                self._read_body(data)
            case Phase.ANSWER | Phase.DIALLING:
                self._read_ahead(data)
            case Phase.LINGER:
                self._left -= len(data)
                if self._left < 0:
                    self.pause_reading()  # enough; the deadline ends it
            case Phase.CLOSED:
                pass

    def eof_received(self) -> bool:
        match self._phase:
            case Phase.ANSWER:
                self._half_closed = True  # it may well wait for its answer
                return True
            case Phase.HEAD if self._buffer and self._write_paused:
                self._half_closed = True  # and for those to requests that wait until it reads
                return True
            case _:
                return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why a client left changes nothing
        self._phase = _CLOSED
        self.deadline = math.inf
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.client_gone()
        self._listener.closed(self)

    def pause_writing(self) -> None:
        self._client_writable(False)

    def resume_writing(self) -> None:
        self._client_writable(True)

    def _client_writable(self, writable: bool) -> None:
        self._write_paused = not writable
        if self._relay is not None:
            self._relay.client_writable(writable)
        elif writable:
            self._advance()

    # --- reading requests ---

    def _read_heads(self, data: bytes) -> None:
        """Take requests off the bytes at hand as long as there is a whole head and nobody waits for an answer."""
        buffer = self._buffer
        if not buffer and not self._write_paused and data[0] > 0x20 and (end := data.find(END_OF_HEAD)) >= 0:
            # The usual case: one read, one head; no copy through the buffer.
            end += 4
            if len(data) > end:
                buffer += memoryview(data)[end:]
                data = data[:end]
            self._advancing = True
            try:
                self._take_head(data)
            finally:
                self._advancing = False
            if buffer or self._phase is _HEAD:
                self._advance()
        else:
            self._read_ahead(data)
            self._advance()

    def _advance(self) -> None:
        """Go on with what is buffered, unless the client does not read its answers. Answers may come at once, so this
        loops instead of recursing."""
        if self._advancing or self._write_paused:
            return
        self._advancing = True
        try:
            while self._may_go_on() and self._buffer and self._head_from_buffer():
                pass
        finally:
            self._advancing = False
        if self._may_go_on():  # nothing is left that could be answered
            if self._half_closed:
                self._close()
            else:
                self.resume_reading()

    def _may_go_on(self) -> bool:
        """Asked again after each answer, which may have filled the client's buffer or ended the connection."""
        return self._phase is _HEAD and not self._write_paused

    def _head_from_buffer(self) -> bool:
        buffer, limits = self._buffer, self.gateway.generation.limits
        try:
            raw = take_head(buffer)
            if raw is None and buffer:
                refuse_hopeless(buffer, max_head=limits.head, max_target=limits.target)
        except SidecarError as error:
            self._refuse(error)
            return False
        if raw is not None:
            self._take_head(raw)
            return True
        if not self._head_timed:
            self._head_timed = True  # further bytes do not set the clock back
            self.set_deadline(limits.head_timeout)
        return False

    def _take_head(self, raw: bytes) -> None:
        self._head_timed = False
        limits = self.gateway.generation.limits
        head: RequestHead | None = None
        try:
            if len(raw) > limits.head:
                raise HeadTooLarge(f"the request head is longer than {limits.head} bytes")
            head = read_request_head(raw, max_fields=limits.fields, max_target=limits.target)
            self._serve(head, raw)
        except SidecarError as error:
            self._refuse(error, head)

    def _serve(self, head: RequestHead, raw: bytes) -> None:
        gateway, listener, inside = self.gateway, self._listener, self._inside
        generation, entrance = gateway.generation, listener.entrance
        if head.via or inside is not None or listener.admission is not None:
            entrance = receive(head, raw, listener=listener, inside=inside, transport=self._transport, gateway=gateway)
        if head.method == b"CONNECT":
            self._open_tunnel(head, entrance, generation)
            return
        candidates, path = entrance.admit(head)
        route = None
        if candidates.routes or not generation.forwards_unmatched:
            route = candidates.match(head.method, path)
        if head.forwarded or head.overrides:
            pass_on(head, route, trusts_forwarded=listener.trusts_forwarded)
        if head.max_forwards is not None and self._ends_here(head, head.max_forwards, route):
            return
        origin, host = candidates.leg(route)
        relay = Relay(self, generation, head, route=route, origin=origin, host=host, path=path)
        self._relay = relay
        if head.chunked or head.content_length:
            self._serve_with_body(head, relay)
        else:
            self._phase = _ANSWER
            relay.start()

    def _ends_here(self, head: RequestHead, hops: int, route: Route | None) -> bool:
        """Answer a request that may make no further hop (RFC 9110 section 7.6.2); otherwise count this one."""
        if hops > 0:
            head.max_forwards = hops - 1
            return False
        gateway = self.gateway
        keeps = self._outlives(head)
        status, data = answer_as_last(head, route.methods if route is not None else (), gateway.date(), not keeps)
        meters = route.meters if route is not None else gateway.generation.unmatched_meters
        self._answer(data, keeps, meters.answered(head.method, status))
        return True

    def _serve_with_body(self, head: RequestHead, relay: Relay) -> None:
        self._phase = Phase.BODY
        self._decoder = body_decoder(head)
        relay.start()
        if self._buffer and self._phase is Phase.BODY:
            data = bytes(self._buffer)
            self._buffer.clear()
            self.data_received(data)
        if self._half_closed and self._phase is Phase.BODY:
            self._close()  # the rest will never come

    def _read_body(self, data: bytes) -> None:
        relay, decoder = self._relay, self._decoder
        if relay is None or decoder is None:
            return
        try:
            pieces, done, rest = decoder.feed(data)
        except SidecarError as error:
            relay.fail(error)
            return
        if done:
            self._phase = _ANSWER
        if pieces or done:
            relay.request_continues(pieces[0] if len(pieces) == 1 else b"".join(pieces), done)
        if rest:
            self.data_received(rest)

    def _read_ahead(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > self.gateway.generation.limits.head:
            self.pause_reading()

    # --- becoming something else ---

    def _open_tunnel(self, head: RequestHead, entrance: Entrance, generation: Generation) -> None:
        way = connect.plan(head, entrance, generation, self._listener.admission)
        match way:
            case connect.Inside():
                self._inside = way
                self._establish(way)
                self.set_deadline(generation.limits.client_idle)  # the one of a head that came in pieces is over
            case connect.Intercepted():
                self._establish(way.inside)
                self._intercept(way, generation.limits)
            case connect.Opaque():
                self._phase = Phase.DIALLING
                self.pause_reading()
                self.set_deadline(None)
                self.gateway.run("open a tunnel", self._join_tunnel(way, generation.limits), self._tunnel_failed)

    def _establish(self, inside: connect.Inside) -> None:
        connect.count(inside.meters, 200)
        self.write(connect.ESTABLISHED)

    def _intercept(self, way: connect.Intercepted, limits: Limits) -> None:
        layer = TLSLayer(
            way.ca,
            way.context,
            inner=ClientConnection(self._listener, way.inside),
            listener=self._listener,
            deadline=self.gateway.loop_time() + limits.head_timeout,
            failed=lambda error: connect.interception_failed(way, self.gateway, error),
        )
        layer.start(self._hand_over(layer, layer))

    async def _join_tunnel(self, way: connect.Opaque, limits: Limits) -> None:
        tunnel = Tunnel(idle_seconds=limits.tunnel_idle, loop_time=self.gateway.loop_time)
        await connect.dial(tunnel.upstream, way, self, limits)
        if self._phase is not Phase.DIALLING:
            tunnel.abort()
            return
        self.write(connect.ESTABLISHED)
        tunnel.open(self._hand_over(tunnel, tunnel.client), self._listener.closed)

    def _tunnel_failed(self, error: SidecarError) -> None:
        if self._phase is Phase.DIALLING:
            self.write(self.gateway.answer(error, method=b"CONNECT", close=True))
            self._linger()

    def switch(self, upstream: asyncio.Transport, answer: bytes, data: bytes) -> None:
        """Send ``answer``, a 101, and become a tunnel to ``upstream``, which has sent ``data`` behind it."""
        self._relay = None
        idle = self.gateway.generation.limits.tunnel_idle
        tunnel = Tunnel.onto(upstream, data, idle_seconds=idle, loop_time=self.gateway.loop_time)
        self.write(answer)
        tunnel.open(self._hand_over(tunnel, tunnel.client), self._listener.closed)

    def _hand_over(self, holder: Holder, protocol: asyncio.Protocol) -> Given:
        """Let ``protocol`` have the transport, and ``holder`` the place in the listener's list."""
        self._phase = _CLOSED
        self.deadline = math.inf
        self._listener.succeeded(self, holder)
        self._transport.set_protocol(protocol)
        return Given(self._transport, bytes(self._buffer), self._half_closed, self._write_paused)

    # --- for the exchange ---

    @property
    def is_reading(self) -> bool:
        return not self._paused

    def pause_reading(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        if self._phase is not _CLOSED:
            self._transport.write(data)

    def write_eof(self) -> None:
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def set_deadline(self, seconds: float | None) -> None:
        """When the connection is looked at next; None for never."""
        self.deadline = math.inf if seconds is None else self.gateway.loop_time() + seconds

    def denied(self, error: Denied, host: bytes) -> None:
        self.gateway.count_denied(error, source_of(self._transport, self.listener_name), host)

    def abort(self) -> None:
        """Break off without flushing."""
        self._phase = _CLOSED
        break_off(self._transport, in_the_middle=self._relay is not None)

    def exchange_over(self, request_done: bool) -> None:
        """The current answer is written; go on with the next request, or end."""
        relay, self._relay = self._relay, None
        if relay is None or self._phase is _CLOSED:
            return
        if not request_done:
            self._linger()
        elif relay.closes_client or self._listener.retired or (self._half_closed and not self._buffer):
            if self._buffer:
                self._linger()
            else:
                self._close()
        else:
            self._phase = _HEAD
            gateway = self.gateway
            self.deadline = gateway.loop_time() + gateway.generation.limits.client_idle
            # Beyond the limit nothing more is read: a flood would otherwise gain a read for each of its answers.
            if self._paused and len(self._buffer) <= self.gateway.generation.limits.head:
                self.resume_reading()
            if self._buffer and not self._advancing:
                self._advance()

    # --- refusals and the end ---

    def _refuse(self, error: SidecarError, head: RequestHead | None = None) -> None:
        """Answer a request that gets no exchange. Bad syntax ends the connection: where the next request would begin
        is anybody's guess. A refusal of a well-formed request does not, if its body is not in the way."""
        gateway = self.gateway
        meters = gateway.generation.unmatched_meters
        if isinstance(error, Denied):
            self.denied(error, named_host(head))
        method = head.method if head is not None else b""
        keeps = head is not None and isinstance(error, Denied) and self._outlives(head)
        gateway.refused(meters, error, head)
        data = gateway.answer(error, method=method, close=not keeps)
        self._answer(data, keeps, meters.answered(method, error.status))

    def _outlives(self, head: RequestHead) -> bool:
        """Whether there may be another request after one that is answered at once, its body unread. What follows a
        CONNECT may be the other protocol's bytes, sent early: never read as requests."""
        if head.close or head.has_body or head.method == b"CONNECT":
            return False
        return not self.gateway.draining and not self._listener.retired

    def _answer(self, data: bytes, keeps: bool, count: Cell) -> None:
        count.value += 1
        self.write(data)
        if keeps:
            self._phase = _HEAD
            self.set_deadline(self.gateway.generation.limits.client_idle)
        else:
            self._linger()

    def _linger(self) -> None:
        self._phase = Phase.LINGER
        self._buffer.clear()
        self._left = LINGER_BYTES
        self.write_eof()
        self.set_deadline(LINGER_SECONDS)
        self.resume_reading()

    def _close(self) -> None:
        if self._phase is not _CLOSED:
            self._phase = _CLOSED
            self.set_deadline(FLUSH_SECONDS)
            self._transport.close()

    def sweep(self, now: float) -> None:
        """Act on a deadline that has passed; called by the coarse timer of the process."""
        if now < self.deadline:
            return
        self.deadline = math.inf
        if self._relay is not None:
            self._relay.expired()
        elif self._phase is _HEAD and self._buffer:
            seconds = self.gateway.generation.limits.head_timeout
            self._refuse(HeadTimeout(f"no whole request head within {seconds:g} s"))
        elif self._phase is _HEAD:
            self._close()
        elif self._phase is Phase.LINGER and self._transport.get_write_buffer_size():
            self._close()  # a slow reader may still have its last answer
        else:
            self.abort()

    def drain(self) -> None:
        """The process wants to end: an idle connection closes now, a busy one after its answer."""
        if self._phase is _HEAD and not self._buffer:
            self._close()

    def is_busy(self, now: float, quiet_seconds: float) -> bool:  # noqa: ARG002 - for tunnels
        """Whether a request is being served, or being read."""
        return self._relay is not None or (self._phase is _HEAD and bool(self._buffer))

    def __repr__(self) -> str:
        return f"<ClientConnection {self.listener_name} {self._phase.name}>"
