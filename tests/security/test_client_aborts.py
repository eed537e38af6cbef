"""A client leaves, by FIN or by RST, in every state there is, by each way in: no task, no socket, no error is left.

The states are those of the client's connection and of its request. Each is reached for certain before the client goes;
``tests/proxy/test_aborts.py`` lets everybody go at random moments instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.simulation.idp import Step
from tests.end_to_end.waiting import until
from tests.proxy.raw_origin import Connection, Origin, Request
from tests.proxy.rig import API
from tests.security.ways import WAYS, Forward, Intercepted, Site, Way

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.proxy.conftest import Logs
    from tests.proxy.raw_client import RawClient
    from tests.proxy.rig import Rig

MANY: Final = 8 * 1024 * 1024
"""More than all buffers between an upstream and a client hold."""
LIMITS: Final = dict.fromkeys(
    (
        *("head_timeout", "body_idle", "connect", "first_byte", "response_idle", "client_idle", "upstream_idle"),
        *("tunnel_idle", "token_wait"),
    ),
    "500ms",
)
"""A client that has ended its half may still wait for an answer, so some states end by their limit."""


@dataclass(slots=True)
class Scene:
    """What a state is made of."""

    site: Site
    way: Way
    origin: Origin
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the test is over, for whoever waits till then."""

    @property
    def rig(self) -> Rig:
        return self.site.rig

    async def ask(self, *fields: str, body: bytes = b"", method: str = "GET") -> RawClient:
        """A client that has sent a request."""
        client = await self.way.open(self.site)
        await client.send(self.way.request(self.site, "/x", *fields, method=method) + body)
        return client

    async def busy(self) -> None:
        """Wait until the sidecar has something of a request in hand."""
        listener = self.rig.sidecar.listeners[0]
        await until(lambda: any(each.is_busy(0.0, 0.0) for each in listener.holders), "it works on something")

    async def dialling(self) -> None:
        """Wait until a connection to the upstream is being made."""
        await until(lambda: "connect" in self.rig.busy_tasks(), "it dials")


# --- the states -------------------------------------------------------------------------------------------------------


async def connected(scene: Scene) -> RawClient:
    return await scene.way.open(scene.site)


async def half_a_head(scene: Scene) -> RawClient:
    client = await scene.way.open(scene.site)
    await client.send(scene.way.request(scene.site, "/x")[:-6])
    await scene.busy()
    return client


async def half_a_body(scene: Scene) -> RawClient:
    scene.origin.reply(body_till_the_end)
    client = await scene.ask("Content-Length: 10", body=b"hello", method="POST")
    await scene.origin.next_request()
    return client


async def half_a_chunk(scene: Scene) -> RawClient:
    scene.origin.reply(body_till_the_end)
    client = await scene.ask("Transfer-Encoding: chunked", body=b"a\r\nhello", method="POST")
    await scene.origin.next_request()
    return client


async def body_till_the_end(request: Request) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await request.connection.body(request)
    await request.connection.read_to_the_end()


async def waiting_for_a_token(scene: Scene) -> RawClient:
    client = await scene.ask()
    await until(lambda: "wait for a token" in scene.rig.busy_tasks(), "it waits for a token")
    return client


async def connecting(scene: Scene) -> RawClient:
    client = await scene.ask()
    await scene.dialling()
    return client


async def in_the_handshake_upstream(scene: Scene) -> RawClient:
    scene.origin.instead_of_http = silent
    client = await scene.ask()
    await scene.dialling()
    await scene.origin.next_connection()
    return client


async def silent(connection: Connection) -> None:
    await connection.read_to_the_end()


async def waiting_for_the_answer(scene: Scene) -> RawClient:
    scene.origin.reply(body_till_the_end)
    client = await scene.ask()
    await scene.origin.next_request()
    return client


async def waiting_on_a_kept_connection(scene: Scene) -> RawClient:
    client = await scene.ask()
    assert (await client.answer()).status == 200
    await scene.origin.next_request()
    scene.origin.reply(body_till_the_end)
    await client.send(scene.way.request(scene.site, "/x"))
    await scene.origin.next_request()
    return client


async def with_requests_behind_it(scene: Scene) -> RawClient:
    scene.origin.reply(body_till_the_end)
    client = await scene.ask(body=scene.way.request(scene.site, "/y") * 3 + b"GET /half")
    await scene.origin.next_request()
    return client


async def in_the_answer(scene: Scene) -> RawClient:
    async def half(request: Request) -> None:
        await request.connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await request.connection.read_to_the_end()

    scene.origin.reply(half)
    client = await scene.ask()
    await client.head()
    assert await client.exactly(5) == b"hello"
    return client


async def in_an_answer_it_does_not_read(scene: Scene) -> RawClient:
    async def flood(request: Request) -> None:
        connection = request.connection
        connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MANY + bytes(MANY))
        await connection.read_to_the_end()

    scene.origin.reply(flood)
    client = await scene.ask()
    await client.head()
    return client


async def waiting_for_a_newer_token(scene: Scene) -> RawClient:
    async def refuse(request: Request) -> None:
        bearer = 'WWW-Authenticate: Bearer error="invalid_token"'
        await request.connection.send(f"HTTP/1.1 401 No\r\n{bearer}\r\nContent-Length: 0\r\n\r\n".encode())

    client = await scene.ask()
    assert (await client.answer()).status == 200  # a token that was never taken is not worth a renewal
    scene.origin.reply(refuse)
    scene.rig.idp.script(Step(hold=scene.hold))
    await client.send(scene.way.request(scene.site, "/x"))
    await until(lambda: "recover from 401" in scene.rig.busy_tasks(), "it asks for a newer token")
    return client


