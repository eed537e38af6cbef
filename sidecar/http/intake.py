"""Bytes to whole heads: what a buffer holds is a head, may still become one, or never will.

Only the slow path comes here, a head that did not arrive in one read. Refusing early matters for it: a client that will
never send a valid head shall not hold a connection for the whole of its time limit.
"""

from __future__ import annotations

from typing import Final

from sidecar.errors import BadRequest, HeadTooLarge, TargetTooLong
from sidecar.http.h1 import read_request_head
from sidecar.http.hygiene import VERSIONS
from sidecar.http.message import END_OF_HEAD

MAX_LEADING_NEWLINES: Final = 8
"""Bytes of empty lines before a request that are ignored (RFC 9112 section 2.2)."""
_REST_OF_REQUEST_LINE: Final = 64
"""Method, version and spaces around a target of the longest kind."""
_REST_OF_HEAD: Final = b"\r\nHost: x\r\n\r\n"
"""Makes a request line a head that only its line can be wrong with."""


def take_head(buffer: bytearray) -> bytes | None:
    """Take the first whole head off the buffer, its empty line included; None if it has not all come yet.

    Raises:
        BadRequest: empty lines instead of a request.
    """
    if buffer[0] in b"\r\n":
        _drop_empty_lines(buffer)
    end = buffer.find(END_OF_HEAD)
    if end < 0:
        return None
    raw = bytes(memoryview(buffer)[: end + 4])
    del buffer[: end + 4]
    return raw


def _drop_empty_lines(buffer: bytearray) -> None:
    count = len(buffer) - len(buffer.lstrip(b"\r\n"))
    if count > MAX_LEADING_NEWLINES:
        raise BadRequest("empty lines instead of a request")
    half = count % 2  # a CR whose LF is perhaps still to come
    if buffer[:count] != (b"\r\n" * count)[:count] or (half and count < len(buffer)):
        raise BadRequest("a bare CR or LF before the request line")
    del buffer[: count - half]


def refuse_hopeless(buffer: bytearray, *, max_head: int, max_target: int) -> None:
    """Refuse the beginning of a head that cannot become a valid one, for the reason the whole would be refused for.

    Args:
        buffer: what came so far, without its end.
        max_head: bytes of a whole head.
        max_target: bytes of a target.

    Raises:
        TargetTooLong, HeadTooLarge, or what the whole head would be refused with for its request line.
    """
    if len(buffer) > max_head:
        if buffer.find(b"\r\n") < 0:
            raise TargetTooLong(f"the request line is longer than {max_head} bytes")
        raise HeadTooLarge(f"the request head is longer than {max_head} bytes")
    bare = buffer.count(b"\n") != buffer.count(b"\r\n")
    line, newline, _ = bytes(memoryview(buffer)[: max_target + _REST_OF_REQUEST_LINE]).partition(b"\r\n")
    if newline and (bare or line.rpartition(b" ")[2] not in VERSIONS):
        read_request_head(line + _REST_OF_HEAD, max_fields=1, max_target=max_target)
    if bare:
        raise BadRequest("a line ends in something other than CRLF")
