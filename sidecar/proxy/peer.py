"""Whose process is at the other end of a socket, as the kernel says it. Who may be there is decided elsewhere."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from sidecar.telemetry.abuse import Source

if TYPE_CHECKING:
    from sidecar.proxy.admission import Connection

_CREDENTIALS: Final = struct.Struct("iII")
"""``struct ucred``: process, user, group (unix(7), SO_PEERCRED)."""


def peer_uid(connection: Connection) -> int | None:
    """The user that the other end was when it connected; None where the kernel does not say."""
    credentials = _peer(connection)
    return None if credentials is None else credentials[1]


def source_of(connection: Connection, name: str) -> Source:
    """The other end of a connection to what is called ``name``: user and process on a Unix socket, else its port.

    The kernel shows a process only where our namespace has it.
    """
    address = connection.get_extra_info("peername")
    if isinstance(address, tuple):
        return Source(name, port=address[1])
    pid, uid = _peer(connection) or (0, None)
    return Source(name, uid=uid, pid=pid or None)


def _peer(connection: Connection) -> tuple[int, int] | None:
    sock: socket.socket = connection.get_extra_info("socket")
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(raw)
    except (AttributeError, OSError, ValueError, struct.error):  # no such option, another kind of socket, or closed
        return None
    return int(pid), int(uid)
