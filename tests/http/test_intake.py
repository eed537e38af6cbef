"""Heads that arrive in pieces: taken when whole, refused as soon as they are hopeless."""

from __future__ import annotations

import random

import pytest

from sidecar.errors import BadRequest, HeadTooLarge, MethodUnknown, SidecarError, TargetTooLong, VersionUnsupported
from sidecar.http.h1 import read_request_head
from sidecar.http.intake import MAX_LEADING_NEWLINES, refuse_hopeless, take_head

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_a_head_is_taken_off_and_what_follows_stays() -> None:
    buffer = bytearray(HEAD + b"GET /next")
    assert take_head(buffer) == HEAD
    assert buffer == b"GET /next"


def test_a_head_that_is_not_whole_stays_where_it_is() -> None:
    for length in range(1, len(HEAD)):
        buffer = bytearray(HEAD[:length])
        assert take_head(buffer) is None
        assert buffer == HEAD[:length]


def test_a_few_empty_lines_before_a_request_are_ignored() -> None:
    assert take_head(bytearray(b"\r\n" * (MAX_LEADING_NEWLINES // 2) + HEAD)) == HEAD
    with pytest.raises(BadRequest):
        take_head(bytearray(b"\r\n" * (MAX_LEADING_NEWLINES // 2 + 1) + HEAD))


def test_an_empty_line_may_come_in_two_reads() -> None:
    buffer = bytearray(b"\r\n\r")
    assert take_head(buffer) is None
    assert buffer == b"\r"
    buffer += b"\n" + HEAD
    assert take_head(buffer) == HEAD


@pytest.mark.parametrize("before", [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\n", b"\r\n\r"])
def test_a_bare_cr_or_lf_is_no_empty_line(before: bytes) -> None:
    with pytest.raises(BadRequest):
        take_head(bytearray(before + HEAD))


def test_every_beginning_of_a_valid_head_has_hope() -> None:
    for length in range(1, len(HEAD)):
        refuse_hopeless(bytearray(HEAD[:length]), max_head=1024, max_target=512)


@pytest.mark.parametrize(
    ("beginning", "error"),
    [
        (b"GET / HTTP/1.1\nHost: a", BadRequest),
        (b"GET /\r\n", BadRequest),
        (b"GET / HTTP/2.0\r\nHost", VersionUnsupported),
        (b"GET / RTSP/1.0\r\n", BadRequest),
        (b"GET / HTTP/1.1 \r\nHost", BadRequest),
        (b"BREW / HTTP/2.0\r\n", MethodUnknown),
        (b"FOO / HTTP/1.1\r\nHost: a\n", MethodUnknown),
        (b"GET /" + b"a" * 1024, TargetTooLong),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 1024, HeadTooLarge),
    ],
)
def test_a_hopeless_beginning_is_refused_before_its_end_comes(beginning: bytes, error: type[SidecarError]) -> None:
    with pytest.raises(error):
        refuse_hopeless(bytearray(beginning), max_head=1024, max_target=512)


@pytest.mark.parametrize(
    "line", [b"GET /", b"GET / HTTP/2.0", b"GET / HTTP/1.10", b"OPTIONS * RTSP/1.0", b"get /", b"G@T /", b"nonsense"]
)
def test_a_head_in_pieces_is_refused_for_the_reason_the_whole_is(line: bytes) -> None:
    with pytest.raises(SidecarError) as whole:
        read_request_head(line + b"\r\nHost: a\r\n\r\n", max_fields=9, max_target=512)
    with pytest.raises(type(whole.value)):
        refuse_hopeless(bytearray(line + b"\r\nHo"), max_head=1024, max_target=512)


BITS = (
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b"HTTP/2.0",
    b"HTTP/1.",
    b"x",
    b"\xff",
    b"#",
    b"Host: b\r\n",
    b"\r\n\r\n",
)
SEEDS = (
    b"GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\nX: y\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
    b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\n",
)


def mutated(chance: random.Random) -> bytes:
    sent = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(sent) + 1)
        if chance.random() < 0.7:
            sent[at : at + chance.choice((0, 0, 1, 2))] = chance.choice(BITS)
        else:
            del sent[at : at + chance.randint(1, 4)]
    return bytes(sent)


def taken(pieces: list[bytes]) -> tuple[list[bytes], str]:
    """The heads that are taken of what comes in pieces, and what becomes of the rest."""
    buffer, heads = bytearray(), []
    for piece in pieces:
        buffer += piece
        try:
            while buffer and (raw := take_head(buffer)) is not None:
                read_request_head(raw, max_fields=10, max_target=200)
                heads.append(raw)
            if buffer:
                refuse_hopeless(buffer, max_head=400, max_target=200)
        except SidecarError:
            return heads, "refused"
    return heads, "waits" if buffer else "done"


def test_pieces_never_decide_whether_a_head_is_taken() -> None:
    chance = random.Random(5)
    for _ in range(20_000):
        sent = mutated(chance)
        assert taken([sent]) == taken([sent[at : at + 1] for at in range(len(sent))]), sent
