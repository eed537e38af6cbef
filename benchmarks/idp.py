"""The token endpoint of the benchmark: RFC 6749 section 4.4 with one token, in a thread, idle while load runs."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.workshop import Workshop

LIFETIME_SECONDS: Final = 3600


def _handler(workshop: Workshop) -> type[http.server.BaseHTTPRequestHandler]:
    answer = {"access_token": workshop.token, "token_type": "Bearer", "expires_in": LIFETIME_SECONDS}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode())
            granted = form.get("grant_type") == ["client_credentials"] and self._authenticated(form)
            self._reply(200, answer) if granted else self._reply(401, {"error": "invalid_client"})

        def _authenticated(self, form: dict[str, list[str]]) -> bool:
            return "Authorization" in self.headers or form.get("client_secret") == [workshop.client_secret]

        def _reply(self, status: int, body: dict[str, object]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Nothing is logged."""

    return Handler


@contextlib.contextmanager
def token_endpoint(workshop: Workshop) -> Iterator[None]:
    """Serve tokens until the block ends."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", workshop.idp_port), _handler(workshop)) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name="idp", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
