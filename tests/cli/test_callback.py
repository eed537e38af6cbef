"""A login's listener: on loopback, for one answer, and deaf to everything else that finds it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

from sidecar.cli import callback
from sidecar.cli.callback import CallbackListener
from sidecar.errors import BadRequest, CannotBind, TokenRefused
from sidecar.oauth.redirect import RedirectURI
from sidecar.secrets import Secret
from tests.cli.browser import Tab, get
from tests.end_to_end.waiting import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE: Final = 20


def accept(query: str) -> Secret:
    """A login whose state is ``ours``."""
    match query:
        case "state=ours":
            return Secret("the-code")
        case "state=ours&error=no":
            raise TokenRefused("refused")
        case _:
            raise BadRequest("this is not the answer")


class Waiting:
    """A listener and the task that waits on it."""

    def __init__(self, configured: str | None = None, port: int | None = None) -> None:
        self.listener = CallbackListener(RedirectURI.read(configured, port=port))
        self.uri = self.listener.redirect_uri
        self.code = asyncio.create_task(self.listener.wait(accept))

    async def result(self) -> str:
        async with asyncio.timeout(PATIENCE):
            return (await self.code).reveal()


@contextlib.asynccontextmanager
async def waiting(configured: str | None = None, port: int | None = None) -> AsyncIterator[Waiting]:
    one = Waiting(configured, port)
    try:
        yield one
    finally:
        one.listener.close()
        one.code.cancel()
        await asyncio.gather(one.code, return_exceptions=True)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- the port ---------------------------------------------------------------------------------------------------------


async def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotBind, match=f"127.0.0.1:{port}"):
            CallbackListener(RedirectURI.read(None, port=port))


async def test_only_loopback_is_listened_on() -> None:
    async with waiting() as one:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.2", urlsplit(one.uri).port)


# --- the answer -------------------------------------------------------------------------------------------------------


async def test_the_first_answer_of_the_login_ends_the_listening() -> None:
    async with waiting() as one:
        page = await get(f"{one.uri}?state=ours")
        assert page.status == 200
        assert "You may close this window" in page.body
        assert await one.result() == "the-code"
        assert not is_listening(urlsplit(one.uri).port or 0)


async def test_the_page_runs_nothing_loads_nothing_and_is_kept_nowhere() -> None:
    async with waiting() as one:
        page = await get(f"{one.uri}?state=ours")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["connection"] == "close"
    assert int(page.headers["content-length"]) == len(page.body.encode())
    assert "<script" not in page.body
    assert "ours" not in page.body


async def test_an_error_of_the_login_ends_it_too() -> None:
    async with waiting() as one:
        page = await get(f"{one.uri}?state=ours&error=no")
        assert page.status == 200
        with pytest.raises(TokenRefused):
            await one.result()


async def test_an_answer_of_another_login_is_refused_and_the_right_one_still_comes() -> None:
    async with waiting() as one:
        for query in ("state=other", "", "state=%22%3Cscript%3E"):
            page = await get(f"{one.uri}?{query}")
            assert page.status == 400
            assert "<script>" not in page.body
        await get(f"{one.uri}?state=ours")
        assert await one.result() == "the-code"


async def test_a_second_tab_gets_no_second_answer() -> None:
    async with waiting() as one:
        port = urlsplit(one.uri).port or 0
        request = f"GET /callback?state=ours HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        async with Tab("127.0.0.1", port) as second, Tab("127.0.0.1", port) as first:
            assert (await first.send(request)).status == 200
            assert await one.result() == "the-code"
            assert (await second.send(request)).status in (0, 400)
        with pytest.raises(OSError, match=r"(?i)refused|connect"):
            await get(f"{one.uri}?state=ours")


async def test_two_answers_at_the_same_moment_are_one() -> None:
    async with waiting() as one:
        pages = await asyncio.gather(*(get(f"{one.uri}?state=ours") for _ in range(4)), return_exceptions=True)
        statuses = [page.status for page in pages if not isinstance(page, BaseException)]
        assert statuses.count(200) == 1
        assert await one.result() == "the-code"


# --- everything else --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/favicon.ico", "/callback/", "/callback/../callback", "/Callback", "//callback"]
)
async def test_other_paths_are_not_found(path: str) -> None:
    async with waiting() as one:
        port = urlsplit(one.uri).port
        assert (await get(f"http://127.0.0.1:{port}{path}?state=ours")).status == 404
        assert not one.code.done()


@pytest.mark.parametrize("host", ["evil.test", "localhost", "127.0.0.1", "127.0.0.1:1", "evil.test:80"])
async def test_a_foreign_host_is_refused(host: str) -> None:
    async with waiting() as one:
        assert (await get(f"{one.uri}?state=ours", host=host)).status == 403
        assert not one.code.done()


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "OPTIONS"])
async def test_only_get_is_answered(method: str) -> None:
    async with waiting() as one:
        page = await get(f"{one.uri}?state=ours", method=method)
        assert (page.status, page.headers["allow"]) == (405, "GET")
        assert not one.code.done()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /callback?state=ours HTTP/1.1\r\n\r\n", 400),
        (b"GET /callback?state=ours HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /callback?" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /callback HTTP/1.1\r\nX: " + b"a" * 33_000, 431),
        (b"GET /callback?state=ours HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET http://127.0.0.1/callback?state=ours HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 403),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
async def test_what_is_no_request_of_a_browser_is_refused(raw: bytes, status: int) -> None:
    async with waiting() as one:
        async with Tab("127.0.0.1", urlsplit(one.uri).port or 0) as tab:
            assert (await tab.send(raw)).status == status
        assert not one.code.done()


async def test_the_default_port_is_left_out_of_host(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr(callback, "HTTP_PORT", port)
    async with waiting(f"http://127.0.0.1:{port}/cb") as one:
        assert (await get(f"{one.uri}?state=ours", host="127.0.0.1")).status == 200
        assert await one.result() == "the-code"


async def test_ipv6_loopback_is_listened_on_if_the_redirect_uri_says_so() -> None:
    async with waiting("http://[::1]/cb") as one:
        assert one.uri.startswith("http://[::1]:")
        assert (await get(f"{one.uri}?state=ours")).status == 200
        assert await one.result() == "the-code"


async def test_idle_connections_keep_nobody_out() -> None:
    async with waiting() as one, contextlib.AsyncExitStack() as stack:
        port = urlsplit(one.uri).port or 0
        for _ in range(callback.CONNECTIONS + 4):
            await stack.enter_async_context(Tab("127.0.0.1", port))
        assert (await get(f"{one.uri}?state=ours")).status == 200
        assert await one.result() == "the-code"


async def test_a_connection_that_says_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback, "HEAD_SECONDS", 0.01)
    async with waiting() as one:
        async with Tab("127.0.0.1", urlsplit(one.uri).port or 0) as tab:
            assert (await tab.read()).status == 0
        assert not one.code.done()


async def test_closing_ends_everything_at_once() -> None:
    async with waiting() as one:
        port = urlsplit(one.uri).port or 0
        async with Tab("127.0.0.1", port) as tab:
            one.code.cancel()
            await asyncio.gather(one.code, return_exceptions=True)
            assert (await tab.read()).status == 0
        assert not is_listening(port)


async def test_a_listener_that_nobody_waited_on_is_closed_by_its_context() -> None:
    async with CallbackListener(RedirectURI.read(None, port=None)) as listener:
        port = urlsplit(listener.redirect_uri).port or 0
        assert is_listening(port)
    assert not is_listening(port)


async def test_a_head_that_comes_in_pieces_is_one_request() -> None:
    async with waiting() as one:
        port = urlsplit(one.uri).port or 0
        raw = f"GET /callback?state=ours HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for byte in raw:
            writer.write(bytes((byte,)))
            await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
