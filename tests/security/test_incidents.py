"""What went wrong elsewhere: one test for each incident that no other test tells of.

``checklist`` says for every incident which tests stand against it; most of them are beside the code.
"""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httptools
import pytest

from tests.end_to_end.waiting import until
from tests.proxy.raw_client import RawClient, get, path, post
from tests.proxy.raw_origin import Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.rig import Rig

URL: Final = f"http://{API}"
ROOT: Final = Path(__file__).resolve().parents[2]


async def assert_goes_on(client: RawClient) -> None:
    """The sentinel gets its own answer."""
    answer = await client.ask(get(f"{URL}/sentinel"))
    assert (answer.status, answer.body) == (200, b"GET /sentinel 0")


def test_the_parser_is_the_compiled_one_that_these_tests_were_written_for() -> None:
    """aiohttp CVE-2023-37276 was an old llhttp in a new wheel. Another version: read its changes, run this folder."""
    assert httptools.__version__ == "0.9.0"
    assert not (httptools.parser.parser.__file__ or "").endswith(".py")
    assert re.search(r"^httptools==0\.9\.0 ", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


def basic(credentials: str, scheme: str = "Basic") -> str:
    return f"Proxy-Authorization: {scheme} {b64encode(credentials.encode()).decode()}"


STRANGERS: Final = {
    "none": (),
    "another scheme": (basic("any:right", "Bearer"),),
    "another secret": (basic("any:wrong"),),
    "both": (basic("any:wrong", "Digest"),),
    "the scheme alone": ("Proxy-Authorization: Basic",),
    "the secret in the place of the user": (basic("right:"),),
    "the secret for the origin": (basic("any:right").removeprefix("Proxy-"),),
    "an alias": (basic("any:right").replace("Proxy-", "Proxy_"),),
}


@pytest.mark.parametrize("case", STRANGERS)
async def test_a_stranger_is_challenged_and_nothing_leaves(rig: Rig, case: str) -> None:
    """proxy.py CVE-2021-3116: a wrong scheme or a wrong secret, taken one for the other."""
    auth = {"proxy_password": "right"}
    await rig.start(listeners=[{"name": "egress", "mode": "forward", "auth": auth}])
    client = await rig.client()
    for request in (get(f"{URL}/", *STRANGERS[case]), get("http://stranger.test/", *STRANGERS[case])):
        answer = await client.ask(request)
        assert (answer.status, answer.reason) == (407, "proxy_auth_required")
        assert (answer.value("Proxy-Authenticate") or "").startswith("Basic ")
    assert rig.secure.connections == []
    assert (await client.ask(get(f"{URL}/", basic("any:right")))).body == b"GET / 0"
    assert b"right" not in rig.secure.requests[0].raw
    assert rig.secure.requests[0].values("Proxy-Authorization") == []


KEYS: Final = {
    "none": (),
    "another": ("X-Key: wrong",),
    "a part": ("X-Key: righ",),
    "more": ("X-Key: right, right",),
    "twice": ("X-Key: right", "x-key: right"),
    "an alias": ("X_Key: right",),
}


@pytest.mark.parametrize("case", KEYS)
async def test_a_base_url_with_a_key_gives_nothing_without_it(rig: Rig, case: str) -> None:
    """Any process and any page can reach loopback; a field that a page cannot set is what tells the app from them."""
    upstream, auth = f"https://{API}:{rig.secure.port}", {"header": "X-Key", "value": "right"}
    await rig.start(listeners=[{"name": "orders", "mode": "reverse", "upstream": upstream, "auth": auth}])
    client = await rig.client("orders")
    answer = await client.ask(path("/", *KEYS[case]))
    assert (answer.status, answer.reason) == (403, "key_refused")
    assert rig.secure.connections == []
    assert (await client.ask(path("/", "x-KEY: right"))).body == b"GET / 0"
    assert b"right" not in rig.secure.requests[0].raw


async def test_without_routes_nothing_gets_anywhere(rig: Rig) -> None:
    """sandbox-runtime CVE-2025-66479: an empty list of what is allowed was taken for "all"."""
    await rig.start(routes=[])
    client = await rig.client()
    for url in (f"{URL}/", f"http://localhost:{rig.plain.port}/", "http://169.254.169.254/"):
        answer = await client.ask(get(url))
        assert (answer.status, answer.reason) == (403, "target_unmatched")
    assert rig.plain.connections == rig.secure.connections == []


REDIRECTS: Final = (
    "http://{api}/",
    "https://other.test/",
    "http://localhost:{port}/",
    "https://{api}:1/",
    "//other.test/",
)


@pytest.mark.parametrize("location", REDIRECTS)
async def test_a_redirect_is_the_apps_and_shows_no_token(rig: Rig, location: str) -> None:
    """requests CVE-2018-18074 and many more: whoever follows a redirect takes the token along."""
    await rig.start(routes=[rig.route()])
    where = location.format(api=API, port=rig.plain.port)
    client = await rig.client()
    for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"):
        rig.secure.reply(ok(b"", f"Location: {where}", f"Refresh: 0; url={where}", status=status))
        answer = await client.ask(post(f"{URL}/", b"x"))
        assert (answer.status, answer.value("Location")) == (int(status[:3]), where)
        assert (rig.secure.tokens[-1] or "?").encode() not in answer.head
    assert len(rig.secure.requests) == 5
    assert rig.plain.connections == []
    await assert_goes_on(client)


@pytest.mark.parametrize("port", [22, 25, 53, 2375, 3306, 5432, 6379, 6443, 8080, 10250])
async def test_no_tunnel_leads_to_a_port_that_is_not_the_webs(rig: Rig, port: int) -> None:
    """A CONNECT to port 25 sends mail, one to 10250 talks to the node (RFC 9110 section 9.3.6)."""
    rig.names["other.test"] = ["192.0.2.1"]
    for unmatched, reason in (("deny", "target_unmatched"), ("forward", "tunnel_denied")):
        await rig.start(unmatched=unmatched)
        for authority in (f"other.test:{port}", f"192.0.2.1:{port}", f"{API}:{port}"):
            client = await rig.client()
            answer = await client.ask(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
            assert (answer.status, answer.reason) == (403, reason)
            assert await client.closed_cleanly()
        await rig.stop()


async def test_the_sidecars_own_pages_cannot_be_had_through_it_and_change_nothing(rig: Rig) -> None:
    """mitmproxy CVE-2025-23217 and linkerd CVE-2024-40632: pages of the proxy, reached through it or by anybody."""
    await rig.start(unmatched="forward", routes=[rig.route()])
    client = await rig.client()
    port = rig.port("telemetry")
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"):
        answer = await client.ask(get(f"http://{host}:{port}/metrics"))
        assert (answer.status, answer.reason) == (403, "address_denied")
    for method, page in (("POST", "/shutdown"), ("GET", "/shutdown"), ("PUT", "/metrics"), ("GET", "/debug/pprof/")):
        async with await RawClient.to(port) as direct:
            await direct.send(path(page, "Connection: close", method=method))
            assert (await direct.answer()).status in (404, 405)
    await assert_goes_on(client)


async def test_ten_thousand_hosts_cost_no_series_and_no_memory_that_grows(rig: Rig) -> None:
    """Linkerd CVE-2025-43915: a label made of what a client sends."""
    await rig.start(unmatched="forward", routes=[rig.route()])
    client = await rig.client()
    for method in ("GET", "POST", "BREW"):
        await (await rig.client()).ask(get("http://0.test/", method=method))
    series = len(rig.metrics().text.splitlines())
    for start in range(0, 10_000, 500):
        hosts = range(start, start + 500)
        client.send_later(b"".join(get(f"http://127.0.0.{host % 250}:{host + 1}/{host}") for host in hosts))
        for _ in hosts:
            assert (await client.answer()).reason == "address_denied"
    assert len(rig.metrics().text.splitlines()) <= series + 5
    gateway = rig.sidecar.gateway
    assert len(gateway.generation.table._cache) <= 512
    assert len(gateway._complaints) <= 20
    await assert_goes_on(client)


LOUD: Final = "\x1b[2J\u202e%0d%0a{}" + "x" * 60_000


async def test_what_a_client_sends_is_one_bounded_line_of_json(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    """uvicorn CVE-2020-7694 and Envoy CVE-2024-45808: control characters and lines forged in a log."""
    await rig.start(log={"access": True}, limits={"target": "128KiB", "head": "256KiB"})
    loud = LOUD.format("forged").encode().decode("latin-1")
    requests = (
        get(f"{URL}/%1b%0a%0dforged" + "y" * 60_000),
        get(f"{URL}/", f"User-Agent: {loud.replace(chr(27), '')}"),
        get(f"{URL}/?{'z' * 60_000}"),
        f"GET {URL}/{loud} HTTP/1.1\r\nHost: {API}\r\n\r\n".encode("latin-1"),
        f"{'B' * 3000} {URL}/ HTTP/1.1\r\nHost: {API}\r\n\r\n".encode(),
        f"CONNECT {'h' * 60_000}:443 HTTP/1.1\r\nHost: {API}\r\n\r\n".encode(),
    )
    for request in requests:
        async with await rig.client() as client:
            await client.ask(request)
    await rig.stop()
    captured = capfd.readouterr()
    lines = [*captured.out.splitlines(), *captured.err.splitlines()]
    assert len(lines) > 3
    for line in lines:
        assert line.isascii() or "\u202e" not in line
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", line)
        assert len(line) < 20_000
        event: dict[str, Any] = json.loads(line)
        assert event["event"] != "forged"


async def test_a_pipelined_flood_to_a_reader_that_stalls_is_bounded(rig: Rig) -> None:
    """aiohttp CVE-2025-69228 and its like: requests that are taken in faster than their answers are read."""
    await rig.start()
    client = await rig.client(receive_buffer=16 * 1024)
    rig.secure.always = ok(bytes(64 * 1024))
    client.send_later(get(f"{URL}/") * 5000)
    counts: list[int] = []

    def rests() -> bool:
        counts.append(len(rig.secure.requests))
        return len(counts) > 10 and counts[-10:] == [counts[-1]] * 10 and counts[-1] > 0

    await until(rests, "the sidecar takes no more", every=0.03)
    assert counts[-1] < 1000
    other = await rig.client()
    rig.secure.always = None
    await assert_goes_on(other)


async def test_an_endless_extension_is_refused_before_it_costs_memory(rig: Rig) -> None:
    """Node CVE-2024-22019: extensions that no callback of the parser ever showed."""
    await rig.start()

    async def read(request: Request) -> None:
        await request.connection.read_to_the_end()

    for endless in (b"1;" + b"x" * 1_000_000, (b"1;" + b"y" * 1000 + b"\r\nx\r\n") * 1000):
        rig.secure.always = read
        client = await rig.client()
        client.send_later(get(f"{URL}/", "Transfer-Encoding: chunked", method="POST") + endless)
        assert (await client.answer()).reason == "bad_request"
        await rig.at_rest()
    assert all(len(request.body) < 2000 for request in rig.secure.requests)
    rig.secure.always = None
    await assert_goes_on(await rig.client())


async def test_an_answer_is_never_unpacked(rig: Rig) -> None:
    """aiohttp CVE-2025-69223: a bomb goes off in whoever unpacks it; here it stays what it is."""
    await rig.start()
    bomb = bytes.fromhex("1f8b0800000000000203") + bytes(1000)
    rig.secure.reply(ok(bomb, "Content-Encoding: gzip, gzip, gzip"))
    client = await rig.client()
    answer = await client.ask(get(f"{URL}/", "Accept-Encoding: gzip"))
    assert (answer.body, answer.value("Content-Encoding")) == (bomb, "gzip, gzip, gzip")
    await assert_goes_on(client)


async def test_an_authority_of_64_kib_is_refused_quickly(rig: Rig) -> None:
    """waitress CVE-2020-5236 and urllib3 CVE-2021-33503: patterns that take for ever on what an attacker wrote."""
    await rig.start(limits={"target": "128KiB", "head": "256KiB"})
    loop = asyncio.get_running_loop()
    for authority in ("@" * 65_000, "a." * 32_000, "[" * 65_000, "1." * 32_000, "%41" * 21_000, ":" * 65_000):
        client = await rig.client()
        began_at = loop.time()
        answer = await client.ask(f"GET http://{authority}/ HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
        assert (answer.status, answer.reason) == (400, "bad_request")
        assert loop.time() - began_at < 0.5
    await assert_goes_on(await rig.client())
