"""What is refused before a head is read at all, and the chunked decoder."""

from __future__ import annotations

import pytest

from sidecar.errors import (
    BadRequest,
    MethodUnknown,
    SidecarError,
    TargetTooLong,
    UpstreamProtocol,
    VersionUnsupported,
)
from sidecar.http.h1 import ChunkedDecoder, encode_chunk, read_request_head, read_response_head

# --- heads -----------------------------------------------------------------------------------------------------------

HOST = b"\r\nHost: a\r\n\r\n"


def refusal(raw: bytes) -> type[SidecarError]:
    with pytest.raises(SidecarError) as refused:
        read_request_head(raw, max_fields=128, max_target=8192)
    return type(refused.value)


@pytest.mark.parametrize(
    ("start", "error"),
    [
        # HTTP/0.9, other protocols, other versions
        (b"GET /", BadRequest),
        (b"GET / ", BadRequest),
        (b"GET / RTSP/1.0", BadRequest),
        (b"SOURCE / ICE/1.0", BadRequest),
        (b"GET / http/1.1", BadRequest),
        (b"GET / HTTP/1.10", BadRequest),
        (b"GET / HTTP/2", BadRequest),
        (b"GET / HTTP/2.0", VersionUnsupported),
        (b"PRI * HTTP/2.0", VersionUnsupported),
        (b"GET / HTTP/1.2", VersionUnsupported),
        (b"GET / HTTP/0.9", VersionUnsupported),
        (b"GET / HTTP/x.y", VersionUnsupported),
        (b"HTTP/1.1 200 OK", BadRequest),
        # white space
        (b"GET  / HTTP/1.1", BadRequest),
        (b"GET /  HTTP/1.1", BadRequest),
        (b"GET / HTTP/1.1 ", BadRequest),
        (b" GET / HTTP/1.1", BadRequest),
        (b"GET\t/ HTTP/1.1", BadRequest),
        (b"GET /a b HTTP/1.1", BadRequest),
        (b"GET /\x0b HTTP/1.1", BadRequest),
        (b"", BadRequest),
        (b"GET", BadRequest),
        (b"nonsense", BadRequest),
        # methods are case-sensitive, and only those that llhttp knows
        (b"get / HTTP/1.1", MethodUnknown),
        (b"Get / HTTP/1.1", MethodUnknown),
        (b"FROBNICATE / HTTP/1.1", MethodUnknown),
        (b"A" * 4000 + b" / HTTP/1.1", MethodUnknown),
        (b"GE(T / HTTP/1.1", BadRequest),
        (b"G\x00T / HTTP/1.1", BadRequest),
        # targets
        (b"GET /#fragment HTTP/1.1", BadRequest),
        (b"GET /?q#fragment HTTP/1.1", BadRequest),
        (b"GET /a\\b HTTP/1.1", BadRequest),
        (b"GET /\xc3\xa9 HTTP/1.1", BadRequest),
        (b"GET /\x00 HTTP/1.1", BadRequest),
        (b"GET /\x7f HTTP/1.1", BadRequest),
        (b"GET nonsense HTTP/1.1", BadRequest),
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1", TargetTooLong),
    ],
)
def test_a_request_line_that_is_not_plain_http_1_is_refused(start: bytes, error: type[SidecarError]) -> None:
    assert refusal(start + HOST) is error


def test_a_preface_of_http_2_that_calls_itself_http_1_is_refused() -> None:
    for raw in (b"PRI * HTTP/1.0\r\n\r\n", b"PRI / HTTP/1.0\r\n\r\n", b"PRI * HTTP/1.1\r\n\r\n"):
        assert refusal(raw) is BadRequest


