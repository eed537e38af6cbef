"""Whose process is at the other end of a Unix socket, as the kernel says it. Who may be there is decided elsewhere."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.proxy.admission import Connection

_CREDENTIALS: Final = struct.Struct("iII")
"""``struct ucred``: process, user, group (unix(7), SO_PEERCRED)."""


def peer_uid(connection: Connection) -> int | None:
    """The user that the other end was when it connected; None where the kernel does not say."""
    sock: socket.socket = connection.get_extra_info("socket")
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(raw)
    except (AttributeError, OSError, ValueError, struct.error):  # no such option, another kind of socket, or closed
        return None
    return int(uid)
