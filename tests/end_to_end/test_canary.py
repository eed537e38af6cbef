"""A marker in every secret and token, a sidecar that meets every kind of trouble, and a search through all it said.

What it said: standard output and error at the most talkative settings (debug, access log), metrics, probes, and every
answer of its own. The provider here is hostile: it hands the secrets it was sent back in every place an answer has.
"""

from __future__ import annotations

import base64
import io
import secrets
import zipfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote, quote_plus

import pytest
from aiohttp import web

from tests.end_to_end.origin import VALID, Authority, Origin
from tests.end_to_end.sidecar_process import Configuration, SidecarProcess
from tests.end_to_end.waiting import until
from tests.end_to_end.wire import exchange, status_of

if TYPE_CHECKING:
    from pathlib import Path

MARKER: Final = "canary" + secrets.token_hex(8)
LIFETIME_SECONDS: Final = 3
CLIENT_ID: Final = "canary-worker"
SECRETS: Final = [f"{MARKER}-first", f"{MARKER}/second secret:é+%"]
ADMIN: Final = f"{MARKER}-admin-token"


def percent_encoded(text: str) -> str:
    """As it stands in Basic credentials, with a space as ``%20``."""
    return quote(text, safe="")


def forms(text: str) -> Iterator[str]:
    """The forms in which a client secret travels, RFC 6749 section 2.3.1 and RFC 7617, with any alignment in base64."""
    yield text
    yield quote_plus(text)
    yield percent_encoded(text)
    for user in (CLIENT_ID, quote_plus(CLIENT_ID)):
        for password in (text, quote_plus(text), percent_encoded(text)):
            yield base64.b64encode(f"{user}:{password}".encode()).decode()


FORBIDDEN: Final = [MARKER, MARKER.upper(), *(form for secret in SECRETS for form in forms(secret))]


def found_in(text: str) -> list[str]:
    """The lines in which a secret stands."""
    return [line for line in text.splitlines() if any(form in line for form in FORBIDDEN)]


# --- a provider that hands everything back ---------------------------------------------------------------------------

Trick = Callable[[str], web.Response]
"""Takes all that the sidecar sent, secret included; answers in a way that repeats it."""


def oauth_error(code: str, sent: str) -> web.Response:
    body = {"error": code, "error_description": f"wrong secret: {sent}", "error_uri": f"https://idp.example/{sent}"}
    return web.json_response(body, status=400, headers={"X-Debug": quote_plus(sent)})


def granted(**changes: object) -> web.Response:
    token = f"{MARKER}.{secrets.token_urlsafe(24)}"
    body = {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME_SECONDS}
    return web.json_response(body | changes)


TRANSIENT: Final[dict[str, Trick]] = {
    "an error page that shows the request": lambda sent: web.Response(
        status=500, text=f"<h1>Oops</h1><pre>{sent}</pre>", content_type="text/html"
    ),
    "a page of a middlebox with status 200": lambda sent: web.Response(text=f"<p>{sent}</p>", content_type="text/html"),
    "broken JSON around a token": lambda sent: web.Response(
        text=f'{{"access_token": "{MARKER}-cut', content_type="application/json"
    ),
    "a token that would split the header": lambda sent: granted(access_token=f"{MARKER}\r\nX-Injected: {MARKER}"),
    "a token type nobody knows": lambda sent: granted(token_type=f"{MARKER}-type"),
    "a redirect with the secret in it": lambda sent: web.Response(
        status=302, headers={"Location": f"http://127.0.0.1:1/?{quote_plus(sent)}"}
    ),
    "a rate limit with the secret in it": lambda sent: web.Response(
        status=429, headers={"Retry-After": f"{MARKER}"}, text=sent
    ),
    "a reason phrase with the secret in it": lambda sent: web.Response(status=502, reason=f"Bad {MARKER}", text=sent),
    "a lifetime that is no number": lambda sent: granted(expires_in=f"{MARKER}-soon"),
}
TERMINAL: Final[dict[str, Trick]] = {
    "an error code that is the secret": lambda sent: oauth_error(SECRETS[0], sent),
    "a description that is the secret": lambda sent: oauth_error("invalid_client", sent),
}


@dataclass(slots=True)
class HostileProvider:
    """A token endpoint that plays its tricks one after another, and grants when it has none left."""

    tricks: deque[Trick] = field(default_factory=deque)
    sent: list[str] = field(default_factory=list)
    port: int = 0
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/token", self._token)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        basic = request.headers.get("Authorization", "").removeprefix("Basic ")
        sent = f"{basic} {base64.b64decode(basic).decode()} {await request.text()}"
        self.sent.append(sent)
        return self.tricks.popleft()(sent) if self.tricks else granted()


