"""The one place that turns an error into a response: problem+json (RFC 9457) with Proxy-Status (RFC 9209).

Answers the sidecar makes itself carry both, so that nobody mistakes them for the upstream's. They quote nothing of the
request: a body that echoes is a body that leaks.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from sidecar.errors import SidecarError
    from sidecar.http.message import RequestHead

PHRASES: Final = {
    400: b"Bad Request",
    403: b"Forbidden",
    407: b"Proxy Authentication Required",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
    508: b"Loop Detected",
}

_PROXY_STATUS: Final = {
    # Our reason -> the registered error type (RFC 9209 section 2.3) that says it best.
    "address_denied": "destination_ip_prohibited",
    "body_timeout": "http_request_error",
    "connect": "connection_refused",
    "dns": "dns_error",
    "internal": "proxy_internal_error",
    "loop_detected": "proxy_loop_detected",
    "overloaded": "connection_limit_reached",
    "protocol": "http_protocol_error",
    "reset": "connection_terminated",
    "timeout": "http_response_timeout",
    "tls": "tls_protocol_error",
    "token_unavailable": "proxy_configuration_error",
}
TYPE_BASE: Final = "urn:token-sidecar:reason:"
CHALLENGE: Final = b'Proxy-Authenticate: Basic realm="token-sidecar"'
"""What a 407 must say (RFC 9110 section 15.5.8); the realm is one for all, so it tells nothing of the listener."""
SHORTEST_RETRY_AFTER_SECONDS: Final = 1
LONGEST_RETRY_AFTER_SECONDS: Final = 3600


def answer(
    error: SidecarError,
    *,
    method: bytes,
    date: bytes,
    close: bool,
    credential: str | None = None,
    generation: int | None = None,
) -> bytes:
    """The whole response for an error; without the body's bytes where the request was HEAD.

    Args:
        error: any leaf with a status.
        method: the request's method, ``b""`` when it could not be read.
        date: the Date field's value.
        close: whether the connection ends with this answer.
        credential: the route's credential, by its name in the configuration.
        generation: of the token that the credential held, never the token.
    """
    body = _body(error, credential, generation)
    lines = [
        b"HTTP/1.1 %d %s" % (error.status, PHRASES[error.status]),
        b"Date: " + date,
        b"Content-Type: application/problem+json",
        b"Content-Length: %d" % len(body),
        b"Cache-Control: no-store",
        _proxy_status(error),
    ]
    if error.retry_after_seconds is not None or error.status == 503:
        wanted = min(error.retry_after_seconds or 0, LONGEST_RETRY_AFTER_SECONDS)
        seconds = max(SHORTEST_RETRY_AFTER_SECONDS, math.ceil(wanted))
        lines.append(b"Retry-After: %d" % seconds)
    if error.status == 407:
        lines.append(CHALLENGE)
    if close:
        lines.append(b"Connection: close")
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    return head if method == b"HEAD" else head + body


_METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH")


def answer_as_last(head: RequestHead, methods: Collection[bytes], date: bytes, close: bool) -> tuple[int, bytes]:
    """Status and bytes of the answer to an OPTIONS or TRACE that may go no further than here (RFC 9110 section 7.6.2).

    Args:
        head: with a Max-Forwards of 0.
        methods: what the route takes; none for all.
        date: the Date field's value.
        close: whether the connection ends with this answer.
    """
    lines = [b"Date: " + date, b"Cache-Control: no-store", b"Via: 1.1 token-sidecar"]
    if close:
        lines.append(b"Connection: close")
    if head.method == b"OPTIONS":
        allow = b"Allow: " + b", ".join(sorted(methods) or _METHODS)
        return 204, b"\r\n".join((b"HTTP/1.1 204 No Content", *lines, allow, b"", b""))
    # Back goes what tells of its way; other fields may hold what is secret (RFC 9110 section 9.3.8).
    kept = [b"Via: " + value for value in head.via]
    start = b"%s %s HTTP/1.%d" % (head.method, head.target, head.minor)
    body = b"\r\n".join((start, b"Host: " + (head.host or b""), *kept, b"Max-Forwards: 0", b"", b""))
    lines += (b"Content-Type: message/http", b"Content-Length: %d" % len(body))
    return 200, b"\r\n".join((b"HTTP/1.1 200 OK", *lines, b"", body))


def problem(error: SidecarError) -> dict[str, str | int | bool]:
    """The members of ``application/problem+json`` (RFC 9457 section 3.1), and two of our own."""
    return {
        "type": TYPE_BASE + error.reason,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "reason": error.reason,
        "retryable": error.retryable,
    }


def _body(error: SidecarError, credential: str | None, generation: int | None) -> bytes:
    told = problem(error)
    if credential is not None:
        told["credential"] = credential
    if generation is not None:
        told["generation"] = generation
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def _proxy_status(error: SidecarError) -> bytes:
    default = "http_request_denied" if error.status in (403, 407) else "http_request_error"
    kind = _PROXY_STATUS.get(error.reason, default)
    return f'Proxy-Status: token-sidecar; error={kind}; details="{error.reason}"'.encode("ascii")
