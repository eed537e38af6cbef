"""A door before a server: open, it relays bytes; otherwise the server is down, in one of the ways servers are down.

An identity provider behind it can be taken away and brought back without losing what it knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from typing import Final, Self

from tests.end_to_end.waiting import free_port

UNAVAILABLE: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: 19\r\nConnection: close\r\n\r\n"
    b"<h1>Down again</h1>"
)


class Door(enum.Enum):
    """What a client meets."""

    OPEN = "open"
    REFUSING = "refusing"
    """Nobody listens on the port."""
    FAILING = "failing"
    """Every connection gets a load balancer's 503."""
    SILENT = "silent"
    """Connections are accepted and never answered."""


class Gate:
    """Relays ``port`` to ``target`` on loopback while open; ``async with`` opens it.

    Attributes:
        connections: how many were accepted, whatever became of them.
    """

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.connections = 0
        self._target = target
        self._door = Door.REFUSING
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def turn(self, door: Door) -> None:
        """Change what clients meet; connections that are open are cut, as by a restart."""
        self._door = door
        for writer in list(self._writers):
            writer.transport.abort()
        if door is Door.REFUSING:
            await self._stop_listening()
        elif self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        await self.turn(Door.OPEN)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.turn(Door.REFUSING)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        finally:
            self._writers.discard(writer)
            await _closed(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match self._door:
            case Door.OPEN:
                await self._relay(reader, writer)
            case Door.FAILING:
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(UNAVAILABLE)
            case _:
                with contextlib.suppress(ConnectionError):
                    while await reader.read(64 * 1024):
                        pass

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers.add(far_writer)
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            self._writers.discard(far_writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
    await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
