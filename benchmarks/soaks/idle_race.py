"""An origin that closes kept connections at random moments: no GET is lost by it, no POST arrives twice.

The race of RFC 9112 section 9.3.1: a request goes out on a kept connection while its end is on the way. A GET may be
sent again; a POST may not, because the origin may have acted on it, and its sender is told. The origin counts a request
when its head is there, also where it closes instead of answering, as a server may that died after its work.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.report import Target
from benchmarks.soaks import content
from benchmarks.soaks.client import Ask, Broken, Caller
from benchmarks.soaks.report import Outcome
from benchmarks.soaks.stage import open_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.soaks.origin import Exchange

NAME: Final = "idle_race"
CALLERS_PER_PORT: Final = 16
LONGEST_REST_SECONDS: Final = 0.005
"""Closing comes up to this long after an answer: about when the next request does."""


class Ending(enum.Enum):
    """What becomes of a connection after an answer."""

    KEPT = "kept"
    ANNOUNCED = "announced by Connection: close"
    TIMED = "sooner than its Keep-Alive field said"
    AT_ONCE = "behind the answer"
    SOON = "some milliseconds later"
    WHEN_ASKED = "when the next request was there"
    RESET_WHEN_ASKED = "the same by RST"


SHARES: Final = {
    Ending.KEPT: 60,
    Ending.ANNOUNCED: 8,
    Ending.TIMED: 4,
    Ending.AT_ONCE: 8,
    Ending.SOON: 12,
    Ending.WHEN_ASKED: 6,
    Ending.RESET_WHEN_ASKED: 2,
}
"""How often, of a hundred answers."""


class Closing:
    """Counts every request that arrives, answers it, and ends connections by chance."""

    def __init__(self, seed: int) -> None:
        self.arrived: Counter[bytes] = Counter()
        self.endings: Counter[Ending] = Counter()
        self._random = random.Random(seed)
        self._when_asked: dict[object, Ending] = {}

    def begins(self, exchange: Exchange) -> None:
        self.arrived[exchange.fields.get(b"x-id", b"")] += 1
        match self._when_asked.pop(exchange.connection, None):
            case Ending.WHEN_ASKED:
                exchange.connection.close()
            case Ending.RESET_WHEN_ASKED:
                exchange.connection.reset()

    def continues(self, exchange: Exchange, data: bytes) -> None:
        """Nobody reads it."""

    def ends(self, exchange: Exchange) -> None:
        ending = self._random.choices(list(SHARES), list(SHARES.values()))[0]
        self.endings[ending] += 1
        fields = {Ending.ANNOUNCED: b"Connection: close\r\n", Ending.TIMED: b"Keep-Alive: timeout=1\r\n"}
        exchange.answer(content.body(100), fields=fields.get(ending, b""))
        connection = exchange.connection
        match ending:
            case Ending.ANNOUNCED | Ending.AT_ONCE:
                connection.close()
            case Ending.SOON | Ending.TIMED:
                rest = self._random.uniform(0, LONGEST_REST_SECONDS)
                asyncio.get_running_loop().call_later(rest, connection.close)
            case Ending.WHEN_ASKED | Ending.RESET_WHEN_ASKED:
                self._when_asked[connection] = ending


@dataclass(frozen=True, slots=True)
class Size:
    """How many of each."""

    gets: int
    posts: int


FULL: Final = Size(100_000, 10_000)
QUICK: Final = Size(4_000, 1_000)


def gets(count: int) -> Iterator[Ask]:
    """Requests that may be sent again."""
    return (Ask("/closing", fields=f"X-Id: get-{number}\r\n") for number in range(count))


def posts(count: int) -> Iterator[Ask]:
    """Requests that may not, with a body and without one."""
    return (Ask("/closing", "POST", size=number % 2 * 64, fields=f"X-Id: post-{number}\r\n") for number in range(count))


async def call(port: int, asks: Iterator[Ask]) -> Counter[str]:
    """Ask until there are no more; what was answered, and how often."""
    caller, said = Caller(port), Counter[str]()
    for ask in asks:
        try:
            said[str((await caller.ask(ask)).status)] += 1
        except Broken as exc:
            said[str(exc)] += 1
    caller.close()
    return said


async def call_all(ports: list[int], asks: Iterator[Ask]) -> Counter[str]:
    """Ask over many connections at once."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call(port, asks)) for port in ports * CALLERS_PER_PORT]
    return sum((task.result() for task in tasks), Counter[str]())


async def soak(quick: bool) -> Outcome:
    """GETs, then POSTs, through plain and TLS upstreams at once."""
    size = QUICK if quick else FULL
    application = Closing(seed=1)
    async with open_stage(quick=quick) as stage, stage.sidecar() as subject:
        for origin in stage.origins.values():
            origin.serve("closing", application)
        ports = list(subject.ports.values())
        got = await call_all(ports, gets(size.gets))
        posted = await call_all(ports, posts(size.posts))
    return outcome(size, got, posted, application)


def outcome(size: Size, got: Counter[str], posted: Counter[str], application: Closing) -> Outcome:
    """The targets."""
    doubled = sum(count > 1 for name, count in application.arrived.items() if name.startswith(b"post-"))
    arrivals = sum(count for name, count in application.arrived.items() if name.startswith(b"get-"))
    failed = {said: count for said, count in posted.items() if said != "200"}
    return Outcome(
        NAME,
        (
            Target(f"of {size.gets:,} GETs, failed", "", 0, size.gets - got["200"]),
            Target(f"of {size.posts:,} POSTs, twice at the origin", "", 0, doubled),
        ),
        (
            f"{size.posts - posted['200']:,} POSTs met the race and their senders were told ({failed}).",
            f"The GETs made {arrivals:,} requests at the origin.",
            f"Connections after an answer: {', '.join(f'{e.value} {application.endings[e]:,}' for e in Ending)}.",
        ),
    )