MALFORMED_FIELDS = [
    b"X : 1",
    b"X\t: 1",
    b" X: 1",
    b"X",
    b": 1",
    b"X@: 1",
    b"X(y): 1",
    b"X\x00: 1",
    b"X\xe9: 1",
    b"X: a\x00b",
    b"X: a\x01b",
    b"X: a\x1bb",
    b"X: a\x7fb",
    b"X: a\r\n folded",
    b"X: a\r\n\tfolded",
    b"X: a\rY: b",
    b"X: a\r",
    b"X: a\nY: b",
    b"X: a\n",
    b"X: a\r\r\nY: b",
    b"X\rY: b",
    b"\nX: b",
    b"X:\r 1",
    b"Content-Length: 1\r",
    b"Content-Length\r: 1",
    b"Transfer-Encoding: chunked\r",
    b"Transfer-Encoding:\nchunked",
    b"Host\r: b",
]


@pytest.mark.parametrize("line", MALFORMED_FIELDS)
def test_a_malformed_field_line_is_refused_wherever_it_stands(line: bytes) -> None:
    for fields in ((b"Host: a", line), (line, b"Host: a"), (b"Host: a", line, b"Y: 2")):
        raw = b"\r\n".join((b"GET / HTTP/1.1", *fields)) + b"\r\n\r\n"
        assert refusal(raw) is BadRequest
        with pytest.raises(UpstreamProtocol):
            read_response_head(raw.replace(b"GET / HTTP/1.1", b"HTTP/1.1 200 OK"), max_fields=128)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n "])
def test_a_start_line_ends_in_crlf_and_nothing_follows_it_but_fields(end: bytes) -> None:
    assert refusal(b"GET / HTTP/1.1" + end + b"Host: a\r\n\r\n") is not None
    with pytest.raises(UpstreamProtocol):
        read_response_head(b"HTTP/1.1 200 OK" + end + b"X: a\r\n\r\n", max_fields=128)


@pytest.mark.parametrize(
    "target",
    [b"/\nX:y", b"/v1/x\nX:y", b"http://a\nX:y", b"http://\na:80", b"*\nX:", b"/?\nHost:b", b"\na:80", b"/x\n"],
)
@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"CONNECT"])
def test_a_target_has_no_line_end_inside(method: bytes, target: bytes) -> None:
    """To llhttp an LF there ends a request line of HTTP/0.9, and the rest of the line is a field."""
    assert refusal(method + b" " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n") is BadRequest


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/a%2Fb?x=%00&y",
        b"/%zz%",
        b"//a//b/./../c;p",
        b'/?filter={"a":[1|2^3]}&q=`<x>`',
        b"http://api.example.com:80/v1?x#"[:-1],
        b"http://[::1]:80/",
        b"/" + b"a" * 8191,
    ],
)
def test_a_target_is_kept_byte_for_byte(target: bytes) -> None:
    assert read_request_head(b"GET " + target + b" HTTP/1.1" + HOST, max_fields=9, max_target=8192).target == target


@pytest.mark.parametrize(
    "method",
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"PROPFIND", b"MKCOL", b"QUERY"],
)
def test_registered_methods_are_known(method: bytes) -> None:
    assert read_request_head(method + b" /x HTTP/1.1" + HOST, max_fields=9, max_target=99).method == method


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 099 x",
        b"HTTP/1.1 000 x",
        b"HTTP/1.1 600 x",
        b"HTTP/1.1 999 x",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 20x OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1 200OK",
        b"HTTP/0.9 200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/2 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b"RTSP/1.0 200 OK",
        b"GET / HTTP/1.1",
        b"HTTP/1.1 200 a\x00b",
        b"HTTP/1.1 200 a\x01b",
        b"HTTP/1.1 200 a\x7fb",
        b"HTTP/1.1 200 a\rb",
        b"HTTP/1.1 200 a\nb",
    ],
)
def test_a_status_line_that_is_not_plain_http_1_is_refused(start: bytes) -> None:
    with pytest.raises(UpstreamProtocol):
        read_response_head(start + b"\r\nX: a\r\n\r\n", max_fields=128)


