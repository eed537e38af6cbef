"""Where two readings differ, and the differences that are known, each with the reason why it is harmless.

A difference that nothing here explains is a bug: of ours, until the opposite is written down here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from benchmarks.fuzz.reading import SWITCHED, UNTOLD, Message, Reading
from sidecar.http.intake import MAX_LEADING_NEWLINES

REFUSES: Final = "refuses"
REFUSES_BODY: Final = "refuses the body"
MISSES: Final = "misses"
VERDICT: Final = "verdict"
REASON: Final = "reason"


class Difference(NamedTuple):
    """One difference between a message as we and as another reader see it."""

    reader: str
    stage: str
    """``request``, ``answer``; ``request out`` and ``answer out`` for what we make of them; ``pieces``."""
    what: str
    """``refuses``, ``refuses the body`` behind the same head, ``misses`` (it sees no such message), or the part of
    ``Message`` that differs; in pieces ``verdict``, or ``reason`` where both are refusals."""
    told: str
    """The other reader's error, or its value."""
    ours: Message | None = None


def differences(ours: Reading, theirs: Reading, reader: str, stage: str) -> list[Difference]:
    """What differs in the first message that is not the same in both readings."""
    for number, mine in enumerate(ours.messages):
        if number >= len(theirs.messages):
            if mine.body is None:
                return []  # it was not passed on whole either
            what = REFUSES if theirs.error else MISSES
            return [Difference(reader, stage, what, theirs.error, mine)]
        other = theirs.messages[number]
        if mine.body is not None and other.body is None and theirs.error:
            found = [Difference(reader, stage, REFUSES_BODY, theirs.error, mine)]
        else:
            found = []
        found += _parts(mine, other, reader, stage, refused=bool(found) or (mine.body is None and bool(ours.error)))
        if found:
            return found
    return []


def _parts(mine: Message, other: Message, reader: str, stage: str, *, refused: bool) -> list[Difference]:
    if mine == other:
        return []
    whole = mine.body is not None
    pairs = [
        ("start", mine.start, other.start),
        ("decides", mine.decides, other.decides),
        ("fields", mine.fields, other.fields),
        ("framing", mine.framing, other.framing),
    ]
    if not refused:
        pairs += [("body", mine.body, other.body)]
    if whole and not refused:
        pairs += [("close", mine.close, other.close), ("end", mine.end, mine.end if other.end == UNTOLD else other.end)]
    return [Difference(reader, stage, what, repr(two), mine) for what, one, two in pairs if one != two]


@dataclass(frozen=True, slots=True)
class Known:
    """A class of differences that does no harm."""

    name: str
    reader: str
    stages: tuple[str, ...]
    what: str
    told: str
    """What the other reader's error or value begins with."""
    why: str
    holds: bytes = b""
    """Bytes that stand in every input of the class."""

    def explains(self, difference: Difference, data: bytes) -> bool:
        """Whether the difference, which the input ``data`` showed, is of this class."""
        return (
            (self.reader, self.what) == (difference.reader, difference.what)
            and difference.stage in self.stages
            and difference.told.startswith(self.told)
            and self.holds in data
        )


