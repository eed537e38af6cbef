"""WebSocket: the token is on the handshake, then bytes flow both ways; declined, it stays a clean HTTP connection."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.end_to_end.waiting import until
from tests.proxy.raw_client import RawClient, get, path
from tests.proxy.raw_origin import REFUSED_TOKEN, Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.http11 import Request as HandshakeRequest

    from tests.proxy.rig import Rig

OFFER: Final = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
SWITCH: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-A: 1\r\n\r\n"
URL: Final = f"http://{API}"


class EchoServer:
    """A WebSocket server of the library's own; remembers the handshakes."""

    def __init__(self) -> None:
        self.handshakes: list[HandshakeRequest] = []

    async def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.handshakes.append(connection.request)
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    @contextlib.asynccontextmanager
    async def on(self, rig: Rig, *, tls: bool) -> AsyncIterator[int]:
        """Serve in the place of one of the rig's origins; yields the port."""
        origin = rig.secure if tls else rig.plain
        await origin.stop()
        async with serve(self, "127.0.0.1", origin.port, ssl=origin.tls):
            yield origin.port


def ws_client(rig: Rig, way: str, *, tls: bool) -> connect:
    """The library's client, as an app would set it up for this way in."""
    proxy = f"http://127.0.0.1:{rig.port('egress')}"
    if way == "reverse":
        return connect(f"ws://127.0.0.1:{rig.port('base')}/chat", proxy=None)
    if way == "intercepted":
        return connect(f"wss://{API}:{rig.secure.port}/chat", proxy=proxy, ssl=rig.inside())
    return connect(f"ws://{API}/chat" if tls else f"ws://localhost:{rig.plain.port}/chat", proxy=proxy)


async def start(rig: Rig, *, tls: bool = True, **changes: Any) -> None:
    """A forward and a reverse listener, and interception of the route over TLS."""
    upstream = f"https://{API}:{rig.secure.port}" if tls else f"http://localhost:{rig.plain.port}"
    listeners = [{"name": "egress"}, {"name": "base", "mode": "reverse", "upstream": upstream}]
    routes = [rig.route(intercept=True), rig.plain_route()]
    configuration = {"listeners": listeners, "routes": routes, "interception": rig.interception()}
    await rig.start(**configuration | changes)


@pytest.mark.parametrize(
    ("way", "tls"),
    [("forward", True), ("forward", False), ("reverse", True), ("reverse", False), ("intercepted", True)],
)
async def test_a_websocket_has_the_token_on_its_handshake_and_flows_both_ways(rig: Rig, way: str, tls: bool) -> None:
    server = EchoServer()
    async with server.on(rig, tls=tls):
        await start(rig, tls=tls)
        async with ws_client(rig, way, tls=tls) as socket:
            for message in ("hello", b"\x00\xff" * 40_000, ""):
                await socket.send(message)
                assert await socket.recv() == message
        [handshake] = server.handshakes
        assert handshake.headers.get_all("Authorization") == [f"Bearer {rig.idp.issued[-1]}"]
        assert handshake.headers["Upgrade"] == "websocket"
        await until(lambda: not rig.total("connections_open"), "both ends are closed")
    await rig.at_rest()
    route = "api" if tls else "plain"
    assert rig.value("http_requests_total", route=route, method="GET", code="101") == 1
    assert rig.value("http_requests_in_flight", route=route) == 0