async def lingering(scene: Scene) -> RawClient:
    client = await scene.way.open(scene.site)
    await client.send(b"GET\r\n\r\n")
    assert (await client.answer()).status == 400
    return client


async def in_a_switched_protocol(scene: Scene) -> RawClient:
    async def switch(request: Request) -> None:
        await request.connection.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst"
        )
        await request.connection.read_to_the_end()

    scene.origin.reply(switch)
    client = await scene.ask("Connection: Upgrade", "Upgrade: websocket")
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert await client.exactly(5) == b"first"
    await client.send(b"second")
    return client


async def in_a_tunnel(scene: Scene) -> RawClient:
    scene.origin.instead_of_http = echo
    client = await _tunnel(scene)
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    await client.send(b"ping")
    assert await client.exactly(4) == b"ping"
    return client


async def echo(connection: Connection) -> None:
    with contextlib.suppress(OSError):
        while data := await connection.reader.read(65536):
            await connection.send(data)


async def opening_a_tunnel(scene: Scene) -> RawClient:
    client = await _tunnel(scene)
    await until(lambda: "open a tunnel" in scene.rig.busy_tasks(), "it dials")
    return client


async def _tunnel(scene: Scene) -> RawClient:
    client = await scene.rig.client()
    authority = f"{API}:{scene.site.port}"
    await client.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    return client


async def in_its_own_handshake(scene: Scene) -> RawClient:
    client = await _tunnel(scene)
    await client.head()
    await client.send(b"\x16\x03\x01\x02\x00\x01\x00")
    return client


# --- the matrix -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """Where a client leaves.

    Attributes:
        cold: the provider gives no token.
        full: the upstream takes no more connections.
        opaque: the upstream speaks no TLS that the sidecar could know of.
    """

    reach: Callable[[Scene], Awaitable[RawClient]]
    ways: tuple[Way, ...] = WAYS
    cold: bool = False
    full: bool = False
    opaque: bool = False

    @property
    def name(self) -> str:
        return getattr(self.reach, "__name__", "").replace("_", " ")


_FORWARD = (Forward(),)
STATES: Final = (
    State(connected),
    State(half_a_head),
    State(half_a_body),
    State(half_a_chunk),
    State(waiting_for_a_token, cold=True),
    State(connecting, full=True),
    State(in_the_handshake_upstream, opaque=True),
    State(waiting_for_the_answer),
    State(waiting_on_a_kept_connection),
    State(with_requests_behind_it),
    State(in_the_answer),
    State(in_an_answer_it_does_not_read),
    State(waiting_for_a_newer_token),
    State(lingering),
    State(in_a_switched_protocol),
    State(in_a_tunnel, _FORWARD, opaque=True),
    State(opening_a_tunnel, _FORWARD, full=True),
    State(in_its_own_handshake, (Intercepted(),)),
)
CASES: Final = [
    pytest.param(state, way, leaves, id=f"{state.name} - {way.name} - {leaves}")
    for state in STATES
    for way in state.ways
    for leaves in ("FIN", "RST")
]


@pytest.mark.parametrize(("state", "way", "leaves"), CASES)
async def test_whoever_leaves_in_whatever_state_leaves_nothing_behind(
    rig: Rig, logs: Logs, state: State, way: Way, leaves: str
) -> None:
    async with Origin(None if state.opaque else rig.trust.server(API)) as origin, full_port(state.full) as full:
        scene = Scene(Site(rig, full or origin.port, tls=True, limits=LIMITS, cold=state.cold), way, origin)
        if state.cold:
            rig.idp.script(Step(hold=scene.hold))
        await way.start(scene.site)
        before = sockets()
        client = await state.reach(scene)
        if leaves == "RST":
            client.reset()
        await client.close()
        await nothing_is_left(scene, before)
        if state.cold:
            await rig.has_tokens()
        if not (state.full or state.opaque):
            await next_is_served(scene)
    assert [logs(event) for event in ("request_crashed", "task_crashed", "loop_error")] == [[], [], []]


async def nothing_is_left(scene: Scene, before: int) -> None:
    """No request, no task, no connection on either side, and no socket that was not there before."""
    rig, gateway = scene.rig, scene.rig.sidecar.gateway
    listener = rig.sidecar.listeners[0]
    await rig.at_rest()
    await until(lambda: not listener.holders, "no client is left")
    await until(lambda: not gateway.pool._all, "no upstream connection is left")
    await until(lambda: all(each.ended.is_set() for each in scene.origin.connections), "the upstream has seen the end")
    scene.hold.set()
    await until(lambda: sockets() <= before, "no socket is left")
    assert gateway.open_connections == 0


async def next_is_served(scene: Scene) -> None:
    """With the default limits: the short ones were for those who left."""
    scene.site.unhurried()
    client = await scene.way.ask(scene.site, "/next")
    answer = await client.answer()
    assert (answer.status, answer.body) == (200, b"GET /next 0")


def sockets() -> int:
    """The open sockets of this process."""
    count = 0
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since
            count += str(each.readlink()).startswith("socket:")
    return count


@contextlib.asynccontextmanager
async def full_port(wanted: bool) -> AsyncIterator[int]:
    """A port that takes no further connection: its queue is full, and nobody accepts. 0 if it is not wanted."""
    if not wanted:
        yield 0
        return
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, contextlib.ExitStack() as stack:
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
