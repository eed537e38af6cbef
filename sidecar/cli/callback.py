"""Where a login's browser comes back to: a listener on loopback for one answer (RFC 8252 section 7.3).

Decides that nothing gets to the login but a GET of the redirect URI's path under its own Host: a page that rebinds its
name to 127.0.0.1 sends another one. Leaves to ``redirect`` which address that is, and to ``interactive`` which answer
belongs to the login. An answer that does not is refused, and the listener goes on; the one that does is the last.

What the browser shows then is final: no script, nothing loaded, nothing kept, and no address in a Referer, because the
code stands in it.
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, cast
from urllib.parse import urlsplit

from sidecar.config.model import Bind
from sidecar.errors import BadRequest, ClientError, HeadTooLarge, SidecarError
from sidecar.http.h1 import read_request_head
from sidecar.http.message import END_OF_HEAD
from sidecar.proxy.listener import open_socket

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sidecar.http.message import RequestHead
    from sidecar.oauth.redirect import RedirectURI
    from sidecar.secrets import Secret

HTTP_PORT: Final = 80
"""The port that a browser leaves out of Host."""
HEAD_BYTES: Final = 32 * 1024
"""A browser's cookies for 127.0.0.1, which every program on the machine may have set, come with the answer."""
TARGET_BYTES: Final = 16 * 1024
FIELDS: Final = 128
CONNECTIONS: Final = 16
HEAD_SECONDS: Final = 60.0
"""Browsers open connections before they need them; an answer may still come on one that was quiet."""

_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}
_HEADERS: Final = (
    "Content-Type: text/html; charset=utf-8",
    "Cache-Control: no-store",
    "Content-Security-Policy: default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy: no-referrer",
    "X-Content-Type-Options: nosniff",
    "Connection: close",
)


class Page(NamedTuple):
    """What the browser shows: a status and two plain sentences."""

    status: int
    title: str
    text: str


_RECEIVED: Final = Page(200, "The answer has arrived", "You may close this window; the terminal says how it went.")
_REFUSED: Final = Page(200, "The login has ended", "You may close this window; the terminal says why.")


class CallbackListener:
    """Listens from the moment it is made; use it as a context, which closes it.

    Raises:
        CannotBind: the port is not to be had.
    """

    def __init__(self, address: RedirectURI) -> None:
        self._socket: socket.socket | None = open_socket(Bind(host=address.host, port=address.port), "the login")
        port = self._socket.getsockname()[1]
        self.redirect_uri: Final = address.at(port)
        parts = urlsplit(self.redirect_uri)
        host = f"[{address.host}]" if ":" in address.host else address.host
        self._authorities = {f"{host}:{port}".encode()} | ({host.encode()} if port == HTTP_PORT else set())
        self._path = (parts.path or "/").encode()
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._accept: Callable[[str], Secret]
        self._answer: asyncio.Future[Secret]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    async def wait(self, accept: Callable[[str], Secret]) -> Secret:
        """The code that the browser brings.

        Args:
            accept: takes the query; BadRequest says that it is not the answer that is waited for, and the wait goes on.

        Raises:
            SidecarError: what ``accept`` raised else.
        """
        loop = asyncio.get_running_loop()
        self._accept, self._answer = accept, loop.create_future()
        create: Any = loop.create_server
        self._server = await create(lambda: _Connection(self, loop), sock=self._socket)
        try:
            return await self._answer
        finally:
            self.close()

    def close(self) -> None:
        """Listen no more, and end every connection but the one whose answer is on its way."""
        if self._server is not None:
            self._server.close()
        elif self._socket is not None:
            self._socket.close()
        self._socket = None
        for connection in list(self._connections):
            connection.close()

    # --- what connections ask ---------------------------------------------------------------------------------------

    def opened(self, connection: _Connection) -> None:
        """Count it in; when there are too many, the oldest makes room."""
        if len(self._connections) >= CONNECTIONS:
            min(self._connections, key=lambda each: each.opened_at).close()
        self._connections.add(connection)

    def closed(self, connection: _Connection) -> None:
        """Count it out."""
        self._connections.discard(connection)

    def page(self, head: RequestHead) -> Page:
        """What a request is answered."""
        path, _, query = head.target.partition(b"?")
        if head.host not in self._authorities:
            return Page(403, "Refused", "This address answers to its own name only.")
        if path != self._path:
            return Page(404, "Not found", "There is nothing here.")
        if head.method != b"GET" or head.has_body:
            return Page(405, "Refused", "Only GET is answered here.")
        return self._conclude(query.decode("latin-1"))

    def _conclude(self, query: str) -> Page:
        if self._answer.done():
            return Page(400, "Refused", "This login has had its answer already.")
        try:
            self._answer.set_result(self._accept(query))
        except BadRequest as exc:
            return Page(400, "Refused", f"{exc.detail[0].upper()}{exc.detail[1:]}. The one in the terminal goes on.")
        except SidecarError as exc:
            self._answer.set_exception(exc)
            return _REFUSED
        return _RECEIVED


class _Connection(asyncio.Protocol):
    """One request and its answer, then the end."""

    __slots__ = ("_buffer", "_deadline", "_listener", "_loop", "_transport", "opened_at")

    def __init__(self, listener: CallbackListener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = listener
        self._loop = loop
        self._buffer = b""
        self._transport: asyncio.Transport
        self.opened_at = loop.time()
        self._deadline = loop.call_later(HEAD_SECONDS, self._abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._listener.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._deadline.cancel()
        self._listener.closed(self)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._buffer += data
        end = self._buffer.find(END_OF_HEAD, 0, HEAD_BYTES)
        if end >= 0:
            self._send(self._page(self._buffer[: end + len(END_OF_HEAD)]))
        elif len(self._buffer) >= HEAD_BYTES:
            self._send(_refusal(HeadTooLarge("the head is too long")))

    def _page(self, raw: bytes) -> Page:
        try:
            return self._listener.page(read_request_head(raw, max_fields=FIELDS, max_target=TARGET_BYTES))
        except ClientError as exc:
            return _refusal(exc)

    def _send(self, page: Page) -> None:
        self._buffer = b""
        body = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{page.title}</title>'
            f"<h1>{page.title}</h1><p>{page.text}</p></html>\n"
        ).encode()
        lines = [f"HTTP/1.1 {page.status} {_PHRASES[page.status]}", f"Date: {formatdate(usegmt=True)}", *_HEADERS]
        lines += ["Allow: GET"] if page.status == 405 else []
        lines.append(f"Content-Length: {len(body)}")
        self._transport.write("\r\n".join((*lines, "", "")).encode() + body)
        self._transport.close()

    def close(self) -> None:
        """End it, unless it is ending with its answer."""
        if not self._transport.is_closing():
            self._transport.abort()

    def _abort(self) -> None:
        self._transport.abort()


def _refusal(error: ClientError) -> Page:
    return Page(error.status, "Refused", f"{error.title}.")
