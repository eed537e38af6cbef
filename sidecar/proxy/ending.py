"""How a client's connection ends: for how long the rest is read or flushed, and what makes a cut-off answer look so."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 1024 * 1024
"""What is read and dropped after the last answer, at most (nginx lingers 5 s by default, for slower networks)."""
FLUSH_SECONDS: Final = 30.0
"""How long a peer may take to read the rest of what was sent to it."""
_NO_LINGERING: Final = struct.pack("ii", 1, 0)
"""Makes the kernel drop what is unsent and reset the connection at its close (socket(7), SO_LINGER)."""


def break_off(transport: asyncio.Transport, *, in_the_middle: bool) -> None:
    """Close without flushing. What is cut short ends in RST, because where the close delimits it (HTTP/1.0) a FIN would
    make it look whole (RFC 9112 section 8)."""
    if in_the_middle or transport.get_write_buffer_size():
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
    transport.abort()
