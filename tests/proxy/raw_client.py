"""A client that sends the bytes it is told to, and reads answers strictly: framing, order, and how the connection ends.

A clean end and a broken one are told apart, because an answer that was cut off must never look whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    import ssl

PATIENCE_SECONDS: Final = 5.0
"""Longer than anything here takes; a test that needs it has failed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One final response, and the interim ones before it."""

    status: int
    head: bytes
    body: bytes
    interim: list[int] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        """The values of a field, line by line."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = [line.partition(":") for line in lines if line]
        return [value.strip() for key, _, value in pairs if key.lower() == name.lower()]

    def value(self, name: str) -> str | None:
        """The one value of a field; None without any."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None

    @property
    def reason(self) -> str:
        """The reason word of an answer that the sidecar made itself; checks that it says so as the contract wants."""
        assert self.value("Content-Type") == "application/problem+json", self
        problem: dict[str, Any] = json.loads(self.body)
        assert problem["status"] == self.status
        assert {"type", "title", "status", "detail", "reason"} <= problem.keys()
        reason = str(problem["reason"])
        assert f'details="{reason}"' in (self.value("Proxy-Status") or "")
        return reason

    @property
    def is_own(self) -> bool:
        """Whether the sidecar made it."""
        return bool(self.values("Proxy-Status"))


class RawClient:
    """One connection to the sidecar."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, port: int, *, tls: ssl.SSLContext | None = None, receive_buffer: int | None = None) -> Self:
        """Connect to a port of loopback; a small ``receive_buffer`` makes a reader that stalls soon."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", port))
        name = "localhost" if tls is not None else None
        limit = 64 * 1024 if receive_buffer is None else receive_buffer
        return cls(*await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name, limit=limit))

    @classmethod
    async def to_path(cls, path: str) -> Self:
        """Connect to a Unix socket."""
        return cls(*await asyncio.open_unix_connection(path))

    async def tunnel(self, authority: str, *fields: str) -> bytes:
        """Ask for a tunnel by CONNECT; returns the head of the answer."""
        await self.send("\r\n".join((f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *fields, "", "")).encode())
        return await self.head()

    async def start_tls(self, context: ssl.SSLContext, name: str | None) -> None:
        """Speak TLS from here on, and ask for ``name``; None asks for no name."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.writer.start_tls(context, server_hostname=name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.writer.wait_closed()

    # --- sending ---

    async def send(self, data: bytes) -> None:
        """Send, and wait until the kernel has nearly all of it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            self.writer.write(data)
            await self.writer.drain()

    def send_later(self, data: bytes) -> None:
        """Send as far as the peer takes it; for answers that come before the request is out."""
        self.writer.write(data)

    def end(self) -> None:
        """Send no more; go on reading."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Break off with RST."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None:  # it is None once the peer has broken off
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def ask(self, data: bytes) -> Answer:
        """Send a request and read its answer."""
        await self.send(data)
        return await self.answer(head_only=data.startswith(b"HEAD "))

    # --- reading ---

    async def head(self) -> bytes:
        """The next head, its empty line included."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def some(self, count: int = 65536) -> bytes:
        """What has arrived, at most ``count`` bytes; empty at the end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.read(count)

    async def exactly(self, count: int) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.readexactly(count)

    async def answer(self, *, head_only: bool = False, seconds: float = PATIENCE_SECONDS) -> Answer:
        """Read one whole answer.

        Args:
            head_only: it answers a HEAD.

        Raises:
            IncompleteReadError, ConnectionError: it did not come whole.
        """
        async with asyncio.timeout(seconds):
            interim: list[int] = []
            while True:
                head = await self.reader.readuntil(b"\r\n\r\n")
                status = int(head[9:12])
                assert head.startswith(b"HTTP/1.1 "), head
                if status >= 200:
                    break
                interim.append(status)
            answer = Answer(status, head, b"", interim)
            if head_only or status in (204, 304):
                return answer
            return Answer(status, head, await self._body(answer), interim)

    async def _body(self, answer: Answer) -> bytes:
        length, coding = answer.value("Content-Length"), answer.value("Transfer-Encoding")
        assert length is None or coding is None, "two framings"
        if length is not None:
            return await self.reader.readexactly(int(length))
        if coding is not None:
            assert coding == "chunked"
            return b"".join(await self._chunks())
        assert answer.value("Connection") == "close", "no framing, and the connection goes on"
        return await self.reader.read()

    async def _chunks(self) -> list[bytes]:
        chunks = []
        while chunk := await self.chunk():
            chunks.append(chunk)
        return chunks

    async def chunk(self) -> bytes:
        """The next chunk's content; empty for the last one."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            content = await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
            return content

    async def closed_cleanly(self) -> bool:
        """Wait for the end of the stream: True for FIN, False for RST.

        Raises:
            AssertionError: there is more to read.
        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                rest = await self.reader.read()
        except ConnectionError:
            return False
        assert not rest, f"more came: {rest[:200]!r}"
        return True

    async def rest(self) -> tuple[bytes, bool]:
        """All that still comes, and whether the stream ended cleanly."""
        received = b""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                while data := await self.reader.read(65536):
                    received += data
            except ConnectionError:
                return received, False
        return received, True


def get(url: str, *fields: str, method: str = "GET") -> bytes:
    """A request without a body for a forward listener: ``http://host/path``."""
    host = url.partition("://")[2].partition("/")[0].partition("?")[0]
    return "\r\n".join((f"{method} {url} HTTP/1.1", f"Host: {host}", *fields, "", "")).encode()


def post(url: str, body: bytes, *fields: str, method: str = "POST") -> bytes:
    """A request with a body of known length."""
    return get(url, *fields, f"Content-Length: {len(body)}", method=method) + body


def path(target: str, *fields: str, host: str = "127.0.0.1", method: str = "GET") -> bytes:
    """A request without a body in origin-form, for a reverse listener."""
    return "\r\n".join((f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", "")).encode()


def chunked(*pieces: bytes) -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
