"""An API that only answers to a valid token, and says what it saw: the upstream of the demo.

It tells the method, the path and whether the token is good, as JSON. Of the token itself it shows the first characters
and a fingerprint: an upstream that echoes tokens would be a leak, also in a demo.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

SHOWN_CHARACTERS: Final = 6


class Echo:
    """A server on an ephemeral port of 127.0.0.1; use it as an asynchronous context.

    Args:
        is_valid: whether a token is good now; the identity provider's word.
        tls: its certificate and key; None for plain http.
    """

    def __init__(self, *, is_valid: Callable[[str], bool], tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self.served = 0
        """Requests answered 200."""
        self.refused = 0
        """Requests answered 401."""
        self._is_valid = is_valid
        self._tls = tls
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        # A proof that comes along (RFC 9449 section 7.1) is not checked: that is for the tests of proofs.
        token = token.strip() if scheme.lower() in ("bearer", "dpop") else ""
        seen: dict[str, Any] = {
            "method": request.method,
            "path": request.path_qs,
            "over_tls": request.secure,
            "body_bytes": await _drained(request),
            "token": _described(token, valid=self._is_valid(token)) if token else None,
        }
        if token and seen["token"]["valid"]:
            self.served += 1
            return _answer(200, seen)
        self.refused += 1
        # RFC 6750 section 3.1: no error code where no token came along.
        challenge = 'Bearer realm="echo", error="invalid_token"' if token else 'Bearer realm="echo"'
        return _answer(401, seen, {"WWW-Authenticate": challenge})


async def _drained(request: web.BaseRequest) -> int:
    return sum([len(piece) async for piece in request.content.iter_any()])


def _described(token: str, *, valid: bool) -> dict[str, Any]:
    fingerprint = hashlib.sha256(token.encode()).hexdigest()[:12]
    return {"begins": f"{token[:SHOWN_CHARACTERS]}...", "sha256": f"{fingerprint}...", "valid": valid}


def _answer(status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    text = json.dumps(content, indent=2) + "\n"
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)
