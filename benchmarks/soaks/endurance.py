"""A million requests of every kind, with tokens that live for seconds and some that are revoked: nothing grows.

The sidecar is looked at once a second. What it takes for the load itself it has after the first fifth, when its heap is
about as fragmented as bodies of all sizes make it; from there to the end memory and descriptors have to stay, and when
all is quiet again, no descriptor may be left over. The slope through the second half tells a leak, which goes on, from
a heap that settles. Tasks cannot be seen from outside: a test has the same load within one process and counts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.report import Target
from benchmarks.scenarios import Upstream
from benchmarks.soaks import mix
from benchmarks.soaks.mix import Tally
from benchmarks.soaks.readings import slope
from benchmarks.soaks.report import Outcome
from benchmarks.soaks.stage import open_stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from benchmarks.soaks.stage import Reading, Stage, Subject
    from sidecar.simulation.idp import MockIdP

NAME: Final = "endurance"
CALLERS_PER_PORT: Final = 24
TOKEN_SECONDS: Final = 20.0
REVOKE_EVERY_SECONDS: Final = 25.0
"""More than the 10 s within which the sidecar takes one refusal of a token for a reason to ask for another."""
SETTLED_SECONDS: Final = 2.0
"""A token is revoked only when it has been in use for this long, as those are that a provider revokes."""
SAMPLE_SECONDS: Final = 1.0
WARM_UP_SHARE: Final = 0.2
REST_SECONDS: Final = 17.0
"""A little more than ``limits.upstream_idle`` and the token client's own keep-alive."""
GROWTH_MIB: Final = 4.0
A_HUNDRED_THOUSAND: Final = 100_000


@dataclass(frozen=True, slots=True)
class Sample:
    """The sidecar when so many requests were done."""

    done: int
    reading: Reading


@dataclass(frozen=True, slots=True)
class Course:
    """How something went from the end of the warm-up to the last request."""

    first: float
    last: float
    per_hundred_thousand: float

    @property
    def growth(self) -> float:
        return self.last - self.first


def course(samples: list[Sample], figure: Callable[[Reading], float], *, after: float = WARM_UP_SHARE) -> Course:
    """Medians of the first and the last tenth after this share of the requests, and the slope through all of it.

    Raises:
        ValueError: there are too few samples.
    """
    total = samples[-1].done if samples else 0
    kept = [sample for sample in samples if sample.done >= total * after]
    if len(kept) < 2:
        raise ValueError("too few samples")
    tenth = max(1, len(kept) // 10)
    values = [figure(sample.reading) for sample in kept]
    rise = slope([(sample.done, value) for sample, value in zip(kept, values, strict=True)])
    return Course(statistics.median(values[:tenth]), statistics.median(values[-tenth:]), rise * A_HUNDRED_THOUSAND)


@contextlib.asynccontextmanager
async def sampled(subject: Subject, tally: Tally) -> AsyncIterator[list[Sample]]:
    """Look at the sidecar until the block ends."""
    samples: list[Sample] = []

    async def look() -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            samples.append(Sample(tally.done, subject.reading()))

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look())
        yield samples
        looking.cancel()
        samples.append(Sample(tally.done, subject.reading()))


async def revoke(idp: MockIdP, first_after: float) -> None:
    """Revoke tokens again and again, none that is new."""
    await asyncio.sleep(first_after)
    while True:
        issued = 0
        while issued != len(idp.issued):
            issued = len(idp.issued)
            await asyncio.sleep(SETTLED_SECONDS)
        revoke_newest(idp)
        await asyncio.sleep(REVOKE_EVERY_SECONDS)


def revoke_newest(idp: MockIdP) -> None:
    """Revoke the token that each client was given last."""
    for upstream in Upstream:
        newest = [token for token in idp.issued if token.startswith(f"{idp.marker}-{upstream.value}-")]
        idp.revoke(newest[-1])


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured.

    Attributes:
        refused: requests that the origin answered 401.
        before: the sidecar before the load.
        rested: the sidecar when all is quiet again.
    """

    tally: Tally
    samples: list[Sample]
    seconds: float
    tokens: int
    refused: int
    before: Reading
    rested: Reading


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    requests: int
    first_revocation_seconds: float


FULL: Final = Size(1_000_000, 10.0)
QUICK: Final = Size(20_000, 1.0)


def _rss(reading: Reading) -> float:
    return reading.rss


async def run(stage: Stage, subject: Subject, size: Size) -> Run:
    """All requests, and the rest after them."""
    tally, before, began = Tally(), subject.reading(), time.monotonic()
    todo, ports = mix.jobs(size.requests, seed=1), list(subject.ports.values())
    async with sampled(subject, tally) as samples, asyncio.TaskGroup() as group:
        revoking = group.create_task(revoke(stage.idp, size.first_revocation_seconds))
        await mix.work(ports, todo, tally, callers_per_port=CALLERS_PER_PORT)
        revoking.cancel()
    seconds = time.monotonic() - began
    await asyncio.sleep(REST_SECONDS)
    refused = sum(origin.refused for origin in stage.origins.values())
    return Run(tally, samples, seconds, len(stage.idp.issued), refused, before, subject.reading())


async def soak(quick: bool) -> Outcome:
    """All of it in one sidecar."""
    async with open_stage(quick=quick, token_seconds=TOKEN_SECONDS) as stage, stage.sidecar() as subject:
        return outcome(await run(stage, subject, QUICK if quick else FULL))


def outcome(result: Run) -> Outcome:
    """The targets."""
    tally = result.tally
    rss = course(result.samples, _rss)
    late = course(result.samples, _rss, after=0.5).per_hundred_thousand * 1024
    left_over = result.rested.descriptors - result.before.descriptors
    files = course(result.samples, lambda reading: reading.descriptors)
    return Outcome(
        NAME,
        (
            Target(f"of {tally.done:,} requests, failed", "", 0, tally.failed.total()),
            Target("RSS growth after the warm-up", "MiB", GROWTH_MIB, rss.growth),
            Target("descriptors left over at rest", "", 0, max(0, left_over)),
        ),
        (
            f"Failures: {dict(tally.failed)}." if tally.failed else "Nothing failed.",
            f"{tally.done / result.seconds:,.0f} requests a second; {tally.aborted:,} were given up by the client.",
            f"{result.tokens} tokens; {result.refused:,} requests met a revoked one at the origin.",
            f"{tally.unauthorized:,} of these were too large to be sent again, so their 401 reached the client.",
            f"RSS {result.before.rss:.1f} MiB before, {rss.first:.1f} after the warm-up, {rss.last:.1f} at the end,",
            f"{result.rested.rss:.1f} after {REST_SECONDS:g} s of rest.",
            f"Slope {rss.per_hundred_thousand * 1024:+.0f} KiB for 100,000 requests, {late:+.0f} in the second half.",
            f"Descriptors {files.first:.0f} and {files.last:.0f}, {files.per_hundred_thousand:+.2f} for 100,000.",
        ),
    )
