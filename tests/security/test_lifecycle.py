"""Limits and the life of the process: what is too much, too slow or too many is told, and everybody else goes on.

Lines 58 to 65 of the checklist. Deadlines, failures of the upstream, drains and TLS have their tests beside the code.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import TYPE_CHECKING, Final

import pytest

from tests.end_to_end.waiting import until
from tests.proxy.raw_client import chunked, get, post
from tests.proxy.raw_origin import Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.raw_client import RawClient
    from tests.proxy.rig import Rig

URL: Final = f"http://{API}"


async def assert_goes_on(client: RawClient) -> None:
    """The sentinel gets its own answer."""
    answer = await client.ask(get(f"{URL}/sentinel"))
    assert (answer.status, answer.body) == (200, b"GET /sentinel 0")


# --- bodies -----------------------------------------------------------------------------------------------------------


async def test_a_body_of_the_largest_size_is_passed_on_whole(rig: Rig) -> None:
    await rig.start(limits={"body": "1KiB"})
    client = await rig.client()
    assert (await client.ask(post(f"{URL}/", bytes(1024)))).body == b"POST / 1024"
    request = get(f"{URL}/", "Transfer-Encoding: chunked", method="POST")
    assert (await client.ask(request + chunked(bytes(1000), bytes(24)))).body == b"POST / 1024"
    await assert_goes_on(client)


async def test_a_length_over_the_limit_is_a_413_and_nothing_leaves(rig: Rig) -> None:
    await rig.start(limits={"body": "1KiB"})
    client = await rig.client()
    answer = await client.ask(post(f"{URL}/", bytes(1025)) + get(f"{URL}/smuggled"))
    assert (answer.status, answer.reason) == (413, "content_too_large")
    assert answer.value("Connection") == "close"
    assert await client.closed_cleanly()
    assert rig.secure.connections == []
    await assert_goes_on(await rig.client())


async def test_a_body_that_grows_over_the_limit_is_a_413_and_never_cut_to_size(rig: Rig) -> None:
    await rig.start(limits={"body": "1KiB"})
    received: list[bytes] = []

    async def read(request: Request) -> None:
        received.append(await request.connection.read_to_the_end())

    for pieces in ((bytes(1000), bytes(25)), (bytes(1025),), (bytes(1),) * 1025):
        rig.secure.reply(read)
        client = await rig.client()
        await client.send(get(f"{URL}/", "Transfer-Encoding: chunked", method="POST"))
        await client.send(chunked(*pieces) + get(f"{URL}/smuggled"))
        answer = await client.answer()
        assert (answer.status, answer.reason) == (413, "content_too_large")
        assert await client.closed_cleanly()
        await rig.at_rest()
        rig.secure._script.clear()
    assert all(b"0\r\n\r\n" not in body for body in received)
    assert {request.target for request in rig.secure.requests} <= {"/"}
    await assert_goes_on(await rig.client())


# --- too many ---------------------------------------------------------------------------------------------------------


async def test_an_upstream_that_is_asked_for_too_much_is_a_503_for_the_rest(rig: Rig) -> None:
    await rig.start(limits={"upstream_connections": 2, "pending": 1})
    release = asyncio.Event()

    async def hold(request: Request) -> None:
        await release.wait()
        await request.connection.send(ok(request.target.encode()))

    rig.secure.always = hold
    clients = [await rig.client() for _ in range(6)]
    for number, client in enumerate(clients[:3]):
        await client.send(get(f"{URL}/{number}"))
    await rig.secure.next_request()
    await rig.secure.next_request()
    await until(lambda: rig.total("http_requests_in_flight") == 3, "one waits in line")
    for client in clients[3:]:
        answer = await client.ask(get(f"{URL}/too-many"))
        assert (answer.status, answer.reason) == (503, "overloaded")
        assert answer.value("Retry-After") is not None
    release.set()
    for number, client in enumerate(clients[:3]):
        assert (await client.answer()).body == f"/{number}".encode()
    rig.secure.always = None
    for client in clients:
        await assert_goes_on(client)
    assert len(rig.secure.connections) == 2
    assert "/too-many" not in {request.target for request in rig.secure.requests}


async def test_the_cap_on_connections_turns_away_and_does_not_kill(rig: Rig) -> None:
    await rig.start(limits={"connections": 5})
    kept = [await rig.client() for _ in range(5)]
    for client in kept:
        await assert_goes_on(client)
    for _ in range(50):
        async with await rig.client() as turned_away:
            assert (await turned_away.answer()).reason == "overloaded"
            assert await turned_away.closed_cleanly()
    for client in kept:
        await assert_goes_on(client)
    await kept[0].close()
    await until(lambda: rig.value("connections_open", listener="egress") == 4, "there is room again")
    await assert_goes_on(await rig.client())


async def test_a_process_out_of_descriptors_goes_on_accepting_when_there_are_some(rig: Rig) -> None:
    await rig.start()
    kept = await rig.client()
    await assert_goes_on(kept)
    crowd = [socket.socket() for _ in range(40)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    loop, address = asyncio.get_running_loop(), ("127.0.0.1", rig.port("egress"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(each.fileno() for each in crowd) + 4, hard))
        for each in crowd:
            each.setblocking(False)
            await loop.sock_connect(each, address)
        for _ in range(20):
            await assert_goes_on(kept)
        assert rig.value("connections_open", listener="egress") < len(crowd), "there were enough of them"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in crowd:
            each.close()
    await until(lambda: rig.value("connections_open", listener="egress") == 1, "the crowd has gone")
    await assert_goes_on(await rig.client())
    await assert_goes_on(kept)


# --- too slow ---------------------------------------------------------------------------------------------------------


async def test_half_open_heads_are_reaped_on_time_and_nobody_else_waits(rig: Rig) -> None:
    """Slowloris: 300 heads that never end cost their own connections only."""
    await rig.start(limits={"head_timeout": "500ms"})
    loop = asyncio.get_running_loop()
    slow = [await rig.client() for _ in range(300)]
    began_at = loop.time()
    for client in slow:
        client.writer.write(f"GET {URL}/ HTTP/1.1\r\nX: ".encode())
    other = await rig.client()
    while loop.time() - began_at < 0.4:
        await assert_goes_on(other)
    for client in slow:
        assert (await client.answer()).reason == "head_timeout"
        assert await client.closed_cleanly()
    assert [request.target for request in rig.secure.requests] == ["/sentinel"] * len(rig.secure.requests)
    await assert_goes_on(await rig.client())


@pytest.mark.parametrize("url", ["http://stranger.test/", "http://"])
async def test_the_drain_says_so_on_answers_of_its_own(rig: Rig, url: str) -> None:
    await rig.start()
    rig.sidecar.gateway.draining = True
    client = await rig.client()
    answer = await client.ask(get(url))
    assert answer.status in (400, 403)
    assert answer.value("Connection") == "close"
    assert await client.closed_cleanly()
