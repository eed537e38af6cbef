"""TLS to upstreams: verified always, whole both ways, and the end of a stream told from its truncation."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import struct
from typing import TYPE_CHECKING

import pytest

from sidecar.errors import UpstreamReset, UpstreamTLS
from sidecar.proxy.tls import Contexts, TLSTransport, client_context, handshake
from tests.end_to_end.waiting import until
from tests.proxy.raw_client import get
from tests.proxy.raw_origin import Connection, Origin
from tests.proxy.rig import API, Rig, Trust

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

MIB = 1024 * 1024
NOW = datetime.datetime.now(datetime.UTC)


# --- verification, through the sidecar --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["another name", "expired", "not yet valid", "an unknown CA", "no TLS at all"])
async def test_an_upstream_that_does_not_verify_gets_no_request(rig: Rig, case: str, tmp_path: Path) -> None:
    contexts: dict[str, Callable[[], ssl.SSLContext | None]] = {
        "another name": lambda: rig.trust.server("other.test"),
        "expired": lambda: rig.trust.server(API, not_after=NOW - datetime.timedelta(hours=1)),
        "not yet valid": lambda: rig.trust.server(API, not_before=NOW + datetime.timedelta(days=1)),
        "an unknown CA": lambda: Trust.found(tmp_path, "stranger").server(API),
        "no TLS at all": lambda: None,
    }
    context = contexts[case]()
    async with Origin(context) as origin:
        if context is None:
            origin.instead_of_http = refuse_what_is_no_http
        await rig.start(routes=[rig.route(port=origin.port)])
        client = await rig.client()
        answer = await client.ask(get(f"http://{API}/"))
        assert (answer.status, answer.reason) == (502, "tls")
        assert "tls_protocol_error" in (answer.value("Proxy-Status") or "")
        assert origin.requests == []
        assert rig.value("upstream_errors_total", route="api", reason="tls") == 1
        assert rig.value("http_requests_total", route="api", method="GET", code="502") == 1


async def refuse_what_is_no_http(connection: Connection) -> None:
    """What a plain web server makes of a TLS hello."""
    await connection.reader.readexactly(10)
    await connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await connection.read_to_the_end()


async def test_old_tls_is_not_spoken(rig: Rig) -> None:
    context = rig.trust.server(API)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with Origin(context) as origin:
        await rig.start(routes=[rig.route(port=origin.port)])
        client = await rig.client()
        assert (await client.ask(get(f"http://{API}/"))).status == 502
        assert origin.requests == []


async def test_the_system_does_not_trust_the_test_ca(rig: Rig) -> None:
    route = rig.route()
    del route["ca_file"]
    await rig.start(routes=[route])
    client = await rig.client()
    assert (await client.ask(get(f"http://{API}/"))).reason == "tls"


async def test_sni_is_the_host_of_the_route(rig: Rig) -> None:
    context = rig.trust.server(API)
    asked: list[str | None] = []
    context.sni_callback = lambda _sock, name, _context: asked.append(name)
    async with Origin(context) as origin:
        await rig.start(routes=[rig.route(port=origin.port)])
        client = await rig.client()
        assert (await client.ask(get(f"http://{API.upper()}./"))).status == 200
        assert asked == [API]


async def test_a_ca_bundle_that_changes_is_read_again_with_the_next_connection(rig: Rig, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    stranger = Trust.found(tmp_path, "stranger")
    bundle.write_bytes(stranger.ca_file.read_bytes())
    await rig.start(routes=[rig.route(ca_file=str(bundle))])
    client = await rig.client()
    assert (await client.ask(get(f"http://{API}/"))).reason == "tls"
    bundle.write_bytes(rig.trust.ca_file.read_bytes() + b"\n")
    assert (await client.ask(get(f"http://{API}/"))).status == 200
    bundle.unlink()  # a mount that is swapped is gone for a moment: what was read before goes on
    fresh = await rig.client()
    assert (await fresh.ask(get(f"http://{API}/", "Connection: close"))).status == 200


async def test_a_ca_bundle_that_is_gone_before_the_first_connection_is_a_502_and_opens_none(
    rig: Rig, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(rig.trust.ca_file.read_bytes())
    await rig.start(routes=[rig.route(ca_file=str(bundle))])
    bundle.unlink()
    client = await rig.client()
    assert (await client.ask(get(f"http://{API}/"))).reason == "tls"
    assert rig.secure.connections == []
    bundle.write_bytes(rig.trust.ca_file.read_bytes())
    assert (await client.ask(get(f"http://{API}/"))).status == 200


async def test_an_upstream_that_hangs_in_the_handshake_is_a_504(rig: Rig) -> None:
    async def hang(connection: Connection) -> None:
        await connection.read_to_the_end()

    rig.plain.instead_of_http = hang
    await rig.start(routes=[rig.route(port=rig.plain.port)], limits={"connect": "300ms"})
    client = await rig.client()
    answer = await client.ask(get(f"http://{API}/"))
    assert (answer.status, answer.reason) == (504, "timeout")
    connection = await rig.plain.next_connection()
    async with asyncio.timeout(5):
        await connection.ended.wait()


# --- contexts and the handshake ---------------------------------------------------------------------------------------


def test_a_context_is_built_once_a_bundle(trust: Trust) -> None:
    contexts = Contexts()
    one = contexts.get(str(trust.ca_file))
    assert contexts.get(str(trust.ca_file)) is one
    assert contexts.get(None) is not one
    assert one.verify_mode is ssl.CERT_REQUIRED
    assert one.check_hostname
    assert one.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_bundle_that_cannot_be_read_is_an_error_of_the_route(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("absent.pem", "empty.pem"):
        with pytest.raises(UpstreamTLS):
            Contexts().get(str(tmp_path / name))


async def test_a_peer_that_goes_away_in_the_handshake_is_a_reset(trust: Trust) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.close()
    with pytest.raises(UpstreamReset):
        await handshake(ours, client_context(str(trust.ca_file)), API)
    assert ours.fileno() == -1


# --- the transport ----------------------------------------------------------------------------------------------------


class Recorder(asyncio.Protocol):
    """Remembers all that a transport tells it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.events: list[str] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.events.append("eof")
        return False

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)


