"""Requests of every kind, by chance and yet the same in every run: methods, sizes, framings, and clients that give up.

Also says what may come of each: a body that is not the one asked for, a status other than 200 and a broken connection
are failures; a 401 is none where the request was too large to be kept and sent again.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from benchmarks.soaks import content
from benchmarks.soaks.client import Answer, Ask, Broken, Caller, Connection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

METHODS: Final = {"GET": 50, "HEAD": 5, "POST": 25, "PUT": 12, "DELETE": 8}
SIZES: Final = {
    (0, 0): 15,
    (1, 1024): 40,
    (1024, 16 * 1024): 30,
    (16 * 1024, 128 * 1024): 13,
    (128 * 1024, content.MIB): 2,
}
"""Ranges of sizes, and how often of a hundred; about 20 KiB in the mean."""
CHUNKED_SHARE: Final = 0.3
ABORTED_SHARE: Final = 0.01
FRESH_SHARE: Final = 0.02
"""On a connection of its own."""
SURELY_KEPT: Final = 60 * 1024
"""Bodies up to this size, their framing included, are within ``limits.replay_body``."""
LATEST_ABORT_SECONDS: Final = 0.005


class Abort(enum.Enum):
    """When a client gives up."""

    NEVER = enum.auto()
    IN_REQUEST = enum.auto()
    """with half of its body sent"""
    AFTER_REQUEST = enum.auto()
    """some milliseconds later, with or without a part of the answer"""


@dataclass(frozen=True, slots=True)
class Job:
    """One request and how it is to go.

    Attributes:
        expects: size of the answer's body.
        resets: a client that gives up does so by RST.
        abort_after: seconds, where it gives up after the request.
    """

    ask: Ask
    expects: int
    abort: Abort
    abort_after: float
    resets: bool
    fresh: bool

    def is_right(self, answer: Answer) -> bool:
        """Whether it is the answer that was asked for, to the last byte."""
        body = b"" if self.ask.method == "HEAD" else content.body(self.expects)
        return answer.status == 200 and answer.body == body

    @property
    def may_meet_401(self) -> bool:
        """Too large to be sent again with another token."""
        return (self.ask.size or 0) > SURELY_KEPT


def jobs(count: int, *, seed: int, largest: int = content.MIB) -> Iterator[Job]:
    """So many jobs; ``largest`` caps their bodies."""
    draw = random.Random(seed)
    for _ in range(count):
        method = draw.choices(list(METHODS), list(METHODS.values()))[0]
        expects = min(largest, _size(draw))
        size = min(largest, _size(draw)) if method in ("POST", "PUT") else None
        kind = "chunked" if draw.random() < CHUNKED_SHARE else "size"
        aborts = draw.random() < ABORTED_SHARE
        yield Job(
            ask=Ask(f"/{kind}/{expects}", method, size=size, chunked=draw.random() < CHUNKED_SHARE),
            expects=expects,
            abort=draw.choice((Abort.IN_REQUEST, Abort.AFTER_REQUEST)) if aborts else Abort.NEVER,
            abort_after=draw.uniform(0, LATEST_ABORT_SECONDS),
            resets=draw.random() < 0.5,
            fresh=draw.random() < FRESH_SHARE,
        )


def _size(draw: random.Random) -> int:
    low, high = draw.choices(list(SIZES), list(SIZES.values()))[0]
    return draw.randint(low, high)


@dataclass(slots=True)
class Tally:
    """What came of them."""

    answered: int = 0
    aborted: int = 0
    unauthorized: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        return self.answered + self.aborted + self.unauthorized + self.failed.total()


async def carry_out(caller: Caller, job: Job, tally: Tally) -> None:
    """One job."""
    if job.abort is not Abort.NEVER:
        await give_up(caller.port, job)
        tally.aborted += 1
        return
    one = Caller(caller.port, keeps=False) if job.fresh else caller
    try:
        answer = await one.ask(job.ask)
    except Broken as exc:
        tally.failed[str(exc)] += 1
        return
    if job.is_right(answer):
        tally.answered += 1
    elif answer.status == 401 and job.may_meet_401:
        tally.unauthorized += 1
    else:
        tally.failed["wrong body" if answer.status == 200 else str(answer.status)] += 1


async def give_up(port: int, job: Job) -> None:
    """Begin it and leave; what the sidecar makes of it nobody sees."""
    connection = await Connection.to(port)
    connection.begin(job.ask)
    wire = job.ask.wire()
    connection.write(wire[: len(wire) // 2] if job.abort is Abort.IN_REQUEST else wire)
    await asyncio.sleep(job.abort_after)
    if job.resets:
        connection.reset()
    else:
        connection.close()


async def work(ports: Sequence[int], todo: Iterator[Job], tally: Tally, *, callers_per_port: int) -> None:
    """All jobs, over many connections at once."""

    async def call(port: int) -> None:
        caller = Caller(port)
        for job in todo:
            await carry_out(caller, job, tally)
        caller.close()

    async with asyncio.TaskGroup() as group:
        for port in list(ports) * callers_per_port:
            group.create_task(call(port))
