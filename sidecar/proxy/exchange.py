"""The phases of one request as decisions: what is injected, what the heads on both sides say, when a replay is right.

Everything here is a plain function of what is known; ``relay`` acts on the answers. The order inside a head is fixed:
end-to-end fields first, as received; then framing and Via, made here; the injected field last of all, so that nothing
the app sent can remove or shadow it (RFC 9110 section 7.6.1).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from sidecar.errors import AuthorizationRefused, BadRequest, ContentTooLarge, LoopDetected, UpstreamProtocol
from sidecar.http.message import IDEMPOTENT, RequestHead, ResponseHead, has_body

if TYPE_CHECKING:
    from sidecar.proxy.routing import Route

INTERIM_RESPONSES_FORWARDED: Final = 8
"""Interim responses passed on per request; more is a broken or hostile upstream."""


INJECTED: Final = "injected"
ALREADY_PRESENT: Final = "already_present"
NO_TOKEN: Final = "no_token"
STALE_TOKEN: Final = "stale_token"
DENIED: Final = "denied"
"""What happens to the Authorization of a request on a route: the words of ``injections_total``."""


class Framing(enum.Enum):
    """How the body of a message is delimited towards the next hop (RFC 9112 section 6)."""

    NONE = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()


# Member access through the class costs a slow metaclass look-up up to Python 3.11; these stand on the warm path.
LENGTH, CHUNKED, CLOSE = Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE


def wants_token(head: RequestHead, route: Route) -> bool:
    """Whether a token goes on this request; False where the app's own Authorization is kept.

    Raises:
        AuthorizationRefused: ``if_present: reject`` and the app sent one.
    """
    if not head.authorization or route.if_present == "replace":
        return True
    if route.if_present == "reject":
        raise AuthorizationRefused("this route takes no Authorization from the app; leave the field out")
    return False


def own_authorization(head: RequestHead) -> bytes:
    """The app's Authorization as a complete line, where it is kept; empty if it sent none.

    Raises:
        BadRequest: it sent several, and which one counts is anybody's guess.
    """
    if not head.authorization:
        return b""
    if len(head.authorization) > 1:
        raise BadRequest("more than one Authorization field")
    return head.authorization[0] + b"\r\n"


def refuse_loop(head: RequestHead, pseudonym: bytes) -> None:
    """Refuse what passed this very sidecar before: its own name stands in a Via (RFC 9110 section 7.6.3).

    Raises:
        LoopDetected: always answered here, 508.
    """
    if any(pseudonym in value for value in head.via):
        raise LoopDetected("the upstream of this request leads back to the sidecar")


def body_too_long(limit: int) -> ContentTooLarge:
    """The refusal of a body beyond ``limits.body``."""
    return ContentTooLarge(f"the request body is longer than {limit} bytes")


def request_head(head: RequestHead, path: bytes, host: bytes, via: bytes, authorization: bytes) -> bytes:
    """The head that goes upstream.

    Args:
        head: the app's.
        path: origin-form, byte-identical to what was sent.
        host: regenerated from the authority that was routed (RFC 9112 section 3.2.2).
        via: our complete Via line.
        authorization: complete line or lines, each with its CRLF; empty for none.
    """
    parts = [head.method, b" ", path, b" HTTP/1.1\r\nHost: ", host, b"\r\n"]
    if head.lines:
        parts += (b"\r\n".join(head.lines), b"\r\n")
    if head.content_length is not None:
        parts.append(b"Content-Length: %d\r\n" % head.content_length)
    elif head.chunked:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    if head.expect_continue:
        parts.append(b"Expect: 100-continue\r\n")
    if head.upgrade is not None:
        parts += (b"Connection: Upgrade\r\nUpgrade: ", head.upgrade, b"\r\n")
    if head.max_forwards is not None:
        parts.append(b"Max-Forwards: %d\r\n" % head.max_forwards)
    parts += (via, authorization, b"\r\n")
    return b"".join(parts)


def response_framing(head: ResponseHead, request: RequestHead) -> Framing:
    """How the answer's body goes to the client: as it came where possible, chunked where only the close told the end,
    and to an HTTP/1.0 client by length or close, because it does not know chunks (RFC 9112 section 7.1)."""
    if head.content_length is not None and head.status == 200 and request.method != b"HEAD":
        return LENGTH  # the usual case first
    if not has_body(head.status, request.method):
        return Framing.NONE
    if head.content_length is not None:
        return LENGTH
    return CHUNKED if request.minor == 1 else CLOSE


def response_head(head: ResponseHead, framing: Framing, via: bytes, date: bytes, close: bool) -> bytes:
    """The head that goes to the client.

    Args:
        head: the upstream's final response.
        framing: from ``response_framing``.
        via: our complete Via line.
        date: a complete Date line, used where the upstream sent none (RFC 9110 section 6.6.1).
        close: whether the client's connection ends with this answer.
    """
    parts = [b"HTTP/1.1 ", head.start, b"\r\n"]
    if head.lines:
        parts += (b"\r\n".join(head.lines), b"\r\n")
    if not head.has_date:
        parts.append(date)
    if framing is CHUNKED:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif head.content_length is not None and head.status != 204:
        # Also without a body: to HEAD and in 304 it tells the length there would be (RFC 9110 section 8.6).
        parts.append(b"Content-Length: %d\r\n" % head.content_length)
    parts.append(via)
    parts.append(b"Connection: close\r\n\r\n" if close else b"\r\n")
    return b"".join(parts)


def interim_head(head: ResponseHead, *, via: bytes) -> bytes:
    """A 1xx response for an HTTP/1.1 client (RFC 9110 section 15.2): no framing fields."""
    lines = b"".join(line + b"\r\n" for line in head.lines)
    return b"HTTP/1.1 " + head.start + b"\r\n" + lines + via + b"\r\n"


def refuse_unasked_switch(head: ResponseHead, request: RequestHead) -> None:
    """Only what was asked for may become of a connection (RFC 9110 section 7.8).

    Raises:
        UpstreamProtocol: the 101 answers no offer, or names another protocol.
    """
    if request.upgrade is None or (head.upgrade or b"").lower() != request.upgrade:
        raise UpstreamProtocol("the upstream switched protocols, which nobody asked for")


def switching_head(head: ResponseHead, request: RequestHead, via: bytes) -> bytes:
    """The 101 that goes to the client; after it, everything is the other protocol's."""
    lines = b"".join(line + b"\r\n" for line in head.lines)
    upgrade = b"Connection: Upgrade\r\nUpgrade: " + (request.upgrade or b"") + b"\r\n"
    return b"HTTP/1.1 " + head.start + b"\r\n" + lines + upgrade + via + b"\r\n"


