"""Sockets the app connects to: bound first, served later, kept across reloads, and the coarse timer of the data path.

A TCP listener binds with ``SO_REUSEADDR``. A Unix socket gets the mode and group of the configuration before anybody
can connect; a stale file of a dead process is removed, a living one is an error. Deadlines are not timers of their own:
one sweep a second (less for short limits) looks at every connection, because a timer per request would cost more than
reading it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.errors import CannotBind
from sidecar.proxy.connection import ClientConnection
from sidecar.proxy.entrance import Entrance, ForwardEntrance
from sidecar.proxy.routing import RoutingTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.config.model import Bind
    from sidecar.proxy.admission import Admission
    from sidecar.proxy.gateway import Gateway
    from sidecar.proxy.parties import Holder
    from sidecar.telemetry.metrics import ListenerMeters

BACKLOG: Final = 1024
SWEEP_SECONDS: Final = 1.0
SHORTEST_SWEEP_SECONDS: Final = 0.05
_SWEEPS_PER_LIMIT: Final = 8


def open_socket(bind: Bind, what: str) -> socket.socket:
    """A bound, listening, non-blocking socket.

    Args:
        bind: the address from the configuration.
        what: who wants it, for the message.

    Raises:
        CannotBind: with one sentence that names the address and the reason.
    """
    try:
        return _open_unix(bind) if bind.is_unix else _open_tcp(bind)
    except OSError as exc:
        raise CannotBind(f"{what} cannot listen on {bind}: {_why(exc)}") from exc


async def serve_on(sock: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    """Accept connections on an open socket. That makes it listen once more, so the backlog has to be said again."""
    loop = asyncio.get_running_loop()
    if sock.family == socket.AF_UNIX:
        return await loop.create_unix_server(protocol, sock=sock, backlog=BACKLOG)
    return await loop.create_server(protocol, sock=sock, backlog=BACKLOG)


def bound_address(sock: socket.socket | None) -> tuple[str, int] | None:
    """Host and port that a socket is bound to; None for a Unix socket, and for none."""
    if sock is None or sock.family == socket.AF_UNIX:
        return None
    host, port = sock.getsockname()[:2]
    return str(host), int(port)


def _why(exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return "the address is in use by another process"
    if exc.errno == errno.EACCES:
        return "permission denied"
    return exc.strerror or str(exc)


def _open_tcp(bind: Bind) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    host = "127.0.0.1" if bind.host == "localhost" else bind.host
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "[::]" means every address, IPv4 ones included: that is what kubelet probes in either kind of cluster.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, bind.port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(bind: Bind) -> socket.socket:
    path = Path(bind.path)
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody may connect between bind and chmod: the file is made without any permission for others.
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
        try:
            _set_permissions(bind)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _set_permissions(bind: Bind) -> None:
    try:
        if bind.group:
            shutil.chown(bind.path, group=bind.group)
    except LookupError as exc:
        raise OSError(errno.EINVAL, f"there is no group {bind.group}") from exc
    Path(bind.path).chmod(bind.mode)


def _remove_stale(path: Path) -> None:
    """Remove the socket file of a process that is gone; never anything else."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "there is a file of another kind at this path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        else:
            raise OSError(errno.EADDRINUSE, "the address is in use by another process")


def _unlink(path: str) -> None:
    Path(path).unlink(missing_ok=True)


