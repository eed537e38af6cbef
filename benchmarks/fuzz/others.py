"""The other readers: h11, and aiohttp's parser in pure Python. One message at a time, so that the end of each shows."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Final

import h11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParserPy, HttpResponseParserPy

from benchmarks.fuzz.reading import (
    CLOSE,
    HOP_BY_HOP,
    SWITCHED,
    UNTOLD,
    Fields,
    Message,
    Reading,
    framing,
    options,
    request,
)

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

ROOM: Final = 1 << 20
"""More than any input has: limits are ours to keep."""


# --- h11 -------------------------------------------------------------------------------------------------------------


def h11_requests(stream: bytes, count: int) -> Reading:
    """At most ``count`` requests."""
    messages: list[Message] = []
    rest: bytes | None = stream
    try:
        while rest is not None and len(messages) < count:
            rest = _h11_request(rest, len(stream), messages)
    except h11.RemoteProtocolError as error:
        return Reading(messages, str(error) or "refused")
    return Reading(messages)


def _h11_request(stream: bytes, length: int, messages: list[Message]) -> bytes | None:
    """Read one, head first, so that it is known which of the two is refused; returns what follows a whole one."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=ROOM)
    server.receive_data(stream)
    head = server.next_event()
    if not isinstance(head, h11.Request):
        return None
    start = (head.method, head.target, int(head.http_version[2:]))
    messages.append(request(start, list(head.headers), None, 0))
    content = b""
    while not isinstance(event := server.next_event(), h11.EndOfMessage):
        if not isinstance(event, h11.Data):
            return None
        content += event.data
    rest = server.trailing_data[0]
    messages[-1] = messages[-1]._replace(body=content, end=length - len(rest))
    return rest


def h11_answer(stream: bytes, method: bytes) -> Reading:
    """The answer to a request of that method."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=ROOM)
    client.send(h11.Request(method=method, target=b"/", headers=_ANY_HOST))
    client.send(_REQUEST_ENDS)
    client.receive_data(stream)
    client.receive_data(b"")
    start: list[int] = []
    head: h11.Response | None = None
    content, ended, error = b"", False, ""
    try:
        while True:
            event = client.next_event()
            if isinstance(event, h11.InformationalResponse):
                start.append(event.status_code)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                content += event.data
            else:
                ended = isinstance(event, h11.EndOfMessage)
                break
    except h11.RemoteProtocolError as exc:
        error = str(exc) or "refused"
    if head is None:
        return Reading([], error)
    start += (head.status_code, int(head.http_version[2:]))
    close = client.their_state is not h11.DONE or bool(client.trailing_data[0])
    body = content if ended else None
    return Reading([_answer(tuple(start), list(head.headers), method, body, close=close)], error)


_ANY_HOST: Final = [(b"Host", b"a")]
_REQUEST_ENDS: Final = h11.EndOfMessage()


def _answer(start: tuple[int, ...], fields: Fields, method: bytes, body: bytes | None, *, close: bool) -> Message:
    nominated = options(fields)
    once = {name: value for name, value in fields if name in HOP_BY_HOP}
    kept = [(name, value) for name, value in fields if name not in HOP_BY_HOP and name not in nominated]
    length: int | None = None
    if method != b"HEAD" and start[-2] not in (204, 304):
        length = framing(once)
        length = CLOSE if length is None else length
    return Message(start, (), kept, length, close or length == CLOSE, body, 0)


# --- aiohttp ---------------------------------------------------------------------------------------------------------


class _Requests(HttpRequestParserPy):
    @property
    def unread(self) -> bytes:
        """What it keeps for the next message."""
        return self._tail


class _Responses(HttpResponseParserPy):
    @property
    def unread(self) -> bytes:
        """As above."""
        return self._tail


@functools.cache
def _protocol() -> BaseProtocol:
    """What aiohttp's payloads want to belong to; nothing of it runs."""
    return BaseProtocol(_loop())


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.close()
    return loop


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def aiohttp_requests(stream: bytes, count: int) -> Reading:
    """At most ``count`` requests."""
    parser = _Requests(
        _protocol(),
        _loop(),
        ROOM,
        ROOM,
        ROOM,
        ROOM,
        auto_decompress=False,
        max_msg_queue_size=1,
    )
    messages: list[Message] = []
    data = stream
    try:
        while len(messages) < count:
            found, switched, _rest = parser.feed_data(data)
            if not found:
                break
            head, payload = found[0]
            start = (_bytes(head.method), _bytes(head.path), head.version.minor)
            fields = [(name.lower(), value) for name, value in head.raw_headers]
            body = b"" if head.method == "CONNECT" else _content(payload)
            end = UNTOLD if switched else len(stream) - len(parser.unread)
            message = request(start, fields, body, end)
            messages.append(message._replace(close=head.should_close))
            if switched:
                return Reading(messages, SWITCHED)
            if body is None:
                break
            parser.message_consumed()
            data = b""
    except HttpProcessingError as error:
        return Reading(messages, error.message)
    return Reading(messages)


def _content(payload: StreamReader) -> bytes | None:
    """The body; None if its end did not come.

    Raises:
        HttpProcessingError: the parser noted an error instead of raising it.
    """
    error = payload.exception()
    if error is not None:
        raise error
    content = payload.read_nowait()
    return content if payload.is_eof() else None


def aiohttp_answer(stream: bytes, method: bytes) -> Reading:
    """The answer to a request of that method, in the lenient mode that aiohttp reads answers in."""
    parser = _Responses(
        _protocol(),
        _loop(),
        ROOM,
        ROOM,
        ROOM,
        ROOM,
        method=method.decode(),
        response_with_body=method != b"HEAD",
        read_until_eof=True,
        auto_decompress=False,
        max_msg_queue_size=1,
    )
    start: list[int] = []
    messages: list[Message] = []
    data = stream
    try:
        while True:
            found, switched, rest = parser.feed_data(data)
            if not found:
                break
            head, payload = found[0]
            start.append(head.code)
            if head.code < 200:
                if switched:
                    return Reading([], SWITCHED)
                parser.message_consumed()
                data = b""
                continue
            fields = [(name.lower(), value) for name, value in head.raw_headers]
            close = head.should_close or bool(parser.unread or rest)
            messages.append(_answer((*start, head.version.minor), fields, method, None, close=close))
            if not payload.is_eof():
                parser.feed_eof()
            messages[0] = messages[0]._replace(body=_content(payload))
            break
    except HttpProcessingError as error:
        return Reading(messages, error.message)
    return Reading(messages)