def may_retry_elsewhere(
    head: RequestHead, *, reused: bool, answered: bool, body_kept: bool, sent: bool, retried: bool
) -> bool:
    """Whether a request that died with its connection may go out once more on a fresh one (RFC 9112 section 9.3.1).

    Only after a kept connection, which may have been closed under our hands, and before any byte of an answer; and then
    only what is idempotent, or what never left. Never a retried retry.

    Args:
        reused: the connection had served a request before.
        answered: a byte of the answer has arrived.
        body_kept: everything sent so far can be sent again.
        sent: bytes of the request may have reached the upstream.
        retried: this is the second connection already.
    """
    if retried or answered or not reused or not body_kept:
        return False
    return head.method in IDEMPOTENT or not sent


class ReplayBuffer:
    """What was sent of the body, as long as it is small enough to be sent again.

    Args:
        limit: bytes kept at most (``limits.replay_body``); beyond it nothing is kept and ``whole`` is False.
    """

    __slots__ = ("_left", "pieces", "whole")

    def __init__(self, limit: int) -> None:
        self._left = limit
        self.pieces: list[bytes] = []
        self.whole = True

    def add(self, data: bytes) -> None:
        """Keep ``data``, already framed for the upstream, or give up keeping."""
        if not self.whole:
            return
        self._left -= len(data)
        if self._left < 0:
            self.give_up()
        else:
            self.pieces.append(data)

    def give_up(self) -> None:
        """Keep nothing from here on: the body is too long, or the answer has begun to flow."""
        self.whole = False
        self.pieces.clear()

    def __repr__(self) -> str:
        return f"<ReplayBuffer pieces={len(self.pieces)} whole={self.whole}>"
