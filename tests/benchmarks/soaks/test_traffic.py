"""Steady callers: what is a failure, and when they leave."""

from __future__ import annotations

import asyncio
from collections import Counter

from benchmarks.soaks import traffic
from benchmarks.soaks.client import Answer, Ask, Broken, Caller
from benchmarks.soaks.traffic import Tally


class Scripted(Caller):
    """Answers by itself."""

    def __init__(self, *said: Answer | Broken) -> None:
        super().__init__(0)
        self.said = list(said)

    async def ask(self, ask: Ask) -> Answer:
        await asyncio.sleep(0)
        answer = self.said.pop(0)
        if isinstance(answer, Broken):
            raise answer
        return answer


async def test_whatever_is_not_a_whole_200_is_a_failure_by_its_name() -> None:
    tally = Tally()
    caller = Scripted(Answer(200, b"", False), Answer(502, b"", False), Broken("reset"), Broken("refused"))
    for _ in range(4):
        await tally.ask(caller, Ask("/"))
    assert (tally.answered, tally.failures) == (1, 3)
    assert tally.failed == Counter({"502": 1, "reset": 1, "refused": 1})


async def test_a_caller_leaves_between_two_requests() -> None:
    caller, tally = Scripted(*[Answer(200, b"", False)] * 9), Tally()
    await traffic.call(caller, tally, first=0, leaves=lambda: tally.answered == 3)
    assert (tally.answered, len(caller.said)) == (3, 6)
