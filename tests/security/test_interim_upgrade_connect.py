"""What is not one request and one answer: interim answers, Expect, switches of protocol, CONNECT, and Max-Forwards.

Lines 40 to 48 of the checklist.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from tests.proxy.raw_client import RawClient, chunked, get, post
from tests.proxy.raw_origin import Request, ok
from tests.proxy.rig import API
from tests.security.bench import URL, Case, Gets, leaves, refusal, refused, served

if TYPE_CHECKING:
    from tests.security.bench import Bench

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXPECT: Final = "Expect: 100-continue"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# --- interim answers --------------------------------------------------------------------------------------------------


async def test_interim_answers_are_relayed_in_order_however_they_come(bench: Bench) -> None:
    reply = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok(b"final")
    await bench.prove_answer(reply, Gets(200, b"final", interim=(102, 103)), kept=True)


async def test_interim_answers_are_bounded(bench: Bench) -> None:
    reply = CONTINUE * 1000 + ok(b"final")
    await bench.prove_answer(reply, Gets(200, b"final", interim=(100,) * 8), kept=True)


async def test_a_client_of_http_1_0_gets_no_interim_answer(bench: Bench) -> None:
    gets = Gets(200, b"final", has=("Connection: close",))
    request = f"GET {URL}/ HTTP/1.0\r\n\r\n".encode()
    await bench.prove(Case(request, (gets,), (leaves("GET /"),), ends=True, replies=(CONTINUE * 2 + ok(b"final"),)))


async def continue_and_read(request: Request) -> None:
    """Ask for the body as an origin does that was told to expect it."""
    assert request.values("Expect") == ["100-continue"]
    await request.connection.send(CONTINUE)
    body = await request.connection.body(request)
    await request.connection.send(ok(body))


async def test_the_body_is_not_waited_for_before_the_expectation_goes_on(bench: Bench) -> None:
    head = get(f"{URL}/", "Content-Length: 4", EXPECT, method="POST")
    for pieces in Case(head, ()).variants():
        bench.begin(continue_and_read)
        async with await bench.client() as client:
            await bench.send(client, pieces)
            assert (await client.head()).startswith(b"HTTP/1.1 100 ")
            await client.send(b"body")
            Gets(200, b"body").check(await bench.hear(client))
            sentinel = await bench.sentinel(client)
        bench.assert_left(leaves("POST /", body=b"body", expects=True), sentinel)


EXPECTING: Final = {
    "the body comes along": Case(
        post(f"{URL}/", b"body", EXPECT),
        (served("POST /", 4),),
        (leaves("POST /", body=b"body", expects=True),),
    ),
    "in odd case": Case(
        post(f"{URL}/", b"body", "eXPECT: 100-Continue"),
        (served("POST /", 4),),
        (leaves("POST /", body=b"body", expects=True),),
    ),
    "from HTTP/1.0 it is ignored": Case(
        f"POST {URL}/ HTTP/1.0\r\nContent-Length: 4\r\n{EXPECT}\r\n\r\nbody".encode(),
        (served("POST /", 4, has=("Connection: close",)),),
        (leaves("POST /", body=b"body"),),
        ends=True,
    ),
    "nominated, it stays here": Case(
        post(f"{URL}/", b"body", "Connection: expect", EXPECT),
        (served("POST /", 4),),
        (leaves("POST /", body=b"body"),),
    ),
}


@pytest.mark.parametrize("case", EXPECTING)
async def test_an_expectation_goes_on_as_it_may(bench: Bench, case: str) -> None:
    await bench.prove(EXPECTING[case])


OTHER_EXPECTATIONS: Final = {
    "another one": ("Expect: more",),
    "a list": ("Expect: 100-continue, more",),
    "a parameter": ("Expect: 100-continue;x=1",),
    "nothing": ("Expect:",),
    "quoted": ('Expect: "100-continue"',),
    "a letter more": ("Expect: 100-continuee",),
    "twice": (EXPECT, EXPECT),
    "once, and another one": (EXPECT, "expect: more"),
}


@pytest.mark.parametrize("case", OTHER_EXPECTATIONS)
async def test_any_other_expectation_is_a_417(bench: Bench, case: str) -> None:
    fields = OTHER_EXPECTATIONS[case]
    await bench.prove(refusal(post(f"{URL}/", b"body", *fields), 417, "expectation_failed"))


@pytest.mark.parametrize(
    "fields", [("E xpect: 100-continue",), ("Expect : 100-continue",), ("Expect: 100-continue\x0b",)]
)
async def test_an_expectation_that_hides_is_a_400(bench: Bench, fields: tuple[str, ...]) -> None:
    await bench.prove(refusal(post(f"{URL}/", b"body", *fields), 400, "bad_request"))


async def decline_the_body(request: Request) -> None:
    await request.connection.send(ok(b"no", status="417 Expectation Failed"))
    await request.connection.read_to_the_end()


async def test_ten_final_answers_instead_of_100_poison_no_connection(bench: Bench) -> None:
    """Go CVE-2024-24791: the body that never came was taken for the next request on the pooled connection."""
    for _ in range(10):
        bench.begin(decline_the_body)
        async with await bench.client() as client:
            await client.send(get(f"{URL}/", "Content-Length: 50", EXPECT, method="POST"))
            Gets(417, b"no", has=("Connection: close",)).check(await bench.hear(client))
            await client.send(get(f"{URL}/smuggled"))
            assert await client.closed_cleanly()
        bench.assert_left(leaves("POST /", body=bytes(50), expects=True, whole=False), await bench.sentinel_elsewhere())


# --- switches of protocol ---------------------------------------------------------------------------------------------

OFFER: Final = ("Connection: Upgrade", "Upgrade: websocket")
SWITCH: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
NEXT: Final = get(f"{URL}/next")

NOT_OFFERED: Final = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
    "TLS": ("Connection: upgrade", "Upgrade: TLS/1.0"),
    "nothing": ("Connection: upgrade", "Upgrade:"),
    "websocket that Connection does not name": ("Upgrade: websocket",),
    "a protocol that begins like it": ("Connection: upgrade", "Upgrade: websocketx"),
    "websocket of a version": ("Connection: upgrade", "Upgrade: websocket/13"),
}


@pytest.mark.parametrize("case", NOT_OFFERED)
async def test_an_offer_that_is_not_passed_on_is_served_as_plain_http(bench: Bench, case: str) -> None:
    await bench.prove(Case(get(f"{URL}/", *NOT_OFFERED[case]), (served("GET /"),), (leaves("GET /"),)))


@pytest.mark.parametrize("length", ["Content-Length: 9", "Transfer-Encoding: chunked"])
async def test_the_body_of_a_request_that_offers_h2c_is_a_body(bench: Bench, length: str) -> None:
    """nghttpx CVE-2026-58055: what follows the head must not go on as the other protocol's bytes, or as a request."""
    fields = ("Connection: Upgrade", "Upgrade: h2c", length)
    is_chunked = length.startswith("Transfer")
    body = chunked(b"GET / HTT") if is_chunked else b"GET / HTT"
    request = get(f"{URL}/", *fields, method="POST") + body
    await bench.prove(Case(request, (served("POST /", 9),), (leaves("POST /", body=b"GET / HTT", chunked=is_chunked),)))