class Listener:
    """One socket that is served.

    Args:
        name: from the configuration; the label of its metrics.
        bind: where.
        gateway: the shared part of the data path.
        entrance: what it admits; replaced on reload, as is ``trusts_forwarded``.
        meters: its counters.

    Attributes:
        admission: who may use it; None for everybody. Set before it serves, and replaced on reload.
    """

    def __init__(self, name: str, bind: Bind, *, gateway: Gateway, entrance: Entrance, meters: ListenerMeters) -> None:
        self.name = name
        self.bind = bind
        self.gateway = gateway
        self.entrance = entrance
        self.admission: Admission | None = None
        self.meters = meters
        self.holders: set[Holder] = set()
        """Whoever holds a client's connection: one for each."""
        self.retired = False
        self.trusts_forwarded = False
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None

    def open(self) -> None:
        """Bind the socket, without serving it yet: all sockets are had, or none is served.

        Raises:
            CannotBind
        """
        self._socket = open_socket(self.bind, f"listener {self.name}")

    def adopt(self, bind: Bind) -> None:
        """Take over the mode and group that a reload gives the Unix socket; the socket itself stays.

        Raises:
            CannotBind
        """
        if bind != self.bind:
            try:
                _set_permissions(bind)
            except OSError as exc:
                raise CannotBind(f"listener {self.name} cannot be given to others on {bind}: {_why(exc)}") from exc
            self.bind = bind

    async def serve(self) -> None:
        """Accept connections from now on."""
        sock = self._socket
        if sock is None:
            raise CannotBind(f"listener {self.name} has no socket")
        self._server = await serve_on(sock, lambda: ClientConnection(self))

    @property
    def port(self) -> int:
        """The TCP port, also where the configuration said 0; 0 for a Unix socket."""
        return self.address[1] if self.address is not None else 0

    @property
    def address(self) -> tuple[str, int] | None:
        """Bound host and port; None for a Unix socket."""
        return bound_address(self._socket)

    def opened(self, holder: Holder) -> bool:
        """Count a connection in; False when ``limits.connections`` are open already."""
        self.holders.add(holder)
        self.meters.connections_open.value += 1
        gateway = self.gateway
        gateway.open_connections += 1
        if gateway.open_connections > gateway.generation.limits.connections:
            gateway.metrics.connections_rejected["overloaded"].value += 1
            return False
        return True

    def closed(self, holder: Holder) -> None:
        """Count it out."""
        if holder in self.holders:
            self.holders.discard(holder)
            self.meters.connections_open.value -= 1
            self.gateway.open_connections -= 1

    def succeeded(self, holder: Holder, successor: Holder) -> None:
        """The client's transport has gone from one to the other; it is the same connection."""
        if holder in self.holders:
            self.holders.discard(holder)
            self.holders.add(successor)

    def retire(self) -> None:
        """The configuration no longer names it: accept no more, close what is idle, end the rest after its answer."""
        self.retired = True
        self.entrance = ForwardEntrance(RoutingTable(()))  # what is removed admits nothing any more
        if self._server is not None:
            self._server.close()
        self._remove_file()
        for holder in list(self.holders):
            holder.drain()

    async def close(self) -> None:
        """Accept no more and break off what is left."""
        if self._server is not None:
            self._server.close()
        elif self._socket is not None:
            self._socket.close()
        for holder in list(self.holders):
            holder.abort()
        self._remove_file()

    def _remove_file(self) -> None:
        """Remove the file of a Unix socket, once, and only one that was made here: another's may stand there."""
        if self.bind.is_unix and self._socket is not None:
            self._socket = None
            _unlink(self.bind.path)

    def __repr__(self) -> str:
        return f"<Listener {self.name} {self.bind} connections={len(self.holders)}>"


def sweep_interval(gateway: Gateway) -> float:
    """How often deadlines are looked at: an eighth of the shortest limit, between 50 ms and a second."""
    limits = gateway.generation.limits
    shortest = min(
        limits.head_timeout,
        limits.body_idle,
        limits.first_byte,
        limits.response_idle,
        limits.client_idle,
        limits.upstream_idle,
        limits.tunnel_idle,
    )
    return max(SHORTEST_SWEEP_SECONDS, min(SWEEP_SECONDS, shortest / _SWEEPS_PER_LIMIT))


def sweep(gateway: Gateway, listeners: list[Listener]) -> None:
    """Act on every deadline that has passed."""
    now = gateway.loop_time()
    for listener in listeners:
        for holder in list(listener.holders):
            holder.sweep(now)
    gateway.pool.sweep(now)