@pytest.mark.parametrize(
    ("start", "status", "minor"),
    [
        (b"HTTP/1.1 200 OK", 200, 1),
        (b"HTTP/1.0 404 Not Found", 404, 0),
        (b"HTTP/1.1 100 Continue", 100, 1),
        (b"HTTP/1.1 599 \xe9\ttab", 599, 1),
    ],
)
def test_a_status_line_is_kept_as_sent(start: bytes, status: int, minor: int) -> None:
    for _ in range(2):  # the second time it is remembered
        head = read_response_head(start + b"\r\n\r\n", max_fields=9)
        assert (head.status, head.minor, head.start) == (status, minor, start[9:])


def test_a_remembered_status_line_does_not_share_its_head() -> None:
    first = read_response_head(b"HTTP/1.1 200 OK\r\nX: a\r\n\r\n", max_fields=9)
    second = read_response_head(b"HTTP/1.1 200 OK\r\n\r\n", max_fields=9)
    assert (first.lines, second.lines) == ([b"X: a"], [])


def test_a_refusal_quotes_nothing_of_the_request() -> None:
    for raw in (b"canary / HTTP/1.1" + HOST, b"GET /canary\x80 HTTP/1.1" + HOST, b"GET / HTTP/1.1\r\ncanary\r\n\r\n"):
        with pytest.raises(SidecarError) as refused:
            read_request_head(raw, max_fields=9, max_target=99)
        assert "canary" not in refused.value.detail


# --- chunked bodies --------------------------------------------------------------------------------------------------

WHOLE = b"5\r\nhello\r\n1\r\n,\r\n6;ext=1\r\n world\r\n0\r\n\r\n"


def decode(*feeds: bytes, error: type[SidecarError] = BadRequest) -> tuple[bytes, bool, bytes]:
    """Content, whether the body ended, and what came after its end."""
    decoder = ChunkedDecoder(error)
    content, rest, done = b"", b"", False
    for data in feeds:
        pieces, done, left = decoder.feed(data)
        content += b"".join(pieces)
        rest += left
        assert done is decoder.done
        assert not left or done
    return content, done, rest