_MANY_EMPTY_LINES: Final = b"\r\n" * (MAX_LEADING_NEWLINES // 2) + b"\r"

KNOWN: Final[tuple[Known, ...]] = (
    Known(
        "empty lines before a request",
        *("h11", ("request",), REFUSES, "no request line received"),
        why="RFC 9112 section 2.2 has a server ignore them, and eight bytes of them are ignored. They are never passed "
        "on, so nobody behind us sees them.",
        holds=b"\r\n",
    ),
    Known(
        "many empty lines before a request, in several reads",
        *("ours", ("pieces",), VERDICT, ""),
        why="Their number is bounded for each read, and the time of a head for all of them. Accepted or not, they are "
        "never passed on, and the request behind them is read alike.",
        holds=_MANY_EMPTY_LINES,
    ),
    Known(
        "the same, and a fault in what follows them",
        *("ours", ("pieces",), REASON, ""),
        why="Refused either way, for the number of the lines or for what follows them.",
        holds=_MANY_EMPTY_LINES,
    ),
    Known(
        "a request line that is wrong and holds a bare LF",
        *("ours", ("pieces",), REASON, "bad_request instead of "),
        why="Refused either way, and nothing is passed on: before the line is whole, the LF is all that is known.",
        holds=b"\n",
    ),
    Known(
        "a field on two lines that should stand once",
        *("aiohttp", ("request", "request out"), REFUSES, "Duplicate '"),
        why="aiohttp refuses requests that repeat Content-Type, ETag, Server and their like. None of them decides "
        "anything for a proxy; they are passed on as they came (RFC 9110 section 5.3), and the origin judges them.",
    ),
    Known(
        "the WebSocket draft whose body no field announces",
        *("aiohttp", ("request", "request out"), REFUSES, "Invalid HTTP header: 'Sec-WebSocket-Key1'"),
        why="aiohttp refuses the field of a draft (hixie-76) with 8 bytes of body that no field announces. HTTP/1.1 "
        "knows no such body: here these bytes are the next request, which fails, and they never reach the upstream.",
    ),
    Known(
        "what follows an offer of another protocol",
        *("aiohttp", ("request",), REFUSES, SWITCHED),
        why="aiohttp takes an offer of WebSocket for the switch; RFC 9110 section 7.8 has the server decide. We switch "
        "when the upstream has, and only for a GET; before that what follows are requests.",
        holds=b"\r\n\r\n",
    ),
    Known(
        "an interim answer that names another protocol",
        *("aiohttp", ("answer",), REFUSES, SWITCHED),
        why="aiohttp takes it for the switch; RFC 9110 section 15.2.2 has 101 alone do that. It goes on to the client "
        "without both fields, so nobody behind us is misled.",
        holds=b"pgrade",
    ),
    Known(
        "a client of HTTP/1.0 that asks to be kept",
        *("aiohttp", ("request",), "close", "False"),
        why="aiohttp keeps the connection of an HTTP/1.0 client that says keep-alive, we close it: RFC 9112 section "
        "9.3 forbids a proxy to keep it. What follows is not read.",
        holds=b"HTTP/1.0",
    ),
    Known(
        "an upstream of HTTP/1.0 that keeps the connection",
        *("h11", ("answer",), "close", "True"),
        why="h11 never keeps an HTTP/1.0 connection; we keep one whose answer has a length and says keep-alive (RFC "
        "9112 section 9.3). If the upstream closes it all the same, that is noticed.",
        holds=b"HTTP/1.0",
    ),
    Known(
        "no body and no framing fields",
        *("aiohttp", ("answer", "answer out"), "close", "True"),
        why="aiohttp takes an answer to HEAD without framing fields for one that the close ends. RFC 9112 section 6.3 "
        "ends it at its empty line; bytes after that close the connection.",
    ),
    Known(
        "a length among the trailers",
        *("h11", ("request", "answer"), REFUSES_BODY, "bad Content-Length"),
        why="h11 checks the framing fields among trailers as if they stood in a head. Trailers are never merged into a "
        "head here (RFC 9110 section 6.5.1): they are dropped, and no next hop sees them.",
    ),
    Known(
        "two lengths among the trailers",
        *("h11", ("request", "answer"), REFUSES_BODY, "conflicting Content-Length headers"),
        why="As one of them.",
    ),
    Known(
        "a transfer coding among the trailers",
        *("h11", ("request", "answer"), REFUSES_BODY, "Only Transfer-Encoding: chunked is supported"),
        why="As a length among them.",
    ),
    Known(
        "two transfer codings among the trailers",
        *("h11", ("request", "answer"), REFUSES_BODY, "multiple Transfer-Encoding headers"),
        why="As a length among them.",
    ),
)


def explained(difference: Difference, data: bytes) -> Known | None:
    """The class that a difference belongs to, which the input ``data`` showed."""
    return next((known for known in KNOWN if known.explains(difference, data)), None)
