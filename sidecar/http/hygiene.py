"""Refuse or normalise: one pass over a head that llhttp accepted, for everything llhttp leaves open.

llhttp (through httptools) rejects malformed lines, conflicting lengths and control characters. What it lets pass and a
proxy must not is refused here: missing or doubled Host, versions other than 1.0 and 1.1, transfer codings other than
``chunked``, Transfer-Encoding in 1.0, WebSocket or CONNECT with a body, odd targets, unknown expectations, statuses out
of range. Ambiguous framing is refused, never repaired (RFC 9112 section 11.2).

Hop-by-hop fields, and every field that a Connection line nominates, are dropped before anything is added, so that no
nomination can remove what the proxy sets (RFC 9110 section 7.6.1). Dropped, too, is what some upstreams take for a
field that is handled here: CGI and its heirs read ``Content_Length`` as ``Content-Length`` (RFC 3875 section 4.1.18).
"""

from __future__ import annotations

from typing import Final

from sidecar.errors import (
    BadRequest,
    CodingUnknown,
    ExpectationFailed,
    HeadTooLarge,
    SidecarError,
    TargetTooLong,
    UpstreamProtocol,
    VersionUnsupported,
)
from sidecar.http.message import RequestHead, ResponseHead

VERSIONS: Final = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}

_NAMES_REMEMBERED: Final = 1024
_LONGEST_NAME_REMEMBERED: Final = 64


_ALIAS: Final = b"(alias)"
"""What a name is taken for that differs from a handled one by ``_`` or ``.`` in the place of ``-``."""
_FORWARDED: Final = b"forwarded"
"""What all the fields are taken for that tell of earlier hops: Forwarded (RFC 7239) and X-Forwarded-anything."""
_OVERRIDE: Final = b"(override)"
_OVERRIDES: Final = frozenset(
    (
        *(b"x-original-url", b"x-rewrite-url"),  # Symfony, Zend, IIS
        *(b"x-http-method", b"x-http-method-override", b"x-method-override"),  # Google, Rails, Spring and their like
    )
)
"""Fields by which an upstream may take another path or method than the request line's."""
_AS_HYPHENS: Final = bytes.maketrans(b"_.", b"--")


class _Special(dict[bytes, bytes]):
    """Field names, in whatever case they come, to the lower-case name if it is handled here, else to nothing.

    Remembers names as they were spelled, a bounded number: that saves lower-casing every name of every message.
    Only names are kept, never values.
    """

    def __init__(self, *names: bytes) -> None:
        super().__init__()
        self._handled: Final = frozenset(names)
        self.initials: Final = frozenset(letter for name in names for letter in name[:1] + name[:1].upper())
        """First bytes of lines that are worth a look; most lines begin with another one."""

    def __missing__(self, name: bytes) -> bytes:
        found = self._look_up(name.lower())
        if len(self) < _NAMES_REMEMBERED and len(name) <= _LONGEST_NAME_REMEMBERED:
            self[name] = found
        return found

    def _look_up(self, lower: bytes) -> bytes:
        return lower if lower in self._handled else b""


class _RequestSpecial(_Special):
    """Also knows the names that an upstream may take for one of these."""

    def _look_up(self, lower: bytes) -> bytes:
        plain = lower.translate(_AS_HYPHENS)
        if plain.startswith(b"x-forwarded"):
            return _FORWARDED
        if plain in _OVERRIDES:
            return _OVERRIDE
        if plain in self._handled:
            return plain if plain == lower else _ALIAS
        return b""


_REQUEST_SPECIAL: Final = _RequestSpecial(
    b"authorization",
    b"connection",
    b"content-length",
    b"expect",
    _FORWARDED,
    b"host",
    b"keep-alive",
    b"max-forwards",
    b"origin",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"sec-fetch-site",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"via",
    b"x-forwarded",
)
_RESPONSE_SPECIAL: Final = _Special(
    b"connection",
    b"content-length",
    b"date",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
)
_PERSISTENCE: Final = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b"proxy-connection", b""))
"""Connection options that need no removal of a nominated field: their fields are dropped anyway."""

