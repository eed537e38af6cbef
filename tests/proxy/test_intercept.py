"""Interception: TLS inside a CONNECT ends here for the hosts of routes that say so, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.proxy.intercept import TLSLayer
from sidecar.simulation.idp import Step
from tests.end_to_end.waiting import until
from tests.proxy.raw_client import chunked, path
from tests.proxy.raw_origin import REFUSED_TOKEN, Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proxy.conftest import Logs
    from tests.proxy.raw_client import RawClient
    from tests.proxy.rig import Rig

BIG = 1 << 20


async def start(rig: Rig, **changes: Any) -> None:
    """The route to the origin over TLS is intercepted."""
    await rig.start(**{"routes": [rig.route(intercept=True)], "interception": rig.interception()} | changes)


def inner(rig: Rig, target: str = "/", *fields: str, method: str = "GET") -> bytes:
    """A request as a client sends it inside the tunnel."""
    return path(target, *fields, host=f"{API}:{rig.secure.port}", method=method)


async def test_requests_inside_get_the_token_and_leave_over_verified_tls(rig: Rig) -> None:
    await start(rig)
    client = await rig.intercepted()
    for number in range(3):
        answer = await client.ask(inner(rig, f"/v1/{number}?q=%2e"))
        assert (answer.status, answer.body) == (200, b"GET /v1/%d?q=%%2e 0" % number)
    assert rig.secure.tokens == [rig.idp.issued[-1]] * 3
    assert rig.value("injections_total", route="api", credential="orders", result="injected") == 3
    assert rig.value("injections_total", route="api", credential="orders", result="bypassed_connect") == 0
    assert rig.total("connections_open") == 1


async def test_the_client_speaks_http_1_1_by_alpn_and_tls_1_2_at_least(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    await client.tunnel(f"{API}:{rig.secure.port}")
    context = rig.inside()
    context.set_alpn_protocols(["h2", "http/1.1"])
    await client.start_tls(context, API)
    chosen = client.writer.get_extra_info("ssl_object")
    assert (chosen.selected_alpn_protocol(), chosen.version()) == ("http/1.1", "TLSv1.3")

    old = await rig.client()
    await old.tunnel(f"{API}:{rig.secure.port}")
    context = rig.inside()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    await old.start_tls(context, API)
    assert (await old.ask(inner(rig))).status == 200


async def test_a_client_hello_that_comes_along_with_the_connect_is_read(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = rig.inside().wrap_bio(incoming, outgoing, server_hostname=API)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    authority = f"{API}:{rig.secure.port}"
    await client.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode() + outgoing.read())
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            incoming.write(await client.some())
    tls.write(inner(rig))
    await client.send(outgoing.read())
    received = b""
    while b"GET / 0" not in received:
        incoming.write(await client.some())
        try:
            received += tls.read()
        except ssl.SSLWantReadError:
            continue
    assert received.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("name", ["other.example.test", None, f"{API}.evil.test"])
async def test_another_name_in_the_handshake_than_in_the_connect_is_refused(
    rig: Rig, logs: Logs, name: str | None
) -> None:
    await start(rig, interception=rig.interception(API, "other.example.test"))
    client = await rig.client()
    await client.tunnel(f"{API}:{rig.secure.port}")
    context = rig.inside()
    context.check_hostname = False
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        await client.start_tls(context, name)
    await until(lambda: not rig.total("connections_open"), "the connection is closed")
    assert rig.value("denied_requests_total", reason="sni_mismatch") == 1
    assert [line["reason"] for line in logs("request_failed")] == ["sni_mismatch"]
    assert rig.secure.connections == []


async def test_a_server_name_that_is_not_ascii_is_refused_and_floods_no_log(rig: Rig, logs: Logs) -> None:
    await start(rig)
    outgoing = ssl.MemoryBIO()
    tls = rig.inside().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="xx.example.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read().replace(b"xx.example.test", "é.example.test".encode())
    for _ in range(4):
        client = await rig.client()
        await client.tunnel(f"{API}:{rig.secure.port}")
        await client.send(hello)
        await client.rest()
    assert rig.value("connections_rejected_total", reason="handshake") == 4
    assert len(logs("unraisable")) == 1


@pytest.mark.parametrize("host", ["other.example.test", f"{API}:1", f"evil{{{API}", f"{API}@other", ""])
async def test_another_host_inside_than_in_the_connect_is_a_400(rig: Rig, host: str) -> None:
    await start(rig)
    client = await rig.intercepted()
    answer = await client.ask(path("/", host=host))
    assert (answer.status, answer.reason) == (400, "bad_request")
    assert rig.secure.connections == []


async def test_a_client_that_does_not_trust_the_ca_is_told_of(rig: Rig, logs: Logs) -> None:
    await start(rig)
    client = await rig.client()
    await client.tunnel(f"{API}:{rig.secure.port}")
    with pytest.raises(ssl.SSLCertVerificationError):
        await client.start_tls(ssl.create_default_context(), API)
    await until(lambda: not rig.total("connections_open"), "the connection is closed")
    assert rig.value("connections_rejected_total", reason="handshake") == 1
    [line] = logs("request_failed")
    assert line["reason"] == "handshake"
    assert "do not trust the local CA" in line["detail"]


@pytest.mark.parametrize(
    "greeting", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"SSH-2.0-x\r\n"]
)
async def test_what_is_no_tls_inside_ends_the_connection(rig: Rig, greeting: bytes) -> None:
    await start(rig)
    client = await rig.client()
    await client.tunnel(f"{API}:{rig.secure.port}")
    await client.send(greeting)
    await client.rest()
    await until(lambda: not rig.total("connections_open"), "the connection is closed")
    assert rig.value("connections_rejected_total", reason="handshake") == 1
    assert rig.secure.connections == []


async def test_a_handshake_has_a_deadline(rig: Rig) -> None:
    await start(rig, limits={"head_timeout": "300ms"})
    client = await rig.client()
    await client.tunnel(f"{API}:{rig.secure.port}")
    await client.rest()
    await until(lambda: not rig.total("connections_open"), "the connection is closed")
    assert rig.value("connections_rejected_total", reason="handshake") == 1


async def test_a_client_that_leaves_in_the_handshake_leaves_nothing(rig: Rig) -> None:
    await start(rig)
    for leave in ("end", "reset"):
        client = await rig.client()
        await client.tunnel(f"{API}:{rig.secure.port}")
        await client.send(b"\x16\x03\x01")
        getattr(client, leave)()
        await until(lambda: not rig.total("connections_open"), "the connection is closed")


async def test_a_client_that_took_too_little_in_the_handshake_is_answered_when_it_has(rig: Rig) -> None:
    await start(rig)
    client = await rig.client()
    await client.tunnel(f"{API}:{rig.secure.port}")
    [layer] = rig.sidecar.listeners[0].holders
    assert isinstance(layer, TLSLayer)
    layer.pause_writing()  # as the socket's transport does once when its buffer is full
    await client.start_tls(rig.inside(), API)
    await client.send(inner(rig))
    await until(lambda: any(each._buffer for each in rig.connections()), "the request waits")
    assert rig.secure.requests == []
    layer.resume_writing()
    assert (await client.answer()).status == 200


async def test_other_tunnels_stay_opaque(rig: Rig) -> None:
    routes = [rig.route(intercept=True), rig.route(name="opaque", host="opaque.example.test")]
    rig.names["opaque.example.test"] = ["127.0.0.1"]
    await start(rig, routes=routes)
    client = await rig.client()
    await client.tunnel(f"opaque.example.test:{rig.secure.port}")
    origins = ssl.create_default_context(cafile=str(rig.trust.ca_file))
    await client.start_tls(origins, API)
    assert (await client.ask(inner(rig))).status == 200
    assert rig.secure.tokens == [None]
    assert rig.value("injections_total", route="opaque", credential="orders", result="bypassed_connect") == 1


async def test_large_bodies_flow_both_ways(rig: Rig) -> None:
    await start(rig)
    client = await rig.intercepted()
    body = bytes(range(256)) * (BIG // 256)

    async def echo(request: Request) -> None:
        await request.connection.send(ok(await request.connection.body(request)))

    rig.secure.reply(echo, echo)
    client.send_later(inner(rig, "/", f"Content-Length: {BIG}", method="POST") + body)
    assert (await client.answer()).body == body
    client.send_later(inner(rig, "/", "Transfer-Encoding: chunked", method="PUT") + chunked(body[: BIG // 2]))
    assert (await client.answer()).body == body[: BIG // 2]


async def test_a_client_that_does_not_read_stops_the_upstream(rig: Rig) -> None:
    await start(rig)
    client = await rig.client(receive_buffer=4096)
    await client.tunnel(f"{API}:{rig.secure.port}")
    await client.start_tls(rig.inside(), API)
    count = 64

    async def endless(request: Request) -> None:
        await request.connection.send(ok(b"x" * count * BIG))

    rig.secure.reply(endless)
    await client.send(inner(rig))
    await client.head()
    [connection] = rig.connections()
    await until(lambda: connection._write_paused, "the client's side is full")
    assert connection._transport.get_write_buffer_size() < 4 * BIG
    received = 0
    while received < count * BIG:
        received += len(await client.some())
    assert received == count * BIG
    await rig.at_rest()


async def test_a_truncated_answer_never_looks_whole_inside(rig: Rig) -> None:
    await start(rig)
    client = await rig.intercepted()

    async def truncate(request: Request) -> None:
        await request.connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        request.connection.reset()

    rig.secure.reply(truncate)
    await client.send(inner(rig))
    _, clean = await client.rest()
    assert not clean
    other = await rig.intercepted()
    assert (await other.ask(inner(rig))).status == 200


async def test_a_client_that_breaks_off_in_a_body_completes_no_request(rig: Rig) -> None:
    await start(rig)
    client = await rig.intercepted()
    arrived = asyncio.Event()

    async def read(request: Request) -> None:
        arrived.set()
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await request.connection.body(request)

    rig.secure.reply(read)
    await client.send(inner(rig, "/", "Content-Length: 10", method="POST") + b"half")
    await arrived.wait()
    client.reset()
    await rig.at_rest()
    assert rig.total("connections_open") == 0


async def test_a_refused_token_is_recovered_inside(rig: Rig) -> None:
    await start(rig)
    client = await rig.intercepted()
    assert (await client.ask(inner(rig))).status == 200
    rig.secure.reply(REFUSED_TOKEN)
    answer = await client.ask(inner(rig, "/", "Content-Length: 3", method="POST") + b"abc")
    assert (answer.status, answer.body) == (200, b"POST / 3")
    assert rig.value("upstream_unauthorized_total", route="api", outcome="recovered") == 1


async def test_without_a_token_the_answer_inside_is_a_503(rig: Rig) -> None:
    rig.idp.always(Step(status=500))
    await rig.start_cold(
        routes=[rig.route(intercept=True)], interception=rig.interception(), limits={"token_wait": "100ms"}
    )
    client = await rig.intercepted()
    answer = await client.ask(inner(rig))
    assert (answer.status, answer.reason) == (503, "token_unavailable")
    assert answer.value("Retry-After")


async def test_no_secret_is_in_what_is_told_of_a_refusal(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    await start(rig)
    client = await rig.intercepted()
    answer = await client.ask(path("/secret-path?key=hunter2", host="other.example.test"))
    assert b"hunter2" not in answer.body
    assert json.loads(answer.body)["reason"] == "bad_request"
    assert "hunter2" not in capsys.readouterr().err


async def test_what_follows_a_close_notify_is_dropped_not_hoarded(rig: Rig) -> None:
    await start(rig)
    let = asyncio.Event()

    async def late(request: Request) -> None:
        await let.wait()
        await request.connection.send(ok(b"late"))

    rig.secure.reply(late)
    client = await rig.client()
    await client.tunnel(f"{API}:{rig.secure.port}")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = rig.inside().wrap_bio(incoming, outgoing, server_hostname=API)
    await drive(client, incoming, outgoing, tls.do_handshake)
    tls.write(inner(rig))
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.unwrap()
    await client.send(outgoing.read())
    await rig.secure.next_request()
    for _ in range(64):
        await client.send(b"\x17\x03\x03\x40\x00" + bytes(BIG // 8))
    [inside] = rig.connections()
    layer = inside._transport
    assert isinstance(layer, TLSLayer)
    assert layer._incoming.pending < BIG
    let.set()
    assert (await drive(client, incoming, outgoing, lambda: tls.read(65536))).endswith(b"late")


async def drive(client: RawClient, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, step: Callable[[], Any]) -> Any:
    """Do a step of TLS over memory, with as much from the other side as it wants."""
    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            await client.send(outgoing.read())
            incoming.write(await client.reader.read(65536))
        finally:
            await client.send(outgoing.read())