WITH_BODY: Final = {
    "a length": (*OFFER, "Content-Length: 5"),
    "a length of nothing": (*OFFER, "Content-Length: 0"),
    "chunks": (*OFFER, "Transfer-Encoding: chunked"),
    "among others": ("Connection: keep-alive, upgrade", "Upgrade: h2c, WebSocket", "Content-Length: 5"),
}


@pytest.mark.parametrize("case", WITH_BODY)
async def test_an_offer_of_websocket_with_a_body_is_refused(bench: Bench, case: str) -> None:
    await bench.prove(refusal(get(f"{URL}/", *WITH_BODY[case]) + b"0\r\n\r\n", 400, "bad_request"))


async def test_websocket_from_http_1_0_or_with_another_method_is_no_offer(bench: Bench) -> None:
    request = f"GET {URL}/ HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
    answer = served("GET /", has=("Connection: close",))
    await bench.prove(Case(request, (answer,), (leaves("GET /"),), ends=True))
    await bench.prove(Case(get(f"{URL}/", *OFFER, method="PUT"), (served("PUT /"),), (leaves("PUT /"),)))


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "426 Upgrade Required", "503 Service Unavailable"])
async def test_after_a_declined_offer_what_the_client_sends_are_requests(bench: Bench, status: str) -> None:
    """Kubernetes CVE-2018-1002105, Pingora CVE-2026-2833, Envoy CVE-2024-23326: the connection to the origin, with a
    token on it, must not be open to raw bytes, before the answer or after it."""
    case = Case(
        get(f"{URL}/", *OFFER, "Sec-WebSocket-Key: x"),
        (Gets(int(status[:3]), b"no", lacks=("Upgrade", "Connection")), served("GET /next")),
        (leaves("GET /", "Sec-WebSocket-Key: x", upgrade="websocket"), leaves("GET /next")),
        replies=(ok(b"no", "Connection: Upgrade", "Upgrade: websocket", status=status),),
        tail=NEXT,
    )
    for pieces in case.variants():
        await bench.run(case, pieces)
        assert len(bench.origin.received()) == 2, "the connection that was to be switched served another request"


