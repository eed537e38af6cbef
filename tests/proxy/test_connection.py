"""A client's connection: what is read as one request, what is refused and how, in which order answers come, and how it
ends. Each case ends with a sentinel: where the connection goes on, its next request gets its own answer."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from tests.proxy.raw_client import chunked, get, post
from tests.proxy.raw_origin import Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.raw_client import RawClient
    from tests.proxy.rig import Rig

URL = f"http://{API}"


async def assert_goes_on(client: RawClient) -> None:
    """The sentinel gets its own answer."""
    answer = await client.ask(get(f"{URL}/sentinel"))
    assert (answer.status, answer.body) == (200, b"GET /sentinel 0")


# --- one request after the other --------------------------------------------------------------------------------------


async def test_a_connection_is_kept_for_further_requests(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    for number in range(3):
        answer = await client.ask(get(f"{URL}/{number}"))
        assert answer.body == f"GET /{number} 0".encode()
        assert answer.value("Connection") is None
    assert len(rig.secure.connections) == 1


async def test_pipelined_requests_are_answered_in_order(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    release = asyncio.Event()

    async def slow(request: Request) -> None:
        await release.wait()
        await request.connection.send(ok(b"slow"))

    rig.secure.reply(slow)
    await client.send(get(f"{URL}/slow") + post(f"{URL}/second", b"body") + get(f"{URL}/third"))
    await rig.secure.next_request()
    release.set()
    assert [(await client.answer()).body for _ in range(3)] == [b"slow", b"POST /second 4", b"GET /third 0"]
    await assert_goes_on(client)


async def test_the_error_of_a_pipelined_request_comes_after_the_answers_before_it(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.send(get(f"{URL}/1") + get(f"{URL}/2") + b"GET /nonsense\r\n\r\n" + get(f"{URL}/never"))
    assert (await client.answer()).body == b"GET /1 0"
    assert (await client.answer()).body == b"GET /2 0"
    assert (await client.answer()).reason == "bad_request"
    assert await client.closed_cleanly()
    assert [request.target for request in rig.secure.requests] == ["/1", "/2"]


async def test_each_pipelined_request_is_checked_by_itself(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.send(get(f"{URL}/1") + get("http://elsewhere.test/") + get(f"{URL}/3"))
    assert (await client.answer()).status == 200
    assert (await client.answer()).reason == "target_unmatched"
    assert (await client.answer()).body == b"GET /3 0"


async def test_a_request_may_arrive_in_any_pieces(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    request = post(f"{URL}/pieces", b"0123456789") + get(f"{URL}/next", "Transfer-Encoding: chunked", method="PUT")
    for byte in request + chunked(b"ab", b"c"):
        await client.send(bytes((byte,)))
    assert (await client.answer()).body == b"POST /pieces 10"
    assert (await client.answer()).body == b"PUT /next 3"
    await assert_goes_on(client)


async def test_empty_lines_before_a_request_are_ignored_within_bounds(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    assert (await client.ask(b"\r\n\r\n" + get(f"{URL}/1"))).status == 200
    assert (await client.ask(b"\r\n" * 20 + get(f"{URL}/2"))).reason == "bad_request"
    assert await client.closed_cleanly()


async def test_a_pipelined_flood_is_read_no_faster_than_it_is_answered(rig: Rig) -> None:
    await rig.start(limits={"head": "4KiB", "target": "2KiB"})
    client = await rig.client()
    release = asyncio.Event()

    async def slow(request: Request) -> None:
        await release.wait()
        await request.connection.send(ok(b"slow"))

    rig.secure.reply(slow)
    count = 1500
    client.send_later(get(f"{URL}/slow") + get(f"{URL}/f", "X: " + "y" * 3000) * count)
    await rig.secure.next_request()
    release.set()
    assert (await client.answer()).body == b"slow"
    connection = rig.connections()[0]
    largest = 0
    for _ in range(count):
        assert (await client.answer()).body == b"GET /f 0"
        largest = max(largest, len(connection._buffer))
    assert largest < 600 * 1024  # one read of the event loop beyond the limit, not one for each answer
    await assert_goes_on(client)


async def test_refused_requests_in_a_flood_do_not_stop_the_connection(rig: Rig) -> None:
    await rig.start(limits={"head": "4KiB", "target": "2KiB"})
    client = await rig.client()
    client.send_later(get(f"{URL}/first") + get("http://elsewhere.test/") * 2000)
    assert (await client.answer()).status == 200
    for _ in range(2000):
        assert (await client.answer()).status == 403
    await assert_goes_on(client)


# --- how a connection ends --------------------------------------------------------------------------------------------


async def test_connection_close_is_obeyed_and_said(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    answer = await client.ask(get(f"{URL}/", "Connection: close"))
    assert answer.value("Connection") == "close"
    assert await client.closed_cleanly()


async def test_bytes_after_connection_close_are_no_request(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.send(get(f"{URL}/last", "Connection: close") + get(f"{URL}/never"))
    assert (await client.answer()).body == b"GET /last 0"
    assert await client.closed_cleanly()
    assert len(rig.secure.requests) == 1


async def test_an_http_1_0_client_is_answered_without_chunks_and_its_connection_closed(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    rig.secure.reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"one", b"two"))
    await client.send(f"GET {URL}/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode())
    answer = await client.answer()
    assert answer.value("Transfer-Encoding") is None
    assert answer.value("Connection") == "close"
    assert answer.body == b"onetwo"


async def test_a_half_closed_client_still_gets_its_answer(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    release = asyncio.Event()

    async def slow(request: Request) -> None:
        await release.wait()
        await request.connection.send(ok(b"late"))

    rig.secure.reply(slow)
    await client.send(get(f"{URL}/"))
    client.end()
    await rig.secure.next_request()
    release.set()
    assert (await client.answer()).body == b"late"
    assert await client.closed_cleanly()


async def test_a_half_closed_client_gets_the_answers_to_all_it_has_sent(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.send(get(f"{URL}/1") + get(f"{URL}/2") + get("http://elsewhere.test/") + get(f"{URL}/4"))
    client.end()
    assert [(await client.answer()).status for _ in range(4)] == [200, 200, 403, 200]
    assert await client.closed_cleanly()


async def test_a_client_that_breaks_off_ends_the_work_of_the_upstream(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()

    async def never(request: Request) -> None:
        await request.connection.read_to_the_end()

    rig.secure.reply(never)
    await client.send(get(f"{URL}/"))
    request = await rig.secure.next_request()
    client.reset()
    async with asyncio.timeout(5):
        await request.connection.ended.wait()
    await rig.at_rest()
    assert rig.value("http_requests_total", route="api", method="GET", code="499") == 1


async def test_an_upload_that_breaks_off_never_looks_complete_upstream(rig: Rig) -> None:
    await rig.start()
    for body in (b"Content-Length: 100\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"):
        rig.secure.reply(drain)
        client = await rig.client()
        await client.send(f"POST {URL}/ HTTP/1.1\r\nHost: {API}\r\n".encode() + body)
        request = await rig.secure.next_request()
        await client.close()
        async with asyncio.timeout(5):
            await request.connection.ended.wait()
        assert b"half" in request.body
        assert b"0\r\n\r\n" not in request.body
    await rig.at_rest()
    other = await rig.client()
    await assert_goes_on(other)
    assert len(rig.secure.connections) == 3


async def drain(request: Request) -> None:
    """Keep all that comes as the body, framing and all."""
    request.body = await request.connection.read_to_the_end()


async def test_an_idle_connection_is_closed_after_its_time(rig: Rig) -> None:
    await rig.start(limits={"client_idle": "200ms"})
    client = await rig.client()
    assert (await client.ask(get(f"{URL}/"))).status == 200
    assert await client.closed_cleanly()


async def test_an_answer_reaches_a_client_that_is_still_sending(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    client.send_later(get(f"{URL}/", "Content-Length: nonsense", method="POST") + b"x" * 900_000)
    assert (await client.answer()).reason == "bad_request"


# --- refusals ---------------------------------------------------------------------------------------------------------

HOST = f"Host: {API}\r\n"
LINE = f"GET {URL}/ HTTP/1.1\r\n"

MALFORMED: dict[str, tuple[str | bytes, int]] = {
    "no Host": (f"{LINE}\r\n", 400),
    "two Hosts": (f"{LINE}{HOST}{HOST}\r\n", 400),
    "an invalid Host": (f"{LINE}Host: a b/@\r\n\r\n", 400),
    "a space before the colon": (f"{LINE}{HOST}X : y\r\n\r\n", 400),
    "a folded line": (f"{LINE}{HOST}X: y\r\n z\r\n\r\n", 400),
    "white space after the request line": (f"{LINE} {HOST}\r\n", 400),
    "a bare LF": (f"{LINE}{HOST}X: y\n\r\n", 400),
    "only bare LFs": (f"GET {URL}/ HTTP/1.1\nHost: {API}\n\n", 400),
    "a bare CR": (f"{LINE}{HOST}X: y\rz\r\n\r\n", 400),
    "a NUL": (f"{LINE}{HOST}X: y\0\r\n\r\n", 400),
    "no colon": (f"{LINE}{HOST}nonsense\r\n\r\n", 400),
    "an empty field name": (f"{LINE}{HOST}: x\r\n\r\n", 400),
    "a length and chunks": (f"{LINE}{HOST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks and a length": (f"{LINE}{HOST}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (f"{LINE}{HOST}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "a list of lengths": (f"{LINE}{HOST}Content-Length: 3, 3\r\n\r\nabc", 400),
    "a signed length": (f"{LINE}{HOST}Content-Length: +3\r\n\r\nabc", 400),
    "an endless length": (f"{LINE}{HOST}Content-Length: {'9' * 40}\r\n\r\n", 400),
    "a coding besides chunked": (f"{LINE}{HOST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "a coding that does not end in chunked": (f"{LINE}{HOST}Transfer-Encoding: gzip\r\n\r\n", 400),
    "chunks in HTTP/1.0": (f"GET {URL}/ HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "an upgrade with a body": (
        f"{LINE}{HOST}Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx",
        400,
    ),
    "an unknown expectation": (f"{LINE}{HOST}Expect: more\r\nContent-Length: 1\r\n\r\n", 417),
    "HTTP/0.9": (f"GET {URL}/\r\n\r\n", 400),
    "HTTP/2.0": (f"GET {URL}/ HTTP/2.0\r\n{HOST}\r\n", 505),
    "HTTP/1.2": (f"GET {URL}/ HTTP/1.2\r\n{HOST}\r\n", 505),
    "the preface of HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "RTSP": (f"GET {URL}/ RTSP/1.0\r\n{HOST}\r\n", 400),
    "ICE": (f"SOURCE {URL}/ ICE/1.0\r\n{HOST}\r\n", 400),
    "a lower-case method": (f"get {URL}/ HTTP/1.1\r\n{HOST}\r\n", 501),
    "an unknown method": (f"BREW {URL}/ HTTP/1.1\r\n{HOST}\r\n", 501),
    "an origin-form target": (f"GET / HTTP/1.1\r\n{HOST}\r\n", 400),
    "a fragment": (f"GET {URL}/#x HTTP/1.1\r\n{HOST}\r\n", 400),
    "a user in the target": (f"GET http://user@{API}/ HTTP/1.1\r\n{HOST}\r\n", 400),
    "an empty host": (f"GET http:///x HTTP/1.1\r\n{HOST}\r\n", 400),
    "another scheme": (f"GET ftp://{API}/ HTTP/1.1\r\n{HOST}\r\n", 400),
    "two spaces": (f"GET  {URL}/ HTTP/1.1\r\n{HOST}\r\n", 400),
    "a target that is not ASCII": (f"GET {URL}/é HTTP/1.1\r\n{HOST}\r\n".encode(), 400),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n", 400),
    "CONNECT without a port": (f"CONNECT {API} HTTP/1.1\r\n{HOST}\r\n", 400),
    "CONNECT with a body": (f"CONNECT {API}:443 HTTP/1.1\r\n{HOST}Content-Length: 1\r\n\r\nx", 400),
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_malformed_request_is_refused_the_connection_closed_and_nothing_forwarded(rig: Rig, case: str) -> None:
    await rig.start()
    request, status = MALFORMED[case]
    client = await rig.client()
    await client.send((request if isinstance(request, bytes) else request.encode()) + get(f"{URL}/smuggled"))
    answer = await client.answer()
    assert answer.status == status
    assert answer.is_own
    assert answer.reason
    assert answer.value("Connection") == "close"
    assert await client.closed_cleanly()
    assert rig.secure.requests == []
    assert rig.plain.requests == []


BAD_CHUNKS = {
    "a size that is no number": b"x\r\nabc\r\n0\r\n\r\n",
    "a signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "a size with a prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a size with a space": b"3 \r\nabc\r\n0\r\n\r\n",
    "a chunk longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
    "a bare LF after a size": b"3\nabc\r\n0\r\n\r\n",
    "an endless size": b"f" * 20 + b"\r\n",
    "an endless extension": b"3;" + b"x" * 9000,
}


@pytest.mark.parametrize("case", BAD_CHUNKS)
async def test_a_malformed_chunk_is_refused_and_never_ends_the_body_upstream(rig: Rig, case: str) -> None:
    await rig.start()
    rig.secure.reply(drain)
    client = await rig.client()
    await client.send(get(f"{URL}/", "Transfer-Encoding: chunked", method="POST") + b"2\r\nok\r\n" + BAD_CHUNKS[case])
    assert (await client.answer()).reason == "bad_request"
    assert await client.closed_cleanly()
    await rig.at_rest()
    assert all(not request.body.endswith(b"0\r\n\r\n") for request in rig.secure.requests)


async def test_a_refusal_without_a_body_in_the_way_keeps_the_connection(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    answer = await client.ask(get("http://elsewhere.test/"))
    assert (answer.status, answer.reason) == (403, "target_unmatched")
    assert answer.value("Connection") is None
    await assert_goes_on(client)
    assert rig.value("denied_requests_total", reason="target_unmatched") == 1


async def test_a_refusal_before_a_body_closes_the_connection(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    answer = await client.ask(post("http://elsewhere.test/", b"body"))
    assert answer.status == 403
    assert answer.value("Connection") == "close"
    assert await client.closed_cleanly()


async def test_the_answer_to_a_refused_head_has_no_body(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    answer = await client.ask(get("http://elsewhere.test/", method="HEAD"))
    assert answer.status == 403
    await assert_goes_on(client)


async def test_a_request_that_came_through_this_sidecar_is_a_loop(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/"))
    via = rig.secure.requests[0].values("Via")[0]
    answer = await client.ask(get(f"{URL}/", f"Via: {via}"))
    assert (answer.status, answer.reason) == (508, "loop_detected")
    assert rig.value("denied_requests_total", reason="loop_detected") == 1
    assert (await client.ask(get(f"{URL}/", "Via: 1.1 token-sidecar-00000000"))).status == 200
    assert rig.secure.requests[-1].values("Via") == ["1.1 token-sidecar-00000000", via]


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_a_head_over_the_limit_is_a_431(rig: Rig) -> None:
    await rig.start(limits={"head": "2KiB", "target": "1KiB", "fields": 20})
    for fields in (["X: " + "y" * 3000], [f"X-{number}: y" for number in range(30)]):
        client = await rig.client()
        answer = await client.ask(get(f"{URL}/", *fields))
        assert (answer.status, answer.reason) == (431, "head_too_large")
        assert await client.closed_cleanly()
    client = await rig.client()
    await client.send(get(f"{URL}/")[:-2] + b"X: " + b"y" * 3000)  # without an end
    assert (await client.answer()).status == 431
    assert rig.secure.requests == []


async def test_a_target_over_the_limit_is_a_414(rig: Rig) -> None:
    await rig.start(limits={"head": "4KiB", "target": "1KiB"})
    client = await rig.client()
    answer = await client.ask(get(f"{URL}/" + "x" * 2000))
    assert (answer.status, answer.reason) == (414, "target_too_long")
    client = await rig.client()
    await client.send(f"GET {URL}/".encode() + b"x" * 5000)  # without an end
    assert (await client.answer()).status == 414
    assert rig.secure.requests == []


async def test_a_head_that_takes_too_long_is_a_408_however_it_drips(rig: Rig) -> None:
    await rig.start(limits={"head_timeout": "300ms"})
    client = await rig.client()
    await client.send(b"GET ")
    answering = asyncio.ensure_future(client.answer())
    while not answering.done():
        client.send_later(b"x")
        await asyncio.wait((answering,), timeout=0.05)
    answer = await answering
    assert (answer.status, answer.reason) == (408, "head_timeout")


async def test_a_body_that_stops_is_a_408(rig: Rig) -> None:
    await rig.start(limits={"body_idle": "300ms"})
    client = await rig.client()
    rig.secure.reply(drain)
    await client.send(get(f"{URL}/", "Content-Length: 10", method="POST") + b"half")
    answer = await client.answer()
    assert (answer.status, answer.reason) == (408, "body_timeout")
    assert await client.closed_cleanly()
    request = await rig.secure.next_request()
    async with asyncio.timeout(5):
        await request.connection.ended.wait()
    assert request.body == b"half"


async def test_connections_over_the_limit_get_a_503_and_the_others_go_on(rig: Rig) -> None:
    await rig.start(limits={"connections": 2})
    first, second = await rig.client(), await rig.client()
    assert (await first.ask(get(f"{URL}/"))).status == 200
    assert (await second.ask(get(f"{URL}/"))).status == 200
    third = await rig.client()
    answer = await third.answer()
    assert (answer.status, answer.reason) == (503, "overloaded")
    assert answer.value("Retry-After") is not None
    assert await third.closed_cleanly()
    await third.close()
    await assert_goes_on(first)
    assert rig.value("connections_rejected_total", reason="overloaded") == 1
    await second.close()
    await rig.at_rest()
    fourth = await rig.client()
    await assert_goes_on(fourth)


async def test_open_connections_are_counted_in_and_out(rig: Rig) -> None:
    sidecar = await rig.start()
    clients = [await rig.client() for _ in range(3)]
    for client in clients:
        await assert_goes_on(client)
    assert rig.value("connections_open", listener="egress") == 3
    for client in clients:
        client.reset() if client is clients[0] else await client.close()
    other = await rig.client()
    await assert_goes_on(other)
    assert rig.value("connections_open", listener="egress") == 1
    assert sidecar.gateway.open_connections == 1


async def test_a_port_scan_costs_nothing(rig: Rig) -> None:
    sidecar = await rig.start()
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", rig.port("egress")), timeout=5):
            pass
    client = await rig.client()
    await assert_goes_on(client)
    await rig.at_rest()
    assert sidecar.gateway.open_connections == 1


async def test_a_body_that_a_half_closed_client_never_sent_whole_is_not_waited_for(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    release = asyncio.Event()

    async def slow(request: Request) -> None:
        await release.wait()
        await request.connection.send(ok(b"first"))

    rig.secure.reply(slow)
    await client.send(get(f"{URL}/") + post(f"{URL}/", b"abc")[:-1])
    client.end()
    await rig.secure.next_request()
    release.set()
    assert (await client.answer()).body == b"first"
    await client.rest()  # within the client's patience, far below body_idle
    await rig.at_rest()
