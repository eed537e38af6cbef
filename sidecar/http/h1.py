"""Glue to llhttp, and the one body format that needs a parser: chunked.

A head is parsed once, when it is whole: httptools buffers partial headers quadratically. llhttp looks at it first, as
the judge of its syntax: bare CR and LF, control characters, white space before colons and folded lines end there, so
that ``hygiene``, which reads it line by line, sees the very lines that llhttp saw.

Bodies of known length are counted by the connection and never copied through a parser. Chunked bodies are decoded
here instead of by llhttp, because httptools neither says where a message ends inside the bytes it was fed nor shows
chunk extensions, which must be bounded (RFC 9112 section 7.1.1).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

import httptools

from sidecar.errors import BadRequest, HeadTooLarge, MethodUnknown, SidecarError, UpstreamProtocol
from sidecar.http import hygiene

if TYPE_CHECKING:
    from sidecar.http.message import RequestHead, ResponseHead


class _Deaf:
    """llhttp's listener that wants to hear nothing: only the verdict counts."""


_DEAF: Final = _Deaf()


def read_request_head(raw: bytes, *, max_fields: int, max_target: int) -> RequestHead:
    """Check and read a request head; ``raw`` ends with its empty line.

    Raises:
        ClientError: see ``hygiene.read_request``; MethodUnknown for a method llhttp does not know.
    """
    try:
        httptools.HttpRequestParser(_DEAF).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # the head is valid; what follows it is ours to judge
    except httptools.HttpParserInvalidMethodError as exc:
        raise _unknown_method(raw) from exc
    except httptools.HttpParserError as exc:
        # A wrong version is a 505, which llhttp cannot tell from other faults; the request line can.
        hygiene.read_request(raw[: raw.index(b"\r\n")] + b"\r\nHost: x\r\n\r\n", max_fields=2, max_target=max_target)
        raise BadRequest("the request head is not valid HTTP/1.1") from exc
    return hygiene.read_request(raw, max_fields=max_fields, max_target=max_target)


_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _unknown_method(raw: bytes) -> SidecarError:
    method, space, _ = raw[: raw.index(b"\r\n")].partition(b" ")
    if space and method and not method.translate(None, _TOKEN):
        return MethodUnknown("the method is not one this proxy knows; methods are case-sensitive")
    return BadRequest("the request line does not start with a method")


def read_response_head(raw: bytes, *, max_fields: int) -> ResponseHead:
    """Check and read a response head; ``raw`` ends with its empty line.

    Raises:
        UpstreamProtocol: the head is malformed.
    """
    try:
        httptools.HttpResponseParser(_DEAF).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as exc:
        raise UpstreamProtocol("the response head is not valid HTTP/1.1") from exc
    return hygiene.read_response(raw, max_fields=max_fields)


class Decoded(NamedTuple):
    """What one feed gave: the payload in pieces, whether the body ended, and the bytes after its end."""

    pieces: list[bytes]
    done: bool
    rest: bytes


