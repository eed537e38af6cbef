"""What a WebSocket costs that does nothing: two connections and the tunnel between them, for hours.

Opened by a handshake with a token, one message each way, then silence. Afterwards a message goes through each, so that
what was measured was alive. The sidecar is blind to frames, so the messages are just bytes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks import measure
from benchmarks.report import Target
from benchmarks.scenarios import Upstream
from benchmarks.soaks.report import Outcome
from benchmarks.soaks.stage import SoakFailed, open_stage, transport_name

if TYPE_CHECKING:
    from benchmarks.soaks.origin import Exchange
    from benchmarks.soaks.stage import Stage

NAME: Final = "idle_websockets"
LIMITS: Final = {"upstream_connections": 2_000, "connections": 2_000}
HANDSHAKE: Final = (
    b"GET /socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MESSAGE: Final = b"still there?"
WARM_UP: Final = 20
KIB_EACH: Final = {Upstream.PLAIN: 12.0, Upstream.TLS: 32.0}
"""A TLS connection has buffers and keys of its own in OpenSSL."""
SETTLE_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 10.0


class Echo:
    """Switches protocols and sends back what comes."""

    def begins(self, exchange: Exchange) -> None:
        """Nothing to do before its end."""

    def continues(self, exchange: Exchange, data: bytes) -> None:
        exchange.connection.write(data)

    def ends(self, exchange: Exchange) -> None:
        exchange.switch()


class Socket:
    """The app's end of one WebSocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int) -> Socket:
        """Open one.

        Raises:
            SoakFailed: the answer is another than 101.
        """
        socket = cls(*await asyncio.open_connection("127.0.0.1", port))
        socket._writer.write(HANDSHAKE)
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await socket._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise SoakFailed(f"a WebSocket was not opened: {head[:100]!r}")
        return socket

    async def echo(self) -> None:
        """Send a message and wait for it to come back.

        Raises:
            IncompleteReadError, TimeoutError: it did not.
        """
        self._writer.write(MESSAGE)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._reader.readexactly(len(MESSAGE))

    def close(self) -> None:
        self._writer.close()


async def several(port: int, count: int) -> list[Socket]:
    """Open them one after the other, with a message each.

    Raises:
        SoakFailed: one of them is dead.
    """
    sockets = []
    for _ in range(count):
        sockets.append(await Socket.to(port))
        await sockets[-1].echo()
    return sockets


@dataclass(frozen=True, slots=True)
class Cost:
    """MiB of RSS with some and with all of them, after they were closed, and how many lie between some and all."""

    count: int
    some: float
    loaded: float
    after: float

    @property
    def kib_each(self) -> float:
        return (self.loaded - self.some) * 1024 / self.count


async def cost(stage: Stage, upstream: Upstream, count: int) -> Cost:
    """Open a few, which make what is made once, then the others; look before and after these."""
    async with stage.sidecar(limits=LIMITS) as subject:
        stage.origins[upstream].serve("socket", Echo())
        port, pid = subject.ports[upstream], subject.running.pid
        sockets = await several(port, WARM_UP)
        some = measure.memory(pid).rss
        sockets += await several(port, count)
        await asyncio.sleep(SETTLE_SECONDS)
        loaded = measure.memory(pid).rss
        for socket in sockets:
            await socket.echo()
            socket.close()
        await asyncio.sleep(SETTLE_SECONDS)
        return Cost(count, some, loaded, measure.memory(pid).rss)


async def soak(quick: bool) -> Outcome:
    """Over both upstreams."""
    async with open_stage(quick=quick) as stage:
        costs = {upstream: await cost(stage, upstream, 50 if quick else 500) for upstream in Upstream}
    return outcome(costs)


def outcome(costs: dict[Upstream, Cost]) -> Outcome:
    """The targets."""
    targets, facts = [], []
    for upstream, each in costs.items():
        what = f"{each.count:,} WebSockets, {transport_name(upstream)}"
        targets.append(Target(f"RSS, {what}", "KiB each", KIB_EACH[upstream], each.kib_each))
        facts.append(
            f"{what}: {each.some:.1f} MiB before, {each.loaded:.1f} MiB with them, {each.after:.1f} MiB after them."
        )
    return Outcome(NAME, tuple(targets), tuple(facts))