_MAX_CONTENT_LENGTH_DIGITS: Final = 18
_MAX_HOPS_DIGITS: Final = 9


def read_request(raw: bytes, *, max_fields: int, max_target: int) -> RequestHead:
    """Read a whole request head, its empty line included, that llhttp has accepted.

    Raises:
        ClientError: the leaf says which of 400, 414, 417, 431, 501 and 505 it is.
    """
    lines = raw[:-4].split(b"\r\n")
    head = RequestHead(*_request_line(lines[0], max_target))
    if len(lines) > max_fields + 1:
        raise HeadTooLarge(f"more than {max_fields} field lines")
    kept = head.lines
    connection: list[bytes] = []
    codings: list[bytes] = []
    initials = _REQUEST_SPECIAL.initials
    for line in lines[1:]:
        if line[0] not in initials:
            kept.append(line)
            continue
        name, _, value = line.partition(b":")
        special = _REQUEST_SPECIAL[name]
        if not special:
            kept.append(line)
        elif special == b"host":
            if head.host is not None:
                raise BadRequest("more than one Host field")
            head.host = value.strip(b" \t")
        elif special == b"connection":
            connection.append(value)
        else:
            _request_field(head, special, value.strip(b" \t"), line, codings)
    if codings or head.minor == 0:
        _frame_request(head, codings)
    if connection and (len(connection) > 1 or connection[0] not in _STAYS):
        _apply_connection(head, _options(connection))
    else:
        head.upgrade = None
    if head.upgrade is not None:
        _settle_upgrade(head)
    if head.host is None or head.upgrade is not None or head.method == b"CONNECT":
        _refuse_ambiguous(head)
    return head


UPGRADES: Final = frozenset((b"websocket",))
"""Protocols that may be switched to. Never h2c: what is inside would be beyond every check (RFC 9113 section 3.1 took
it back, too)."""


def _settle_upgrade(head: RequestHead) -> None:
    """Keep the offer of a protocol that is passed on, and forget every other one, as RFC 9110 section 7.8 allows:
    Java's client offers h2c with every request, also with those that have a body."""
    offered = [name.strip(b" \t").lower() for name in (head.upgrade or b"").split(b",")]
    known = [name for name in offered if name in UPGRADES]
    head.upgrade = known[0] if known and head.method == b"GET" else None


def _refuse_ambiguous(head: RequestHead) -> None:
    if head.host is None and (head.minor == 1 or head.method == b"PRI"):
        # RFC 9112 section 3.2. After a bare PRI llhttp waits for the rest of HTTP/2's preface: it has judged nothing.
        raise BadRequest("no Host field")
    if (head.upgrade is not None or head.method == b"CONNECT") and (head.chunked or head.content_length is not None):
        # A body here would be read as the first bytes of the other protocol by some, as a body by others.
        raise BadRequest("an upgrade or a tunnel request with a body")


def _request_line(line: bytes, max_target: int) -> tuple[bytes, bytes, int]:
    parts = line.split(b" ")
    if len(parts) != 3:
        raise BadRequest("the request line is not: method, target, version")
    method, target, version = parts
    minor = VERSIONS.get(version)
    if minor is None:
        if version.startswith(b"HTTP/") and len(version) == 8:
            raise VersionUnsupported("only HTTP/1.0 and HTTP/1.1 are spoken here")
        raise BadRequest("the request line does not end in an HTTP version")
    if len(target) > max_target:
        raise TargetTooLong(f"the request target is longer than {max_target} bytes")
    # llhttp took visible ASCII only, but an LF is the end of an HTTP/0.9 request line to it, and what follows a field:
    # it must not leave inside a target. A fragment never goes over the wire, and a backslash is a slash to some. What
    # else is not in RFC 3986 (``"<>^`{|}``) browsers and fetch() send as it is in a query, and no two readers differ.
    if not target or b"#" in target or b"\\" in target or b"\n" in target:
        raise BadRequest("the request target holds a fragment, a backslash or a line end")
    return method, target, minor