@pytest.fixture
async def provider() -> AsyncIterator[HostileProvider]:
    async with HostileProvider() as provider:
        yield provider


@pytest.fixture
async def origin(authority: Authority) -> AsyncIterator[Origin]:
    def judge(token: str) -> str:
        return VALID if token.startswith(MARKER) else "not the sidecar's"

    async with Origin(judge, authority.server) as origin:
        yield origin


# --- the sidecar, and all that it says -------------------------------------------------------------------------------


def configuration(provider: HostileProvider, origin: Origin, authority: Authority, folder: Path) -> Configuration:
    (folder / "secret").write_text(SECRETS[0])
    (folder / "admin-token").write_text(ADMIN)
    route = {"host": "localhost", "port": origin.port, "credential": "orders", "ca_file": str(authority.ca_file)}
    return {
        "listeners": [
            {"name": "egress", "mode": "forward"},
            {"name": "orders", "mode": "reverse", "upstream": f"https://localhost:{origin.port}"},
        ],
        "credentials": {
            "orders": {
                "grant": "client_credentials",
                "token_url": f"http://127.0.0.1:{provider.port}/token",
                "client_id": CLIENT_ID,
                "client_secret": f"file:{folder / 'secret'}",
                "token_params": {"api_key": MARKER},
            }
        },
        "routes": [
            {"name": "orders", **route},
            {"name": "strict", "paths": ["/strict/"], "if_present": "reject", **route},
        ],
        "admin": {"token": f"file:{folder / 'admin-token'}"},
        "limits": {"token_wait": "300ms", "head": "16KiB"},
        "log": {"level": "debug", "access": True},
    }


