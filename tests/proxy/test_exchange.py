"""What goes upstream, what comes back, and when a request goes out twice."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest

from sidecar.errors import AuthorizationRefused, LoopDetected
from sidecar.http.h1 import read_request_head, read_response_head
from sidecar.proxy.exchange import (
    Framing,
    ReplayBuffer,
    interim_head,
    may_retry_elsewhere,
    refuse_loop,
    request_head,
    response_framing,
    response_head,
    wants_token,
)
from sidecar.proxy.routing import Route

if TYPE_CHECKING:
    from sidecar.http.message import RequestHead, ResponseHead

if TYPE_CHECKING:
    from sidecar.http.message import RequestHead, ResponseHead

VIA = b"Via: 1.1 token-sidecar\r\n"
TOKEN = b"Authorization: Bearer fresh\r\n"
DATE = b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"


def request(*lines: bytes, start: bytes = b"GET http://a.example/ HTTP/1.1") -> RequestHead:
    raw = b"".join(line + b"\r\n" for line in (start, b"Host: a.example", *lines)) + b"\r\n"
    return read_request_head(raw, max_fields=128, max_target=8192)


def response(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    return read_response_head(b"".join(line + b"\r\n" for line in (start, *lines)) + b"\r\n", max_fields=128)


def upstream_sees(head: RequestHead, *, path: bytes = b"/", authorization: bytes = TOKEN) -> list[bytes]:
    raw = request_head(head, path=path, host=b"api.example.com", via=VIA, authorization=authorization)
    assert raw.endswith(b"\r\n\r\n")
    return raw[:-4].split(b"\r\n")


# --- the request that goes upstream ----------------------------------------------------------------------------------


def test_a_request_is_rebuilt_line_by_line_with_the_injected_field_last() -> None:
    head = request(
        b"User-Agent: app/1",
        b"Authorization: Bearer stale",
        b"X-B: 1",
        b"Cookie: a",
        b"authorization: Basic eDp5",
        b"x-b:2 ",
        b"Cookie: b",
        b"Connection: keep-alive, X-Hop",
        b"X-Hop: 1",
        b"Proxy-Authorization: Basic cHJveHk=",
        b"TE: trailers",
        b"Content-Length: 3",
        start=b"POST http://a.example/%7Ex//y;z?q=%20&r HTTP/1.0",
    )
    assert upstream_sees(head, path=b"/%7Ex//y;z?q=%20&r") == [
        b"POST /%7Ex//y;z?q=%20&r HTTP/1.1",
        b"Host: api.example.com",
        b"User-Agent: app/1",
        b"X-B: 1",
        b"Cookie: a",
        b"x-b:2 ",
        b"Cookie: b",
        b"Content-Length: 3",
        b"Via: 1.1 token-sidecar",
        b"Authorization: Bearer fresh",
    ]


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [b"Authorization: Bearer a"],
        [b"AUTHORIZATION:Bearer a", b"authorization: b", b"Authorization:"],
        [b"Authorization: Bearer a, Bearer b"],
        [b"Connection: authorization", b"Authorization: a"],
        [b"Connection: Authorization, close"],
    ],
)
def test_exactly_one_authorization_leaves_and_it_is_ours(sent: list[bytes]) -> None:
    lines = upstream_sees(request(*sent))
    assert [line for line in lines if line.lower().startswith(b"authorization")] == [TOKEN.strip()]
    assert lines[-1] == TOKEN.strip()


def test_nothing_that_connection_nominates_takes_away_what_the_proxy_sets() -> None:
    head = request(
        b"Connection: authorization, host, content-length, via, expect, x-forwarded-for, close",
        b"Content-Length: 3",
        b"X-Forwarded-For: 10.0.0.1",
        b"Via: 1.1 other",
        start=b"POST http://a.example/ HTTP/1.1",
    )
    assert upstream_sees(head) == [
        b"POST / HTTP/1.1",
        b"Host: api.example.com",
        b"Content-Length: 3",
        b"Via: 1.1 token-sidecar",
        b"Authorization: Bearer fresh",
    ]


@pytest.mark.parametrize(
    ("lines", "framing"),
    [
        ([], []),
        ([b"Content-Length: 0"], [b"Content-Length: 0"]),
        ([b"content-length:007"], [b"Content-Length: 7"]),
        ([b"TRANSFER-encoding: Chunked"], [b"Transfer-Encoding: chunked"]),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"POST"])
def test_framing_is_made_anew_for_every_method(method: bytes, lines: list[bytes], framing: list[bytes]) -> None:
    head = request(*lines, start=method + b" http://a.example/ HTTP/1.1")
    names = (b"content-length", b"transfer-encoding")
    assert [line for line in upstream_sees(head) if line.lower().startswith(names)] == framing


def test_an_expectation_is_passed_on_from_http_1_1() -> None:
    assert b"Expect: 100-continue" in upstream_sees(request(b"expect: 100-Continue"))
    old = request(b"Expect: 100-continue", start=b"POST http://a.example/ HTTP/1.0")
    assert not any(line.startswith(b"Expect") for line in upstream_sees(old))


def test_no_upgrade_is_passed_on() -> None:
    lines = upstream_sees(request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAA"))
    assert lines == [b"GET / HTTP/1.1", b"Host: api.example.com", b"Via: 1.1 token-sidecar", TOKEN.strip()]


def test_without_a_token_no_authorization_is_made() -> None:
    assert upstream_sees(request(), authorization=b"") == [
        b"GET / HTTP/1.1",
        b"Host: api.example.com",
        b"Via: 1.1 token-sidecar",
    ]


def test_earlier_hops_stay_before_ours() -> None:
    lines = upstream_sees(request(b"Via: 1.0 first", b"X: 1", b"via: 1.1 second"))
    assert [line for line in lines if line.lower().startswith(b"via")] == [
        b"Via: 1.0 first",
        b"via: 1.1 second",
        b"Via: 1.1 token-sidecar",
    ]


# --- whether a token goes on it --------------------------------------------------------------------------------------


def route(if_present: Literal["replace", "keep", "reject"]) -> Route:
    nothing = cast("Any", None)
    return Route("r", "a", False, 443, True, (b"/",), frozenset(), nothing, nothing, if_present=if_present)


@pytest.mark.parametrize("sent", [b"Authorization: Bearer a", b"AUTHORIZATION: Basic a", b"authorization:"])
def test_an_authorization_of_the_app_s_own_is_replaced_kept_or_refused(sent: bytes) -> None:
    head = request(sent)
    assert wants_token(head, route("replace"))
    assert not wants_token(head, route("keep"))
    with pytest.raises(AuthorizationRefused) as refused:
        wants_token(head, route("reject"))
    assert "Bearer a" not in refused.value.detail


@pytest.mark.parametrize("if_present", ["replace", "keep", "reject"])
def test_a_request_without_authorization_gets_a_token(if_present: Literal["replace", "keep", "reject"]) -> None:
    assert wants_token(request(b"X-Authorization: a"), route(if_present))


# --- loops -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("via", "loops"),
    [
        ([], False),
        ([b"Via: 1.1 token-sidecar"], False),
        ([b"Via: 1.1 token-sidecar-ffff0000"], False),
        ([b"Via: 1.1 token-sidecar-0badcafe"], True),
        ([b"Via: 1.0 a, 1.1 token-sidecar-0badcafe (x), 1.1 b"], True),
        ([b"Via: 1.0 a", b"via:1.1 token-sidecar-0badcafe"], True),
        ([b"Via: 1.1 token-sidecar-0badcafe", b"Connection: via"], True),
        ([b"X-Via: 1.1 token-sidecar-0badcafe"], False),
    ],
)
def test_only_our_own_name_in_via_is_a_loop(via: list[bytes], loops: bool) -> None:
    head = request(*via)
    if loops:
        with pytest.raises(LoopDetected):
            refuse_loop(head, b"token-sidecar-0badcafe")
    else:
        refuse_loop(head, b"token-sidecar-0badcafe")


# --- the answer that goes to the app ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "lines", "method", "minor", "framing"),
    [
        (200, [b"Content-Length: 5"], b"GET", 1, Framing.LENGTH),
        (200, [b"Content-Length: 0"], b"GET", 1, Framing.LENGTH),
        (404, [b"Content-Length: 5"], b"POST", 0, Framing.LENGTH),
        (200, [b"Transfer-Encoding: chunked"], b"GET", 1, Framing.CHUNKED),
        (200, [b"Transfer-Encoding: chunked"], b"GET", 0, Framing.CLOSE),
        (200, [], b"GET", 1, Framing.CHUNKED),
        (200, [], b"GET", 0, Framing.CLOSE),
        (200, [b"Content-Length: 5"], b"HEAD", 1, Framing.NONE),
        (200, [b"Transfer-Encoding: chunked"], b"HEAD", 1, Framing.NONE),
        (200, [], b"HEAD", 1, Framing.NONE),
        (204, [b"Content-Length: 5"], b"GET", 1, Framing.NONE),
        (204, [b"Transfer-Encoding: chunked"], b"GET", 1, Framing.NONE),
        (304, [b"Content-Length: 5"], b"GET", 1, Framing.NONE),
        (304, [], b"GET", 1, Framing.NONE),
    ],
)
def test_how_the_body_goes_to_the_app(
    status: int, lines: list[bytes], method: bytes, minor: int, framing: Framing
) -> None:
    asked = request(start=method + b" http://a.example/ HTTP/1.%d" % minor)
    assert response_framing(response(*lines, start=b"HTTP/1.1 %d X" % status), asked) is framing


def app_sees(head: ResponseHead, asked: RequestHead, *, close: bool = False) -> list[bytes]:
    raw = response_head(head, response_framing(head, asked), VIA, DATE, close)
    assert raw.endswith(b"\r\n\r\n")
    return raw[:-4].split(b"\r\n")


def test_an_answer_is_rebuilt_line_by_line() -> None:
    head = response(
        b"Server: x",
        b"Date: Fri, 02 Jan 1970 00:00:00 GMT",
        b"Set-Cookie: a=1",
        b"Keep-Alive: timeout=5",
        b"set-cookie:b=2 ",
        b"Connection: x-hop, keep-alive",
        b"X-Hop: 1",
        b"Via: 1.1 origin-cache",
        b"content-length: 05",
        b"WWW-Authenticate: Basic",
        start=b"HTTP/1.1 401 Nope, sorry",
    )
    assert app_sees(head, request()) == [
        b"HTTP/1.1 401 Nope, sorry",
        b"Server: x",
        b"Date: Fri, 02 Jan 1970 00:00:00 GMT",
        b"Set-Cookie: a=1",
        b"set-cookie:b=2 ",
        b"Via: 1.1 origin-cache",
        b"WWW-Authenticate: Basic",
        b"Content-Length: 5",
        b"Via: 1.1 token-sidecar",
    ]


def test_an_answer_in_http_1_0_goes_on_in_our_own_version() -> None:
    assert app_sees(response(start=b"HTTP/1.0 200 OK"), request())[0] == b"HTTP/1.1 200 OK"


def test_a_date_is_added_only_where_there_is_none() -> None:
    assert DATE.strip() in app_sees(response(), request())
    assert DATE.strip() in app_sees(response(b"Date: old", b"Connection: date"), request())
    assert [line for line in app_sees(response(b"dATE: old"), request()) if line.lower().startswith(b"date")] == [
        b"dATE: old"
    ]


def test_the_app_is_told_when_its_connection_ends() -> None:
    assert b"Connection: close" not in app_sees(response(b"Connection: close"), request())
    assert app_sees(response(), request(), close=True)[-1] == b"Connection: close"


@pytest.mark.parametrize(
    ("status", "lines", "method", "minor", "expected"),
    [
        (200, [b"Content-Length: 5"], b"GET", 1, [b"Content-Length: 5"]),
        (200, [b"Transfer-Encoding: chunked"], b"GET", 1, [b"Transfer-Encoding: chunked"]),
        (200, [], b"GET", 1, [b"Transfer-Encoding: chunked"]),
        (200, [b"Transfer-Encoding: chunked"], b"GET", 0, []),
        (200, [b"Content-Length: 5"], b"HEAD", 1, [b"Content-Length: 5"]),
        (200, [b"Transfer-Encoding: chunked"], b"HEAD", 1, []),
        (304, [b"Content-Length: 5"], b"GET", 1, [b"Content-Length: 5"]),
        (204, [b"Content-Length: 5"], b"GET", 1, []),
        (204, [b"Transfer-Encoding: chunked"], b"GET", 1, []),
    ],
)
def test_at_most_one_framing_field_and_none_where_it_must_not_be(
    status: int, lines: list[bytes], method: bytes, minor: int, expected: list[bytes]
) -> None:
    asked = request(start=method + b" http://a.example/ HTTP/1.%d" % minor)
    seen = app_sees(response(*lines, start=b"HTTP/1.1 %d X" % status), asked)
    names = (b"content-length", b"transfer-encoding")
    assert [line for line in seen if line.lower().startswith(names)] == expected


def test_an_interim_answer_has_no_framing() -> None:
    head = response(b"Link: </a>", b"Content-Length: 5", b"Connection: x", start=b"HTTP/1.1 103 Early Hints")
    assert interim_head(head, via=VIA) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n" + VIA + b"\r\n"


# --- going out twice -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"POST", b"PATCH", b"QUERY"])
def test_a_request_goes_out_again_only_after_a_kept_connection_and_where_it_does_no_harm(method: bytes) -> None:
    head = request(start=method + b" http://a.example/ HTTP/1.1")
    harmless = method not in (b"POST", b"PATCH", b"QUERY")
    for reused, answered, body_kept, sent, retried in product((False, True), repeat=5):
        expected = reused and not answered and body_kept and not retried and (harmless or not sent)
        assert (
            may_retry_elsewhere(head, reused=reused, answered=answered, body_kept=body_kept, sent=sent, retried=retried)
            is expected
        )


def test_a_body_is_kept_up_to_its_limit() -> None:
    buffer = ReplayBuffer(10)
    buffer.add(b"12345")
    buffer.add(b"")
    buffer.add(b"67890")
    assert (buffer.whole, b"".join(buffer.pieces)) == (True, b"1234567890")


@pytest.mark.parametrize("pieces", [[b"12345678901"], [b"1234567890", b"1"], [b"1"] * 11, [b"x" * 11, b"1", b"2"]])
def test_a_body_beyond_the_limit_is_not_kept_at_all(pieces: list[bytes]) -> None:
    buffer = ReplayBuffer(10)
    for piece in pieces:
        buffer.add(piece)
    assert (buffer.whole, buffer.pieces) == (False, [])


def test_a_limit_of_nothing_keeps_nothing() -> None:
    buffer = ReplayBuffer(0)
    assert buffer.whole
    buffer.add(b"x")
    assert not buffer.whole


def test_what_was_given_up_stays_given_up_and_shows_no_content() -> None:
    buffer = ReplayBuffer(10)
    buffer.add(b"canary")
    assert repr(buffer) == "<ReplayBuffer pieces=1 whole=True>"
    buffer.give_up()
    buffer.add(b"x")
    assert repr(buffer) == "<ReplayBuffer pieces=0 whole=False>"
