"""Clients of the soaks take an answer for one only when it is whole; the origin does what it is told."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from benchmarks.processes import free_ports
from benchmarks.soaks import content, idle_websockets
from benchmarks.soaks.client import Ask, Broken, Caller, Connection
from benchmarks.soaks.origin import Exchange, Origin
from sidecar.simulation.idp import MockIdP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Script:
    """An application that does one thing with a request."""

    def __init__(self, act: Callable[[Exchange], None]) -> None:
        self.ends = act

    def begins(self, exchange: Exchange) -> None: ...

    def continues(self, exchange: Exchange, data: bytes) -> None: ...


class OpenIdP(MockIdP):
    """Takes every token for a good one, except ``bad``."""

    def is_valid(self, token: str, now: float | None = None) -> bool:
        return token != "bad"


TOKEN = "Authorization: Bearer good\r\n"


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(Origin(free_ports(1)[0], OpenIdP()))


@pytest.mark.parametrize("kind", ["size", "chunked"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_answer_is_what_was_asked_for(origin: Origin, kind: str, method: str) -> None:
    caller = Caller(origin.port)
    for size in (0, 1, 100_000):
        body = size if method == "POST" else None
        answer = await caller.ask(Ask(f"/{kind}/{size}", method, size=body, chunked=kind == "chunked", fields=TOKEN))
        assert (answer.status, answer.body, answer.closes) == (200, content.body(size), False)
    caller.close()


async def test_head_gets_no_body_and_the_connection_goes_on(origin: Origin) -> None:
    caller = Caller(origin.port)
    for _ in range(2):
        answer = await caller.ask(Ask("/size/1000", "HEAD", fields=TOKEN))
        assert (answer.status, answer.body) == (200, b"")
    caller.close()


async def test_a_request_without_a_good_token_is_refused_as_bearer_tokens_are(origin: Origin) -> None:
    caller = Caller(origin.port)
    for fields in ("", "Authorization: Bearer bad\r\n", "Authorization: Basic good\r\n"):
        assert (await caller.ask(Ask("/size/1", fields=fields))).status == 401
    assert origin.refused == 3
    caller.close()


async def test_a_body_that_is_not_what_was_sent_is_a_bad_request(origin: Origin) -> None:
    connection = await Connection.to(origin.port)
    ask = Ask("/size/1", "POST", size=4, fields=TOKEN)
    connection.begin(ask)
    connection.write(ask.head() + b"XXXX")
    assert (await connection.answer()).status == 400
    connection.close()


def cut_short(exchange: Exchange) -> None:
    exchange.connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
    exchange.connection.close()


def silent(exchange: Exchange) -> None:
    exchange.connection.close()


def reset(exchange: Exchange) -> None:
    exchange.connection.reset()


def nonsense(exchange: Exchange) -> None:
    exchange.connection.write(b"SSH-2.0-x\r\n")


@pytest.mark.parametrize("act", [cut_short, silent, reset, nonsense], ids=lambda act: str(act.__name__))
async def test_an_answer_that_is_not_whole_is_none(origin: Origin, act: Callable[[Exchange], None]) -> None:
    origin.serve("script", Script(act))
    with pytest.raises(Broken):
        await Caller(origin.port).ask(Ask("/script", fields=TOKEN))


async def test_a_caller_reconnects_when_the_answer_said_so(origin: Origin) -> None:
    seen = set()

    def answer(exchange: Exchange) -> None:
        seen.add(exchange.connection)
        exchange.answer(b"bye", fields=b"Connection: close\r\n")

    origin.serve("script", Script(answer))
    caller = Caller(origin.port)
    for _ in range(2):
        assert (await caller.ask(Ask("/script", fields=TOKEN))).closes
    assert len(seen) == 2


async def test_nobody_listening_is_told_as_refused() -> None:
    with pytest.raises(Broken, match="refused"):
        await Caller(free_ports(1)[0]).ask(Ask("/"))


async def test_a_stream_waits_for_a_client_that_does_not_read(origin: Origin) -> None:
    size = 64 * content.MIB
    origin.serve("stream", Script(lambda exchange: exchange.stream(size)))
    connection, taken = await Connection.to(origin.port, narrow=True), 0

    def take(data: bytes) -> None:
        nonlocal taken
        taken += len(data)

    connection.sink = take
    ask = Ask("/stream", fields=TOKEN)
    connection.begin(ask)
    connection.write(ask.wire())
    await connection.answer()
    assert taken == size
    connection.close()


async def test_the_origin_switches_protocols_and_then_sends_back_what_comes(origin: Origin) -> None:
    origin.serve("socket", idle_websockets.Echo())
    reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
    writer.write(idle_websockets.HANDSHAKE.replace(b"Host: ", f"{TOKEN}Host: ".encode()))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    for message in (b"one", b"another"):
        writer.write(message)
        assert await reader.readexactly(len(message)) == message
    writer.close()
