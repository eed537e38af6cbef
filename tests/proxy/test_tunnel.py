"""CONNECT: opaque tunnels, HTTP inside a tunnel to a plain port, refusals, and how the ends are passed on."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.proxy import connect as dialling
from sidecar.proxy.tunnel import Given, Tunnel
from tests.end_to_end.waiting import until
from tests.proxy.raw_client import RawClient, get, path
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.conftest import Logs
    from tests.proxy.raw_origin import Connection
    from tests.proxy.rig import Rig

MIB = 1024 * 1024
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def connect(authority: str, *fields: str) -> bytes:
    return "\r\n".join((f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *fields, "", "")).encode()


async def echo(connection: Connection) -> None:
    """Send back what comes, and end after the peer."""
    while data := await connection.reader.read(65536):
        await connection.send(data)


async def tunnel(rig: Rig, **changes: object) -> RawClient:
    """A tunnel to the plain origin, past a route over TLS."""
    await rig.start(routes=[rig.route(port=rig.plain.port)], **changes)
    client = await rig.client()
    await client.send(connect(f"{API}:{rig.plain.port}"))
    assert await client.head() == ESTABLISHED
    return client


# --- opaque -----------------------------------------------------------------------------------------------------------


async def test_a_tunnel_past_a_route_is_opaque_counted_and_logged_once_with_the_way_out(rig: Rig, logs: Logs) -> None:
    rig.plain.instead_of_http = echo
    client = await tunnel(rig)
    nonsense = bytes(range(256)) + b"GET / HTTP/1.1\r\n\r\n"
    await client.send(nonsense)
    assert await client.exactly(len(nonsense)) == nonsense
    again = await rig.client()
    await again.send(connect(f"{API}:{rig.plain.port}"))
    assert await again.head() == ESTABLISHED
    assert rig.value("injections_total", route="api", credential="orders", result="bypassed_connect") == 2
    assert rig.value("injections_total", route="api", credential="orders", result="injected") == 0
    assert rig.value("http_requests_total", route="api", method="CONNECT", code="200") == 2
    [line] = logs("injection_bypassed")
    assert (line["host"], line["route"]) == (API, "api")
    assert f"http://{API}/" in line["remedy"]


async def test_a_tls_session_through_a_tunnel_is_the_apps_own(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.send(connect(f"{API}:{rig.secure.port}"))
    assert await client.head() == ESTABLISHED
    context = ssl.create_default_context(cafile=str(rig.trust.ca_file))
    await client.writer.start_tls(context, server_hostname=API)
    answer = await client.ask(path("/inside", "Authorization: Bearer of-the-app", host=API))
    assert answer.body == b"GET /inside 0"
    assert rig.secure.tokens == ["of-the-app"]


async def test_bytes_sent_before_the_tunnel_stands_are_kept_for_it(rig: Rig) -> None:
    rig.plain.instead_of_http = echo
    await rig.start(routes=[rig.route(port=rig.plain.port)])
    client = await rig.client()
    await client.send(connect(f"{API}:{rig.plain.port}") + b"early")
    assert await client.head() == ESTABLISHED
    assert await client.exactly(5) == b"early"


async def test_bytes_sent_after_a_refused_connect_are_never_read_as_requests(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.send(connect("elsewhere.test:443") + get(f"http://{API}/smuggled"))
    answer = await client.answer()
    assert (answer.status, answer.reason) == (403, "target_unmatched")
    assert answer.value("Connection") == "close"
    assert await client.closed_cleanly()
    assert rig.secure.requests == []


async def test_a_half_close_of_the_client_is_passed_on_and_the_rest_still_comes_back(rig: Rig) -> None:
    received = asyncio.Event()

    async def answer_after_the_end(connection: Connection) -> None:
        assert await connection.read_to_the_end() == b"question"
        received.set()
        await connection.send(b"answer")

    rig.plain.instead_of_http = answer_after_the_end
    client = await tunnel(rig)
    await client.send(b"question")
    client.end()
    async with asyncio.timeout(5):
        await received.wait()
    assert await client.rest() == (b"answer", True)
    await rig.at_rest()


async def test_a_half_close_of_the_upstream_is_passed_on_and_the_client_may_go_on(rig: Rig) -> None:
    heard = asyncio.Event()

    async def say_and_listen(connection: Connection) -> None:
        await connection.send(b"bye")
        connection.writer.write_eof()
        assert await connection.read_to_the_end() == b"last words"
        heard.set()

    rig.plain.instead_of_http = say_and_listen
    client = await tunnel(rig)
    assert await client.rest() == (b"bye", True)
    await client.send(b"last words")
    client.end()
    async with asyncio.timeout(5):
        await heard.wait()
    await until(lambda: rig.value("connections_open", listener="egress") == 0, "both sides are closed")


async def test_the_client_breaking_off_ends_the_upstreams_side(rig: Rig) -> None:
    rig.plain.instead_of_http = echo
    client = await tunnel(rig)
    upstream = await rig.plain.next_connection()
    client.reset()
    async with asyncio.timeout(5):
        await upstream.ended.wait()


async def test_the_upstream_breaking_off_ends_the_clients_side(rig: Rig) -> None:
    async def break_off(connection: Connection) -> None:
        await connection.reader.readexactly(1)
        connection.reset()

    rig.plain.instead_of_http = break_off
    client = await tunnel(rig)
    await client.send(b"x")
    assert (await client.rest())[0] == b""
    await until(lambda: rig.value("connections_open", listener="egress") == 0, "it is gone")


async def test_a_tunnel_in_which_nothing_moves_ends(rig: Rig) -> None:
    rig.plain.instead_of_http = echo
    client = await tunnel(rig, limits={"tunnel_idle": "300ms"})
    await client.send(b"x")
    assert await client.exactly(1) == b"x"
    assert (await client.rest())[0] == b""


async def test_large_amounts_go_through_both_ways_at_once(rig: Rig) -> None:
    rig.plain.instead_of_http = echo
    client = await tunnel(rig)
    pattern = bytes(range(251)) * 4178

    async def send() -> None:
        for _ in range(8):
            client.writer.write(pattern)
            await client.writer.drain()
        client.end()

    sending = asyncio.ensure_future(send())
    for _ in range(8):
        assert await client.exactly(len(pattern)) == pattern
    await sending
    assert await client.closed_cleanly()


async def test_a_client_that_does_not_read_stops_the_upstream_of_its_tunnel(rig: Rig) -> None:
    async def flood(connection: Connection) -> None:
        for _ in range(64 * MIB // 65536):
            await connection.send(bytes(65536))

    rig.plain.instead_of_http = flood
    await rig.start(routes=[rig.route(port=rig.plain.port)])
    client = await rig.client(receive_buffer=32 * 1024)
    await client.send(connect(f"{API}:{rig.plain.port}"))
    upstream = await rig.plain.next_connection()
    seen: list[int] = []

    def rests() -> bool:
        seen.append(upstream.sent)
        return seen[-1] > 0 and len(seen) > 10 and seen[-10:] == [seen[-1]] * 10

    await until(rests, "the upstream stalls", every=0.03)
    assert upstream.sent < 40 * MIB  # the kernel's buffers of two connections, and little more


async def test_a_far_end_that_is_gone_before_the_tunnel_stands_ends_the_clients_side_at_once(
    rig: Rig, monkeypatch: Any
) -> None:
    async def leave(connection: Connection) -> None:
        connection.reset()

    dial = dialling.dial

    async def dial_and_lose(end: Any, *rest: Any) -> None:
        await dial(end, *rest)
        await until(lambda: not end.is_usable, "the far end is gone")

    monkeypatch.setattr(dialling, "dial", dial_and_lose)
    rig.plain.instead_of_http = leave
    await rig.start(routes=[rig.route(port=rig.plain.port)])
    client = await rig.client()
    await client.send(connect(f"{API}:{rig.plain.port}"))
    assert await client.head() == ESTABLISHED
    assert await client.closed_cleanly()
    await until(lambda: not rig.value("connections_open", listener="egress"), "it is counted out")


async def test_a_client_that_sent_much_before_its_tunnel_stood_waits_until_the_upstream_has_taken_it() -> None:
    loop = asyncio.get_running_loop()
    tunnel = Tunnel(idle_seconds=60, loop_time=loop.time)
    (near, app), (far, origin) = socket.socketpair(), socket.socketpair()
    origin.setblocking(False)
    with app, origin:
        await loop.create_connection(lambda: tunnel.upstream, sock=far)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
        transport.set_protocol(tunnel.client)
        tunnel.open(Given(transport, bytes(4 * MIB), ended=False, stalled=False), lambda _: None)
        assert not transport.is_reading()
        left = 4 * MIB
        while left:
            left -= len(await loop.sock_recv(origin, 65536))
        assert transport.is_reading()
        tunnel.abort()
        await until(lambda: not tunnel.client.is_usable, "both sides are closed")


# --- HTTP inside ------------------------------------------------------------------------------------------------------


async def test_a_connect_to_port_80_of_a_route_is_read_as_http_and_injected(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.send(connect(f"{API}:80"))
    assert await client.head() == ESTABLISHED
    for number in range(3):
        answer = await client.ask(path(f"/{number}", host=API))
        assert answer.body == b"GET /%d 0" % number
    assert all(rig.idp.is_valid(token or "") for token in rig.secure.tokens)
    assert rig.secure.requests[0].values("Host") == [f"{API}:{rig.secure.port}"]
    assert rig.value("http_requests_total", route="api", method="CONNECT", code="200") == 1
    assert rig.value("injections_total", route="api", credential="orders", result="bypassed_connect") == 0


async def test_a_connect_that_came_in_pieces_leaves_no_deadline_of_its_head_behind(rig: Rig) -> None:
    await rig.start(limits={"head_timeout": "5s", "client_idle": "60s"})
    client = await rig.client()
    request = connect(f"{API}:80")
    await client.send(request[:10])
    await until(lambda: any(each._buffer for each in rig.connections()), "a part has arrived")
    await client.send(request[10:])
    await client.head()
    [served] = rig.connections()
    assert served.deadline - rig.sidecar.gateway.loop_time() > 30


async def test_a_connect_to_a_plain_route_is_read_as_http_and_injected(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    authority = f"localhost:{rig.plain.port}"
    await client.send(connect(authority) + path("/early", host=authority))
    assert await client.head() == ESTABLISHED
    assert (await client.answer()).body == b"GET /early 0"
    assert rig.idp.is_valid(rig.plain.tokens[0] or "")


@pytest.mark.parametrize("host", ["other.test", f"{API}:443", f"{API}.evil.test", f"x@{API}"])
async def test_another_host_inside_a_tunnel_is_refused(rig: Rig, host: str) -> None:
    await rig.start()
    client = await rig.client()
    await client.send(connect(f"{API}:80"))
    await client.head()
    answer = await client.ask(path("/", host=host))
    assert (answer.status, answer.reason) == (400, "bad_request")
    assert await client.closed_cleanly()
    assert rig.secure.requests == []


async def test_a_tunnel_gets_no_token_for_a_request_that_outlives_its_listener(rig: Rig) -> None:
    await rig.start(listeners=[{"name": "egress"}, {"name": "other"}])
    client = await rig.client("other")
    await client.send(connect(f"{API}:80"))
    await client.head()
    request = path("/", host=API)
    await client.send(request[:10])
    [inside] = rig.sidecar.listeners[1].holders
    await until(lambda: inside.is_busy(0, 0), "a part has arrived")
    rig.file.write_text(rig.text(rig.configuration()))
    assert await rig.sidecar.reload(rig.file)
    await client.send(request[10:])
    assert (await client.answer()).status == 400
    assert await client.closed_cleanly()
    assert rig.secure.requests == []


async def test_a_tunnel_in_a_tunnel_is_refused(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.send(connect(f"{API}:80"))
    await client.head()
    answer = await client.ask(connect(f"{API}:80"))
    assert answer.status == 400
    assert await client.closed_cleanly()


async def test_paths_are_checked_inside_a_tunnel_too(rig: Rig) -> None:
    await rig.start(routes=[rig.route(paths=["/v1/"])])
    client = await rig.client()
    await client.send(connect(f"{API}:80"))
    await client.head()
    assert (await client.ask(path("/v2/", host=API))).reason == "route_mismatch"
    assert (await client.ask(path("/v1/", host=API))).status == 200


# --- refused ----------------------------------------------------------------------------------------------------------


async def test_tunnels_to_hosts_without_a_route_are_refused(rig: Rig) -> None:
    await rig.start()
    for authority in ("elsewhere.test:443", f"{API}:22", f"{API}.evil.test:443", f"evil{API}:80"):
        client = await rig.client()
        answer = await client.ask(connect(authority))
        assert (answer.status, answer.reason) == (403, "target_unmatched")
        assert await client.closed_cleanly()
    assert rig.value("denied_requests_total", reason="target_unmatched") == 4


async def test_unmatched_tunnels_lead_to_web_ports_only_even_where_they_are_passed_through(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.names["other.test"] = ["127.0.0.1"]
    rig.plain.instead_of_http = echo
    await rig.start(unmatched="forward")
    for port in (22, 25, rig.plain.port):
        client = await rig.client()
        answer = await client.ask(connect(f"other.test:{port}"))
        assert (answer.status, answer.reason) == (403, "tunnel_denied")
    assert rig.value("denied_requests_total", reason="tunnel_denied") == 3

    monkeypatch.setattr("sidecar.proxy.connect.TUNNEL_PORTS", frozenset((rig.plain.port,)))
    client = await rig.client()
    answer = await client.ask(connect(f"other.test:{rig.plain.port}"))
    assert (answer.status, answer.reason) == (403, "address_denied")  # loopback, and no route names it

    monkeypatch.setattr("sidecar.proxy.resolver.reason_to_refuse", lambda address, routed: None)
    client = await rig.client()
    await client.send(connect(f"other.test:{rig.plain.port}"))
    assert await client.head() == ESTABLISHED
    await client.send(b"opaque")
    assert await client.exactly(6) == b"opaque"


async def test_tunnels_to_the_sidecar_itself_and_to_metadata_addresses_are_refused(rig: Rig) -> None:
    rig.names |= {"metadata.test": ["169.254.169.254"], "self.test": ["127.0.0.1"]}
    ports = {"egress": rig.port("egress"), "telemetry": rig.port("telemetry")}
    routes = [rig.route(name=name, host="self.test", port=port) for name, port in ports.items()]
    await rig.start(routes=[*routes, rig.route(name="metadata", host="metadata.test", port=443)])
    for authority in ("metadata.test:443", *(f"self.test:{port}" for port in ports.values())):
        client = await rig.client()
        answer = await client.ask(connect(authority))
        assert (answer.status, answer.reason) == (403, "address_denied")
    assert rig.value("denied_requests_total", reason="address_denied") == 3


async def test_a_tunnel_to_an_upstream_that_is_down_is_a_502(rig: Rig) -> None:
    await rig.start()
    await rig.secure.stop()
    client = await rig.client()
    answer = await client.ask(connect(f"{API}:{rig.secure.port}"))
    assert (answer.status, answer.reason) == (502, "connect")
    assert rig.value("upstream_errors_total", route="api", reason="connect") == 1
    assert rig.value("http_requests_total", route="api", method="CONNECT", code="502") == 1
    assert rig.value("injections_total", route="api", credential="orders", result="bypassed_connect") == 0


async def test_a_connect_to_a_reverse_listener_is_a_400(rig: Rig) -> None:
    upstream = f"https://{API}:{rig.secure.port}"
    await rig.start(listeners=[{"name": "orders", "mode": "reverse", "upstream": upstream}])
    client = await rig.client("orders")
    answer = await client.ask(connect(f"{API}:{rig.secure.port}"))
    assert (answer.status, answer.reason) == (400, "bad_request")
    assert await client.closed_cleanly()


async def test_a_client_that_leaves_while_a_tunnel_is_dialled_leaves_nothing_behind(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.plain.instead_of_http = echo
    await rig.start(routes=[rig.route(port=rig.plain.port)])
    dialling, go_on = asyncio.Event(), asyncio.Event()
    pool = rig.sidecar.gateway.pool
    open_socket = pool._open_socket

    async def held(*args: object) -> object:
        dialling.set()
        await go_on.wait()
        return await open_socket(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(pool, "_open_socket", held)
    client = await rig.client()
    await client.send(connect(f"{API}:{rig.plain.port}"))
    async with asyncio.timeout(5):
        await dialling.wait()
    client.reset()
    go_on.set()
    await rig.at_rest()
    await until(lambda: rig.value("connections_open", listener="egress") == 0, "the client's side is gone")
    upstream = await rig.plain.next_connection()
    async with asyncio.timeout(5):
        await upstream.ended.wait()
