"""Steady traffic of an app that does everything: small and large answers, uploads, chunks, slow answers, kept and fresh
connections. Whatever gets no whole answer with 200 is a failure, and counted by what became of it."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from benchmarks.soaks.client import Answer, Ask, Broken, Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KEPT_PER_PORT: Final = 12
FRESH_PER_PORT: Final = 4
PAUSE_SECONDS: Final = 0.01
"""Between an answer and the next request of a caller: load, and yet not more than there is time for."""
ASKS: Final = (
    Ask("/size/1024"),
    Ask("/size/7"),
    Ask("/size/100000"),
    Ask("/chunked/5000"),
    Ask("/size/10", "POST", size=10_000),
    Ask("/size/10", "PUT", size=200_000, chunked=True),
    Ask("/slow/150"),
)


@dataclass(slots=True)
class Tally:
    """What came of the requests."""

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> int:
        return self.failed.total()

    async def ask(self, caller: Caller, ask: Ask) -> Answer | None:
        """Ask and count; None if there was no answer."""
        try:
            answer = await caller.ask(ask)
        except Broken as exc:
            self.failed[str(exc)] += 1
            return None
        if answer.status == 200:
            self.answered += 1
        else:
            self.failed[str(answer.status)] += 1
        return answer


async def call(caller: Caller, tally: Tally, *, first: int, leaves: Callable[[], bool]) -> None:
    """One caller, until it wants to leave."""
    for number in itertools.count(first):
        if leaves():
            break
        await tally.ask(caller, ASKS[number % len(ASKS)])
        await asyncio.sleep(PAUSE_SECONDS)
    caller.close()


def start(group: asyncio.TaskGroup, ports: Iterable[int], leaves: Callable[[], bool]) -> Tally:
    """Let callers of both kinds work on each port."""
    tally = Tally()
    kinds = [True] * KEPT_PER_PORT + [False] * FRESH_PER_PORT
    for number, (port, keeps) in enumerate(itertools.product(ports, kinds)):
        group.create_task(call(Caller(port, keeps=keeps), tally, first=number, leaves=leaves))
    return tally