async def test_a_refused_token_is_recovered_on_the_handshake(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    await client.ask(get(f"{URL}/"))

    rig.secure.reply(REFUSED_TOKEN, switch_and_echo)
    await client.send(get(f"{URL}/", *OFFER))
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert rig.secure.requests[-1].values("Upgrade") == ["websocket"]
    assert rig.value("upstream_unauthorized_total", route="api", outcome="recovered") == 1


async def switch_and_echo(request: Request) -> None:
    """An upstream that switches and then sends back what comes."""
    await request.connection.send(SWITCH)
    reader, writer = request.connection.reader, request.connection.writer
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def switched(rig: Rig, **changes: Any) -> tuple[RawClient, Request]:
    """A raw client and the request that became its tunnel."""
    await start(rig, **changes)
    client = await rig.client()
    rig.secure.reply(hold)
    await client.send(get(f"{URL}/chat", *OFFER))
    request = await rig.secure.next_request()
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    for line in (b"Connection: Upgrade\r\n", b"Upgrade: websocket\r\n", b"X-A: 1\r\n", b"Via: 1.1 token-sidecar\r\n"):
        assert line in head
    return client, request


async def hold(request: Request) -> None:
    """Switch, and leave what follows to the test."""
    await request.connection.send(SWITCH)
    await request.connection.ended.wait()


async def test_the_upstream_gets_the_offer_made_anew_and_nothing_else_of_it(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    rig.secure.reply(hold)
    fields = ("Connection: keep-alive, Upgrade, X-Hop", "Upgrade: h2c, WebSocket", "X-Hop: 1", "Sec-WebSocket-Key: x")
    await client.send(get(f"{URL}/chat", *fields))
    request = await rig.secure.next_request()
    assert request.values("Connection") == ["Upgrade"]
    assert request.values("Upgrade") == ["websocket"]
    assert request.values("X-Hop") == []
    assert request.values("Sec-WebSocket-Key") == ["x"]
    assert request.token


async def test_nothing_goes_upstream_behind_the_head_before_the_switch(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    switch = asyncio.Event()
    early: list[bytes] = []

    async def wait(request: Request) -> None:
        with contextlib.suppress(TimeoutError):
            early.append(await asyncio.wait_for(request.connection.reader.read(1), 0.2))
        switch.set()
        await request.connection.send(SWITCH)
        early.append(await request.connection.reader.readexactly(5))
        await request.connection.ended.wait()

    rig.secure.reply(wait)
    await client.send(get(f"{URL}/chat", *OFFER) + b"early")
    await switch.wait()
    await client.head()
    await until(lambda: early == [b"early"], "the early bytes follow the switch")


async def test_bytes_behind_the_switch_reach_the_client_behind_its_head(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()

    async def eager(request: Request) -> None:
        await request.connection.send(SWITCH + b"first frame")
        await request.connection.ended.wait()

    rig.secure.reply(eager)
    await client.send(get(f"{URL}/chat", *OFFER))
    await client.head()
    assert await client.exactly(11) == b"first frame"


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "403 Forbidden", "426 Upgrade Required"])
async def test_a_declined_switch_leaves_a_clean_connection(rig: Rig, status: str) -> None:
    await start(rig)
    client = await rig.client()
    rig.secure.reply(ok(b"declined", status=status))
    hidden = get(f"{URL}/after")
    await client.send(get(f"{URL}/chat", *OFFER) + hidden)  # sent in the hope of a switch, and now a request
    answer = await client.answer()
    assert (answer.status, answer.body) == (int(status[:3]), b"declined")
    after = await client.answer()
    assert (after.status, after.body) == (200, b"GET /after 0")
    assert rig.secure.requests[-1].token
    assert len(rig.secure.connections) == 2  # the one that declined is not used again
    assert rig.secure.connections[0].requests == rig.secure.requests[:1]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
    ],
)
async def test_a_switch_to_something_else_is_a_502(rig: Rig, answer: bytes) -> None:
    await start(rig)
    client = await rig.client()
    rig.secure.reply(answer + b"raw bytes")
    refused = await client.ask(get(f"{URL}/chat", *OFFER))
    assert (refused.status, refused.reason) == (502, "protocol")
    assert (await client.ask(get(f"{URL}/"))).status == 200
    assert len(rig.secure.connections) == 2


