"""HTTP/1.1 heads and bodies as plain values: what a message says, after it was refused or normalised.

Field lines stay an ordered list of raw bytes, exactly as received and without their line end, so that nothing collapses
duplicates or reformats what the proxy has no business with (RFC 9110 section 5.3). What the proxy decides on
(framing, persistence, Host, Authorization) is taken out of the lines and stands in attributes of its own; the next hop
gets it regenerated, never copied.
"""

from __future__ import annotations

from typing import Final

CRLF: Final = b"\r\n"
END_OF_HEAD: Final = b"\r\n\r\n"

NO_BODY_STATUS: Final = frozenset((204, 304))
"""Final statuses that never have a body, whatever their fields say (RFC 9112 section 6.3)."""

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""RFC 9110 section 9.2.2."""


class RequestHead:
    """A request's head that passed every check.

    Attributes:
        method: as sent; methods are case-sensitive.
        target: as sent.
        minor: 0 or 1, from ``HTTP/1.x``.
        lines: the end-to-end field lines in their order; none of the fields below is among them.
        host: the Host field's value; None only from an HTTP/1.0 client.
        authorization: the raw Authorization lines.
        content_length: bytes of the body; None when no Content-Length was sent.
        chunked: the body is chunked.
        close: the client's connection does not outlive this exchange.
        expect_continue: the client waits for 100 (Continue).
        upgrade: the protocol to switch to, lower case; None unless one was offered that is passed on.
        via: the values of the Via lines (which stay in ``lines``).
        browser: what a browser says of the page a request comes from: Origin and Sec-Fetch-Site (which stay, too).
        forwarded: the raw lines of Forwarded and X-Forwarded-*, under whatever spelling; not among ``lines``.
        overrides: the raw lines of fields by which some upstreams replace path or method; not among ``lines``.
        max_forwards: how many hops a TRACE or OPTIONS may still make; None when not sent, or with other methods.
        proxy_authorization: the value of Proxy-Authorization, which is never passed on.
    """

    __slots__ = (
        "authorization",
        "browser",
        "chunked",
        "close",
        "content_length",
        "expect_continue",
        "forwarded",
        "host",
        "lines",
        "max_forwards",
        "method",
        "minor",
        "overrides",
        "proxy_authorization",
        "target",
        "upgrade",
        "via",
    )

    def __init__(self, method: bytes, target: bytes, minor: int) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.lines: list[bytes] = []
        self.host: bytes | None = None
        self.authorization: list[bytes] = []
        self.content_length: int | None = None
        self.chunked = False
        self.close = minor == 0
        self.expect_continue = False
        self.upgrade: bytes | None = None
        self.via: list[bytes] = []
        self.browser: list[tuple[bytes, bytes]] = []
        self.forwarded: list[bytes] = []
        self.overrides: list[bytes] = []
        self.max_forwards: int | None = None
        self.proxy_authorization: bytes | None = None

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.content_length)

    def __repr__(self) -> str:
        # Targets can carry secrets of the app in their query, and fields anything: neither is shown.
        return f"<RequestHead {self.method!r} HTTP/1.{self.minor} lines={len(self.lines)}>"


class ResponseHead:
    """A response's head that passed every check.

    Attributes:
        status: 100 to 599.
        start: status code and reason phrase as sent, ``200 OK``.
        minor: 0 or 1.
        lines: the end-to-end field lines in their order; framing and connection fields are not among them.
        content_length: the field's value; None when not sent.
        chunked: the body is chunked.
        close: the upstream's connection does not outlive this exchange.
        has_date: whether a Date line is among ``lines``.
        upgrade: the Upgrade field's value.
        keep_alive_seconds: ``timeout`` of the Keep-Alive field, if the upstream gave one.
    """

    __slots__ = (
        "chunked",
        "close",
        "content_length",
        "has_date",
        "keep_alive_seconds",
        "lines",
        "minor",
        "start",
        "status",
        "upgrade",
    )

    def __init__(self, status: int, start: bytes, minor: int) -> None:
        self.status = status
        self.start = start
        self.minor = minor
        self.lines: list[bytes] = []
        self.content_length: int | None = None
        self.chunked = False
        self.close = minor == 0
        self.has_date = False
        self.upgrade: bytes | None = None
        self.keep_alive_seconds: int | None = None

    def values(self, name: bytes) -> list[bytes]:
        """The values of all lines called ``name`` (lower case), in order, without the white space around them."""
        return [
            value.strip() for field, _, value in (line.partition(b":") for line in self.lines) if field.lower() == name
        ]

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} HTTP/1.{self.minor} lines={len(self.lines)}>"


def has_body(status: int, request_method: bytes) -> bool:
    """Whether a final response with this status to this method has a body at all (RFC 9112 section 6.3)."""
    return status not in NO_BODY_STATUS and request_method != b"HEAD"
