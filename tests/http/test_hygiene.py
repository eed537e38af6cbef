"""What is taken out of a head, what stays in it, and what its framing is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.errors import BadRequest, CodingUnknown, ExpectationFailed, HeadTooLarge, SidecarError, UpstreamProtocol
from sidecar.http.h1 import read_request_head, read_response_head
from sidecar.http.hygiene import read_request, read_response

if TYPE_CHECKING:
    from sidecar.http.message import RequestHead, ResponseHead


def request(*lines: bytes, start: bytes = b"GET /x HTTP/1.1", host: bytes = b"Host: a\r\n") -> RequestHead:
    raw = start + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return read_request_head(raw, max_fields=128, max_target=8192)


def response(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    raw = start + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return read_response_head(raw, max_fields=128)


# --- fields that end here -------------------------------------------------------------------------------------------

HOP_BY_HOP = [
    b"Connection: x",
    b"Keep-Alive: timeout=5",
    b"Proxy-Authenticate: Basic",
    b"Proxy-Connection: keep-alive",
    b"TE: trailers",
    b"Trailer: X-Checksum",
    b"Upgrade: websocket",
]


@pytest.mark.parametrize("line", [*HOP_BY_HOP, b"Proxy-Authorization: Basic Zm9v"])
@pytest.mark.parametrize("spell", [bytes, bytes.upper, bytes.lower, bytes.swapcase])
def test_a_hop_by_hop_field_of_a_request_is_dropped_though_nobody_nominates_it(line: bytes, spell: object) -> None:
    name, _, value = line.partition(b":")
    assert callable(spell)
    assert request(b"A: 1", spell(name) + b":" + value, b"B: 2").lines == [b"A: 1", b"B: 2"]


@pytest.mark.parametrize("line", HOP_BY_HOP)
def test_a_hop_by_hop_field_of_an_answer_is_dropped_though_nobody_nominates_it(line: bytes) -> None:
    assert response(b"A: 1", line, b"B: 2").lines == [b"A: 1", b"B: 2"]


def test_transfer_encoding_never_stays_among_the_lines() -> None:
    assert request(b"Transfer-Encoding: chunked", start=b"POST /x HTTP/1.1").lines == []
    assert response(b"Transfer-Encoding: chunked").lines == []


@pytest.mark.parametrize(
    "connection",
    [
        [b"Connection: X-Hop, X-Hup"],
        [b"Connection: x-hop", b"Connection: X-HUP"],
        [b"connection: ,, X-Hop ,\t,x-hup,"],
        [b"Connection:", b"CONNECTION: X-Hop", b"Connection: , ,", b"Connection:x-hup"],
        [b"Connection: close, x-hop,x-hup"],
        [b"Connection: keep-alive", b"Connection: X-Hop,keep-alive,X-Hup"],
    ],
)
def test_every_field_that_a_connection_line_nominates_is_dropped(connection: list[bytes]) -> None:
    lines = [b"X-Hop: 1", b"A: 1", *connection, b"x-hup: 2", b"X-HOP: again", b"X-Hopper: stays"]
    assert request(*lines).lines == [b"A: 1", b"X-Hopper: stays"]
    assert response(*lines).lines == [b"A: 1", b"X-Hopper: stays"]


def test_a_nomination_cannot_remove_what_the_proxy_needs() -> None:
    head = request(
        b"Authorization: Bearer mine",
        b"Content-Length: 3",
        b"X-Forwarded-For: 1.2.3.4",
        b"Via: 1.1 somebody",
        b"Proxy-Authorization: Basic Zm9v",
        b"Connection: authorization, host, content-length, x-forwarded-for, via, proxy-authorization, close",
        start=b"POST /x HTTP/1.1",
    )
    assert (head.host, head.content_length, head.close) == (b"a", 3, True)
    assert head.proxy_authorization == b"Basic Zm9v"
    assert head.via == [b"1.1 somebody"]
    assert head.lines == []
    assert head.authorization == []


def test_a_nomination_of_transfer_encoding_leaves_the_framing() -> None:
    assert request(b"Transfer-Encoding: chunked", b"Connection: transfer-encoding", start=b"POST /x HTTP/1.1").chunked
    head = response(b"Content-Length: 3", b"Connection: content-length, transfer-encoding")
    assert head.content_length == 3


def test_an_expectation_that_is_nominated_is_not_passed_on() -> None:
    assert not request(b"Expect: 100-continue", b"Connection: expect").expect_continue


def test_a_date_that_is_nominated_counts_as_missing() -> None:
    head = response(b"Date: Thu, 01 Jan 1970 00:00:00 GMT", b"Connection: date")
    assert (head.has_date, head.lines) == (False, [])


def test_unknown_fields_pass_in_their_order_byte_for_byte() -> None:
    lines = [
        b"X-B:  two  ",
        b"Cookie: a=1",
        b"x-b:1",
        b"Cookie: b=\xff\x80",
        b"X_Odd.Name~!: ",
        b"Cache-Control: no-cache",
    ]
    assert request(*lines).lines == lines
    assert response(*lines).lines == lines


def test_fields_that_only_look_like_ours_are_unknown_fields() -> None:
    lines = [
        b"Hosts: x",
        b"X-Transfer-Encoding: chunked",
        b"Connections: a",
        b"Authorizations: y",
    ]
    head = request(*lines)
    assert head.lines == lines
    assert not head.has_body


ALIASES = ("Content_Length", "content.length", "Transfer_Encoding", "Proxy_Authorization", "Keep.Alive", "max_forwards")


@pytest.mark.parametrize("name", ALIASES)
def test_a_field_that_an_upstream_may_take_for_one_of_ours_is_dropped(name: str) -> None:
    head = request(f"{name}: 5".encode(), b"X-A: 1")
    assert head.lines == [b"X-A: 1"]
    assert not head.has_body


@pytest.mark.parametrize(
    "name", ["Forwarded", "forwarded", "X-Forwarded-For", "x_forwarded_proto", "X.Forwarded.Host", "X-Forwarded"]
)
def test_fields_that_tell_of_earlier_hops_stand_apart_as_they_came(name: str) -> None:
    line = f"{name}:  for=192.0.2.1".encode()
    head = request(b"X-A: 1", line, b"X-B: 2")
    assert head.lines == [b"X-A: 1", b"X-B: 2"]
    assert head.forwarded == [line]


def test_a_nominated_field_of_an_earlier_hop_is_dropped_with_the_others() -> None:
    assert request(b"X-Forwarded-For: 192.0.2.1", b"Connection: x-forwarded-for").forwarded == []


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
@pytest.mark.parametrize(("value", "hops"), [(b"0", 0), (b" 10 ", 10), (b"999999999", 999_999_999)])
def test_max_forwards_is_read_where_it_binds_proxies(method: bytes, value: bytes, hops: int) -> None:
    head = request(b"Max-Forwards:" + value, start=method + b" / HTTP/1.1")
    assert head.max_forwards == hops
    assert head.lines == []


@pytest.mark.parametrize("values", [[b"-1"], [b""], [b"1, 2"], [b"1", b"2"], [b"1000000000"], [b"0x1"]])
def test_max_forwards_that_is_not_one_number_is_refused(values: list[bytes]) -> None:
    with pytest.raises(BadRequest, match="Max-Forwards"):
        request(*[b"Max-Forwards: " + value for value in values], start=b"OPTIONS / HTTP/1.1")


def test_max_forwards_of_another_method_is_nobody_s_business() -> None:
    head = request(b"Max-Forwards: 0")
    assert head.max_forwards is None
    assert head.lines == [b"Max-Forwards: 0"]


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Encoding: gzip",
        b"Range: bytes=0-1",
        b'If-None-Match: "a"',
        b"Accept: */*",
        b"Allow: GET",
        b"WWW-Authenticate: Basic",
        b"Content-Type: text/plain",
    ],
)
def test_end_to_end_fields_are_left_alone(line: bytes) -> None:
    assert request(line).lines == [line]
    assert response(line).lines == [line]


# --- what is taken out of a request ----------------------------------------------------------------------------------


def test_every_authorization_is_taken_out_whatever_its_case() -> None:
    head = request(b"Authorization: Bearer a", b"X: 1", b"AUTHORIZATION: Basic b", b"authorization:")
    assert head.lines == [b"X: 1"]
    assert head.authorization == [b"Authorization: Bearer a", b"AUTHORIZATION: Basic b", b"authorization:"]


@pytest.mark.parametrize(
    ("sent", "kept"), [(b"Host:  b:80\t", b"b:80"), (b"hOST:b", b"b"), (b"Host: a b/@", b"a b/@"), (b"Host:", b"")]
)
def test_the_host_is_taken_out_without_white_space_and_judged_elsewhere(sent: bytes, kept: bytes) -> None:
    head = request(sent, host=b"")
    assert (head.host, head.lines) == (kept, [])


def test_only_http_1_0_may_come_without_a_host() -> None:
    assert request(start=b"GET /x HTTP/1.0", host=b"").host is None
    with pytest.raises(BadRequest, match="no Host"):
        request(host=b"")


@pytest.mark.parametrize("second", [b"Host: a", b"host: b", b"HOST:"])
def test_a_second_host_is_refused_even_if_it_is_the_same(second: bytes) -> None:
    with pytest.raises(BadRequest, match="more than one Host"):
        request(second)


def test_a_second_proxy_authorization_is_refused() -> None:
    with pytest.raises(BadRequest):
        request(b"Proxy-Authorization: Basic a", b"proxy-authorization: Basic a")


def test_via_lines_are_noted_and_stay() -> None:
    head = request(b"Via: 1.1 a", b"VIA:1.0 b, 1.1 c")
    assert head.via == [b"1.1 a", b"1.0 b, 1.1 c"]
    assert head.lines == [b"Via: 1.1 a", b"VIA:1.0 b, 1.1 c"]


@pytest.mark.parametrize(
    ("lines", "start", "close"),
    [
        ([], b"GET / HTTP/1.1", False),
        ([b"Connection: keep-alive"], b"GET / HTTP/1.1", False),
        ([b"Connection: Keep-Alive"], b"GET / HTTP/1.1", False),
        ([b"Connection: close"], b"GET / HTTP/1.1", True),
        ([b"Connection: CLOSE"], b"GET / HTTP/1.1", True),
        ([b"Connection: keep-alive", b"Connection: close"], b"GET / HTTP/1.1", True),
        ([b"Connection: closed"], b"GET / HTTP/1.1", False),
        ([b"Proxy-Connection: close"], b"GET / HTTP/1.1", False),
        ([b"Connection: keep-alive"], b"GET / HTTP/1.0", True),
    ],
)
def test_who_ends_the_connection(lines: list[bytes], start: bytes, close: bool) -> None:
    assert request(*lines, start=start).close is close


@pytest.mark.parametrize(
    ("lines", "start", "upgrade"),
    [
        ([b"Connection: Upgrade", b"Upgrade: websocket"], b"GET / HTTP/1.1", b"websocket"),
        ([b"Connection: upgrade", b"Upgrade: a", b"Upgrade: b, WebSocket"], b"GET / HTTP/1.1", b"websocket"),
        ([b"Connection: upgrade", b"Upgrade: h2c"], b"GET / HTTP/1.1", None),
        ([b"Connection: upgrade", b"Upgrade: websocket/13"], b"GET / HTTP/1.1", None),
        ([b"Connection: upgrade", b"Upgrade: websocket"], b"POST / HTTP/1.1", None),
        ([b"Upgrade: websocket"], b"GET / HTTP/1.1", None),
        ([b"Upgrade: websocket", b"Connection: close"], b"GET / HTTP/1.1", None),
        ([b"Connection: Upgrade", b"Upgrade: websocket"], b"GET / HTTP/1.0", None),
        ([b"Connection: Upgrade"], b"GET / HTTP/1.1", None),
    ],
)
def test_an_upgrade_counts_only_where_connection_offers_it(
    lines: list[bytes], start: bytes, upgrade: bytes | None
) -> None:
    assert request(*lines, start=start).upgrade == upgrade


@pytest.mark.parametrize("body", [b"Content-Length: 5", b"Content-Length: 0", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize(
    ("start", "lines"),
    [
        (b"GET /x HTTP/1.1", [b"Connection: Upgrade", b"Upgrade: websocket"]),
        (b"CONNECT a:443 HTTP/1.1", []),
    ],
)
def test_an_upgrade_or_a_tunnel_with_a_body_is_refused(start: bytes, lines: list[bytes], body: bytes) -> None:
    with pytest.raises(BadRequest, match="with a body"):
        request(*lines, body, start=start)


def test_an_offer_of_another_protocol_takes_nothing_from_the_body() -> None:
    # What Java's client sends by default. The offer is dropped, so nobody can read the body as the other protocol.
    offer = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAAA"]
    head = request(*offer, b"Content-Length: 5", start=b"POST /x HTTP/1.1")
    assert (head.upgrade, head.content_length, head.lines) == (None, 5, [])


@pytest.mark.parametrize(
    ("lines", "start", "expects"),
    [
        ([b"Expect: 100-continue"], b"POST / HTTP/1.1", True),
        ([b"expect: 100-Continue"], b"POST / HTTP/1.1", True),
        ([b"Expect: 100-continue"], b"POST / HTTP/1.0", False),
        ([], b"POST / HTTP/1.1", False),
    ],
)
def test_an_expectation_counts_from_http_1_1_only(lines: list[bytes], start: bytes, expects: bool) -> None:
    head = request(*lines, start=start)
    assert (head.expect_continue, head.lines) == (expects, [])


@pytest.mark.parametrize(
    "lines",
    [
        [b"Expect: 200-ok"],
        [b"Expect:"],
        [b"Expect: 100-continue, 100-continue"],
        [b"Expect: 100-continue", b"Expect: 100-continue"],
        [b"Expect: 100-continue;q=1"],
        [b"Expect: x 100-continue"],
    ],
)
def test_any_other_expectation_is_417(lines: list[bytes]) -> None:
    with pytest.raises(ExpectationFailed):
        request(*lines)


# --- framing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "length", "chunked"),
    [
        ([], None, False),
        ([b"Content-Length: 0"], 0, False),
        ([b"content-length:\t7 "], 7, False),
        ([b"Content-Length: 0007"], 7, False),
        ([b"Content-Length: 999999999999999999"], 10**18 - 1, False),
        ([b"Transfer-Encoding: chunked"], None, True),
        ([b"TRANSFER-ENCODING: Chunked"], None, True),
    ],
)
def test_a_body_is_framed_by_one_field(lines: list[bytes], length: int | None, chunked: bool) -> None:
    sent = request(*lines, start=b"GET / HTTP/1.1")
    assert (sent.content_length, sent.chunked, sent.lines) == (length, chunked, [])
    got = response(*lines)
    assert (got.content_length, got.chunked, got.lines) == (length, chunked, [])


BAD_LENGTHS = [
    b"Content-Length:",
    b"Content-Length: -1",
    b"Content-Length: +1",
    b"Content-Length: 0x10",
    b"Content-Length: 1e3",
    b"Content-Length: 1 2",
    b"Content-Length: 5,5",
    b"Content-Length: 5\r\nContent-Length: 5",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 1000000000000000000",
    b"Content-Length: 18446744073709551617",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5",
]


@pytest.mark.parametrize("line", BAD_LENGTHS)
def test_a_length_that_two_readers_could_read_differently_is_refused(line: bytes) -> None:
    with pytest.raises(BadRequest):
        request(line, start=b"POST / HTTP/1.1")
    with pytest.raises(UpstreamProtocol):
        response(line)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"Transfer-Encoding: gzip, chunked", CodingUnknown),
        (b"Transfer-Encoding: ,chunked", CodingUnknown),
        (b"Transfer-Encoding: xchunked", BadRequest),
        (b"Transfer-Encoding: gzip", BadRequest),
        (b"Transfer-Encoding: chunked, gzip", BadRequest),
        (b"Transfer-Encoding: chunked;a=b", BadRequest),
        (b'Transfer-Encoding: "chunked"', BadRequest),
        (b"Transfer-Encoding: identity", BadRequest),
        (b"Transfer-Encoding:", BadRequest),
        (b"Transfer-Encoding: chunked, chunked", BadRequest),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", BadRequest),
        (b"Transfer-Encoding: \x0bchunked", BadRequest),
        (b"Transfer-Encoding : chunked", BadRequest),
    ],
)
def test_no_transfer_coding_but_chunked(line: bytes, error: type[SidecarError]) -> None:
    with pytest.raises(error) as refused:
        request(line, start=b"POST / HTTP/1.1")
    assert type(refused.value) is error
    with pytest.raises(UpstreamProtocol):
        response(line)


def test_transfer_encoding_in_http_1_0_is_refused() -> None:
    with pytest.raises(BadRequest):
        request(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0")
    with pytest.raises(UpstreamProtocol):
        response(b"Transfer-Encoding: chunked", start=b"HTTP/1.0 200 OK")


def test_more_field_lines_than_allowed_are_refused() -> None:
    fields = b"".join(b"X-%d: 1\r\n" % number for number in range(4))
    raw = b"GET / HTTP/1.1\r\n" + fields + b"Host: a\r\n\r\n"
    assert len(read_request(raw, max_fields=5, max_target=100).lines) == 4
    with pytest.raises(HeadTooLarge):
        read_request(raw, max_fields=4, max_target=100)
    raw = b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n"
    assert len(read_response(raw, max_fields=4).lines) == 4
    with pytest.raises(UpstreamProtocol):
        read_response(raw, max_fields=3)


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "start", "close"),
    [
        ([], b"HTTP/1.1 200 OK", False),
        ([b"Connection: close"], b"HTTP/1.1 200 OK", True),
        ([b"Connection: x", b"Connection: CLOSE"], b"HTTP/1.1 200 OK", True),
        ([], b"HTTP/1.0 200 OK", True),
        ([b"Connection: keep-alive"], b"HTTP/1.0 200 OK", False),
        ([b"Connection: keep-alive, close"], b"HTTP/1.0 200 OK", True),
    ],
)
def test_whether_the_upstream_keeps_its_connection(lines: list[bytes], start: bytes, close: bool) -> None:
    assert response(*lines, start=start).close is close


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"timeout=5, max=100", 5),
        (b"max=1,Timeout=30", 30),
        (b"timeout=0", 0),
        (b"timeout=", None),
        (b"timeout=-1", None),
        (b"timeout=5s", None),
        (b"timeout=999999999", None),
        (b"", None),
    ],
)
def test_the_keep_alive_time_is_read_or_ignored(value: bytes, seconds: int | None) -> None:
    assert response(b"Keep-Alive: " + value).keep_alive_seconds == seconds


def test_a_date_is_noted_and_stays() -> None:
    head = response(b"dAte: Thu, 01 Jan 1970 00:00:00 GMT")
    assert head.has_date
    assert head.lines == [b"dAte: Thu, 01 Jan 1970 00:00:00 GMT"]


@pytest.mark.parametrize("start", [b"HTTP/1.1 200", b"HTTP/1.1 200 "])
def test_a_status_without_a_reason_is_passed_on_with_its_space(start: bytes) -> None:
    assert response(start=start).start == b"200 "


def test_memory_of_spellings_is_bounded() -> None:
    for number in range(5000):
        request(b"X-%d: 1" % number)
        response(b"Y-%d: 1" % number, start=b"HTTP/1.1 200 OK-%d" % number)
    # Beyond the bound nothing is remembered, and everything is still read rightly.
    assert request(b"AuThOrIzAtIoN: a", b"X-5001: 1").authorization == [b"AuThOrIzAtIoN: a"]
    assert response(start=b"HTTP/1.1 599 odd").status == 599
