"""A browser on raw sockets: it says what a test wants it to say, and reads what it is answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Seen:
    """What the browser got: a status of 0 is a connection that ended without an answer."""

    status: int
    headers: Mapping[str, str]
    body: str


class Tab:
    """One connection; use it as a context."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._writer.close()

    async def send(self, raw: bytes) -> Seen:
        """Send bytes and read until the other side closes."""
        self._writer.write(raw)
        return await self.read()

    async def read(self) -> Seen:
        """Read until the other side closes."""
        try:
            async with asyncio.timeout(20):
                return _seen(await self._reader.read())
        except ConnectionError:
            return Seen(0, {}, "")


def _seen(raw: bytes) -> Seen:
    if not raw:
        return Seen(0, {}, "")
    head, _, body = raw.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    fields = (line.partition(":") for line in lines)
    return Seen(int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields}, body)


async def get(url: str, *, host: str | None = None, method: str = "GET") -> Seen:
    """Load a page, under another Host if that is wanted."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    async with Tab(parts.hostname or "", parts.port or 80) as tab:
        return await tab.send(f"{method} {target} HTTP/1.1\r\nHost: {host or parts.netloc}\r\n\r\n".encode())
