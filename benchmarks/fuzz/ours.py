"""Our parser, fed as the data path feeds it.

Requests: the loop of ``proxy.connection`` without its sockets, so with every answer given at once. Responses: the
upstream's connection itself, with a transport that goes nowhere.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from benchmarks.fuzz.reading import CHUNKED, CLOSE, Fields, Message, Reading
from sidecar.config.model import Limits
from sidecar.errors import BadRequest, HeadTooLarge, SidecarError, UpstreamProtocol
from sidecar.http.h1 import ChunkedDecoder, LengthDecoder, read_request_head
from sidecar.http.intake import refuse_hopeless, take_head
from sidecar.http.message import END_OF_HEAD, RequestHead, ResponseHead, has_body
from sidecar.proxy.authority import Origin, parse_authority, split_absolute
from sidecar.proxy.entrance import connect_authority
from sidecar.proxy.upstream import UpstreamConnection

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMITS: Final = Limits()
ORIGIN: Final = Origin(tls=False, host="a", port=80, ca_file=None, routed=True)


def fields_of(lines: list[bytes]) -> Fields:
    """Lines as pairs, names in lower case."""
    return [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]


class Requests:
    """The requests of one connection.

    Attributes:
        heads: of all messages.
        error: the reason of the refusal that ended it.
    """

    def __init__(self) -> None:
        self.heads: list[RequestHead] = []
        self.messages: list[Message] = []
        self.error = ""
        self._buffer = bytearray()
        self._fed = 0
        self._decoder: ChunkedDecoder | LengthDecoder | None = None
        self._content: list[bytes] = []
        self._open = True

    def read(self, pieces: Sequence[bytes]) -> Reading:
        """Feed all pieces."""
        try:
            for piece in pieces:
                if self._open and piece:
                    self._feed(piece)
        except SidecarError as error:
            self.error = error.reason
        if self._decoder is not None:
            self.messages.append(self._message(self.heads[-1], None, 0))
        return Reading(self.messages, self.error, bool(self.error) or not self._buffer)

    def _feed(self, data: bytes) -> None:
        self._fed += len(data)
        buffer = self._buffer
        if not buffer and self._decoder is None and data[0] > 0x20 and (end := data.find(END_OF_HEAD)) >= 0:
            buffer += data[end + 4 :]
            self._head(data[: end + 4])
        else:
            buffer += data
        while buffer and self._open:
            if self._decoder is not None:
                self._body(self._decoder)
            elif (raw := take_head(buffer)) is not None:
                self._head(raw)
            else:
                if buffer:
                    refuse_hopeless(buffer, max_head=LIMITS.head, max_target=LIMITS.target)
                return

    def _head(self, raw: bytes) -> None:
        if len(raw) > LIMITS.head:
            raise HeadTooLarge("")
        head = read_request_head(raw, max_fields=LIMITS.fields, max_target=LIMITS.target)
        admit(head)
        self.heads.append(head)
        if head.chunked or head.content_length:
            self._decoder = ChunkedDecoder(BadRequest) if head.chunked else LengthDecoder(head.content_length or 0)
        else:
            self._ended(head)

    def _body(self, decoder: ChunkedDecoder | LengthDecoder) -> None:
        data = bytes(self._buffer)
        self._buffer.clear()
        pieces, done, rest = decoder.feed(data)
        self._content += pieces
        if done:
            self._decoder = None
            self._buffer += rest
            self._ended(self.heads[-1])

    def _ended(self, head: RequestHead) -> None:
        body = b"".join(self._content)
        self._content.clear()
        self.messages.append(self._message(head, body, self._fed - len(self._buffer)))
        # What follows these is another protocol, perhaps, or not read at all.
        self._open = not (head.close or head.upgrade is not None or head.method == b"CONNECT")
        if not self._open:
            self._buffer.clear()

    def _message(self, head: RequestHead, body: bytes | None, end: int) -> Message:
        framing = CHUNKED if head.chunked else head.content_length
        decides = (head.host, head.proxy_authorization, head.expect_continue, head.upgrade, head.max_forwards)
        fields = fields_of(head.lines + head.forwarded + head.authorization)
        return Message((head.method, head.target, head.minor), decides, fields, framing, head.close, body, end)


def admit(head: RequestHead) -> None:
    """What the entrances ask of a request, whatever their configuration.

    Raises:
        BadRequest: no entrance takes it.
    """
    target = head.target
    if head.method == b"CONNECT":
        connect_authority(head)
        return
    authority: bytes | None = None
    if not target.startswith(b"/") and (target, head.method) != (b"*", b"OPTIONS"):
        authority = split_absolute(target, head.method).authority
        parse_authority(authority)
    if head.host is not None and head.host != authority:
        parse_authority(head.host)


class _Nowhere(asyncio.Transport):
    """A transport that goes nowhere."""

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def abort(self) -> None: ...

    def pause_reading(self) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


_NOWHERE: Final = _Nowhere()


class Answer:
    """One answer, interim responses before it, from an upstream that then closes the connection."""

    def __init__(self, method: bytes) -> None:
        self._method = method
        self.head: ResponseHead | None = None
        self.interim: list[ResponseHead] = []
        self.content: list[bytes] = []
        self.error = ""
        self.ended = False

    def read(self, pieces: Sequence[bytes]) -> Reading:
        """Feed all pieces and the end of the stream."""
        connection = UpstreamConnection(ORIGIN, LIMITS, lambda _connection: None)
        connection.connection_made(_NOWHERE)
        connection.send(b"", self, self._method)
        for piece in pieces:
            if piece:
                connection.data_received(piece)
        reusable = self.ended and connection.reusable
        connection.eof_received()
        head = self.head
        if head is None:
            return Reading([], self.error)
        start = (*(each.status for each in self.interim), head.status, head.minor)
        body = b"".join(self.content) if self.ended else None
        framing = self._framing(head)
        return Reading([Message(start, (), fields_of(head.lines), framing, not reusable, body, 0)], self.error)

    def _framing(self, head: ResponseHead) -> int | None:
        if not has_body(head.status, self._method):
            return None
        if head.chunked:
            return CHUNKED
        return CLOSE if head.content_length is None else head.content_length

    # --- what the connection tells ---

    def interim_response(self, head: ResponseHead) -> None:
        self.interim.append(head)

    def switching(self, head: ResponseHead, data: bytes) -> None:  # noqa: ARG002 - no request here offers one
        raise UpstreamProtocol("")

    def response_begins(self, head: ResponseHead, body: bytes, ended: bool) -> None:
        self.head = head
        self.response_continues(body, ended)

    def response_continues(self, body: bytes, ended: bool) -> None:
        self.content.append(body)
        self.ended = ended

    def upstream_lost(self, error: SidecarError) -> None:
        self.error = error.reason

    def upstream_writable(self, writable: bool) -> None: ...
