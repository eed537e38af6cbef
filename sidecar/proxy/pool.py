"""The pool: connections to upstreams that wait for their next request, the way to get a fresh one, and how many may be.

An origin has room for ``limits.upstream_connections``. A request that finds none idle and no room waits in line, for
``limits.connect`` at most and among ``limits.pending`` of all origins; whatever becomes free first is its: a connection
given back, or the place of one that was closed. What an upstream connection reads is decided in ``upstream``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

from sidecar.errors import Overloaded, UpstreamConnect, UpstreamTimeout
from sidecar.proxy.tls import Contexts, TLSTransport, handshake
from sidecar.proxy.upstream import Phase, UpstreamConnection
from sidecar.runtime import Uniform, uniform

if TYPE_CHECKING:
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
DISTRUST_SECONDS: Final = 60.0
"""How long connections are not kept to an origin that ended too many of them under a request."""
MOST_ELDERS: Final = 256
ELDER_SECONDS: Final = 3600.0
_IDLE: Final = Phase.IDLE
_CLOSED: Final = Phase.CLOSED
_NO_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE))


class _Place:
    """One origin's room: how many connections there are or are being made, and who waits for one."""

    __slots__ = ("taken", "waiting")

    def __init__(self) -> None:
        self.taken = 0
        self.waiting: deque[asyncio.Future[UpstreamConnection | None]] = deque()

    def next_in_line(self) -> asyncio.Future[UpstreamConnection | None] | None:
        """Who waits longest and has not given up; None for nobody."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                return waiter
        return None


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
        self._places: dict[Origin, _Place] = {}
        self._distrusted: dict[Origin, float] = {}
        self.elders: dict[Origin, float] = {}
        """Origins that answered in HTTP/1.0, and until when that is believed: they know no chunks."""
        self._pending = 0
        self._all: set[UpstreamConnection] = set()

    # --- kept connections ---

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
        # It may be gone already: nobody listens to it while a held answer waits for a newer token.
        is_gone = connection.saw_eof or connection.phase is _CLOSED
        if is_gone or not connection.reusable or now >= connection.retires_at:
            connection.close()
            return
        announced = connection.keep_alive_seconds
        if announced is not None:
            idle_seconds = min(idle_seconds, announced - KEEP_ALIVE_MARGIN_SECONDS)
        origin = connection.origin
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = []
        if idle_seconds <= 0 or len(idle) >= IDLE_PER_ORIGIN or (self._distrusted and origin in self._distrusted):
            connection.close()
            return
        connection.give_back(now + idle_seconds)
        if self._pending and (waiter := self._places[origin].next_in_line()) is not None:
            waiter.set_result(connection)
        else:
            idle.append(connection)

    def note_version(self, origin: Origin, minor: int, now: float) -> None:
        """Remember who speaks HTTP/1.0 (RFC 9112 section 6.1: no transfer coding goes there), until it speaks 1.1."""
        if minor:
            self.elders.pop(origin, None)
        elif origin in self.elders or len(self.elders) < MOST_ELDERS:
            self.elders[origin] = now + ELDER_SECONDS

    def distrust(self, origin: Origin, now: float) -> None:
        """Keep no connections to this origin for a while."""
        self._distrusted[origin] = now + DISTRUST_SECONDS
        for connection in self._idle.pop(origin, ()):
            connection.close()

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long; called by the coarse timer of the process."""
        for remembered in (self._distrusted, self.elders):
            for origin in [origin for origin, until in remembered.items() if now >= until]:
                del remembered[origin]
        for origin, idle in list(self._idle.items()):
            # Oldest first; the list is used from its end, so its head holds what nobody needed.
            while idle and (now >= idle[0].idle_until or not idle[0].is_open):
                idle.pop(0).close()
            if not idle:
                del self._idle[origin]

    # --- fresh connections ---

    async def dial(self, origin: Origin, limits: Limits) -> UpstreamConnection:
        """A fresh connection, TLS verified, within ``limits.connect`` for all of it; or, where there is no room for one
        more, whichever is given back first.

        Raises:
            UpstreamDNS, AddressDenied, UpstreamConnect, UpstreamTLS, UpstreamReset, UpstreamTimeout
            Overloaded: too many wait already, none became free, or the process has no descriptor left.
        """
        if (given_back := await self._room(origin, limits)) is not None:
            return given_back
        connection = UpstreamConnection(origin, limits, self._forget)
        self._all.add(connection)
        try:
            async with asyncio.timeout(limits.connect):
                await self._connect(connection, limits)
        except TimeoutError as exc:
            self._forget(connection)
            raise UpstreamTimeout(f"no connection to the upstream within {limits.connect:g} s") from exc
        except BaseException:
            self._forget(connection)
            raise
        return connection

    async def _room(self, origin: Origin, limits: Limits) -> UpstreamConnection | None:
        """Take the place of a connection to be made (None), waiting in line for it, or get one that was given back."""
        place = self._places.get(origin)
        if place is None:
            place = self._places[origin] = _Place()
        if place.taken < limits.upstream_connections:
            place.taken += 1
            return None
        if self._pending >= limits.pending:
            raise Overloaded("too many requests wait for a connection to an upstream")
        self._pending += 1
        try:
            async with asyncio.timeout(limits.connect):
                while (connection := await self._wait_in_line(place)) is not None:
                    if connection.is_open:
                        return connection
        except TimeoutError as exc:
            raise Overloaded("every connection to the upstream is busy (limits.upstream_connections)") from exc
        finally:
            self._pending -= 1
        return None

    async def _wait_in_line(self, place: _Place) -> UpstreamConnection | None:
        waiter: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        place.waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            # What was given in the same moment goes to the next in line, or is closed, which makes room.
            if waiter.done() and not waiter.cancelled():
                given = waiter.result()
                if given is not None:
                    given.close()
                else:
                    self._leave(place)
            raise

    def _leave(self, place: _Place) -> None:
        """A connection's place is free: the next in line takes it over."""
        if (waiter := place.next_in_line()) is not None:
            waiter.set_result(None)
        else:
            place.taken -= 1

    async def _connect(self, connection: UpstreamConnection, limits: Limits) -> None:
        origin = connection.origin
        # Before there is a socket: a bundle that cannot be read must not leave one open.
        context = self._contexts.get(origin.ca_file) if origin.tls else None
        sock = await self._open_socket(origin, limits)
        if context is not None:
            TLSTransport(await handshake(sock, context, origin.host), connection)
        else:
            await asyncio.get_running_loop().create_connection(lambda: connection, sock=sock)
        life = OLDEST_SECONDS * self._draw(1 - AGE_SPREAD, 1 + AGE_SPREAD)
        connection.retires_at = asyncio.get_running_loop().time() + life

    async def open_tunnel(self, origin: Origin, limits: Limits, protocol: asyncio.Protocol) -> None:
        """Connect a tunnel's protocol to the origin, within ``limits.connect``.

        Raises:
            UpstreamDNS, AddressDenied, UpstreamConnect, UpstreamTimeout, Overloaded
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
            UpstreamDNS, AddressDenied, UpstreamConnect, UpstreamTimeout, Overloaded
        """
        addresses = await self._resolver.resolve(origin.host, origin.port, routed=origin.routed, ttl=limits.dns_ttl)
        share = limits.connect / len(addresses)
        last: OSError | None = None
        for address in addresses:
            try:
                async with asyncio.timeout(share):
                    return await _connect_to(address, origin.port)
            except OSError as exc:  # TimeoutError is one: the next address gets its share
                last = exc
        if isinstance(last, TimeoutError):
            raise UpstreamTimeout(f"no connection to the upstream within {limits.connect:g} s") from last
        if last is not None and last.errno in _NO_DESCRIPTORS:
            raise Overloaded("the process may open no more files (ulimit -n)") from last
        raise UpstreamConnect("the upstream refused the connection or is not reachable") from last

    # --- the end ---

    def close(self) -> None:
        """Close every connection, also those that serve an exchange."""
        self._idle.clear()
        for connection in list(self._all):
            connection.close()

    def _forget(self, connection: UpstreamConnection) -> None:
        if connection not in self._all:
            return
        self._all.discard(connection)
        origin = connection.origin
        idle = self._idle.get(origin)
        if idle is not None:
            with contextlib.suppress(ValueError):
                idle.remove(connection)
        place = self._places[origin]
        self._leave(place)
        if not place.taken:
            del self._places[origin]

    def __repr__(self) -> str:
        idle = sum(map(len, self._idle.values()))
        return f"<UpstreamPool open={len(self._all)} idle={idle} pending={self._pending}>"


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
