"""A peer that stops in the middle of a very large body: memory stays, others feel nothing, and the body is whole.

An upload to an origin that stops reading, and a download to a client that stops reading, for several seconds (less than
``limits.body_idle``), then to their end. Back-pressure has to reach the sender: what it does not stop is memory.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.report import Target
from benchmarks.scenarios import Upstream
from benchmarks.soaks import content
from benchmarks.soaks.client import Ask, Connection
from benchmarks.soaks.content import MIB
from benchmarks.soaks.probe import probing
from benchmarks.soaks.report import Outcome
from benchmarks.soaks.stage import open_stage, transport_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.soaks.origin import Exchange
    from benchmarks.soaks.probe import Felt, Probe
    from benchmarks.soaks.stage import Subject

NAME: Final = "stalled"
STALL_AFTER: Final = 4 * MIB
"""Taken before the stall, so that it hits a transfer that runs."""
SETTLE_SECONDS: Final = 1.0
"""After this long everything that has room anywhere is full."""
SAMPLE_SECONDS: Final = 0.05
GROWTH_MIB: Final = 16.0
P99_RATIO: Final = 1.25
"""How far two p99 of the same quiet traffic lie apart by themselves."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it: bytes of a body, seconds of a stall."""

    bytes: int
    seconds: float


class Taker:
    """Hashes what comes, and stops once after ``STALL_AFTER`` bytes until it is told to go on."""

    def __init__(self, pause: Callable[[], None], stalled: asyncio.Event) -> None:
        self.taken = 0
        self._pause = pause
        self._stalled = stalled
        self._hash = hashlib.sha256()

    def take(self, data: bytes) -> None:
        self._hash.update(data)
        self.taken += len(data)
        if self.taken >= STALL_AFTER and not self._stalled.is_set():
            self._stalled.set()
            self._pause()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class Upload:
    """A body to the origin's ``/upload``, which stops reading and then answers with the digest of what came."""

    def __init__(self, port: int, size: int) -> None:
        self.stalled = asyncio.Event()
        self._port = port
        self._size = size
        self._exchange: Exchange
        self._taker: Taker

    # --- the origin's side ---

    def begins(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._taker = Taker(exchange.connection.pause, self.stalled)

    def continues(self, exchange: Exchange, data: bytes) -> None:  # noqa: ARG002 - one upload at a time
        self._taker.take(data)

    def ends(self, exchange: Exchange) -> None:
        exchange.answer(self._taker.digest.encode())

    # --- the client's side ---

    async def run(self) -> str:
        """Carry it out; the digest that the origin saw."""
        connection = await Connection.to(self._port)
        ask = Ask("/upload", "PUT", size=self._size)
        connection.begin(ask)
        connection.write(ask.head())
        await connection.write_all(content.pieces(self._size))
        answer = await connection.answer()
        connection.close()
        return answer.body.decode()

    def resume(self) -> None:
        self._exchange.connection.resume()


class Download:
    """A body from the origin's ``/download/N`` to a client that stops reading."""

    def __init__(self, port: int, size: int) -> None:
        self.stalled = asyncio.Event()
        self._port = port
        self._size = size
        self._connection: Connection

    # --- the origin's side ---

    def begins(self, exchange: Exchange) -> None:
        """Nothing to do before its end."""

    def continues(self, exchange: Exchange, data: bytes) -> None:
        """It has no body."""

    def ends(self, exchange: Exchange) -> None:
        exchange.stream(self._size)

    # --- the client's side ---

    async def run(self) -> str:
        """Carry it out; the digest that the client saw."""
        connection = self._connection = await Connection.to(self._port)
        taker = Taker(connection.pause, self.stalled)
        connection.sink = taker.take
        ask = Ask("/download")
        connection.begin(ask)
        connection.write(ask.wire())
        await connection.answer()
        connection.close()
        return taker.digest

    def resume(self) -> None:
        self._connection.resume()


@dataclass(frozen=True, slots=True)
class Stall:
    """What one stalled transfer did to the sidecar and to the others.

    Attributes:
        stalled_growth: MiB of RSS at most during the stall, beyond what it was before.
        growth: the same, from beginning to end.
        whole: the bytes that came were those that were sent.
    """

    title: str
    stalled_growth: float
    growth: float
    before: Felt
    during: Felt
    whole: bool

    @property
    def ratio(self) -> float:
        """p99 of the others during the stall, over that before."""
        return self.during.p99_ms / self.before.p99_ms


async def highest_rss(subject: Subject, until: Callable[[], bool]) -> float:
    """MiB at most, until it is over."""
    highest = 0.0
    while not until():
        highest = max(highest, subject.rss())
        await asyncio.sleep(SAMPLE_SECONDS)
    return highest


async def stall(subject: Subject, probe: Probe, transfer: Upload | Download, size: Size) -> Stall:
    """Probe without it, then while it is stalled, and let it run to its end."""
    before = await probe.window(size.seconds)
    rss = subject.rss()
    async with asyncio.TaskGroup() as group:
        done = group.create_task(transfer.run())
        await transfer.stalled.wait()
        await asyncio.sleep(SETTLE_SECONDS)
        window = group.create_task(probe.window(size.seconds))
        stalled_rss = await highest_rss(subject, window.done)
        transfer.resume()
        last_rss = await highest_rss(subject, done.done)
    return Stall(
        title=type(transfer).__name__.lower(),
        stalled_growth=stalled_rss - rss,
        growth=max(stalled_rss, last_rss) - rss,
        before=before,
        during=window.result(),
        whole=done.result() == content.digest(size.bytes),
    )


async def soak(quick: bool) -> Outcome:
    """All four, one after the other, each with a fresh sidecar."""
    size = Size(64 * MIB, 2.0) if quick else Size(1024 * MIB, 10.0)
    await asyncio.to_thread(content.digest, size.bytes)
    stalls = []
    async with open_stage(quick=quick) as stage:
        for upstream in Upstream:
            for kind in (Upload, Download):
                async with stage.sidecar() as subject, probing(subject) as probe:
                    transfer = kind(subject.ports[upstream], size.bytes)
                    stage.origins[upstream].serve(kind.__name__.lower(), transfer)
                    stalls.append((upstream, await stall(subject, probe, transfer, size)))
    return outcome(stalls)


def outcome(stalls: Sequence[tuple[Upstream, Stall]]) -> Outcome:
    """The targets of each, and the bytes of all."""
    targets, facts = [], []
    for upstream, each in stalls:
        what = f"{each.title}, {transport_name(upstream)}"
        targets += [
            Target(f"RSS growth, {what}", "MiB", GROWTH_MIB, each.growth),
            Target(f"p99 of other requests during the stall, {what}", "of that before", P99_RATIO, each.ratio),
        ]
        facts.append(
            f"{what}: {each.stalled_growth:.1f} MiB more during the stall, p99 {each.before} before and {each.during} "
            f"during it."
        )
    torn = sum(not each.whole for _, each in stalls)
    return Outcome(NAME, (*targets, Target("bodies that are not what was sent", "", 0, torn)), tuple(facts))
