"""How a connection is broken off, so that what was cut short does not look whole."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from sidecar.proxy.ending import break_off

ADDRESS: Final = "127.0.0.1"


async def served(*, write: bytes, in_the_middle: bool) -> tuple[bytes, bool]:
    """What a client sees of a server that writes this and breaks off: the bytes, and whether the end was clean."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if write:
            writer.write(write)
            await writer.drain()
        break_off(writer.transport, in_the_middle=in_the_middle)  # type: ignore[arg-type] # of a stream

    server = await asyncio.start_server(serve, ADDRESS, 0)
    async with server:
        reader, writer = await asyncio.open_connection(ADDRESS, server.sockets[0].getsockname()[1])
        received, clean = b"", True
        try:
            async with asyncio.timeout(5):
                while data := await reader.read(1 << 16):
                    received += data
        except ConnectionError:
            clean = False
        writer.close()
    return received, clean


async def test_what_is_cut_short_ends_in_a_reset() -> None:
    _, clean = await served(write=b"half of an answer", in_the_middle=True)
    assert not clean


async def test_what_is_not_all_sent_ends_in_a_reset() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * (64 << 20))  # more than the kernel takes
        break_off(writer.transport, in_the_middle=False)  # type: ignore[arg-type] # of a stream

    server = await asyncio.start_server(serve, ADDRESS, 0)
    async with server:
        reader, writer = await asyncio.open_connection(ADDRESS, server.sockets[0].getsockname()[1])
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_what_is_between_two_answers_just_ends() -> None:
    assert await served(write=b"", in_the_middle=False) == (b"", True)
