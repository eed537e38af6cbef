"""What the sidecar makes of an accepted message for the next hop, and how that has to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.fuzz.reading import CHUNKED, CLOSE, HOP_BY_HOP, Message, is_forwarded
from sidecar.http.h1 import encode_chunk
from sidecar.http.message import RequestHead, ResponseHead
from sidecar.proxy.authority import split_absolute
from sidecar.proxy.exchange import Framing, interim_head, request_head, response_framing, response_head

if TYPE_CHECKING:
    from benchmarks.fuzz.ours import Answer

VIA: Final = b"Via: 1.1 test\r\n"
DATE: Final = b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
TOKEN: Final = b"Authorization: Bearer token\r\n"
_VIA: Final = (b"via", b"1.1 test")
_DATE: Final = (b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")
_TOKEN: Final = (b"authorization", b"Bearer token")
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))


class Outgoing(NamedTuple):
    """Bytes for the next hop, and the message they are to be; ``made`` are the lines of the proxy's own hop."""

    data: bytes
    meant: Message
    made: tuple[bytes, ...]

    @property
    def hops(self) -> list[bytes]:
        """Names of fields that should have ended at the proxy."""
        lines = self.data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        names = [line.partition(b":")[0].lower() for line in lines if line not in self.made]
        return [name for name in names if name in HOP_BY_HOP and name not in _FRAMING]


def request_out(head: RequestHead, message: Message) -> Outgoing | None:
    """The request that goes upstream on a route, with a token; None for a CONNECT and for what did not come whole."""
    body = message.body
    if body is None or head.method == b"CONNECT":
        return None
    path = head.target
    if not path.startswith(b"/") and path != b"*":
        path = split_absolute(path, head.method).path
    data = request_head(head, path, b"upstream", VIA, TOKEN)
    if head.chunked:
        data += encode_chunk(body, last=True)
    else:
        data += body
    fields = [pair for pair in message.fields if pair[0] != b"authorization" and not is_forwarded(pair[0])]
    decides = (b"upstream", None, head.expect_continue, head.upgrade, head.max_forwards)
    meant = Message((head.method, path, 1), decides, [*fields, _VIA, _TOKEN], message.framing, False, body, len(data))
    return Outgoing(data, meant, (b"Connection: Upgrade", b"Upgrade: websocket") if head.upgrade else ())


def answer_out(answer: Answer, message: Message, method: bytes, *, minor: int, close: bool) -> Outgoing | None:
    """The answer that goes to a client of HTTP/1.``minor``; None if the upstream's was not whole."""
    head, body = answer.head, message.body
    if head is None or body is None:
        return None
    framing = response_framing(head, RequestHead(method, b"/", minor))
    close = close or framing is Framing.CLOSE
    interim = answer.interim if minor else []
    data = b"".join(interim_head(each, via=VIA) for each in interim)
    data += response_head(head, framing, VIA, DATE, close)
    if framing is Framing.CHUNKED:
        data += encode_chunk(body, last=True)
    else:
        data += body
    start = (*(each.status for each in interim), head.status, 1)
    fields = message.fields + ([_VIA] if head.has_date else [_DATE, _VIA])
    meant = Message(start, (), fields, _meant(framing, head), close, body, 0)
    return Outgoing(data, meant, (b"Connection: close",) if close else ())


def _meant(framing: Framing, head: ResponseHead) -> int | None:
    match framing:
        case Framing.LENGTH:
            return head.content_length
        case Framing.CHUNKED:
            return CHUNKED
        case Framing.CLOSE:
            return CLOSE
        case _:
            return None