class Said:
    """Everything the sidecar wrote or answered."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        self.sidecar = sidecar
        self.answers: list[str] = []

    async def ask(self, listener: str, request: str | bytes) -> int:
        """Send raw bytes, keep the answer, return its status."""
        raw = request if isinstance(request, bytes) else request.encode("latin-1")
        answer = await exchange(self.sidecar.port(listener), raw)
        self.answers.append(answer.decode("latin-1"))
        return status_of(answer)

    async def get(self, path: str, *fields: str) -> int:
        """Ask through the reverse listener."""
        lines = [f"GET {path} HTTP/1.1", f"Host: localhost:{self.sidecar.port('orders')}", "Connection: close", *fields]
        return await self.ask("orders", "\r\n".join([*lines, "", ""]))

    async def admin(self, line: str, *fields: str) -> int:
        """Ask the admin API."""
        return await self.ask("admin", "\r\n".join([line, "Host: localhost", "Connection: close", *fields, "", ""]))

    async def everything(self) -> dict[str, str]:
        """Standard output and error, metrics, pages, answers."""
        for page in ("/livez", "/readyz", "/startupz", "/metrics"):
            await self.ask("telemetry", f"GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return {
            "standard output": self.sidecar.stdout,
            "standard error": self.sidecar.stderr,
            "answers": "\n".join(self.answers),
        }


@pytest.fixture
async def said(
    provider: HostileProvider,
    origin: Origin,
    authority: Authority,
    tmp_path: Path,
    start_sidecar: Callable[[Configuration], Awaitable[SidecarProcess]],
) -> Said:
    sidecar = await start_sidecar(configuration(provider, origin, authority, tmp_path))
    said = Said(sidecar)

    async def served() -> bool:
        return await said.get("/orders") == 200

    await until(served, "the app is served")
    return said


async def assert_silent(said: Said) -> None:
    """No secret in anything that was said, until the very end."""
    everything = await said.everything()
    assert await said.sidecar.stop() == 0
    everything |= {"standard output": said.sidecar.stdout, "standard error": said.sidecar.stderr}
    assert said.sidecar.logs()  # and every line is a JSON object, so the search skips none for its form
    assert all(line.startswith("{") for line in said.sidecar.stdout.splitlines())
    assert "/orders" in said.sidecar.stdout  # the access log is on
    assert {where: found_in(text) for where, text in everything.items() if found_in(text)} == {}
    assert "Traceback" not in everything["standard error"]


# --- the troubles ----------------------------------------------------------------------------------------------------


async def test_the_marker_does_travel_where_it_should(said: Said, provider: HostileProvider, origin: Origin) -> None:
    """Without this the other tests would pass with the canary left in its cage."""
    assert all(MARKER in sent for sent in provider.sent)
    assert all(arrival.token and arrival.token.startswith(MARKER) for arrival in origin.arrivals)
    await assert_silent(said)


async def test_no_secret_is_said_while_the_provider_fails_in_every_way_and_repeats_it(
    said: Said, provider: HostileProvider
) -> None:
    provider.tricks.extend(TRANSIENT.values())

    async def recovered() -> bool:
        status = await said.get("/orders")
        return not provider.tricks and status == 200

    await until(recovered, "every trick is played, and the app is served", seconds=45, every=0.2)
    await assert_silent(said)


@pytest.mark.parametrize("trick", TERMINAL.values(), ids=TERMINAL)
async def test_no_secret_is_said_when_the_provider_refuses_it_and_the_secret_is_rotated(
    said: Said, provider: HostileProvider, tmp_path: Path, trick: Trick
) -> None:
    provider.tricks.extend([trick] * 40)

    async def refused() -> bool:
        return await said.get("/orders") == 503

    await until(refused, "the token ends and none follows", every=0.1)
    provider.tricks.clear()
    (tmp_path / "secret").write_text(SECRETS[1])

    async def recovered() -> bool:
        return await said.get("/orders") == 200

    await until(recovered, "the new secret is used", seconds=30, every=0.1)
    assert percent_encoded(SECRETS[1]) in provider.sent[-1]
    await assert_silent(said)


async def test_no_secret_is_said_when_the_upstream_breaks_or_refuses_the_token(said: Said) -> None:
    for path in ("/reset", "/status/401", "/status/403", "/status/500", "/html"):
        await said.get(path)
    await assert_silent(said)


BAD_REQUESTS: Final = {
    "an obsolete fold in the credentials": f"Authorization: Bearer\r\n {MARKER}\r\n",
    "a space before the colon": f"Authorization : Bearer {MARKER}\r\n",
    "a bare line feed": f"Authorization: Bearer {MARKER}\n",
    "a control character": f"Authorization: Bearer {MARKER}\x01\r\n",
    "no field name": f": {MARKER}\r\n",
    "two lengths": f"Content-Length: 1\r\nContent-Length: 2\r\nCookie: {MARKER}\r\n",
    "length and chunks": f"Content-Length: 3\r\nTransfer-Encoding: chunked\r\nCookie: {MARKER}\r\n",
    "a coding nobody knows": f"Transfer-Encoding: {MARKER}\r\n",
    "an expectation nobody knows": f"Expect: {MARKER}\r\n",
    "a head over the limit": f"Cookie: {MARKER * 2000}\r\n",
    "a second Host": f"Host: {MARKER}\r\n",
}


async def test_no_secret_of_a_malformed_request_is_said(said: Said, origin: Origin) -> None:
    arrived, host = len(origin.arrivals), f"localhost:{said.sidecar.port('orders')}"
    for name, fields in BAD_REQUESTS.items():
        reverse = await said.ask("orders", f"GET /orders HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
        forward = await said.ask("egress", f"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
        assert 400 <= reverse < 600, name
        assert 400 <= forward < 600, name
    assert len(origin.arrivals) == arrived
    await assert_silent(said)


async def test_no_secret_of_a_well_formed_request_is_said(said: Said) -> None:
    """An app's own credentials are as secret as ours: in the URL, in Authorization, in Proxy-Authorization."""
    assert await said.get(f"/orders?access_token={MARKER}", f"Authorization: Bearer {MARKER}") == 200
    assert await said.get("/strict/orders", f"Authorization: Bearer {MARKER}", f"Cookie: {MARKER}") == 403
    close = f"Connection: close\r\nProxy-Authorization: Basic {MARKER}\r\n\r\n"
    userinfo = f"GET http://user:{MARKER}@localhost/ HTTP/1.1\r\nHost: localhost\r\n{close}"
    assert await said.ask("egress", userinfo) in (200, 400, 403)
    unmatched = f"GET http://elsewhere.example/?key={MARKER} HTTP/1.1\r\nHost: elsewhere.example\r\n{close}"
    assert await said.ask("egress", unmatched) == 403
    tunnel = f"CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: elsewhere.example:443\r\n{close}"
    assert await said.ask("egress", tunnel) == 403
    assert await said.ask("orders", f"{MARKER} / HTTP/1.1\r\nHost: localhost\r\n\r\n") in (400, 501)
    assert await said.ask("orders", f"GET / HTTP/{MARKER}\r\nHost: localhost\r\n\r\n") in (400, 505)
    await assert_silent(said)


