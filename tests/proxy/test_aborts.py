"""Clients, upstreams and the provider break off at random moments; whatever they do, nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from sidecar.config.model import Limits
from sidecar.proxy.gateway import Generation
from tests.end_to_end.waiting import until
from tests.proxy.raw_client import RawClient, chunked, get, path
from tests.proxy.raw_origin import REFUSED_TOKEN, Connection, Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.conftest import Logs
    from tests.proxy.rig import Rig

URL = f"http://{API}"
CLIENTS = 120


class Weather:
    """What goes wrong, drawn from a seed; ``inside`` an intercepted tunnel, or outside of any."""

    def __init__(self, rig: Rig, seed: int, *, inside: bool) -> None:
        self.chance = random.Random(seed)
        self._rig = rig
        self._inside = inside
        self._authority = f"{API}:{rig.secure.port}"

    async def origin(self, request: Request) -> None:
        """Answer, or fail in one of the ways there are."""
        connection = request.connection
        large = bytes(self.chance.choice((0, 10, 100_000, 2_000_000)))
        if request.values("Upgrade") and self.chance.random() < 0.7:
            await self._switch(connection, large)
            return
        match self.chance.randrange(12):
            case 0:
                connection.reset()
            case 1:
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf")
                connection.cut()
            case 2:
                await connection.send(b"HTTP/1.1 200 OK\r\n\r\n" + large)
                connection.close()
            case 3:
                await connection.send(b"nonsense\r\n\r\n")
            case 4:
                await connection.send(ok(large, status="413 Content Too Large"))
                await connection.read_to_the_end()
            case 5:
                await connection.send(REFUSED_TOKEN)
            case 6:
                await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                await connection.body(request)
                await connection.send(ok(large))
            case 7:
                await connection.read_to_the_end()
            case _:
                await connection.body(request)
                await connection.send(ok(large))

    async def _switch(self, connection: Connection, data: bytes) -> None:
        """Go over to the other protocol, and end it as peers do, or not."""
        upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        await connection.send(b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade + b"\r\n" + data)
        match self.chance.randrange(4):
            case 0:
                connection.reset()
            case 1:
                connection.cut()
            case 2:
                connection.close()
            case _:
                await connection.read_to_the_end()

    def _requests(self) -> list[bytes]:
        body = bytes(self.chance.choice((1, 1000, 200_000)))
        length = f"Content-Length: {len(body)}"
        return [
            self._request(),
            self._request(method="HEAD"),
            self._request(length, method="POST") + body,
            self._request(length, "Expect: 100-continue", method="POST") + body,
            self._request("Transfer-Encoding: chunked", method="PUT") + chunked(body, b"end"),
            self._request("Connection: Upgrade", "Upgrade: websocket") + bytes(100),
            get("http://elsewhere.test/"),
            b"nonsense\r\n\r\n",
            self._request().replace(b"HTTP/1.1", b"HTTP/1.0"),
            f"CONNECT {self._authority} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + bytes(100),
            f"CONNECT {API}:80 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: {API}\r\n\r\n".encode(),
        ]

    def _request(self, *fields: str, method: str = "GET") -> bytes:
        if self._inside:
            return path("/", *fields, host=self._authority, method=method)
        return get(f"{URL}/", *fields, method=method)

    def bytes_of_a_client(self) -> bytes:
        """Some requests, whole or cut off anywhere."""
        requests = self._requests()
        data = b"".join(self.chance.choices(requests, k=self.chance.randint(1, 3)))
        return data[: self.chance.randint(1, len(data))] if self.chance.random() < 0.5 else data

    async def client(self) -> None:
        """Send something, read something, leave in some way."""
        async with await RawClient.to(self._rig.port("egress")) as client:
            if self._inside:
                await client.tunnel(self._authority)
                if self.chance.random() < 0.9:  # the others send what is no TLS
                    await client.start_tls(self._rig.inside(), API)
            client.send_later(self.bytes_of_a_client())
            with contextlib.suppress(OSError, TimeoutError):
                match self.chance.randrange(5):
                    case 0:
                        pass
                    case 1:
                        await client.some(1)
                    case 2:
                        if client.writer.can_write_eof():  # TLS has no half-close here
                            client.end()
                        await client.some(1)
                    case 3:
                        for _ in range(self.chance.randint(1, 20)):
                            await asyncio.sleep(0)  # a few turns of the loop, to break off in the middle of something
                    case _:
                        async with asyncio.timeout(0.05):
                            await client.rest()
            await self._leave(client)

    async def _leave(self, client: RawClient) -> None:
        if self.chance.random() < 0.6:
            client.reset()
            return
        client.writer.close()
        closed = asyncio.ensure_future(client.writer.wait_closed())
        await asyncio.wait((closed,), timeout=0.3)
        client.writer.transport.abort()  # TLS waits for the peer's goodbye, which stands behind what nobody reads
        await asyncio.gather(closed, return_exceptions=True)


@pytest.mark.parametrize(("seed", "inside"), [(0, False), (1, False), (2, False), (3, True), (4, True)])
async def test_whoever_breaks_off_wherever_nothing_is_left_behind(
    rig: Rig, logs: Logs, seed: int, inside: bool
) -> None:
    weather = Weather(rig, seed, inside=inside)
    interception = {"routes": [rig.route(intercept=True)], "interception": rig.interception()} if inside else {}
    limits = {"first_byte": "300ms", "body_idle": "300ms", "response_idle": "300ms", "client_idle": "300ms"}
    limits |= {"tunnel_idle": "300ms", "upstream_idle": "300ms", "head_timeout": "300ms"}
    await rig.start(limits=limits, **interception)
    rig.secure.always = weather.origin
    async with asyncio.timeout(60):
        for _ in range(CLIENTS // 10):
            await asyncio.gather(*(weather.client() for _ in range(10)))
    rig.secure.always = None
    await rig.at_rest()
    pool = rig.sidecar.gateway.pool
    await until(lambda: rig.value("connections_open", listener="egress") == 0, "no client is left")
    await until(lambda: not pool._all, "no upstream connection is left")
    await until(lambda: all(each.ended.is_set() for each in rig.secure.connections), "no socket is left")
    assert rig.sidecar.gateway.open_connections == 0
    gateway = rig.sidecar.gateway
    now = gateway.generation  # the sentinel is not to be hurried by the short limits of the storm
    gateway.generation = Generation(
        now.table, Limits(), forwards_unmatched=False, unmatched_meters=now.unmatched_meters, local_ca=now.local_ca
    )
    client = await rig.client()
    assert (await client.ask(get(f"{URL}/sentinel"))).body == b"GET /sentinel 0"
    assert [logs(event) for event in ("request_crashed", "task_crashed", "loop_error")] == [[], [], []]