_APART: Final = {b"authorization": "authorization", _FORWARDED: "forwarded", _OVERRIDE: "overrides"}
"""Fields whose lines are kept apart, until it is decided whether they go on; and the attributes that hold them."""


def _request_field(head: RequestHead, name: bytes, value: bytes, line: bytes, codings: list[bytes]) -> None:
    if name in _APART:
        getattr(head, _APART[name]).append(line)
    elif name == b"content-length":
        head.content_length = _content_length(value, head.content_length, BadRequest)
    elif name == b"transfer-encoding":
        codings.append(value)
    elif name == b"expect":
        _expect(head, value)
    elif name == b"upgrade":
        head.upgrade = value if head.upgrade is None else head.upgrade + b", " + value
    elif name == b"via":
        head.via.append(value)
        head.lines.append(line)
    elif name == b"max-forwards":
        _max_forwards(head, value, line)
    elif name in (b"origin", b"sec-fetch-site"):
        head.browser.append((name, value))
        head.lines.append(line)
    elif name == b"proxy-authorization":
        if head.proxy_authorization is not None:
            raise BadRequest("more than one Proxy-Authorization field")
        head.proxy_authorization = value


def _expect(head: RequestHead, value: bytes) -> None:
    if head.expect_continue or value.lower() != b"100-continue":
        raise ExpectationFailed("only one Expect: 100-continue is known")
    head.expect_continue = True


def _max_forwards(head: RequestHead, value: bytes, line: bytes) -> None:
    """It is for every hop with TRACE and OPTIONS, and for nobody with other methods (RFC 9110 section 7.6.2)."""
    if head.method not in (b"OPTIONS", b"TRACE"):
        head.lines.append(line)
    elif head.max_forwards is not None or not value.isdigit() or len(value) > _MAX_HOPS_DIGITS:
        raise BadRequest("Max-Forwards is not one number")
    else:
        head.max_forwards = int(value)


def _frame_request(head: RequestHead, codings: list[bytes]) -> None:
    """Settle the body's length (RFC 9112 section 6); stricter than the RFC wherever two readers could differ."""
    if codings:
        if head.minor == 0:
            raise BadRequest("Transfer-Encoding in an HTTP/1.0 request")
        if head.content_length is not None:
            raise BadRequest("both Transfer-Encoding and Content-Length")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            if not codings[-1].lower().endswith(b"chunked"):
                raise BadRequest("Transfer-Encoding does not end in chunked")
            raise CodingUnknown("the only transfer coding known is chunked")
        head.chunked = True
    if head.minor == 0:
        # An HTTP/1.0 client does not know 100 (Continue): RFC 9110 section 10.1.1.
        head.expect_continue = False


def _options(values: list[bytes]) -> frozenset[bytes]:
    """The connection options of all Connection lines, lower case (RFC 9110 section 7.6.1)."""
    return frozenset(option.strip(b" \t") for value in values for option in value.lower().split(b","))


_STAYS: Final = frozenset((b" keep-alive", b" Keep-Alive"))
"""A Connection field, as it usually stands, that says nothing new to HTTP/1.1 and nominates no field."""


def _apply_connection(head: RequestHead, nominated: frozenset[bytes]) -> None:
    if b"close" in nominated:
        head.close = True
    if b"upgrade" not in nominated or head.minor == 0:
        head.upgrade = None
    if nominated <= _PERSISTENCE:
        return
    named = nominated - _PERSISTENCE
    head.lines = _without(head.lines, named)
    head.forwarded = _without(head.forwarded, named)
    head.overrides = _without(head.overrides, named)
    if b"authorization" in named:
        head.authorization = []
    if b"expect" in named:
        head.expect_continue = False


