"""Whatever bytes come: they are refused with a declared error, or read as h11 reads them.

h11 is the second reader. Where we accept, it has to accept too and see the same message; it may well accept more.
"""

from __future__ import annotations

import contextlib
from itertools import pairwise

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.errors import BadRequest, ClientError, UpstreamProtocol
from sidecar.http.h1 import ChunkedDecoder, encode_chunk, read_request_head, read_response_head
from sidecar.http.message import RequestHead, ResponseHead
from sidecar.proxy.authority import parse_authority, split_absolute
from sidecar.proxy.exchange import Framing, request_head, response_framing, response_head
from sidecar.proxy.paths import path_forms

VIA = b"Via: 1.1 test\r\n"
DATE = b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
TOKEN = b"Authorization: Bearer token\r\n"
OURS = {b"host", b"content-length", b"transfer-encoding", b"expect"}
HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"proxy-authenticate"}

Fields = list[tuple[bytes, bytes]]

# --- what is fed -----------------------------------------------------------------------------------------------------

ODD_BYTES = st.sampled_from(
    [b"\r", b"\n", b"\x00", b"\x0b", b" ", b"\t", b":", b",", b";", b"\x7f", b"\x85", b"\xff", b"#"]
)
METHODS = st.sampled_from(
    [b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"TRACE", b"get", b"FOO", b"PRI", b"SOURCE"]
)
TARGETS = st.sampled_from(
    [
        b"/a",
        b"http://a/b",
        b"/",
        b"*",
        b"/x?y",
        b"http://a/",
        b"http://a:80/x",
        b"a:80",
        b"//",
        b"/%00",
        b"http://u@a/",
        b"/{}|^",
        b"x",
        b"",
    ]
)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"RTSP/1.0", b""])
VERSIONS_KNOWN = st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"])
NAMES = st.sampled_from(
    [
        *(b"Host", b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection", b"connection", b"Expect"),
        *(b"Upgrade", b"Authorization", b"Via", b"X-Hop", b"X_Y", b"TE", b"Trailer", b"Keep-Alive", b"Date", b"Cookie"),
        *(b"Proxy-Authorization", b"Content-Length ", b" X", b"", b"X\t"),
    ]
)
VALUES = st.sampled_from(
    [
        *(b"a", b" a", b"a:80 ", b"0", b" 5", b"5, 5", b"+5", b" chunked", b"Chunked", b"gzip, chunked", b"identity"),
        *(
            b"close",
            b" keep-alive, x-hop",
            b"upgrade",
            b"authorization, host",
            b"100-continue",
            b"websocket",
            b"",
            b" ",
        ),
        *(b"\xe9", b"1.1 a", b"timeout=5", b"\tx\t"),
    ]
)


VALID = st.sampled_from(
    [
        *(b"Content-Length: 5", b"Content-Length:0", b"Transfer-Encoding: chunked", b"Connection: close, x-hop"),
        *(b"connection: authorization", b"Connection:,, X_Y ,", b"X-Hop: 1", b"X_Y:2", b"Authorization: Bearer a"),
        *(
            b"AUTHORIZATION: Basic b",
            b"Expect: 100-continue",
            b"Upgrade: h2c",
            b"Via: 1.1 a",
            b"Cookie: \xe9;\t",
            b"TE:",
        ),
        *(b"Date: today", b"Keep-Alive: timeout=5", b"Proxy-Authorization: Basic c"),
    ]
)
ODD = st.tuples(NAMES, st.one_of(VALUES, st.binary(max_size=6))).map(b":".join)


CLEAN_LINES = st.lists(VALID, max_size=6, unique_by=lambda line: line.partition(b":")[0].lower())


def joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\r\n" for line in lines)


def field_lines() -> st.SearchStrategy[bytes]:
    return st.lists(st.one_of(VALID, VALID, ODD), max_size=5).map(joined)


@st.composite
def spoiled(draw: st.DrawFn, raw: bytes) -> bytes:
    """At most two odd bytes put in somewhere; the first empty line ends the head."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(ODD_BYTES) + raw[at + draw(st.integers(0, 1)) :]
    return raw.lstrip(b"\r\n").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


@st.composite
def request_heads(draw: st.DrawFn) -> bytes:
    """Half of them nearly always valid, so that accepted ones are not rare; the others odd in any place."""
    if draw(st.booleans()):
        method, target = draw(st.sampled_from([b"GET", b"HEAD", b"POST"])), draw(st.sampled_from([b"/", b"http://a/x"]))
        return method + b" " + target + b" HTTP/1.1\r\nHost: a\r\n" + joined(draw(CLEAN_LINES)) + b"\r\n"
    host = draw(st.sampled_from([b"Host: a\r\n"] * 4 + [b""]))
    line = b" ".join((draw(METHODS), draw(TARGETS), draw(VERSIONS)))
    return draw(spoiled(line + b"\r\n" + host + draw(field_lines()) + b"\r\n"))


@st.composite
def response_heads(draw: st.DrawFn) -> bytes:
    """As above."""
    if draw(st.booleans()):
        status = draw(st.sampled_from([b"200", b"204", b"206", b"304", b"401", b"500"]))
        return draw(VERSIONS_KNOWN) + b" " + status + b" OK\r\n" + joined(draw(CLEAN_LINES)) + b"\r\n"
    status = draw(st.sampled_from([b"200", b"204", b"304", b"401", b"500", b"599", b"600", b"099", b"2000", b"20"]))
    reason = draw(st.sampled_from([b" OK", b" ", b"", b" \xe9", b"  x", b"\tx"]))
    return draw(spoiled(draw(VERSIONS) + b" " + status + reason + b"\r\n" + draw(field_lines()) + b"\r\n"))


ANY_HEAD = st.binary(max_size=200).map(lambda raw: raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")

# --- the second reader -----------------------------------------------------------------------------------------------


def h11_request(raw: bytes) -> h11.Request:
    server = h11.Connection(our_role=h11.SERVER)
    server.receive_data(raw)
    event = server.next_event()
    assert isinstance(event, h11.Request), event
    return event


def h11_response(raw: bytes, method: bytes = b"GET") -> h11.Response:
    client = h11.Connection(our_role=h11.CLIENT)
    client.send(h11.Request(method=method, target=b"/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    event = client.next_event()
    assert isinstance(event, h11.Response), event
    return event


def fields(lines: list[bytes]) -> Fields:
    return [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]


def nominated(headers: Fields) -> set[bytes]:
    values = [value for name, value in headers if name == b"connection"]
    return {option.strip(b" \t").lower() for value in values for option in value.split(b",")}


def end_to_end(headers: Fields, taken: set[bytes]) -> Fields:
    gone = HOP_BY_HOP | taken | nominated(headers)
    return [(name, value) for name, value in headers if name not in gone]


def request_or_refusal(raw: bytes) -> RequestHead | None:
    try:
        return read_request_head(raw, max_fields=128, max_target=8192)
    except ClientError:
        return None


def response_or_refusal(raw: bytes) -> ResponseHead | None:
    try:
        return read_response_head(raw, max_fields=128)
    except UpstreamProtocol:
        return None


# --- heads -----------------------------------------------------------------------------------------------------------


@given(st.one_of(request_heads(), ANY_HEAD))
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n")
@example(b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n")
@settings(max_examples=400)
def test_a_request_we_accept_is_the_request_that_h11_sees(raw: bytes) -> None:
    head = request_or_refusal(raw)
    if head is None:
        return
    seen = h11_request(raw)
    headers = list(seen.headers)
    assert (seen.method, seen.target, seen.http_version) == (head.method, head.target, b"1.%d" % head.minor)
    # Authorization is judged apart: what it says is taken out of the lines, unless a nomination dropped it before.
    taken = OURS | {b"authorization", b"proxy-authorization"}
    assert fields(head.lines) == end_to_end(headers, taken)
    dropped = b"authorization" in nominated(headers)
    assert fields(head.authorization) == ([] if dropped else [pair for pair in headers if pair[0] == b"authorization"])
    assert [value for name, value in headers if name == b"host"] == ([] if head.host is None else [head.host])
    framing = [(name, value.lower()) for name, value in headers if name in {b"content-length", b"transfer-encoding"}]
    if head.chunked:
        assert framing == [(b"transfer-encoding", b"chunked")]
    elif head.content_length is not None:
        assert [(name, int(value)) for name, value in framing] == [(b"content-length", head.content_length)]
    else:
        assert framing == []


@given(request_heads())
@settings(max_examples=400)
def test_a_request_we_accept_goes_out_as_one_that_we_and_h11_accept(raw: bytes) -> None:
    head = request_or_refusal(raw)
    if head is None:
        return
    path = b"/" if head.method == b"CONNECT" else head.target
    method, head.method = head.method, b"GET" if head.method == b"CONNECT" else head.method
    built = request_head(head, path=path, host=b"upstream", via=VIA, authorization=TOKEN)
    again = read_request_head(built, max_fields=256, max_target=8192)
    assert (again.method, again.target, again.host) == (head.method, path, b"upstream"), method
    assert again.authorization == [TOKEN.strip()]
    assert again.lines == [*head.lines, VIA.strip()]
    assert (again.content_length, again.chunked) == (head.content_length, head.chunked)
    seen = h11_request(built)
    assert [pair for pair in seen.headers if pair[0] == b"authorization"] == [(b"authorization", b"Bearer token")]
    assert not HOP_BY_HOP & {name for name, _ in seen.headers}


@given(st.one_of(response_heads(), ANY_HEAD))
@example(b"HTTP/1.1 200 OK\r\r\nX: a\r\n\r\n")
@example(b"HTTP/1.1 200 OK\r\nX: a\r\r\n\r\n")
@example(b"HTTP/1.1 200\r\n\r\n")
@settings(max_examples=400)
def test_an_answer_we_accept_is_the_answer_that_h11_sees(raw: bytes) -> None:
    head = response_or_refusal(raw)
    if head is None or head.status < 200:
        return
    seen = h11_response(raw)
    assert (seen.status_code, seen.http_version) == (head.status, b"1.%d" % head.minor)
    assert fields(head.lines) == end_to_end(list(seen.headers), {b"content-length", b"transfer-encoding"})


@given(response_heads(), st.sampled_from([b"GET", b"HEAD", b"POST"]), st.sampled_from([0, 1]), st.booleans())
@settings(max_examples=400)
def test_an_answer_we_accept_goes_out_as_one_that_we_and_h11_accept(
    raw: bytes, method: bytes, minor: int, close: bool
) -> None:
    head = response_or_refusal(raw)
    if head is None or head.status < 200:
        return
    framing = response_framing(head, RequestHead(method, b"/", minor))
    built = response_head(head, framing, via=VIA, date=DATE, close=close)
    again = read_response_head(built, max_fields=256)
    assert (again.status, again.start, again.close, again.has_date) == (head.status, head.start, close, True)
    assert again.chunked == (framing is Framing.CHUNKED)
    if framing is Framing.LENGTH:
        assert again.content_length == head.content_length
    headers = list(h11_response(built, method).headers)
    assert sum(name in {b"content-length", b"transfer-encoding"} for name, _ in headers) <= 1
    assert sum(name == b"connection" for name, _ in headers) == close


# --- targets ---------------------------------------------------------------------------------------------------------


@given(st.one_of(st.binary(max_size=40), st.text("aA1.:[]@%-_0x", max_size=30).map(str.encode)))
@settings(max_examples=400)
def test_an_authority_is_refused_or_canonical(raw: bytes) -> None:
    try:
        authority = parse_authority(raw)
    except BadRequest:
        return
    assert authority.host == authority.host.lower()
    assert parse_authority(authority.netloc(0).encode()) == authority


@given(st.binary(max_size=60), st.sampled_from([b"GET", b"OPTIONS"]))
@settings(max_examples=300)
def test_no_byte_of_a_target_s_path_is_changed(rest: bytes, method: bytes) -> None:
    target = split_absolute(b"http://" + rest, method)
    path = b"" if target.path == b"*" else target.path
    assert rest in (target.authority + path, target.authority + path[1:])


@given(st.lists(st.sampled_from([b"/", b"..", b".", b"a", b"%2e", b"%2f", b"%25", b";", b"\\", b"?", b"%0a", b"%"])))
@settings(max_examples=400)
def test_a_path_s_forms_are_the_path_and_one_of_its_own_folders(words: list[bytes]) -> None:
    path = b"/" + b"".join(words)
    try:
        forms = path_forms(path)
    except BadRequest:
        return
    assert forms[0] == path.partition(b"?")[0]
    assert all(form.endswith(b"/") and forms[0].startswith(form) for form in forms[1:])


# --- chunked bodies --------------------------------------------------------------------------------------------------


def ours(stream: bytes, cuts: list[int]) -> tuple[bytes, bytes] | None:
    """Content and what comes after the end; None if it is refused or does not end."""
    decoder, content, rest = ChunkedDecoder(BadRequest), b"", b""
    bounds = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    try:
        for begin, end in pairwise(bounds):
            decoded = decoder.feed(stream[begin:end])
            content += b"".join(decoded.pieces)
            rest += decoded.rest
    except BadRequest:
        return None
    return (content, rest) if decoder.done else None


def theirs(stream: bytes) -> tuple[bytes, bytes] | None:
    server = h11.Connection(our_role=h11.SERVER)
    server.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + stream)
    content = b""
    try:
        while not isinstance(event := server.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return None
            content += bytes(event.data) if isinstance(event, h11.Data) else b""
    except h11.RemoteProtocolError:
        return None
    return content, server.trailing_data[0]


CUTS = st.lists(st.integers(0, 200), max_size=4)
EXTENSIONS = st.sampled_from([b"", b"", b";a", b";a=b", b';a="b;c"'])
TRAILERS = st.sampled_from([b"", b"", b"X: 1\r\n", b"Host: evil\r\nAuthorization: x\r\n", b"X:\r\n"])


@st.composite
def chunked_bodies(draw: st.DrawFn) -> bytes:
    body = b""
    for data in draw(st.lists(st.binary(min_size=1, max_size=20), max_size=5)):
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % len(data)
        body += size + draw(EXTENSIONS) + b"\r\n" + data + b"\r\n"
    return body + b"0" + draw(EXTENSIONS) + b"\r\n" + draw(TRAILERS) + b"\r\n"


@given(chunked_bodies(), st.binary(max_size=20), CUTS)
@settings(max_examples=400)
def test_a_valid_chunked_body_decodes_as_h11_decodes_it(body: bytes, after: bytes, cuts: list[int]) -> None:
    decoded = ours(body + after, cuts)
    assert decoded is not None
    assert decoded == theirs(body + after)
    assert decoded[1] == after


@given(chunked_bodies(), st.lists(st.tuples(st.integers(0, 150), ODD_BYTES, st.integers(0, 1)), max_size=3), CUTS)
@settings(max_examples=400)
def test_a_chunked_body_that_h11_refuses_is_refused_however_it_is_cut(
    body: bytes, harm: list[tuple[int, bytes, int]], cuts: list[int]
) -> None:
    for place, odd, replaced in harm:
        at = place % (len(body) + 1)
        body = body[:at] + odd + body[at + replaced :]
    decoded = ours(body, cuts)
    assert decoded == ours(body, [])
    if decoded is not None:
        assert decoded == theirs(body)


@given(st.lists(st.binary(max_size=50), max_size=6), CUTS)
@settings(max_examples=200)
def test_what_we_encode_we_and_h11_decode(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(encode_chunk(piece, last=False) for piece in pieces) + encode_chunk(b"", last=True)
    assert ours(stream, cuts) == theirs(stream) == (b"".join(pieces), b"")


@given(st.binary(max_size=300), CUTS)
@settings(max_examples=300)
def test_any_bytes_are_decoded_or_refused_with_the_error_asked_for(data: bytes, cuts: list[int]) -> None:
    with contextlib.suppress(UpstreamProtocol):
        ChunkedDecoder(UpstreamProtocol).feed(data)
    assert (ours(data, cuts) is None) == (ours(data, []) is None)