UNASKED: Final = {
    "nobody asked": ((), SWITCH),
    "h2c was offered, and dropped": (
        ("Connection: Upgrade", "Upgrade: h2c"),
        SWITCH.replace(b"websocket", b"h2c"),
    ),
    "another protocol than was asked for": (OFFER, SWITCH.replace(b"websocket", b"h2c")),
    "no protocol": (OFFER, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"),
    "two protocols": (OFFER, SWITCH.replace(b"websocket", b"websocket, h2c")),
}


@pytest.mark.parametrize("case", UNASKED)
async def test_a_switch_that_nobody_asked_for_is_a_502(bench: Bench, case: str) -> None:
    offer, answer = UNASKED[case]
    upgrade = "websocket" if offer == OFFER else None
    request = get(f"{URL}/", *offer)
    wanted = (refused(502, "protocol"), served("GET /next"))
    left = (leaves("GET /", upgrade=upgrade), leaves("GET /next"))
    await bench.run(Case(request, wanted, left, replies=(answer + b"other bytes",), tail=NEXT), [request + NEXT])


async def test_nothing_behind_the_head_goes_on_before_the_switch(bench: Bench) -> None:
    early = b"\x81\x05early" + NEXT
    heard: list[bytes] = []

    async def switch(request: Request) -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        heard.append(b"".join(bench.origin.received()))
        await request.connection.send(SWITCH + b"\x81\x02hi")
        assert await request.connection.reader.readexactly(len(early)) == early
        await request.connection.send(b"\x88\x00")

    request = get(f"{URL}/ws", *OFFER)
    expected = leaves("GET /ws", upgrade="websocket")
    for pieces in Case(request, (), tail=early).variants():
        bench.begin(switch)
        async with await bench.client() as client:
            await bench.send(client, pieces)
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"\r\nUpgrade: websocket\r\n" in head
            assert await client.exactly(4) == b"\x81\x02hi"
            assert await client.exactly(2) == b"\x88\x00"
        assert heard.pop() == bench.head_of(expected)


# --- CONNECT ----------------------------------------------------------------------------------------------------------

CONNECT: Final = {
    "a host without a route": (f"CONNECT stranger.test:443 HTTP/1.1\r\nHost: {API}\r\n\r\n", 403, "target_unmatched"),
    "a host that ends like a route's": (f"CONNECT evil{API}:443 HTTP/1.1\r\nHost: x\r\n\r\n", 403, "target_unmatched"),
    "another port": (f"CONNECT {API}:22 HTTP/1.1\r\nHost: {API}\r\n\r\n", 403, "target_unmatched"),
    "a length": (f"CONNECT {API}:80 HTTP/1.1\r\nHost: {API}\r\nContent-Length: 5\r\n\r\n", 400, "bad_request"),
    "a length of nothing": (
        f"CONNECT {API}:80 HTTP/1.1\r\nHost: {API}\r\nContent-Length: 0\r\n\r\n",
        400,
        "bad_request",
    ),
    "chunks": (f"CONNECT {API}:80 HTTP/1.1\r\nHost: {API}\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad_request"),
}


@pytest.mark.parametrize("case", CONNECT)
async def test_what_follows_a_refused_connect_is_dropped_with_the_connection(bench: Bench, case: str) -> None:
    """Envoy CVE-2025-64763: early data of a tunnel that was refused must be no request."""
    sent, status, reason = CONNECT[case]
    await bench.prove(refusal(sent, status, reason))


async def test_a_connect_over_a_reverse_listener_is_refused(bench: Bench) -> None:
    sent = f"CONNECT {API}:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    await bench.prove(refusal(sent, 400, "bad_request", listener="orders"))


async def inside(bench: Bench, pieces: list[bytes]) -> RawClient:
    """A connection on which a CONNECT to the API's plain port was sent in these pieces."""
    client = await bench.client()
    await bench.send(client, pieces)
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    return client


async def test_early_requests_inside_a_tunnel_to_a_plain_port_are_requests(bench: Bench) -> None:
    request = f"CONNECT {API}:80 HTTP/1.1\r\nHost: {API}\r\n\r\n".encode()
    for pieces in Case(request, (), tail=f"GET /x HTTP/1.1\r\nHost: {API}\r\n\r\n".encode()).variants():
        bench.begin()
        async with await inside(bench, pieces) as client:
            served("GET /x").check(await bench.hear(client))
        bench.assert_left(leaves("GET /x"))


@pytest.mark.parametrize("host", ["stranger.test", f"{API}:443", f"{API}.evil.test", f"x@{API}", "localhost"])
async def test_inside_a_tunnel_the_host_is_the_one_of_the_tunnel(bench: Bench, host: str) -> None:
    bench.begin()
    request = f"CONNECT {API}:80 HTTP/1.1\r\nHost: {API}\r\n\r\n".encode()
    async with await inside(bench, [request]) as client:
        await client.send(f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() + NEXT)
        refused(400, "bad_request").check(await bench.hear(client))
        assert await client.closed_cleanly()
    bench.assert_left(await bench.sentinel_elsewhere())


# --- Max-Forwards -----------------------------------------------------------------------------------------------------

HOPS: Final = {
    "some of OPTIONS": Case(
        get(URL, "Max-Forwards: 3", method="OPTIONS"), (served("OPTIONS *"),), (leaves("OPTIONS *", hops=2),)
    ),
    "one of OPTIONS": Case(
        get(f"{URL}/", "max-forwards: 1", method="OPTIONS"), (served("OPTIONS /"),), (leaves("OPTIONS /", hops=0),)
    ),
    "none of OPTIONS": Case(
        get(f"{URL}/", "Max-Forwards: 0", method="OPTIONS"), (Gets(204, has=("Via: 1.1 token-sidecar",)),)
    ),
    "none of OPTIONS for the server": Case(get(URL, "Max-Forwards: 0", method="OPTIONS"), (Gets(204),)),
    "of another method": Case(
        get(f"{URL}/", "Max-Forwards: 0"), (served("GET /"),), (leaves("GET /", "Max-Forwards: 0"),)
    ),
    "none of TRACE, on a route": Case(
        get(f"{URL}/", "Max-Forwards: 0", method="TRACE"), (refused(403, "route_mismatch"),)
    ),
    "some of TRACE, on a route": Case(
        get(f"{URL}/", "Max-Forwards: 3", method="TRACE"), (refused(403, "route_mismatch"),)
    ),
    "TRACE on a route": Case(get(f"{URL}/", method="TRACE"), (refused(403, "route_mismatch"),)),
}


@pytest.mark.parametrize("case", HOPS)
async def test_max_forwards_is_counted_down_and_trace_gets_no_token(bench: Bench, case: str) -> None:
    await bench.prove(HOPS[case])


@pytest.mark.parametrize(
    "fields",
    [("x",), ("-1",), ("",), ("1, 1",), ("1", "1"), ("9" * 20,), ("0x1",)],
    ids=lambda fields: "-".join(fields),
)
async def test_max_forwards_that_is_no_number_is_refused(bench: Bench, fields: tuple[str, ...]) -> None:
    lines = [f"Max-Forwards: {value}" for value in fields]
    await bench.prove(refusal(get(f"{URL}/", *lines, method="OPTIONS"), 400, "bad_request"))