class Pair:
    """A transport and the peer it talks to."""

    def __init__(self, transport: TLSTransport, protocol: Recorder, peer: Connection) -> None:
        self.transport = transport
        self.protocol = protocol
        self.peer = peer

    async def lost(self) -> Exception | None:
        async with asyncio.timeout(5):
            return await self.protocol.lost


@pytest.fixture
async def pair(trust: Trust) -> AsyncIterator[Pair]:
    hold = asyncio.Event()

    async def idle(connection: Connection) -> None:
        await hold.wait()

    async with Origin(trust.server(API)) as origin:
        origin.instead_of_http = idle
        sock = socket.create_connection(("127.0.0.1", origin.port))
        sock.setblocking(False)
        tls = await handshake(sock, client_context(str(trust.ca_file)), API)
        protocol = Recorder()
        transport = TLSTransport(tls, protocol)
        yield Pair(transport, protocol, await origin.next_connection())
        transport.abort()
        await asyncio.sleep(0)
        hold.set()


async def test_a_close_notify_is_an_end(pair: Pair) -> None:
    await pair.peer.send(b"all")
    pair.peer.close()
    assert await pair.lost() is None
    assert (bytes(pair.protocol.received), pair.protocol.events) == (b"all", ["made", "eof", "lost"])


@pytest.mark.parametrize("ending", ["cut", "reset"])
async def test_an_end_without_close_notify_is_an_error(pair: Pair, ending: str) -> None:
    await pair.peer.send(b"part")
    await until(lambda: bool(pair.protocol.received), "it arrives")
    getattr(pair.peer, ending)()
    assert isinstance(await pair.lost(), OSError)
    assert "eof" not in pair.protocol.events


async def test_closing_sends_what_is_buffered_and_says_goodbye(pair: Pair) -> None:
    pair.transport.write(bytes(4 * MIB))
    pair.transport.close()
    pair.transport.write(b"too late")
    async with asyncio.timeout(5):
        assert len(await pair.peer.reader.read()) == 4 * MIB
    assert await pair.lost() is None


async def test_aborting_sends_no_more(pair: Pair) -> None:
    pair.transport.write(bytes(4 * MIB))
    pair.transport.abort()
    assert await pair.lost() is None
    assert len(await pair.peer.read_to_the_end()) < 4 * MIB


async def test_writing_pauses_at_its_limit_and_resumes_when_the_peer_reads(pair: Pair) -> None:
    pair.transport.set_write_buffer_limits(high=100_000)
    pair.transport.write(bytes(16 * MIB))
    assert pair.protocol.events == ["made", "pause"]
    assert pair.transport.get_write_buffer_size() > 100_000
    async with asyncio.timeout(10):
        assert len(await pair.peer.reader.readexactly(16 * MIB)) == 16 * MIB
    await until(lambda: pair.protocol.events[-1] == "resume", "the writer may go on")
    assert pair.transport.get_write_buffer_size() == 0


async def test_reading_pauses_and_loses_nothing_that_openssl_holds(pair: Pair) -> None:
    pair.transport.pause_reading()
    pair.peer.writer.write(b"x" * 100_000)
    for _ in range(5):
        pair.transport.resume_reading()
        pair.transport.pause_reading()
    assert not pair.transport.is_reading()
    pair.transport.resume_reading()
    await until(lambda: len(pair.protocol.received) == 100_000, "all of it arrives")


async def test_both_directions_move_at_once(pair: Pair) -> None:
    pattern = bytes(range(251)) * 4178

    async def send_back() -> None:
        for _ in range(16):
            await pair.peer.send(await pair.peer.reader.readexactly(len(pattern)))

    sending_back = asyncio.ensure_future(send_back())
    for _ in range(16):
        pair.transport.write(pattern)
    await until(lambda: len(pair.protocol.received) == 16 * len(pattern), "all of it comes back", seconds=20)
    await sending_back
    assert pair.protocol.received == pattern * 16


async def test_a_peer_that_is_gone_before_tls_begins_is_a_reset_and_leaves_no_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        theirs.close()
        with pytest.raises((UpstreamReset, UpstreamTLS)):
            await handshake(ours, client_context(None), "api.test")
        assert ours.fileno() == -1
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        client = socket.create_connection(listener.getsockname())
        client.setblocking(False)
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        with pytest.raises(UpstreamReset):
            await handshake(client, client_context(None), "api.test")
        assert client.fileno() == -1