BODIES = [
    (WHOLE, b"hello, world"),
    (b"0\r\n\r\n", b""),
    (b"000\r\n\r\n", b""),
    (b"0;last\r\n\r\n", b""),
    (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    (b"00000000000000a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    (b'1;a;b=c;d="e;f"\r\nx\r\n0\r\n\r\n', b"x"),
    (b"1\r\nx\r\n0\r\nX-Sum: 1\r\nAuthorization: Bearer no\r\nHost:\r\n\r\n", b"x"),
]


@pytest.mark.parametrize(("body", "content"), BODIES)
def test_a_chunked_body_is_decoded_however_it_is_cut(body: bytes, content: bytes) -> None:
    rest = b"GET / HTTP/1.1\r\n"
    stream = body + rest
    assert decode(stream) == (content, True, rest)
    assert decode(*(bytes((byte,)) for byte in stream)) == (content, True, rest)
    for cut in range(len(stream) + 1):
        assert decode(stream[:cut], stream[cut:]) == (content, True, rest)


def test_a_body_that_is_cut_short_never_ends() -> None:
    for cut in range(len(WHOLE)):
        assert decode(WHOLE[:cut])[1:] == (False, b"")


def test_what_comes_after_the_end_is_handed_back_untouched_every_time() -> None:
    decoder = ChunkedDecoder(BadRequest)
    assert decoder.feed(b"0\r\n\r\nabc").rest == b"abc"
    assert decoder.feed(b"def") == ([], True, b"def")
    assert decoder.feed(b"") == ([], True, b"")


@pytest.mark.parametrize(
    "body",
    [
        b"-5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5 ;a\r\nhello\r\n",
        b"5\t\r\nhello\r\n",
        b"5_0\r\n",
        b"g\r\n",
        b"\r\n",
        b";ext\r\n",
        b"5,\r\nhello\r\n",
        b"5h\r\nhello\r\n",
        b"\xb2\r\n",
        b"1000000000000000\r\n",
        b"ffffffffffffffff\r\n",
        b"10000000000000005\r\nhello\r\n",
        b"0000000000000005\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\rhello\r\n",
        b"5\r\r\nhello\r\n",
        b"5\r\nhello\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello!\r\n",
        b"5\r\nhello\r\r\n",
        b"5\r\nhello \r\n",
        b"5;a\nb\r\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5;a\x00b\r\nhello\r\n",
        b"5;a\x7f\r\nhello\r\n",
        b"0\r\n\n",
        b"0\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n: no name\r\n\r\n",
        b"0\r\nX : 1\r\n\r\n",
        b"0\r\n X: 1\r\n\r\n",
        b"0\r\nX: 1\r\n folded\r\n\r\n",
        b"0\r\nX: 1\n\r\n",
        b"0\r\nX: a\x00\r\n\r\n",
        b"0\r\nX: a\rY: b\r\n\r\n",
    ],
)
def test_a_malformed_chunked_body_is_refused_however_it_is_cut(body: bytes) -> None:
    for error in (BadRequest, UpstreamProtocol):
        with pytest.raises(error):
            decode(body, error=error)
    with pytest.raises(BadRequest):
        decode(*(bytes((byte,)) for byte in body))
    for cut in range(len(body) + 1):
        with pytest.raises(BadRequest):
            decode(body[:cut], body[cut:])


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"5;", b"x"),
        (b"5;", b"x" * 1000),
        (b"", b"0" * 100),
        (b"0\r\nX: ", b"x"),
        (b"0\r\n", b"X: 1\r\n"),
        (b"5\r\nhello", b"x"),
        (b"", b"1;" + b"x" * 1000 + b"\r\nx\r\n"),
    ],
)
def test_framing_without_content_is_bounded(begin: bytes, piece: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(begin, *[piece] * (32 * 1024 // len(piece)))


def test_extensions_up_to_a_line_s_length_and_some_trailers_are_fine() -> None:
    assert decode(b"1;" + b"x" * 4000 + b"\r\nx\r\n0\r\n" + b"X: 1\r\n" * 100 + b"\r\n") == (b"x", True, b"")


def test_a_body_in_chunks_of_one_byte_is_legitimate_however_long() -> None:
    decoder = ChunkedDecoder(BadRequest)
    length = 0
    for _ in range(100):
        length += sum(map(len, decoder.feed(b"1\r\nx\r\n" * 500).pieces))
    assert decoder.feed(b"0\r\n\r\n").done
    assert length == 50_000


def test_a_large_chunk_is_passed_on_as_it_comes_and_not_collected() -> None:
    decoder = ChunkedDecoder(BadRequest)
    assert decoder.feed(b"fffffffffffffff\r\n").pieces == []
    data = b"x" * 65536
    for _ in range(4):
        assert decoder.feed(data) == ([data], False, b"")


def test_what_is_encoded_decodes_to_the_same() -> None:
    body = encode_chunk(b"a" * 300 + b"b", last=False) + encode_chunk(b"", last=False) + encode_chunk(b"", last=True)
    assert body.startswith(b"12d\r\n")
    assert decode(body) == (b"a" * 300 + b"b", True, b"")


def test_a_decoder_shows_its_state_and_no_content() -> None:
    decoder = ChunkedDecoder(BadRequest)
    seen = [repr(decoder)]
    for data in (b"5\r\n", b"can", b"ry", b"\r\n", b"0\r\n", b"\r\n"):
        decoder.feed(data)
        seen.append(repr(decoder))
    assert seen == [
        "<ChunkedDecoder SIZE left=0>",
        "<ChunkedDecoder DATA left=5>",
        "<ChunkedDecoder DATA left=2>",
        "<ChunkedDecoder DATA_END left=0>",
        "<ChunkedDecoder SIZE left=0>",
        "<ChunkedDecoder TRAILER left=0>",
        "<ChunkedDecoder DONE left=0>",
    ]