def _without(lines: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


def _content_length(value: bytes, earlier: int | None, error: type[SidecarError]) -> int:
    if earlier is not None:
        raise error("more than one Content-Length")
    if not value.isdigit() or len(value) > _MAX_CONTENT_LENGTH_DIGITS:
        raise error("Content-Length is not a number")
    return int(value)


def read_response(raw: bytes, *, max_fields: int) -> ResponseHead:
    """Read a whole response head, its empty line included, that llhttp has accepted.

    Raises:
        UpstreamProtocol: the head is not one a proxy may pass on.
    """
    lines = raw[:-4].split(b"\r\n")
    head = ResponseHead(*(_STATUS_LINES.get(lines[0]) or _status_line(lines[0])))
    if len(lines) > max_fields + 1:
        raise UpstreamProtocol(f"more than {max_fields} field lines")
    kept = head.lines
    connection: list[bytes] = []
    codings: list[bytes] = []
    initials = _RESPONSE_SPECIAL.initials
    for line in lines[1:]:
        if line[0] not in initials:
            kept.append(line)
            continue
        name, _, value = line.partition(b":")
        special = _RESPONSE_SPECIAL[name]
        if not special:
            kept.append(line)
        elif special == b"date":
            head.has_date = True
            kept.append(line)
        elif special == b"content-length":
            head.content_length = _content_length(value.strip(b" \t"), head.content_length, UpstreamProtocol)
        elif special == b"connection":
            connection.append(value)
        else:
            _response_field(head, special, value.strip(b" \t"), codings)
    if codings:
        _frame_response(head, codings)
    if connection and (len(connection) > 1 or connection[0] not in _STAYS or head.minor == 0):
        _apply_response_connection(head, _options(connection))
    return head


def _response_field(head: ResponseHead, name: bytes, value: bytes, codings: list[bytes]) -> None:
    if name == b"transfer-encoding":
        codings.append(value)
    elif name == b"upgrade":
        head.upgrade = value
    elif name == b"keep-alive":
        head.keep_alive_seconds = _keep_alive(value)


def _apply_response_connection(head: ResponseHead, nominated: frozenset[bytes]) -> None:
    if b"close" in nominated:
        head.close = True
    elif b"keep-alive" in nominated:
        head.close = False  # an HTTP/1.0 upstream that keeps the connection (RFC 9112 section 9.3)
    if not nominated <= _PERSISTENCE:
        named = nominated - _PERSISTENCE
        head.lines = _without(head.lines, named)
        head.has_date = head.has_date and b"date" not in named


_STATUS_LINES_REMEMBERED: Final = 256
_STATUS_LINES: Final[dict[bytes, tuple[int, bytes, int]]] = {}


def _status_line(line: bytes) -> tuple[int, bytes, int]:
    version, _, start = line.partition(b" ")
    minor = VERSIONS.get(version)
    code = start[:3]
    if minor is None or not code.isdigit() or start[3:4] not in (b" ", b""):
        raise UpstreamProtocol("the status line is not valid HTTP/1.x")
    if start.translate(None, _PHRASE_BYTES):
        raise UpstreamProtocol("a control character in the reason phrase")  # llhttp lets them pass
    status = int(code)
    if not 100 <= status <= 599:
        raise UpstreamProtocol("the status code is out of range")
    known = status, (start if len(start) > 3 else start + b" "), minor
    if len(_STATUS_LINES) < _STATUS_LINES_REMEMBERED and len(line) <= _LONGEST_NAME_REMEMBERED:
        _STATUS_LINES[line] = known
    return known


_PHRASE_BYTES: Final = b"\t" + bytes(byte for byte in range(0x20, 0x100) if byte != 0x7F)
"""RFC 9112 section 4: HTAB, SP, VCHAR and obs-text."""


def _frame_response(head: ResponseHead, codings: list[bytes]) -> None:
    if head.minor == 0:
        raise UpstreamProtocol("Transfer-Encoding in an HTTP/1.0 response")
    if head.content_length is not None:
        raise UpstreamProtocol("both Transfer-Encoding and Content-Length")
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        raise UpstreamProtocol("the only transfer coding known is chunked")
    head.chunked = True


def _keep_alive(value: bytes) -> int | None:
    for parameter in value.lower().split(b","):
        name, _, seconds = parameter.strip(b" \t").partition(b"=")
        if name == b"timeout" and seconds.isdigit() and len(seconds) < 9:
            return int(seconds)
    return None
