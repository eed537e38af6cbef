"""What both own listeners share: answers that take a while. The rest of it is tested where it serves probes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.admin import page_server
from sidecar.admin.page_server import CONNECTIONS, IDLE_SECONDS, Answer, PageServer, Request, Sink, Stream
from sidecar.config.model import Bind
from sidecar.runtime import Tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    from sidecar.errors import ClientError

ASK = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
ASK_STREAM = ASK.replace(b"/slow", b"/stream")


class Slow(PageServer):
    """Answers when it is told to."""

    name = "slow"

    def __init__(self, bind: Bind, *, tasks: Tasks) -> None:
        super().__init__(bind, tasks=tasks)
        self.go = asyncio.Event()
        self.begun = 0
        self.cancelled = 0
        self.seen: list[Request] = []
        self.sinks: list[Sink] = []

    def answer(self, request: Request) -> Answer | Stream | Coroutine[Any, Any, Answer]:
        self.seen.append(request)
        if request.head.target == b"/stream":
            return Stream("text/event-stream", self.sinks.append, self.sinks.remove, ("X-More: here",))
        return self._later(request)

    async def _later(self, request: Request) -> Answer:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if request.head.target == b"/crash":
            raise RuntimeError("a bug")
        return Answer(202, b"done\n", "text/plain", ("X-More: here",))

    def refuse(self, error: ClientError) -> Answer:
        return Answer(error.status, b"no\n")

    async def streams(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.sinks) != count:
                await asyncio.sleep(0)

    async def has(self, attribute: str, count: int) -> None:
        async with asyncio.timeout(5):
            while getattr(self, attribute) < count:
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def serving(bind: Bind) -> AsyncIterator[Slow]:
    crashes: list[BaseException] = []
    tasks = Tasks(lambda _, error: crashes.append(error))
    server = Slow(bind, tasks=tasks)
    await server.serve()
    try:
        yield server
    finally:
        await server.close()
        await tasks.close()


@pytest.fixture
async def server() -> AsyncIterator[Slow]:
    async with serving(Bind(host="127.0.0.1", port=0)) as server:
        yield server


@contextlib.asynccontextmanager
async def connected(server: Slow) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def all_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            return await reader.read()
        return b""


async def test_an_answer_may_take_a_while_and_the_connection_stays(server: Slow) -> None:
    async with connected(server) as (reader, writer):
        for turn in (1, 2):
            server.go.clear()
            writer.write(ASK)
            await server.has("begun", turn)
            server.go.set()
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 202 Accepted\r\n")
            assert b"\r\nX-More: here\r\n" in head
            assert b"Connection: close" not in head
            assert await reader.readexactly(5) == b"done\n"
    assert server.seen[0].local_host == "127.0.0.1"


async def test_who_sends_on_while_the_answer_is_made_gets_that_one_and_no_more(server: Slow) -> None:
    async with connected(server) as (reader, writer):
        writer.write(ASK)
        await server.has("begun", 1)
        writer.write(ASK * 1000)
        await writer.drain()
        async with asyncio.timeout(5):
            while not any(each._last for each in server._connections):
                await asyncio.sleep(0)
        server.go.set()
        answer = await all_of(reader)
    assert answer.count(b"HTTP/1.1 202 ") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert len(server.seen) == 1


async def test_who_hangs_up_has_the_work_on_its_answer_ended(server: Slow) -> None:
    async with connected(server) as (_, writer):
        writer.write(ASK)
        await server.has("begun", 1)
        writer.close()
        await server.has("cancelled", 1)


async def test_an_answer_that_takes_too_long_is_given_up(server: Slow) -> None:
    async with connected(server) as (reader, writer):
        writer.write(ASK)
        await server.has("begun", 1)
        now = asyncio.get_running_loop().time()
        server.sweep(now + IDLE_SECONDS - 5)
        assert server._connections
        server.sweep(now + IDLE_SECONDS + 5)
        assert await all_of(reader) == b""
        await server.has("cancelled", 1)


async def test_a_bug_costs_the_connection_and_nothing_else(server: Slow) -> None:
    server.go.set()
    async with connected(server) as (reader, writer):
        writer.write(ASK.replace(b"/slow", b"/crash"))
        assert await all_of(reader) == b""
    async with connected(server) as (reader, writer):
        writer.write(ASK)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202 ")


async def test_idle_connections_keep_nobody_out_whose_answer_is_made(server: Slow) -> None:
    async with connected(server) as (reader, writer):
        writer.write(ASK)
        await server.has("begun", 1)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(CONNECTIONS + 5):
                await stack.enter_async_context(connected(server))
            async with asyncio.timeout(5):
                while len(server._connections) < CONNECTIONS:
                    await asyncio.sleep(0)
            server.go.set()
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202 ")


async def test_a_closed_server_ends_the_work_on_answers(server: Slow) -> None:
    async with connected(server) as (reader, writer):
        writer.write(ASK)
        await server.has("begun", 1)
        await server.close()
        assert await all_of(reader) == b""
        await server.has("cancelled", 1)


async def test_a_client_of_a_unix_socket_came_to_no_address(tmp_path: Path) -> None:
    path = tmp_path / "slow.sock"
    async with serving(Bind(path=str(path))) as server:
        server.go.set()
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(ASK.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        assert (await all_of(reader)).startswith(b"HTTP/1.1 202 ")
        writer.close()
        await writer.wait_closed()
    assert server.seen[0].local_host == ""


async def test_overdue_connections_are_looked_for_without_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "SWEEP_SECONDS", 0.001)
    monkeypatch.setattr(page_server, "HEAD_SECONDS", 0.001)
    async with serving(Bind(host="127.0.0.1", port=0)) as server, connected(server) as (reader, _):
        assert await all_of(reader) == b""


# --- streams ----------------------------------------------------------------------------------------------------------


async def test_a_stream_goes_on_until_the_client_goes(server: Slow) -> None:
    async with connected(server) as (reader, writer):
        writer.write(ASK_STREAM)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nContent-Type: text/event-stream\r\n" in head
        assert b"\r\nX-More: here\r\n" in head
        assert b"\r\nConnection: close\r\n" in head
        assert b"Content-Length" not in head
        for text in (b"one\n", b"two\n"):
            server.sinks[0].send(text)
            assert await reader.readline() == text
        [sink] = server.sinks
        writer.close()
        await server.streams(0)
        sink.send(b"nobody hears this\n")


async def test_the_head_of_a_stream_alone_opens_none(server: Slow) -> None:
    async with connected(server) as (reader, writer):
        writer.write(ASK_STREAM.replace(b"GET", b"HEAD"))
        assert (await all_of(reader)).endswith(b"\r\n\r\n")
    assert server.sinks == []


async def test_a_stream_that_is_heard_outlives_the_sweep_and_a_silent_one_does_not(server: Slow) -> None:
    async with connected(server) as (reader, writer):
        writer.write(ASK_STREAM)
        await server.streams(1)
        [connection] = server._connections
        begun = connection.deadline
        server.sinks[0].send(b"still here\n")
        assert connection.deadline >= begun
        server.sweep(connection.deadline - 1)
        assert server._connections
        server.sweep(connection.deadline + 1)
        assert (await all_of(reader)).endswith(b"still here\n")
        await server.streams(0)


async def test_who_does_not_read_a_stream_is_cut_off(server: Slow) -> None:
    async with connected(server) as (_, writer):
        writer.write(ASK_STREAM)
        await server.streams(1)
        [sink] = server.sinks
        for _ in range(1000):
            sink.send(b"x" * 64 * 1024)
            if server._connections and next(iter(server._connections))._transport.is_closing():
                break
        await server.streams(0)


async def test_what_is_sent_while_a_stream_runs_is_not_heard(server: Slow) -> None:
    async with connected(server) as (reader, writer):
        writer.write(ASK_STREAM)
        await server.streams(1)
        writer.write(ASK * 3)
        await writer.drain()
        server.sinks[0].send(b"still here\n")
        await reader.readuntil(b"still here\n")
    assert len(server.seen) == 1


async def test_idle_connections_do_not_push_a_stream_out(server: Slow) -> None:
    async with connected(server) as (reader, writer):
        writer.write(ASK_STREAM)
        await server.streams(1)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(CONNECTIONS + 5):
                await stack.enter_async_context(connected(server))
            async with asyncio.timeout(5):
                while len(server._connections) < CONNECTIONS:
                    await asyncio.sleep(0)
            server.sinks[0].send(b"still here\n")
            await reader.readuntil(b"still here\n")


async def test_a_closed_server_ends_its_streams(server: Slow) -> None:
    async with connected(server) as (reader, writer):
        writer.write(ASK_STREAM)
        await server.streams(1)
        await server.close()
        await all_of(reader)
        await server.streams(0)