class LengthDecoder:
    """Counts a body of known length off the bytes (RFC 9112 section 6.2); nothing is copied but at its end."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def feed(self, data: bytes) -> Decoded:
        """The part of ``data`` that belongs to the body; never fails."""
        left = self._left = self._left - len(data)
        if left >= 0:
            return Decoded([data], not left, b"")
        return Decoded([data[:left]], True, data[left:])

    def __repr__(self) -> str:
        return f"<LengthDecoder left={self._left}>"


class _At(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILER = enum.auto()
    DONE = enum.auto()


_HEX: Final = b"0123456789abcdefABCDEF"
_MAX_SIZE_DIGITS: Final = 15
_MAX_LINE: Final = 4096
"""Longest chunk-size line (extensions included) or trailer line, in bytes."""
_OVERHEAD_ALLOWED: Final = 16 * 1024
_OVERHEAD_PER_CHUNK: Final = 64
"""Framing bytes a body may spend: an allowance, and a part per chunk that fills it up. Honest size lines take under 20;
beyond, extensions are an attack (CVE-2024-22019)."""
_NO_CONTROLS: Final = bytes(byte for byte in range(256) if byte >= 0x20 and byte != 0x7F) + b"\t"


class ChunkedDecoder:
    """Takes a chunked body apart (RFC 9112 section 7.1); extensions and trailers are checked, bounded and dropped.

    Args:
        error: what to raise on a malformed body: ``BadRequest`` for requests, ``UpstreamProtocol`` for responses.
        trailers: what to raise on trailers over the limit, if it is something else.
    """

    __slots__ = ("_at", "_error", "_left", "_overhead", "_partial", "_trailers")

    def __init__(self, error: type[SidecarError], trailers: type[SidecarError] | None = None) -> None:
        self._error = error
        self._trailers = trailers or error
        self._at = _At.SIZE
        self._left = 0
        self._partial = b""
        self._overhead = _OVERHEAD_ALLOWED

    def feed(self, data: bytes) -> Decoded:
        """Decode what can be decoded; partial lines are kept for the next call.

        Raises:
            SidecarError: the class given to the constructor; the connection is of no use any more.
        """
        if self._partial:
            data = self._partial + data
            self._partial = b""
        pieces: list[bytes] = []
        position, end = 0, len(data)
        while position < end and self._at is not _At.DONE:
            if self._at is _At.DATA:
                taken = min(self._left, end - position)
                pieces.append(data[position : position + taken])
                position += taken
                self._left -= taken
                if not self._left:
                    self._at = _At.DATA_END
                continue
            line_end = data.find(b"\n", position, position + _MAX_LINE)
            if line_end < 0:
                if end - position >= _MAX_LINE:
                    raise self._over_limit("a chunk-size or trailer line is over the limit")
                self._partial = data[position:]
                return Decoded(pieces, False, b"")
            self._line(data[position : line_end + 1])
            position = line_end + 1
        return Decoded(pieces, self._at is _At.DONE, data[position:] if position else data)

    def _line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            raise self._error("a line of the chunked body ends in a bare LF")
        self._overhead -= len(line)
        if self._overhead < 0:
            raise self._over_limit("the chunked body has more framing than content")
        content = line[:-2]
        if content.translate(None, _NO_CONTROLS):
            raise self._error("a control character in the framing of the chunked body")
        if self._at is _At.SIZE:
            self._size(content)
        elif self._at is _At.DATA_END:
            if content:
                raise self._error("a chunk is longer than its size")
            self._at = _At.SIZE
        elif content:
            name, colon, _ = content.partition(b":")
            if not colon or not name or name.translate(None, _TOKEN):
                raise self._error("a trailer line is malformed")
        else:
            self._at = _At.DONE

    def _size(self, content: bytes) -> None:
        digits, _, _ = content.partition(b";")
        if not digits or len(digits) > _MAX_SIZE_DIGITS or digits.translate(None, _HEX):
            raise self._error("a chunk size is not a hexadecimal number")
        self._left = int(digits, 16)
        self._overhead = min(self._overhead + _OVERHEAD_PER_CHUNK, _OVERHEAD_ALLOWED)
        self._at = _At.DATA if self._left else _At.TRAILER

    def _over_limit(self, detail: str) -> SidecarError:
        return (self._trailers if self._at is _At.TRAILER else self._error)(detail)

    @property
    def done(self) -> bool:
        return self._at is _At.DONE

    def __repr__(self) -> str:
        return f"<ChunkedDecoder {self._at.name} left={self._left}>"


Decoder = ChunkedDecoder | LengthDecoder


def body_decoder(head: RequestHead) -> Decoder:
    """What takes the body of this request off the bytes that follow its head."""
    return ChunkedDecoder(BadRequest, HeadTooLarge) if head.chunked else LengthDecoder(head.content_length or 0)


_LAST_CHUNK: Final = b"0\r\n\r\n"


def encode_chunk(data: bytes, *, last: bool) -> bytes:
    """One chunk, and behind the last one the end of the body; no chunk for no bytes, because that would be the end."""
    chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
    return chunk + _LAST_CHUNK if last else chunk
