"""How something went over a million requests, and the same load within one process, where tasks can be counted."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from benchmarks import peers
from benchmarks.processes import free_ports
from benchmarks.scenarios import Upstream
from benchmarks.soaks import endurance, mix
from benchmarks.soaks.endurance import Run, Sample
from benchmarks.soaks.stage import Reading, open_stage
from sidecar.app import Sidecar
from sidecar.config import load
from sidecar.telemetry import log
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from benchmarks.soaks.stage import Stage

REQUESTS = 10_000
LARGEST = 32 * 1024
"""Of their bodies: enough for more than one read, and fast enough for a test."""


def samples(*rss: float) -> list[Sample]:
    return [
        Sample(number * 100_000, Reading(at=number, rss=mib, descriptors=50)) for number, mib in enumerate(rss, start=1)
    ]


def test_what_comes_before_the_first_fifth_is_warm_up() -> None:
    early = Sample(50_000, Reading(at=0, rss=10.0, descriptors=5))
    seen = endurance.course([early, *samples(40.0, 41.0, 42.0)], lambda reading: reading.rss)
    assert (seen.first, seen.last, seen.growth) == (40.0, 42.0, 2.0)
    assert seen.per_hundred_thousand == pytest.approx(1.0)


def test_what_stays_has_no_slope() -> None:
    seen = endurance.course(samples(*[40.0] * 30), lambda reading: reading.rss)
    assert (seen.growth, seen.per_hundred_thousand) == (0.0, 0.0)


def test_a_course_needs_a_beginning_and_an_end() -> None:
    with pytest.raises(ValueError, match="too few"):
        endurance.course(samples(40.0), lambda reading: reading.rss)


def test_growth_beyond_the_bound_is_missed_and_fewer_descriptors_are_no_leak() -> None:
    before, rested = Reading(at=0, rss=38.0, descriptors=12), Reading(at=9, rss=41.0, descriptors=10)
    run = Run(mix.Tally(answered=10), samples(40.0, 44.5), 2.0, tokens=3, refused=1, before=before, rested=rested)
    failed, growth, left = endurance.outcome(run).targets
    assert (failed.met, growth.met, left.met) == (True, False, True)
    assert growth.measured == 4.5


def task_names() -> Counter[str]:
    """Of all tasks that were given one: those of the sidecar, that is."""
    names = (task.get_name() for task in asyncio.all_tasks())
    return Counter(name for name in names if not name.startswith(("Task-", "fetch:")))


async def start(stage: Stage) -> tuple[Sidecar, list[int]]:
    """The sidecar in this process, with its tokens."""
    plain, tls, forward, telemetry = free_ports(4)
    ports = {Upstream.PLAIN: plain, Upstream.TLS: tls}
    configuration = peers.sidecar_configuration(stage.workshop, ports, forward, telemetry)
    sidecar = Sidecar(load.load(stage.workshop.write("sidecar.yaml", json.dumps(configuration))))
    await sidecar.start()
    now = sidecar.gateway.now
    await until(lambda: all(each.usable(now()) for each in sidecar.broker.credentials()), "it has its tokens")
    return sidecar, [plain, tls]


async def test_ten_thousand_requests_of_every_kind_leave_no_task_behind() -> None:
    log.configure("error")
    async with open_stage(quick=True) as stage:
        sidecar, ports = await start(stage)
        try:
            before, tally = task_names(), mix.Tally()
            for seed in (1, 2):
                await mix.work(ports, mix.jobs(REQUESTS // 2, seed=seed, largest=LARGEST), tally, callers_per_port=16)
                endurance.revoke_newest(stage.idp)
            await until(lambda: task_names() == before, "only the tasks from before are left")
        finally:
            await sidecar.close()
    assert (tally.done, tally.failed) == (REQUESTS, Counter())
    assert tally.aborted > 0
    assert sum(origin.refused for origin in stage.origins.values()) > 0, "no request met a revoked token"
