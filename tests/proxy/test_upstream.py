"""Connections to upstreams: how their failures show, when a request is sent again, and which connections are kept."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.proxy.raw_client import chunked, get, post
from tests.proxy.raw_origin import ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxy.conftest import Logs
    from tests.proxy.raw_client import RawClient
    from tests.proxy.raw_origin import Request
    from tests.proxy.rig import Rig

URL = f"http://{API}"
MIB = 1024 * 1024


async def assert_goes_on(client: RawClient, url: str = URL) -> None:
    """The sentinel gets its own answer."""
    answer = await client.ask(get(f"{url}/sentinel"))
    assert (answer.status, answer.body) == (200, b"GET /sentinel 0")


# --- the upstream fails -----------------------------------------------------------------------------------------------


async def test_an_upstream_that_refuses_connections_is_a_502(rig: Rig) -> None:
    await rig.start()
    await rig.secure.stop()
    client = await rig.client()
    answer = await client.ask(get(f"{URL}/"))
    assert (answer.status, answer.reason) == (502, "connect")
    assert "connection_refused" in (answer.value("Proxy-Status") or "")
    assert rig.value("upstream_errors_total", route="api", reason="connect") == 1
    assert rig.value("http_requests_total", route="api", method="GET", code="502") == 1
    await rig.secure.start()
    await assert_goes_on(client)


async def test_a_name_that_does_not_resolve_is_a_502_and_is_asked_for_again(rig: Rig) -> None:
    rig.names[API] = None
    await rig.start()
    client = await rig.client()
    answer = await client.ask(get(f"{URL}/"))
    assert (answer.status, answer.reason) == (502, "dns")
    assert rig.value("upstream_errors_total", route="api", reason="dns") == 1
    rig.names[API] = ["127.0.0.1"]
    await assert_goes_on(client)


async def test_an_upstream_that_does_not_answer_in_time_is_a_504(rig: Rig) -> None:
    await rig.start(limits={"first_byte": "300ms"})
    client = await rig.client()

    async def never(request: Request) -> None:
        await request.connection.read_to_the_end()

    rig.secure.reply(never, never)
    answer = await client.ask(get(f"{URL}/"))
    assert (answer.status, answer.reason) == (504, "timeout")
    assert rig.value("upstream_errors_total", route="api", reason="timeout") == 1
    await client.ask(post(f"{URL}/", b"body"))
    assert len(rig.secure.requests) == 2  # neither was asked again
    await assert_goes_on(client)


TRUNCATED = {
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "chunks, inside one": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
    "chunks, between two": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "chunks, before the last line": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
}


@pytest.mark.parametrize("ending", ["close", "reset", "cut"])
@pytest.mark.parametrize("case", TRUNCATED)
async def test_a_truncated_answer_never_looks_complete(rig: Rig, case: str, ending: str) -> None:
    await rig.start()
    client = await rig.client()
    await assert_truncation_shows(rig, client, TRUNCATED[case], ending)


@pytest.mark.parametrize("ending", ["reset", "cut"])
async def test_an_answer_until_close_that_tls_did_not_end_never_looks_complete(rig: Rig, ending: str) -> None:
    await rig.start()
    client = await rig.client()
    await assert_truncation_shows(rig, client, b"HTTP/1.1 200 OK\r\n\r\nhalf", ending)


async def assert_truncation_shows(rig: Rig, client: RawClient, answer: bytes, ending: str) -> None:
    relayed = asyncio.Event()

    async def truncate(request: Request) -> None:
        await request.connection.send(answer)
        await relayed.wait()
        getattr(request.connection, ending)()
        await request.connection.read_to_the_end()

    rig.secure.reply(truncate)
    await client.send(get(f"{URL}/"))
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 200 ")
    relayed.set()
    rest, clean = await client.rest()
    assert not clean
    assert b"0\r\n\r\n" not in rest
    await rig.at_rest()
    assert rig.value("upstream_errors_total", route="api", reason="reset") == 1
    other = await rig.client()
    await assert_goes_on(other)


async def test_a_truncated_answer_shows_to_an_http_1_0_client_too(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()

    async def truncate(request: Request) -> None:
        await request.connection.send(TRUNCATED["chunks, between two"])
        request.connection.reset()

    rig.secure.reply(truncate)
    await client.send(f"GET {URL}/ HTTP/1.0\r\n\r\n".encode())
    assert (await client.rest())[1] is False


async def test_an_answer_that_stops_in_the_middle_is_broken_off_after_its_time(rig: Rig) -> None:
    await rig.start(limits={"response_idle": "300ms"})
    client = await rig.client()

    async def stop(request: Request) -> None:
        await request.connection.send(TRUNCATED["a length"])
        await request.connection.read_to_the_end()

    rig.secure.reply(stop)
    await client.send(get(f"{URL}/"))
    rest, clean = await client.rest()
    assert rest.endswith(b"half")
    assert not clean
    assert rig.value("upstream_errors_total", route="api", reason="timeout") == 1


INVALID_ANSWERS = {
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "a status out of range": b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a bare LF": b"HTTP/1.1 200 OK\r\nX: y\n\r\n\r\n",
    "a NUL": b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
    "a folded line": b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
    "a head without an end": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 5000,
}


@pytest.mark.parametrize("case", INVALID_ANSWERS)
async def test_an_invalid_answer_is_a_502_and_its_connection_is_not_used_again(rig: Rig, case: str) -> None:
    await rig.start(limits={"head": "4KiB", "target": "2KiB"})
    client = await rig.client()
    rig.secure.reply(INVALID_ANSWERS[case])
    answer = await client.ask(get(f"{URL}/"))
    assert (answer.status, answer.reason) == (502, "protocol")
    assert rig.value("upstream_errors_total", route="api", reason="protocol") == 1
    await assert_goes_on(client)
    assert len(rig.secure.connections) == 2


async def test_a_failing_route_is_logged_once_in_a_while_and_counted_every_time(rig: Rig, logs: Logs) -> None:
    await rig.start()
    await rig.secure.stop()
    client = await rig.client()
    for _ in range(20):
        await client.ask(get(f"{URL}/"))
    [line] = logs("request_failed")
    assert (line["route"], line["reason"], line["status"], line["fault"]) == ("api", "connect", 502, "upstream")
    assert rig.value("upstream_errors_total", route="api", reason="connect") == 20


# --- requests after a kept connection died ----------------------------------------------------------------------------


async def die(request: Request) -> None:
    """Close a connection that was kept, just as a request arrives on it."""
    request.connection.reset()


async def test_a_get_that_meets_a_dying_connection_is_sent_once_more(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    for number in range(10):
        await assert_goes_on(client)
        rig.secure.reply(die)
        answer = await client.ask(get(f"{URL}/again/{number}"))
        assert (answer.status, answer.body) == (200, b"GET /again/%d 0" % number)
    targets = [request.target for request in rig.secure.requests]
    assert all(targets.count(f"/again/{number}") == 2 for number in range(10))
    assert rig.total("upstream_errors_total") == 0


async def test_a_retried_get_is_not_retried_again(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await assert_goes_on(client)
    rig.secure.reply(die, die, die)
    answer = await client.ask(get(f"{URL}/again"))
    assert (answer.status, answer.reason) == (502, "reset")
    assert [request.target for request in rig.secure.requests].count("/again") == 2


async def test_a_get_on_a_fresh_connection_is_not_retried(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    rig.secure.reply(die)
    assert (await client.ask(get(f"{URL}/once"))).reason == "reset"
    assert len(rig.secure.requests) == 1


async def test_a_get_that_was_answered_in_part_is_not_retried(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await assert_goes_on(client)

    async def begin(request: Request) -> None:
        await request.connection.send(b"HTTP/1.1 2")
        request.connection.reset()

    rig.secure.reply(begin)
    answer = await client.ask(get(f"{URL}/once"))
    assert (answer.status, answer.reason) == (502, "reset")
    assert [request.target for request in rig.secure.requests].count("/once") == 1


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_post_that_meets_a_dying_connection_is_a_502_and_never_sent_twice(rig: Rig, method: str) -> None:
    await rig.start()
    client = await rig.client()
    for body in (b"", b"body"):
        await assert_goes_on(client)
        rig.secure.reply(die)
        answer = await client.ask(post(f"{URL}/once", body, method=method))
        assert (answer.status, answer.reason) == (502, "reset")
    assert [request.target for request in rig.secure.requests].count("/once") == 2
    assert rig.value("upstream_errors_total", route="api", reason="reset") == 2


async def test_an_idempotent_upload_is_sent_again_whole(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await assert_goes_on(client)
    rig.secure.reply(die)
    answer = await client.ask(post(f"{URL}/put", b"0123456789", method="PUT"))
    assert answer.body == b"PUT /put 10"
    assert rig.secure.requests[-1].body == b"0123456789"


# --- which connections are kept ---------------------------------------------------------------------------------------


async def test_an_idle_connection_serves_the_next_client(rig: Rig) -> None:
    await rig.start()
    for _ in range(3):
        client = await rig.client()
        await assert_goes_on(client)
        await client.close()
    assert len(rig.secure.connections) == 1


async def test_requests_at_the_same_time_have_connections_of_their_own(rig: Rig) -> None:
    await rig.start()
    together = asyncio.Barrier(5)

    async def wait_for_the_others(request: Request) -> None:
        await together.wait()
        await request.connection.send(ok(request.target.encode()))

    rig.secure.reply(*[wait_for_the_others] * 5)
    clients = [await rig.client() for _ in range(5)]
    answers = await asyncio.gather(*(client.ask(get(f"{URL}/{n}")) for n, client in enumerate(clients)))
    assert [answer.body for answer in answers] == [b"/%d" % number for number in range(5)]
    assert len(rig.secure.connections) == 5
    for client in clients:
        await assert_goes_on(client)
    assert len(rig.secure.connections) == 5


POISON = ok(b"poison")
SURPLUS = {
    "after a length": ok(b"x") + POISON,
    "after chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"x") + POISON,
    "after a 204": b"HTTP/1.1 204 No Content\r\n\r\n" + POISON,
    "after a 304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n" + POISON,
    "one byte": ok(b"x") + b"\n",
}


@pytest.mark.parametrize("case", SURPLUS)
async def test_a_connection_with_more_bytes_than_its_answer_is_never_used_again(rig: Rig, case: str) -> None:
    await rig.start()
    client = await rig.client()
    rig.secure.reply(SURPLUS[case])
    assert (await client.ask(get(f"{URL}/"))).body in (b"x", b"")
    for _ in range(3):
        await assert_goes_on(client)
    assert len(rig.secure.connections) == 2


async def test_the_body_of_an_answer_to_head_is_never_the_next_answer(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    rig.secure.reply(POISON)
    assert (await client.ask(get(f"{URL}/", method="HEAD"))).value("Content-Length") == "6"
    await assert_goes_on(client)
    assert len(rig.secure.connections) == 2


async def test_bytes_that_nobody_asked_for_close_a_kept_connection(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await assert_goes_on(client)
    connection = await rig.secure.next_connection()
    await connection.send(POISON)
    async with asyncio.timeout(5):
        await connection.ended.wait()
    await assert_goes_on(client)
    assert len(rig.secure.connections) == 2


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"x", "Connection: close"),
        ok(b"x").replace(b"HTTP/1.1", b"HTTP/1.0"),
        ok(b"x", "Keep-Alive: timeout=1"),
    ],
)
async def test_a_connection_that_the_upstream_will_not_keep_is_not_kept(rig: Rig, answer: bytes) -> None:
    await rig.start()
    client = await rig.client()
    rig.secure.reply(answer)
    await client.ask(get(f"{URL}/"))
    await assert_goes_on(client)
    assert len(rig.secure.connections) == 2


async def test_an_http_1_0_upstream_that_keeps_its_connection_is_believed(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    rig.secure.reply(ok(b"x", "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"))
    await client.ask(get(f"{URL}/"))
    await assert_goes_on(client)
    assert len(rig.secure.connections) == 1


async def test_connections_of_one_trust_are_never_used_under_another(rig: Rig, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pem"
    copy.write_bytes(rig.trust.ca_file.read_bytes())
    await rig.start(routes=[rig.route(paths=["/a"]), rig.route(name="b", paths=["/b"], ca_file=str(copy))])
    client = await rig.client()
    for path in ("/a", "/b", "/a", "/b"):
        assert (await client.ask(get(URL + path))).status == 200
    assert len(rig.secure.connections) == 2


async def test_an_origin_that_closes_kept_connections_at_random_costs_gets_nothing_and_posts_at_most_a_502(
    rig: Rig,
) -> None:
    await rig.start()
    chance = random.Random(7)
    received: dict[str, int] = {}

    async def whimsical(request: Request) -> None:
        await request.connection.body(request)
        received[request.target] = received.get(request.target, 0) + 1
        first = len(request.connection.requests) == 1
        match chance.choice(["answer", "answer and go", "go"]):
            case "go" if not first:
                request.connection.reset()
            case "answer and go":
                await request.connection.send(ok(request.target.encode()))
                request.connection.close()
            case _:
                await request.connection.send(ok(request.target.encode()))

    rig.secure.always = whimsical
    client = await rig.client()
    refused = 0
    for number in range(150):
        target = f"/{number}"
        if number % 3:
            answer = await client.ask(get(URL + target))
            assert (answer.status, answer.body) == (200, target.encode())
            assert received[target] <= 2
        else:
            answer = await client.ask(post(URL + target, b"body"))
            assert (answer.status, answer.body) == (200, target.encode()) or answer.reason == "reset"
            refused += answer.status == 502
            assert received.get(target, 0) <= 1
    assert 0 < refused < 50
    assert rig.value("upstream_errors_total", route="api", reason="reset") == refused


async def test_a_connection_that_never_rests_is_given_up_when_it_is_old(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await assert_goes_on(client)
    [connection] = rig.sidecar.gateway.pool._all
    connection.retires_at = rig.sidecar.gateway.loop_time()
    await assert_goes_on(client)
    await assert_goes_on(client)
    assert len(rig.secure.connections) == 2


async def test_no_chunks_go_to_an_upstream_that_speaks_http_1_0(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    old = ok(b"x", "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
    rig.secure.reply(old, old)
    chunks = get(f"{URL}/", "Transfer-Encoding: chunked", method="PUT") + chunked(b"abc")
    assert (await client.ask(get(f"{URL}/"))).status == 200
    answer = await client.ask(chunks)
    assert (answer.status, answer.reason) == (502, "protocol")
    client = await rig.client()
    assert (await client.ask(post(f"{URL}/", b"abc"))).status == 200  # a length is what it knows
    assert len(rig.secure.requests) == 2

    assert (await client.ask(get(f"{URL}/"))).status == 200  # it was replaced by a newer one
    assert (await client.ask(chunks)).body == b"PUT / 3"