async def test_an_offer_of_h2c_is_served_as_plain_http(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ", "Content-Length: 5")
    answer = await client.ask(get(f"{URL}/", *offer, method="POST") + b"PRI *")
    assert (answer.status, answer.body) == (200, b"POST / 5")
    for name in ("Connection", "Upgrade", "HTTP2-Settings"):
        assert rig.secure.requests[0].values(name) == []
    assert (await client.ask(get(f"{URL}/again"))).body == b"GET /again 0"


async def test_the_client_s_end_reaches_a_plain_upstream_and_the_rest_still_comes(rig: Rig) -> None:
    await start(rig, tls=False)
    client = await rig.client()

    async def answer_after_the_end(request: Request) -> None:
        await request.connection.send(SWITCH)
        received = await request.connection.reader.read()
        await request.connection.send(b"got " + received)

    rig.plain.reply(answer_after_the_end)
    await client.send(get(f"http://localhost:{rig.plain.port}/chat", *OFFER))
    await client.head()
    await client.send(b"all")
    client.end()
    assert await client.rest() == (b"got all", True)
    await until(lambda: not rig.total("connections_open"), "the tunnel is over")


async def test_the_client_s_end_over_tls_gives_the_upstream_a_last_word(rig: Rig, monkeypatch: Any) -> None:
    monkeypatch.setattr("sidecar.proxy.tunnel.QUIET_END_SECONDS", 0.3)
    client, request = await switched(rig, limits={"tunnel_idle": "400ms"})
    client.end()
    await request.connection.send(b"last word")
    assert await client.rest() == (b"last word", True)
    await asyncio.wait_for(request.connection.read_to_the_end(), 5)


async def test_the_upstream_s_end_reaches_the_client(rig: Rig) -> None:
    client, request = await switched(rig)
    request.connection.close()
    assert await client.rest() == (b"", True)
    await client.close()
    await until(lambda: not rig.total("connections_open"), "the tunnel is over")


async def test_a_silent_websocket_ends_after_its_time(rig: Rig) -> None:
    client, request = await switched(rig, limits={"tunnel_idle": "300ms"})
    assert await client.rest() == (b"", True)
    await asyncio.wait_for(request.connection.read_to_the_end(), 5)
    await until(lambda: not rig.total("connections_open"), "the tunnel is over")


async def test_a_client_that_resets_ends_the_upstream_s_side(rig: Rig) -> None:
    client, request = await switched(rig)
    client.reset()
    await request.connection.read_to_the_end()
    await until(lambda: not rig.total("connections_open"), "the tunnel is over")


async def test_a_client_that_does_not_read_stops_the_upstream(rig: Rig) -> None:
    await start(rig, tls=False)
    client = await rig.client(receive_buffer=4096)
    count = 64 << 20
    sent = 0

    async def flood(request: Request) -> None:
        nonlocal sent
        await request.connection.send(SWITCH)
        while sent < count:
            await request.connection.send(b"x" * 65536)
            sent += 65536

    rig.plain.reply(flood)
    await client.send(get(f"http://localhost:{rig.plain.port}/chat", *OFFER))
    await client.head()
    before = -1
    while before != sent:  # until nothing moves any more
        before = sent
        await asyncio.sleep(0.2)
    assert sent < count // 2
    received = 0
    while received < count:
        received += len(await client.some(1 << 20))
    assert received == count


async def test_a_websocket_on_a_reverse_listener_of_another_page_is_refused(rig: Rig) -> None:
    await start(rig)
    client = await rig.client("base")
    answer = await client.ask(path("/chat", *OFFER, "Origin: https://evil.example"))
    assert (answer.status, answer.reason) == (403, "origin_foreign")
    assert rig.secure.requests == []


async def test_server_sent_events_are_passed_on_as_they_come(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    heard: asyncio.Queue[None] = asyncio.Queue()

    async def events(request: Request) -> None:
        await request.connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(5):
            event = b"data: %d\n\n" % number
            await request.connection.send(b"%x\r\n%b\r\n" % (len(event), event))
            await heard.get()  # the next one only after this one has arrived
        await request.connection.send(b"0\r\n\r\n")

    rig.secure.reply(events)
    await client.send(get(f"{URL}/events", "Accept: text/event-stream"))
    await client.head()
    for number in range(5):
        assert await client.chunk() == b"data: %d\n\n" % number
        heard.put_nowait(None)
    assert await client.chunk() == b""
