"""What a reader makes of a stream: messages, each with all that decides something, and why it stopped.

Fields are compared as the proxy passes them on, without those that end at one hop, because that is what our parser
keeps; what it takes out of them (framing, Host, persistence) is compared by itself.
"""

from __future__ import annotations

from typing import Final, NamedTuple

Fields = list[tuple[bytes, bytes]]

CHUNKED: Final = -1
CLOSE: Final = -2
"""Framings beside a length: chunked, and up to the end of the connection."""
UNTOLD: Final = -1
"""Of an ``end``: the reader does not say, because another protocol follows."""

SWITCHED: Final = "the connection went over to another protocol"
"""As an error: of a reader that takes an offer for the switch itself."""

HOP_BY_HOP: Final = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"transfer-encoding"),
        *(b"proxy-authenticate", b"content-length"),
    )
)
"""Fields that a proxy never copies: those of one hop (RFC 9110 section 7.6.1), and the framing, which it makes."""
OF_REQUESTS: Final = HOP_BY_HOP | {b"host", b"expect", b"proxy-authorization"}
"""Fields of a request that the proxy takes out."""
_NO_ALIAS: Final = OF_REQUESTS | {b"authorization", b"forwarded", b"max-forwards", b"origin", b"sec-fetch-site", b"via"}
"""Names that must not come under another spelling, because some upstream takes ``_`` and ``.`` for ``-``."""


class Message(NamedTuple):
    """One message; ``body`` is None if its end was not seen, ``end`` is what follows it, as an offset."""

    start: tuple[bytes | int, ...]
    decides: tuple[bytes | int | None, ...]
    """Of a request: Host, Proxy-Authorization, whether 100 (Continue) is awaited, a protocol offered, Max-Forwards."""
    fields: Fields
    framing: int | None
    close: bool
    body: bytes | None
    end: int


class Reading(NamedTuple):
    """All of a stream; ``error`` says why nothing more was read, ``at_rest`` that nothing is left unread."""

    messages: list[Message]
    error: str = ""
    at_rest: bool = True

    @property
    def accepted(self) -> bool:
        """Whether at least one message would have been passed on whole."""
        return bool(self.messages) and self.messages[0].body is not None

    @property
    def whole(self) -> list[Message]:
        """The messages that came to their end."""
        return [message for message in self.messages if message.body is not None]

    @property
    def verdict(self) -> str:
        """In a few words: ``1 whole``, ``bad_request``, ``2 whole, waits``."""
        whole = len(self.whole)
        words = [f"{whole} whole"] if whole else []
        if self.error:
            words.append(self.error)
        elif not self.at_rest or whole < len(self.messages):
            words.append("waits")
        return ", ".join(words) or "nothing"


def options(fields: Fields) -> frozenset[bytes]:
    """What the Connection lines say, lower case (RFC 9110 section 7.6.1)."""
    return _words(fields, b"connection")


def _words(fields: Fields, name: bytes) -> frozenset[bytes]:
    values = [value for each, value in fields if each == name]
    return frozenset(word.strip(b" \t").lower() for value in values for word in value.split(b","))


def request(start: tuple[bytes, bytes, int], fields: Fields, body: bytes | None, end: int) -> Message:
    """A request as another reader saw it; ``fields`` are all of them, names in lower case."""
    nominated = options(fields)
    once = {name: value for name, value in fields if name in OF_REQUESTS or name == b"max-forwards"}
    hops = once.get(b"max-forwards") if start[0] in (b"OPTIONS", b"TRACE") else None
    gone = OF_REQUESTS | nominated
    if hops is not None:
        gone |= {b"max-forwards"}
    kept: Fields = []
    forwarded: Fields = []
    authorization: Fields = []
    for pair in fields:
        if pair[0] not in gone and not _is_alias(pair[0]):
            to = authorization if pair[0] == b"authorization" else forwarded if is_forwarded(pair[0]) else kept
            to.append(pair)
    expects = start[2] == 1 and b"expect" in once and b"expect" not in nominated
    offered = _words(fields, b"upgrade") if b"upgrade" in nominated and start[0] == b"GET" and start[2] == 1 else ()
    upgrade = b"websocket" if b"websocket" in offered else None
    decides = (
        *(once.get(b"host"), once.get(b"proxy-authorization"), expects, upgrade),
        None if hops is None else int(hops),
    )
    close = start[2] == 0 or b"close" in nominated
    return Message(start, decides, kept + forwarded + authorization, framing(once), close, body, end)


def is_forwarded(name: bytes) -> bool:
    """Whether the field tells of earlier hops, under whatever spelling."""
    return name == b"forwarded" or name.translate(_AS_HYPHENS).startswith(b"x-forwarded")


def _is_alias(name: bytes) -> bool:
    return name not in _NO_ALIAS and name.translate(_AS_HYPHENS) in _NO_ALIAS


_AS_HYPHENS: Final = bytes.maketrans(b"_.", b"--")


def framing(once: dict[bytes, bytes]) -> int | None:
    """What the fields say; a transfer coding that is not just ``chunked`` is some other number."""
    coding = once.get(b"transfer-encoding")
    if coding is not None:
        return CHUNKED if coding.lower() == b"chunked" else -9
    length = once.get(b"content-length")
    return None if length is None else int(length)
