"""Framing: where a message ends is said once, in one way, and doubted messages end their connection.

Lines 27 to 39 of the checklist.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from tests.proxy.raw_client import chunked, get, post
from tests.proxy.raw_origin import ok
from tests.proxy.rig import API
from tests.security.bench import URL, Case, Gets, leaves, refusal, refused, served

if TYPE_CHECKING:
    from tests.proxy.raw_origin import Request
    from tests.security.bench import Bench

pytestmark = pytest.mark.asyncio(loop_scope="module")

LINE: Final = f"POST {URL}/ HTTP/1.1\r\nHost: {API}\r\n"
CHUNKED: Final = "Transfer-Encoding: chunked\r\n"
LAST: Final = "\r\n0\r\n\r\n"

LENGTHS: Final = {
    "a length and chunks": f"{LINE}Content-Length: 5\r\n{CHUNKED}{LAST}",
    "chunks and a length": f"{LINE}{CHUNKED}Content-Length: 5\r\n{LAST}",
    "chunks and a length of nothing": f"{LINE}{CHUNKED}Content-Length: 0\r\n{LAST}",
    "two lengths that differ": f"{LINE}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "two lengths that agree": f"{LINE}Content-Length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "a list": f"{LINE}Content-Length: 3, 3\r\n\r\nabc",
    "a list without spaces": f"{LINE}Content-Length: 3,4\r\n\r\nabc",
    "a plus": f"{LINE}Content-Length: +3\r\n\r\nabc",
    "a minus": f"{LINE}Content-Length: -3\r\n\r\nabc",
    "hexadecimal": f"{LINE}Content-Length: 0x3\r\n\r\nabc",
    "a space inside": f"{LINE}Content-Length: 3 3\r\n\r\nabc",
    "an underscore inside": f"{LINE}Content-Length: 3_0\r\n\r\nabc",
    "a fraction": f"{LINE}Content-Length: 3.0\r\n\r\nabc",
    "an exponent": f"{LINE}Content-Length: 1e1\r\n\r\nabc",
    "nothing": f"{LINE}Content-Length:\r\n\r\nabc",
    "words": f"{LINE}Content-Length: three\r\n\r\nabc",
    "quotes": f'{LINE}Content-Length: "3"\r\n\r\nabc',
    "a digit that is not ASCII": f"{LINE}Content-Length: \xb3\r\n\r\nabc",
    "too many digits": f"{LINE}Content-Length: {'9' * 40}\r\n\r\n",
    "2 to the 64th and 3": f"{LINE}Content-Length: 18446744073709551619\r\n\r\nabc",
    "a tail": f"{LINE}Content-Length: 3;x\r\n\r\nabc",
    "no coding at all": f"{LINE}Transfer-Encoding:\r\n{LAST}",
    "identity": f"{LINE}Transfer-Encoding: identity\r\n{LAST}",
    "another coding": f"{LINE}Transfer-Encoding: gzip\r\n{LAST}",
    "chunked, but not at the end": f"{LINE}Transfer-Encoding: chunked, identity\r\n{LAST}",
    "chunked with a parameter": f"{LINE}Transfer-Encoding: chunked;q=1\r\n{LAST}",
    "chunked in quotes": f'{LINE}Transfer-Encoding: "chunked"\r\n{LAST}',
    "chunked, and a comma": f"{LINE}Transfer-Encoding: chunked,\r\n{LAST}",
    "a coding that only ends like it": f"{LINE}Transfer-Encoding: xchunked\r\n{LAST}",
    "chunked twice": f"{LINE}Transfer-Encoding: chunked, chunked\r\n{LAST}",
    "chunked in two fields": f"{LINE}{CHUNKED}{CHUNKED}{LAST}",
    "chunks in HTTP/1.0": f"POST {URL}/ HTTP/1.0\r\nHost: {API}\r\n{CHUNKED}{LAST}",
}


@pytest.mark.parametrize("case", LENGTHS)
async def test_a_body_whose_end_is_in_doubt_is_refused(bench: Bench, case: str) -> None:
    await bench.prove(refusal(LENGTHS[case], 400, "bad_request"))


CODINGS: Final = {
    "gzip, chunked": f"{LINE}Transfer-Encoding: gzip, chunked\r\n{LAST}",
    "an empty coding": f"{LINE}Transfer-Encoding: , chunked\r\n{LAST}",
    "two fields": f"{LINE}Transfer-Encoding: gzip\r\n{CHUNKED}{LAST}",
}


@pytest.mark.parametrize("case", CODINGS)
async def test_another_coding_is_a_501(bench: Bench, case: str) -> None:
    await bench.prove(refusal(CODINGS[case], 501, "coding_unknown"))


UPLOAD: Final = f"{LINE}{CHUNKED}\r\n2\r\nok\r\n".encode()
BEGUN: Final = (leaves("POST /", body=b"okabc", chunked=True, whole=False),)
CHUNKS: Final = {
    "a size that is no number": b"x\r\nabc\r\n0\r\n\r\n",
    "a plus": b"+3\r\nabc\r\n0\r\n\r\n",
    "a minus": b"-3\r\nabc\r\n0\r\n\r\n",
    "a prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a space before it": b" 3\r\nabc\r\n0\r\n\r\n",
    "a space behind it": b"3 \r\nabc\r\n0\r\n\r\n",
    "a space before an extension": b"3 ;x\r\nabc\r\n0\r\n\r\n",
    "an underscore": b"1_0\r\nabc\r\n0\r\n\r\n",
    "nothing": b"\r\nabc\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"f" * 17 + b"\r\nabc\r\n0\r\n\r\n",
    "zeros and a size beyond 64 bits": b"0" * 40 + b"3\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
    "a bare LF after the size": b"3\nabc\r\n0\r\n\r\n",
    "a bare CR after the size": b"3\rabc\r\n0\r\n\r\n",
    "a bare LF after the chunk": b"3\r\nabc\n0\r\n\r\n",
    "two bytes instead of a line end": b"3\r\nabcxx0\r\n\r\n",
    "a bare LF after the last size": b"3\r\nabc\r\n0\n\r\n",
    "a control character in an extension": b"3;\x01\r\nabc\r\n0\r\n\r\n",
    "a bare CR in an extension": b"3;\rx\r\nabc\r\n0\r\n\r\n",
    "an endless extension": b"3;" + b"x" * 9000,
    "a trailer without a colon": b"0\r\nnonsense\r\n\r\n",
    "a folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "a trailer with a space before its colon": b"0\r\nX : y\r\n\r\n",
    "a bare LF after a trailer": b"0\r\nX: y\n\r\n",
}


@pytest.mark.parametrize("case", CHUNKS)
async def test_a_malformed_chunk_is_refused_and_the_request_never_ends_upstream(bench: Bench, case: str) -> None:
    await bench.prove(refusal(CHUNKS[case], 400, "bad_request", begun=BEGUN, lead=UPLOAD))


BODIES: Final = {
    "a length, in odd case": Case(
        get(f"{URL}/", "content-LENGTH:   4\t", method="POST") + b"body",
        (served("POST /", 4),),
        (leaves("POST /", body=b"body"),),
    ),
    "a length with zeros before it": Case(
        get(f"{URL}/", "Content-Length: 0004", method="POST") + b"body",
        (served("POST /", 4),),
        (leaves("POST /", body=b"body"),),
    ),
    "a length of nothing": Case(post(f"{URL}/", b""), (served("POST /"),), (leaves("POST /", body=b""),)),
    "no body at all": Case(get(f"{URL}/", method="POST"), (served("POST /"),), (leaves("POST /"),)),
    "chunks, in odd case": Case(
        get(f"{URL}/", "transfer-ENCODING: Chunked", method="POST") + chunked(b"a", b"bc"),
        (served("POST /", 3),),
        (leaves("POST /", body=b"abc", chunked=True),),
    ),
    "chunks with extensions and trailers": Case(
        get(f"{URL}/", "Transfer-Encoding: chunked", method="POST")
        + b'00003;a="b;c";d\r\nabc\r\nA;x\r\n0123456789\r\n000;z\r\nX: y\r\nContent-Length: 9\r\n\r\n',
        (served("POST /", 13),),
        (leaves("POST /", body=b"abc0123456789", chunked=True),),
    ),
    "no chunk but the last": Case(
        get(f"{URL}/", "Transfer-Encoding: chunked", method="POST") + chunked(),
        (served("POST /"),),
        (leaves("POST /", body=b"", chunked=True),),
    ),
    "a body of GET": Case(
        post(f"{URL}/", b"GET /x HTTP/1.1\r\n\r\n", method="GET"),
        (served("GET /", 19),),
        (leaves("GET /", body=b"GET /x HTTP/1.1\r\n\r\n"),),
    ),
    "a body of HEAD": Case(
        post(f"{URL}/", b"body", method="HEAD"),
        (Gets(200, head_only=True),),
        (leaves("HEAD /", body=b"body"),),
    ),
    "a body of DELETE": Case(
        post(f"{URL}/", b"body", method="DELETE"), (served("DELETE /", 4),), (leaves("DELETE /", body=b"body"),)
    ),
    "a body of OPTIONS in chunks": Case(
        get(f"{URL}/", "Transfer-Encoding: chunked", method="OPTIONS") + chunked(b"body"),
        (served("OPTIONS /", 4),),
        (leaves("OPTIONS /", body=b"body", chunked=True),),
    ),
    "bytes after Connection: close": Case(
        get(f"{URL}/", "Connection: close"),
        (served("GET /", has=("Connection: close",)),),
        (leaves("GET /"),),
        ends=True,
        tail=get(f"{URL}/smuggled"),
    ),
    "bytes after a request in HTTP/1.0": Case(
        f"GET {URL}/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode(),
        (served("GET /", has=("Connection: close",)),),
        (leaves("GET /"),),
        ends=True,
        tail=get(f"{URL}/smuggled"),
    ),
}


@pytest.mark.parametrize("case", BODIES)
async def test_exactly_one_framing_field_leaves_and_the_next_request_begins_where_it_should(
    bench: Bench, case: str
) -> None:
    await bench.prove(BODIES[case])


# --- answers ----------------------------------------------------------------------------------------------------------

POISON: Final = ok(b"poison")
HEAD: Final = get(f"{URL}/", method="HEAD")
BAD_ANSWERS: Final = {
    "a length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
    "a signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
    "an empty length": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nx",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nx",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
async def test_an_answer_whose_end_is_in_doubt_is_a_502_and_its_connection_closed(bench: Bench, case: str) -> None:
    await bench.prove_answer(BAD_ANSWERS[case], refused(502, "protocol"), kept=False)


ANSWERS: Final = {
    "a length": (ok(b"hello"), Gets(200, b"hello", has=("Content-Length: 5",)), True, b""),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n02\r\nlo\r\n0\r\nX: y\r\n\r\n",
        Gets(200, b"hello", has=("Transfer-Encoding: chunked",), lacks=("Content-Length", "X")),
        True,
        b"",
    ),
    "a length to HEAD": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
        Gets(200, head_only=True, has=("Content-Length: 5000",)),
        True,
        HEAD,
    ),
    "chunks to HEAD": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Gets(200, head_only=True, lacks=("Content-Length",)),
        True,
        HEAD,
    ),
    "a 204": (
        b"HTTP/1.1 204 No Content\r\n\r\n",
        Gets(204, lacks=("Content-Length", "Transfer-Encoding")),
        True,
        b"",
    ),
    "a 204 with a length": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        Gets(204, lacks=("Content-Length", "Transfer-Encoding")),
        True,
        b"",
    ),
    "a 204 with chunks": (
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        Gets(204, lacks=("Content-Length", "Transfer-Encoding")),
        True,
        b"",
    ),
    "a 304 with a length": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\nETag: x\r\n\r\n",
        Gets(304, has=("ETag: x",), lacks=("Transfer-Encoding",)),
        True,
        b"",
    ),
    "interim answers with framing": (
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nLink: </x>\r\n\r\n" + ok(b"hello"),
        Gets(200, b"hello", interim=(103,)),
        True,
        b"",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_ends_where_its_framing_says(bench: Bench, case: str) -> None:
    reply, gets, kept, sent = ANSWERS[case]
    await bench.prove_answer(reply, gets, kept=kept, sent=sent)


SURPLUS: Final = {
    "a length": (ok(b"x"), Gets(200, b"x"), b""),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"x"),
        Gets(200, b"x"),
        b"",
    ),
    "an answer to HEAD": (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", Gets(200, head_only=True), HEAD),
    "a 204": (b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n", Gets(204), b""),
    "a 304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n", Gets(304), b""),
}


@pytest.mark.parametrize("surplus", [POISON, b"poison", b"\n"])
@pytest.mark.parametrize("case", SURPLUS)
async def test_what_follows_an_answer_is_never_the_next_one(bench: Bench, case: str, surplus: bytes) -> None:
    reply, gets, sent = SURPLUS[case]
    await bench.prove_answer(reply, gets, surplus=surplus, kept=False, sent=sent)


BAD_CHUNKS: Final = {
    "no number": b"x\r\n",
    "a plus": b"+3\r\nabc\r\n",
    "a prefix": b"0x3\r\nabc\r\n",
    "too long": b"3\r\nabcd\r\n",
    "a bare LF": b"3\nabc\r\n",
    "beyond 64 bits": b"f" * 17 + b"\r\n",
    "an endless extension": b"3;" + b"x" * 9000,
}


@pytest.mark.parametrize("case", BAD_CHUNKS)
async def test_a_malformed_chunk_of_an_answer_breaks_it_off(bench: Bench, case: str) -> None:
    """What was begun cannot be unsaid; it must not look complete."""
    heard = asyncio.Event()

    async def answer(request: Request) -> None:
        await request.connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        await heard.wait()
        await request.connection.send(BAD_CHUNKS[case] + b"0\r\n\r\n")

    bench.begin(answer)
    async with await bench.client() as client:
        await client.send(get(f"{URL}/"))
        await client.head()
        assert await client.chunk() == b"ok"
        heard.set()
        received, clean = await client.rest()
    assert not clean
    assert b"0\r\n\r\n" not in received
    bench.assert_left(leaves("GET /"), await bench.sentinel_elsewhere())


@pytest.mark.parametrize("case", BAD_CHUNKS)
async def test_a_malformed_chunk_before_the_answer_has_begun_is_a_502(bench: Bench, case: str) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + BAD_CHUNKS[case]
    await bench.run(
        Case(get(f"{URL}/"), (refused(502, "protocol"),), (leaves("GET /"),), replies=(answer,)), [get(f"{URL}/")]
    )


async def test_no_chunks_go_to_a_client_of_http_1_0(bench: Bench) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"one", b"two")
    gets = Gets(200, b"onetwo", has=("Connection: close",), lacks=("Transfer-Encoding",))
    request = f"GET {URL}/ HTTP/1.0\r\n\r\n".encode()
    await bench.prove(Case(request, (gets,), (leaves("GET /"),), ends=True, replies=(answer,)))


async def test_a_connect_is_answered_without_framing(bench: Bench) -> None:
    async with await bench.client() as client:
        await client.send(f"CONNECT {API}:80 HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
        head = (await client.head()).lower()
    assert head.startswith(b"http/1.1 200 ")
    assert b"content-length" not in head
    assert b"transfer-encoding" not in head
