"""SIGTERM under load, as a pod's end is: nobody loses a request who leaves within the drain.

Kubernetes sends the signal while clients still come, for as long as it takes until all have heard. So the callers go
on for some seconds, over kept and over fresh connections, reconnecting after each ``Connection: close``, and then leave
between two requests. Callers that were idle on a kept connection at the signal ask once more in the middle. A failure
is a request without its whole answer, or a refused connection, from any of them. Then the process ends by itself.

The second part is a client that never leaves: at ``limits.drain`` it is broken off, which is counted and not a failure.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.report import Target
from benchmarks.soaks import traffic
from benchmarks.soaks.client import Ask, Caller
from benchmarks.soaks.report import Outcome
from benchmarks.soaks.stage import open_stage
from benchmarks.soaks.traffic import Tally
from sidecar.app import QUIET_SECONDS

if TYPE_CHECKING:
    from benchmarks.soaks.stage import Stage, Subject

NAME: Final = "drain"
ROUNDS: Final = 10
LOAD_SECONDS: Final = 2.0
STAYING_SECONDS: Final = 3.0
"""How long callers go on after the signal."""
IDLE_CALLERS: Final = 10
IDLE_ASK_AFTER_SECONDS: Final = 1.0
SHORT_DRAIN: Final = 4
END_SECONDS: Final = QUIET_SECONDS + 1.0
"""From the last answer to the end of the process, at most."""


@dataclass(frozen=True, slots=True)
class Round:
    """One drain.

    Attributes:
        ready_in_drain: ``/readyz`` still said 200.
        end_seconds: from the last answer to the end of the process.
    """

    tally: Tally
    ready_in_drain: bool
    end_seconds: float
    exit_code: int


async def idle(subject: Subject, tally: Tally, signalled: asyncio.Event) -> None:
    """One request, then nothing until the drain is well under way, then another one."""
    caller = Caller(next(iter(subject.ports.values())))
    await tally.ask(caller, Ask("/size/1"))
    await signalled.wait()
    await asyncio.sleep(IDLE_ASK_AFTER_SECONDS)
    await tally.ask(caller, Ask("/size/1"))
    caller.close()


async def one_round(subject: Subject) -> Round:
    """Load, signal, load, quiet, end."""
    leave, signalled = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tally = traffic.start(group, subject.ports.values(), leave.is_set)
        for _ in range(IDLE_CALLERS):
            group.create_task(idle(subject, tally, signalled))
        await asyncio.sleep(LOAD_SECONDS)
        subject.signal(signal.SIGTERM)
        signalled.set()
        await asyncio.sleep(0.2)
        ready = await subject.ready_status() == 200
        await asyncio.sleep(STAYING_SECONDS)
        leave.set()
    left_at = time.monotonic()
    code = await subject.ended()
    return Round(tally, ready, time.monotonic() - left_at, code)


async def never_leaving(stage: Stage) -> Tally:
    """Callers that go on until the process is gone; what became of the requests at its end."""
    gone = asyncio.Event()
    async with stage.sidecar(limits={"drain": f"{SHORT_DRAIN}s"}) as subject, asyncio.TaskGroup() as group:
        tally = traffic.start(group, subject.ports.values(), gone.is_set)
        await asyncio.sleep(LOAD_SECONDS)
        subject.signal(signal.SIGTERM)
        await asyncio.sleep(SHORT_DRAIN - 0.5)
        if tally.failures:
            gone.set()  # before its time: that is a failure
            return tally
        await subject.ended()
        gone.set()
    # Who comes when nobody listens any more has lost nothing.
    tally.failed.pop("refused", None)
    return tally


async def soak(quick: bool) -> Outcome:
    """Some rounds of the first part, one of the second."""
    rounds = []
    async with open_stage(quick=quick) as stage:
        for _ in range(1 if quick else ROUNDS):
            async with stage.sidecar() as subject:
                rounds.append(await one_round(subject))
        broken_off = await never_leaving(stage)
    return outcome(rounds, broken_off)


def outcome(rounds: list[Round], broken_off: Tally) -> Outcome:
    """The targets, over all rounds."""
    asked = sum(each.tally.answered + each.tally.failures for each in rounds)
    failed = sum((each.tally.failed for each in rounds), start=Tally().failed)
    return Outcome(
        NAME,
        (
            Target(f"of {asked:,} requests in {len(rounds)} drains, failed", "", 0, failed.total()),
            Target("drains in which /readyz stayed green", "", 0, sum(each.ready_in_drain for each in rounds)),
            Target("drains that ended with another code than 0", "", 0, sum(each.exit_code != 0 for each in rounds)),
            Target("last answer to the end", "s", END_SECONDS, max(each.end_seconds for each in rounds)),
        ),
        (
            f"Failures: {dict(failed)}." if failed else "Nothing failed.",
            f"Of callers that never left, {broken_off.failures} requests were broken off when limits.drain was over.",
        ),
    )
