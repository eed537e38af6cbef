"""HTTP by hand, for requests that no client library would send: bytes in, all bytes back until the server closes."""

from __future__ import annotations

import asyncio
import contextlib


async def exchange(port: int, request: bytes, *, seconds: float = 10.0) -> bytes:
    """Send the bytes, and read until the server closes the connection.

    Raises:
        TimeoutError: it did not close within ``seconds``.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionError):  # an early answer may cut what is still being sent
                writer.write(request)
                await writer.drain()
            return await _rest(reader)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(64 * 1024):
            received += data
    return received


def status_of(answer: bytes) -> int:
    """The status code of the first answer in the bytes; 0 without one."""
    line = answer.partition(b"\r\n")[0].split(b" ")
    return int(line[1]) if len(line) > 1 and line[0].startswith(b"HTTP/1.") else 0