async def test_neither_the_admin_token_nor_what_it_opens_is_said(said: Said, tmp_path: Path) -> None:
    ask, right = "POST /v1/credentials/orders/token HTTP/1.1", f"Authorization: Bearer {ADMIN}"
    lines = [ask, "Host: localhost", "Connection: close", right, "", ""]
    given = await exchange(said.sidecar.port("admin"), "\r\n".join(lines).encode())  # the one answer that may hold it
    assert status_of(given) == 200
    assert MARKER in given.decode()
    assert await said.admin(ask.replace("/token", "/refresh"), right) == 202
    assert await said.get(f"/orders?key={MARKER}") == 200
    assert await said.get(f"/orders/{SECRETS[0]}") == 200
    for path in ("/", "/v1/credentials", "/v1/status"):
        assert await said.admin(f"GET {path} HTTP/1.1", right) == 200
    raw = "\r\n".join(["POST /v1/support-bundle HTTP/1.1", *lines[1:]]).encode()
    said.answers += unpacked(await exchange(said.sidecar.port("admin"), raw))
    for line, told in (
        (ask, f"Authorization: Bearer {ADMIN}x"),
        (ask, f"Authorization: Basic {MARKER}"),
        (ask, f"Cookie: {MARKER}"),
    ):
        assert await said.admin(line, told) == 401
    assert await said.admin(ask.replace("orders", MARKER), right) == 404
    assert await said.admin(f"POST /{MARKER} HTTP/1.1", right) == 404
    assert await said.admin(f"GET /v1/credentials/orders/token?token={MARKER} HTTP/1.1", right) == 405
    assert await said.admin(ask, right, f"Origin: http://{MARKER}.example") == 403
    for content in (None, MARKER[:8], f"{ADMIN} {MARKER}"):
        spoil(tmp_path / "admin-token", content)
        assert await said.admin(ask, right) == 403
    await assert_silent(said)


def unpacked(answer: bytes) -> list[str]:
    """The files of a support bundle, which hides nothing behind its compression."""
    with zipfile.ZipFile(io.BytesIO(answer.partition(b"\r\n\r\n")[2])) as bundle:
        files = [bundle.read(name).decode() for name in bundle.namelist()]
    assert any('"credentials"' in text for text in files)
    return files


def spoil(path: Path, content: str | None) -> None:
    """Make a secret's file unusable; None takes it away."""
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)


# --- a configuration with a secret in it -----------------------------------------------------------------------------

BROKEN: Final = {
    "a literal secret": f"client_secret: {MARKER}",
    "a literal secret in quotes": f'client_secret: "{MARKER}"',
    "a literal secret that is never closed": f'client_secret: "{MARKER}',
    "a literal secret in a list": f"client_secret: [{MARKER}]",
    "a literal secret under a wrong key": f"client_secrt: {MARKER}",
    "a literal secret with a colon too many": f"client_secret: {MARKER}: {MARKER}",
    "a password in a URL": f"token_url: https://user:{MARKER}@idp.example/token",
    "a secret of the wrong kind": f"client_secret: vault:{MARKER}",
}


def broken(line: str) -> str:
    """A configuration in which one line of a credential is wrong, as a person would have typed it."""
    return (
        "listeners:\n  - {name: orders, mode: reverse, bind: '127.0.0.1:0', upstream: 'https://localhost'}\n"
        "credentials:\n  orders:\n    grant: client_credentials\n    client_id: canary-worker\n"
        f"    {line}\n    scopes: [orders.read]\n"
        "routes:\n  - {host: localhost, credential: orders}\n"
    )


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN)
async def test_a_start_with_a_secret_in_the_configuration_does_not_repeat_it(tmp_path: Path, line: str) -> None:
    sidecar = SidecarProcess(tmp_path, {"listeners": []})
    sidecar.write_text(broken(line))
    sidecar.start()
    assert await sidecar.ended(seconds=30) == 3
    assert found_in(sidecar.stdout + sidecar.stderr) == []
    assert "sidecar.yaml:" in sidecar.stderr


async def test_reloads_with_a_secret_in_the_configuration_do_not_repeat_it(said: Said) -> None:
    for line in BROKEN.values():
        await said.sidecar.reload_text(broken(line), outcome="rejected")
    assert await said.get("/orders") == 200
    await assert_silent(said)
