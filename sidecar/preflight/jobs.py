"""Many checks at once: spread, bounded in number, and over when the time for all of them is.

What is not finished by then is reported as that, so that a check of a pipeline always ends and always says so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.preflight.findings import Check, Finding
from sidecar.preflight.kinds import Kind
from sidecar.runtime import Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sidecar.config.found import Path
    from sidecar.preflight.kinds import Stage
    from sidecar.runtime import Uniform

AT_ONCE: Final = 8
SPREAD_SECONDS: Final = 0.1
"""For each job that comes beside another one: an IdP is not asked for everything in the same instant."""
LONGEST_SPREAD_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job comes to; as in ``Check``."""

    findings: tuple[Finding, ...] = ()
    said: str = ""
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One check that takes time.

    Args:
        path: the key it is about, for the case that there is no time for it.
    """

    stage: Stage
    name: str
    path: Path
    work: Callable[[], Awaitable[Outcome]]


async def run_all(jobs: Sequence[Job], *, until: float, draw: Uniform) -> list[Check]:
    """Run the jobs; the checks come in their order.

    Args:
        until: when the time is over, on the event loop's clock.
        draw: randomness for the spread.
    """
    if not jobs:
        return []
    loop = asyncio.get_running_loop()
    tasks = Tasks(_leave_to_result)
    gate = asyncio.Semaphore(AT_ONCE)
    spread = min(LONGEST_SPREAD_SECONDS, SPREAD_SECONDS * (len(jobs) - 1))
    running = [tasks.spawn(job.name, _run(job, gate, draw(0.0, spread))) for job in jobs]
    try:
        await asyncio.wait(running, timeout=max(0.0, until - loop.time()))
        return [task.result() if task.done() else _too_late(job) for job, task in zip(jobs, running, strict=True)]
    finally:
        await tasks.close()


def _leave_to_result(name: str, error: BaseException) -> None:
    """A crash is raised where the results are collected."""
    del name, error


async def _run(job: Job, gate: asyncio.Semaphore, delay_seconds: float) -> Check:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(delay_seconds)
    async with gate:
        began_at = loop.time()
        outcome = await job.work()
    seconds = loop.time() - began_at
    return Check(job.stage, job.name, outcome.findings, outcome.said, outcome.skipped, seconds)


def _too_late(job: Job) -> Check:
    return Check(job.stage, job.name, (Finding(Kind.OUT_OF_TIME, job.path, "the time for the check was over"),))
