"""Connections: answers in order, ends that are seen, bodies that nobody reads, and none of it ever in the next answer.

Lines 49 to 57 of the checklist.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from tests.proxy.raw_client import chunked, get, post
from tests.proxy.raw_origin import Request, ok
from tests.security.bench import REJECTING, URL, Case, Gets, leaves, refused, served

if TYPE_CHECKING:
    from tests.security.bench import Bench

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def slow(request: Request) -> None:
    """Answer after everybody else had time to."""
    await request.connection.body(request)
    for _ in range(20):
        await asyncio.sleep(0)
    await request.connection.send(ok(b"slow"))


PIPELINES: Final = {
    "with bodies between": Case(
        get(f"{URL}/1")
        + post(f"{URL}/2", b"body")
        + get(f"{URL}/3", "Transfer-Encoding: chunked", method="PUT")
        + chunked(b"ab", b"c")
        + get(f"{URL}/4"),
        (served("GET /1"), served("POST /2", 4), served("PUT /3", 3), served("GET /4")),
        (
            leaves("GET /1"),
            leaves("POST /2", body=b"body"),
            leaves("PUT /3", body=b"abc", chunked=True),
            leaves("GET /4"),
        ),
    ),
    "the first one slow": Case(
        get(f"{URL}/1") + get(f"{URL}/2") + get("http://stranger.test/3") + get(f"{URL}/4"),
        (Gets(200, b"slow"), served("GET /2"), refused(403, "target_unmatched"), served("GET /4")),
        (leaves("GET /1"), leaves("GET /2"), leaves("GET /4")),
        replies=(slow,),
    ),
    "each with a policy of its own": Case(
        get(f"{URL}/1", "Authorization: Bearer x")
        + get(f"http://{REJECTING}/2", "Authorization: Bearer x")
        + get(f"{URL}/3", method="TRACE")
        + get(f"{URL}/4"),
        (served("GET /1"), refused(403, "authorization_refused"), refused(403, "route_mismatch"), served("GET /4")),
        (leaves("GET /1"), leaves("GET /4")),
    ),
    "an error in the third": Case(
        get(f"{URL}/1") + get(f"{URL}/2") + b"GET /nonsense\r\n\r\n",
        (Gets(200, b"slow"), served("GET /2"), refused(400, "bad_request", has=("Connection: close",))),
        (leaves("GET /1"), leaves("GET /2")),
        ends=True,
        replies=(slow,),
        tail=get(f"{URL}/never"),
    ),
    "the second one the last": Case(
        get(f"{URL}/1") + get(f"{URL}/2", "Connection: close"),
        (Gets(200, b"slow"), served("GET /2", has=("Connection: close",))),
        (leaves("GET /1"), leaves("GET /2")),
        ends=True,
        replies=(slow,),
        tail=get(f"{URL}/never"),
    ),
}


@pytest.mark.parametrize("case", PIPELINES)
async def test_a_pipeline_is_answered_in_order_and_judged_one_by_one(bench: Bench, case: str) -> None:
    await bench.prove(PIPELINES[case])


UNREAD: Final = {
    "of a refused host": post("http://stranger.test/", bytes(300_000)),
    "of a refused Authorization": post(f"http://{REJECTING}/", bytes(300_000), "Authorization: x"),
    "in chunks": get("http://stranger.test/", "Transfer-Encoding: chunked", method="POST")
    + chunked(*[b"x" * 999] * 300),
}
REASONS: Final = {"of a refused Authorization": "authorization_refused"}


@pytest.mark.parametrize("case", UNREAD)
async def test_a_body_that_nobody_reads_is_dropped_and_its_refusal_still_arrives(bench: Bench, case: str) -> None:
    head, end, body = UNREAD[case].partition(b"\r\n\r\n")
    reason = REASONS.get(case, "target_unmatched")
    wanted = (refused(403, reason, has=("Connection: close",)),)
    await bench.prove(Case(head + end, wanted, ends=True, tail=body + get(f"{URL}/never")))


async def too_early(request: Request) -> None:
    """Give a final answer before the body is there, and go on reading."""
    await request.connection.send(ok(b"no", status="413 Content Too Large"))
    await request.connection.read_to_the_end()


async def test_an_early_answer_ends_the_upload_and_both_connections(bench: Bench) -> None:
    for framing, body in (("Content-Length: 100", b"some"), ("Transfer-Encoding: chunked", b"4\r\nsome\r\n")):
        case = Case(
            get(f"{URL}/", framing, method="POST") + body,
            (Gets(413, b"no", has=("Connection: close",)),),
            (leaves("POST /", body=b"some" + bytes(96), chunked="chunked" in framing, whole=False),),
            ends=True,
            replies=(too_early,),
            splits=False,
        )
        for _ in range(10):
            await bench.prove(case)


async def test_a_client_that_sends_no_more_still_gets_its_answers(bench: Bench) -> None:
    for requests, count in ((get(f"{URL}/1"), 1), (get(f"{URL}/1") + get(f"{URL}/2") + get(f"{URL}/3"), 3)):
        for pieces in Case(requests, ()).variants():
            bench.begin(slow)
            async with await bench.client() as client:
                await bench.send(client, pieces)
                client.end()
                bodies = [(await bench.hear(client)).body for _ in range(count)]
                assert bodies == [b"slow", b"GET /2 0", b"GET /3 0"][:count]
                assert await client.closed_cleanly()
            bench.assert_left(*(leaves(f"GET /{number + 1}") for number in range(count)))


async def test_bytes_that_nobody_asked_for_end_the_connection_to_the_origin(bench: Bench) -> None:
    for unasked in (ok(b"poison"), b"\r\n", b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"):
        bench.begin()
        async with await bench.client() as client:
            first = await bench.sentinel(client)
            [connection] = [each for each in bench.origin.connections if not each.ended.is_set()]
            await connection.send(unasked)
            async with asyncio.timeout(5):
                await connection.ended.wait()
            second = await bench.sentinel(client)
        bench.assert_left(first, second)
        assert len(bench.origin.received()) == 2


CUT: Final = {
    "in the head": get(f"{URL}/")[:-2],
    "in a body with a length": get(f"{URL}/", "Content-Length: 100", method="POST") + b"half",
    "between two chunks": get(f"{URL}/", "Transfer-Encoding: chunked", method="POST") + b"4\r\nhalf\r\n",
    "in a chunk": get(f"{URL}/", "Transfer-Encoding: chunked", method="POST") + b"8\r\nhalf",
    "before the end of the last chunk": get(f"{URL}/", "Transfer-Encoding: chunked", method="POST")
    + b"4\r\nhalf\r\n0\r\n",
}


@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize("case", CUT)
async def test_a_request_that_is_cut_off_never_looks_complete(bench: Bench, case: str, how: str) -> None:
    async def read(request: Request) -> None:
        await request.connection.read_to_the_end()

    bench.begin(read)
    body = b"half" + bytes(96)
    async with await bench.client() as client:
        await client.send(CUT[case])
        if "head" not in case:
            request = await bench.origin.next_request()
        client.end() if how == "end" else client.reset()
        if "head" not in case:
            async with asyncio.timeout(5):
                await request.connection.ended.wait()
    begun = leaves("POST /", body=body, chunked="chunk" in case, whole=False)
    sentinel = await bench.sentinel_elsewhere() if "head" not in case else None
    bench.assert_left(*([begun, sentinel] if sentinel is not None else []))
