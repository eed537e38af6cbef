"""TLS servers that are right or wrong in one thing, and ports where nobody answers."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
from typing import TYPE_CHECKING, Any

import trustme

from tests.end_to_end.waiting import free_port
from tests.preflight.kit import NOW

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

import asyncio


class Authority:
    """A CA, and where its certificate lies."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.file = str(folder / "ca.pem")
        self._ca.cert_pem.write_to_path(self.file)

    def server(self, name: str = "localhost", *, days: float | None = 90.0) -> ssl.SSLContext:
        """The TLS of a server with this name, whose certificate ends in so many days."""
        more: dict[str, Any] = {}
        if days is not None:
            more["not_after"] = datetime.datetime.fromtimestamp(NOW + days * 86400, datetime.UTC)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(name, **more).configure_cert(context)
        return context


@contextlib.asynccontextmanager
async def listening(context: ssl.SSLContext | None = None, *, first: bytes = b"") -> AsyncIterator[int]:
    """A server that accepts and says nothing, or only this; its port."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended = asyncio.Event()
        open_now.add(ended)
        with contextlib.suppress(OSError, ssl.SSLError):
            if first:
                writer.write(first)
            await reader.read()
        writer.transport.abort()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()
        ended.set()

    open_now: set[asyncio.Event] = set()
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        for ended in open_now:
            await ended.wait()


@contextlib.contextmanager
def full() -> Iterator[int]:
    """A port whose queue is full: connections to it are never made."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def closed() -> int:
    """A port that nobody listens on."""
    return free_port()
