"""Bodies and interim responses on their way through: whole, at once, in bounds, in the framing the other side knows."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from sidecar.proxy.upstream import WRITE_HIGH_WATER
from tests.end_to_end.waiting import until
from tests.proxy.raw_client import chunked, get, post
from tests.proxy.raw_origin import Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.raw_client import RawClient
    from tests.proxy.raw_origin import Origin
    from tests.proxy.rig import Rig

URL = f"http://{API}"
MIB = 1024 * 1024
KERNEL_HOLDS = 40 * MIB
"""More than the kernel's buffers of two connections hold, on a machine with generous ones."""


async def assert_goes_on(client: RawClient, url: str = URL) -> None:
    """The sentinel gets its own answer."""
    answer = await client.ask(get(f"{url}/sentinel"))
    assert (answer.status, answer.body) == (200, b"GET /sentinel 0")


# --- bodies -----------------------------------------------------------------------------------------------------------


async def test_bodies_go_up_in_the_framing_they_came_in(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    assert (await client.ask(post(f"{URL}/", b"12345"))).body == b"POST / 5"
    assert rig.secure.requests[-1].values("Content-Length") == ["5"]
    assert rig.secure.requests[-1].body == b"12345"
    await client.send(get(f"{URL}/", "Transfer-Encoding: chunked", "Trailer: X", method="POST"))
    await client.send(b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX: trailer\r\nAuthorization: no\r\n\r\n")
    assert (await client.answer()).body == b"POST / 5"
    request = rig.secure.requests[-1]
    assert (request.body, request.values("Transfer-Encoding")) == (b"abcde", ["chunked"])
    assert (await client.ask(post(f"{URL}/", b""))).body == b"POST / 0"
    assert rig.secure.requests[-1].values("Content-Length") == ["0"]
    assert (await client.ask(post(f"{URL}/", b"on a GET", method="GET"))).body == b"GET / 8"
    await assert_goes_on(client)


async def test_bodies_come_back_whole_in_every_framing(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()

    async def until_close(request: Request) -> None:
        await request.connection.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
        request.connection.close()

    rig.secure.reply(
        ok(b"with a length"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"in ", b"chunks")[:-2] + b"X: t\r\n\r\n",
        until_close,
        ok(b""),
    )
    answers = [await client.ask(get(f"{URL}/{number}")) for number in range(4)]
    assert [answer.body for answer in answers] == [b"with a length", b"in chunks", b"until the end", b""]
    assert answers[2].value("Transfer-Encoding") == "chunked"  # the client's connection goes on
    await assert_goes_on(client)
    assert len(rig.secure.connections) == 2


async def test_answers_without_a_body_are_not_waited_for(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    rig.secure.reply(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\nETag: x\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    )
    assert (await client.ask(get(f"{URL}/", method="HEAD"))).value("Content-Length") == "5000"
    assert (await client.ask(get(f"{URL}/", method="HEAD"))).status == 200
    assert (await client.ask(get(f"{URL}/"))).status == 204
    assert (await client.ask(get(f"{URL}/"))).values("ETag") == ["x"]
    answer = await client.ask(get(f"{URL}/"))
    assert (answer.status, answer.values("Content-Length")) == (204, [])
    await assert_goes_on(client)
    assert len(rig.secure.connections) == 1


async def test_redirects_are_relayed_and_not_followed(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"):
        rig.secure.reply(ok(b"", f"Location: http://localhost:{rig.plain.port}/stolen", status=status))
        answer = await client.ask(post(f"{URL}/", b"x"))
        assert answer.status == int(status[:3])
        assert answer.value("Location") == f"http://localhost:{rig.plain.port}/stolen"
    assert rig.plain.connections == []


async def test_each_chunk_of_an_event_stream_arrives_at_once(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    heard: asyncio.Queue[None] = asyncio.Queue()

    async def events(request: Request) -> None:
        await request.connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            await request.connection.send(chunked(b"data: %d\n\n" % number)[:-5])
            await heard.get()  # not one more before the client has this one
        await request.connection.send(b"0\r\n\r\n")

    rig.secure.reply(events)
    await client.send(get(f"{URL}/events"))
    await client.head()
    for number in range(5):
        assert await client.chunk() == b"data: %d\n\n" % number
        heard.put_nowait(None)
    assert await client.chunk() == b""
    await assert_goes_on(client)


async def test_each_piece_of_an_upload_leaves_at_once(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen(request: Request) -> None:
        for _ in range(5):
            arrived.put_nowait(await request.connection.reader.readexactly(8))
        await request.connection.send(ok(b"thanks"))

    rig.secure.reply(listen)
    await client.send(get(f"{URL}/", "Content-Length: 40", method="POST"))
    for number in range(5):
        await client.send(b"piece %02d" % number)
        async with asyncio.timeout(5):
            assert await arrived.get() == b"piece %02d" % number
    assert (await client.answer()).body == b"thanks"
    await assert_goes_on(client)


@pytest.mark.parametrize("route", ["secure", "plain"])
async def test_large_bodies_go_both_ways_at_once_unharmed(rig: Rig, route: str) -> None:
    await rig.start()
    origin: Origin = getattr(rig, route)
    url = URL if route == "secure" else f"http://localhost:{origin.port}"
    client = await rig.client()
    pattern = bytes(range(251)) * 4178  # 1 MiB of a period that no buffer size shares
    size = 8

    async def echo(request: Request) -> None:
        connection = request.connection
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (size * len(pattern)))
        left = size * len(pattern)
        while left:
            piece = await connection.reader.read(65536)
            left -= len(piece)
            await connection.send(piece)

    origin.reply(echo)

    async def upload() -> None:
        await client.send(get(f"{url}/", f"Content-Length: {size * len(pattern)}", method="POST"))
        for _ in range(size):
            client.writer.write(pattern)
            await client.writer.drain()

    sending = asyncio.ensure_future(upload())
    await client.head()
    async with asyncio.timeout(30):
        for _ in range(size):
            assert await client.reader.readexactly(len(pattern)) == pattern
        await sending
    # The answer began before the request was whole, so the connection ends with it, in either direction.
    assert await client.closed_cleanly()
    await rig.at_rest()


@pytest.mark.parametrize("route", ["secure", "plain"])
async def test_a_client_that_does_not_read_stops_the_upstream(rig: Rig, route: str) -> None:
    await rig.start()
    origin: Origin = getattr(rig, route)
    url = URL if route == "secure" else f"http://localhost:{origin.port}"
    client = await rig.client(receive_buffer=32 * 1024)
    size = 64 * MIB

    async def flood(request: Request) -> None:
        await request.connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            await request.connection.send(bytes(65536))

    origin.reply(flood)
    await client.send(get(f"{url}/"))
    request = await origin.next_request()
    await stalled(lambda: request.connection.sent)
    assert request.connection.sent < KERNEL_HOLDS
    [connection] = rig.connections()
    assert connection._transport.get_write_buffer_size() < 2 * WRITE_HIGH_WATER

    other = await rig.client()
    await assert_goes_on(other, url)

    await client.head()
    async with asyncio.timeout(60):
        left = size
        while left:
            left -= len(await client.reader.read(1 << 20))
    await assert_goes_on(client, url)


@pytest.mark.parametrize("route", ["secure", "plain"])
async def test_an_upstream_that_does_not_read_stops_the_client(rig: Rig, route: str) -> None:
    await rig.start()
    origin: Origin = getattr(rig, route)
    url = URL if route == "secure" else f"http://localhost:{origin.port}"
    client = await rig.client()
    release = asyncio.Event()
    size = 64 * MIB

    async def stall(request: Request) -> None:
        await release.wait()
        left = size
        while left:
            left -= len(await request.connection.reader.read(1 << 20))
        await request.connection.send(ok(b"all there"))

    origin.reply(stall)
    sent = 0

    async def upload() -> None:
        nonlocal sent
        await client.send(get(f"{url}/", f"Content-Length: {size}", method="POST"))
        for _ in range(size // 65536):
            client.writer.write(bytes(65536))
            await client.writer.drain()
            sent += 65536

    sending = asyncio.ensure_future(upload())
    await origin.next_request()
    await stalled(lambda: sent)
    assert sent < KERNEL_HOLDS
    [upstream] = rig.sidecar.gateway.pool._all
    assert upstream.transport.get_write_buffer_size() < 2 * WRITE_HIGH_WATER + MIB
    release.set()
    answer = await client.answer(seconds=60)
    await sending
    assert answer.body == b"all there"
    await assert_goes_on(client, url)


async def stalled(count: object) -> None:
    """Wait until a counter has not moved for a while."""
    assert callable(count)
    seen: list[int] = []

    def rests() -> bool:
        seen.append(count())
        return seen[-1] > 0 and len(seen) > 10 and seen[-10:] == [seen[-1]] * 10

    await until(rests, "the sender stalls", every=0.03)


async def test_a_client_that_stops_reading_for_good_is_given_up(rig: Rig) -> None:
    await rig.start(limits={"response_idle": "400ms"})
    client = await rig.client(receive_buffer=32 * 1024)

    async def flood(request: Request) -> None:
        await request.connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await request.connection.send(chunked(bytes(65536))[:-5])

    rig.secure.reply(flood)
    await client.send(get(f"{URL}/"))
    await rig.secure.next_request()
    await rig.at_rest()
    assert rig.total("upstream_errors_total") == 0  # it is not the upstream's fault
    assert (await client.rest())[1] is False


# --- interim responses and Expect -------------------------------------------------------------------------------------


async def test_a_100_continue_is_relayed_before_the_body_is_sent(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()

    async def expecting(request: Request) -> None:
        assert request.values("Expect") == ["100-continue"]
        await request.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await request.connection.body(request)
        await request.connection.send(ok(body))

    rig.secure.reply(expecting)
    await client.send(get(f"{URL}/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    assert (await client.head()).startswith(b"HTTP/1.1 100 Continue\r\n")
    await client.send(b"body")
    answer = await client.answer()
    assert (answer.status, answer.body) == (200, b"body")
    await assert_goes_on(client)


async def test_a_final_status_instead_of_100_ends_both_connections(rig: Rig) -> None:
    await rig.start()
    for number in range(5):
        client = await rig.client()
        rig.secure.reply(refuse_body)
        await client.send(get(f"{URL}/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
        answer = await client.answer()
        assert (answer.status, answer.value("Connection")) == (417, "close")
        await client.send(get(f"{URL}/smuggled"))  # the body never comes: these are no request
        assert await client.closed_cleanly()
        other = await rig.client()
        await assert_goes_on(other)
        assert len(rig.secure.requests) == 2 * (number + 1)


async def refuse_body(request: Request) -> None:
    await request.connection.send(ok(b"", status="417 Expectation Failed"))
    await request.connection.read_to_the_end()


async def test_interim_responses_are_relayed_to_1_1_clients_in_order_and_in_bounds(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 5\r\n\r\n"
    rig.secure.reply(b"HTTP/1.1 102 Processing\r\n\r\n" + hints + ok(b"final"), hints * 100 + ok(b"final"))
    answer = await client.ask(get(f"{URL}/"))
    assert (answer.interim, answer.body) == ([102, 103], b"final")
    answer = await client.ask(get(f"{URL}/"))
    assert (len(answer.interim), answer.body) == (8, b"final")
    await assert_goes_on(client)
    rig.secure.reply(hints + ok(b"final"))
    await client.send(f"GET {URL}/ HTTP/1.0\r\n\r\n".encode())
    answer = await client.answer()
    assert (answer.interim, answer.body) == ([], b"final")


async def test_a_switch_of_protocols_that_nobody_asked_for_is_a_502(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    rig.secure.reply(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nother bytes")
    answer = await client.ask(get(f"{URL}/", "Connection: upgrade", "Upgrade: x"))
    assert (answer.status, answer.reason) == (502, "protocol")
    assert rig.secure.requests[0].values("Upgrade") == []
    await assert_goes_on(client)


async def test_an_early_final_answer_is_relayed_while_the_upload_still_runs(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()

    async def too_large(request: Request) -> None:
        await request.connection.send(ok(b"too large", status="413 Content Too Large"))
        await request.connection.read_to_the_end()

    rig.secure.reply(too_large)
    await client.send(get(f"{URL}/", f"Content-Length: {64 * MIB}", method="POST") + bytes(1000))
    answer = await client.answer()
    assert (answer.status, answer.body, answer.value("Connection")) == (413, b"too large", "close")
    assert not answer.is_own
    with contextlib.suppress(ConnectionError):
        await client.send(bytes(2 * MIB))  # taken and dropped, within bounds
    await rig.at_rest()
    other = await rig.client()
    await assert_goes_on(other)
    assert len(rig.secure.connections) == 2
