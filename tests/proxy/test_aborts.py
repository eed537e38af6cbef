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
from tests.proxy.raw_client import RawClient, chunked, get, post
from tests.proxy.raw_origin import REFUSED_TOKEN, Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.conftest import Logs
    from tests.proxy.rig import Rig

URL = f"http://{API}"
CLIENTS = 120


class Weather:
    """What goes wrong, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    async def origin(self, request: Request) -> None:
        """Answer, or fail in one of the ways there are."""
        connection = request.connection
        large = bytes(self.chance.choice((0, 10, 100_000, 2_000_000)))
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

    def bytes_of_a_client(self, rig: Rig) -> bytes:
        """Some requests, whole or cut off anywhere."""
        body = bytes(self.chance.choice((1, 1000, 200_000)))
        requests = [
            get(f"{URL}/"),
            get(f"{URL}/", method="HEAD"),
            post(f"{URL}/", body),
            post(f"{URL}/", body, "Expect: 100-continue"),
            get(f"{URL}/", "Transfer-Encoding: chunked", method="PUT") + chunked(body, b"end"),
            get("http://elsewhere.test/"),
            b"nonsense\r\n\r\n",
            f"GET {URL}/ HTTP/1.0\r\n\r\n".encode(),
            f"CONNECT {API}:{rig.secure.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + bytes(100),
            f"CONNECT {API}:80 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: {API}\r\n\r\n".encode(),
        ]
        data = b"".join(self.chance.choices(requests, k=self.chance.randint(1, 3)))
        return data[: self.chance.randint(1, len(data))] if self.chance.random() < 0.5 else data

    async def client(self, rig: Rig) -> None:
        """Send something, read something, leave in some way."""
        async with await RawClient.to(rig.port("egress")) as client:
            client.send_later(self.bytes_of_a_client(rig))
            with contextlib.suppress(OSError, TimeoutError):
                match self.chance.randrange(5):
                    case 0:
                        pass
                    case 1:
                        await client.some(1)
                    case 2:
                        client.end()
                        await client.some(1)
                    case 3:
                        for _ in range(self.chance.randint(1, 20)):
                            await asyncio.sleep(0)  # a few turns of the loop, to break off in the middle of something
                    case _:
                        async with asyncio.timeout(0.05):
                            await client.rest()
            if self.chance.random() < 0.6:
                client.reset()


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_breaks_off_wherever_nothing_is_left_behind(rig: Rig, logs: Logs, seed: int) -> None:
    weather = Weather(seed)
    limits = {"first_byte": "300ms", "body_idle": "300ms", "response_idle": "300ms", "client_idle": "300ms"}
    await rig.start(limits=limits | {"tunnel_idle": "300ms", "upstream_idle": "300ms", "head_timeout": "300ms"})
    rig.secure.always = weather.origin
    async with asyncio.timeout(60):
        for _ in range(CLIENTS // 10):
            await asyncio.gather(*(weather.client(rig) for _ in range(10)))
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
        now.table, Limits(), forwards_unmatched=False, unmatched_meters=now.unmatched_meters
    )
    client = await rig.client()
    assert (await client.ask(get(f"{URL}/sentinel"))).body == b"GET /sentinel 0"
    assert [logs(event) for event in ("request_crashed", "task_crashed", "loop_error")] == [[], [], []]
