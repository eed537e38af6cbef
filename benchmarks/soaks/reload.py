"""SIGHUP under load, again and again, each time with something changed: no request notices.

The configuration goes round: a new route within the path of another, a changed limit and another new route, and the
route removed. Each change is waited for and seen to have its effect, so that a reload that does nothing is not taken
for a good one.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.report import Target
from benchmarks.soaks import traffic
from benchmarks.soaks.client import Ask, Caller
from benchmarks.soaks.readings import descriptors
from benchmarks.soaks.report import Outcome
from benchmarks.soaks.stage import LOOK_SECONDS, SoakFailed, open_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.soaks.stage import Subject
    from benchmarks.soaks.traffic import Tally

NAME: Final = "reload"
FULL_SECONDS: Final = 60.0
QUICK_SECONDS: Final = 5.0
APPLY_SECONDS: Final = 10.0
SEVEN: Final = "/size/7"
"""A path of the traffic, which the new route takes over."""


def variants(configuration: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Configurations without end, and which route serves ``SEVEN`` in each. A new route has a new name each time, so
    that its effect is told from that of the one before."""
    first, *others = configuration["routes"]
    for turn in itertools.count():
        name = f"seven-{turn}"
        routes = {"routes": [first, {**first, "name": name, "paths": [SEVEN]}, *others]}
        match turn % 3:
            case 0:
                yield configuration | routes, name
            case 1:
                yield configuration | routes | {"limits": {"first_byte": f"{30 + turn % 20}s"}}, name
            case _:
                yield configuration, first["name"]


async def reload(subject: Subject, configuration: dict[str, Any], route: str) -> None:
    """One change, until it has its effect.

    Raises:
        SoakFailed: it has none.
    """
    subject.configure(configuration)
    subject.signal(signal.SIGHUP)
    port, deadline = next(iter(subject.ports.values())), time.monotonic() + APPLY_SECONDS
    before = await _served(subject, route)
    while True:
        await Caller(port, keeps=False).ask(Ask(SEVEN, "HEAD"))
        if await _served(subject, route) > before:
            break
        if time.monotonic() > deadline:
            raise SoakFailed(f"a reload had no effect: {route} serves nothing")
        await asyncio.sleep(LOOK_SECONDS)


async def _served(subject: Subject, route: str) -> float:
    """HEAD requests that the route served; nobody but ``reload`` sends any."""
    labels = {"route": route, "method": "HEAD", "code": "200"}
    return await subject.metric("tokensidecar_http_requests_total", **labels) or 0.0


async def soak(quick: bool) -> Outcome:
    """Reload as fast as it goes, for a while."""
    stop, reloads = asyncio.Event(), 0
    async with open_stage(quick=quick) as stage, stage.sidecar() as subject:
        async with asyncio.TaskGroup() as group:
            tally = traffic.start(group, subject.ports.values(), stop.is_set)
            await asyncio.sleep(1.0)
            first, open_before = subject.rss(), descriptors(subject.running.pid)
            deadline = time.monotonic() + (QUICK_SECONDS if quick else FULL_SECONDS)
            for configuration, route in variants(subject.configuration):
                await reload(subject, configuration, route)
                reloads += 1
                if time.monotonic() > deadline:
                    break
            rejected = await subject.metric("tokensidecar_config_reloads_total", result="rejected")
            growth, opened = subject.rss() - first, descriptors(subject.running.pid) - open_before
            stop.set()
    return outcome(tally, reloads, rejected, f"RSS grew by {growth:.1f} MiB, descriptors by {opened}.")


def outcome(tally: Tally, reloads: int, rejected: float | None, grown: str) -> Outcome:
    """The targets."""
    asked = tally.answered + tally.failures
    return Outcome(
        NAME,
        (
            Target(f"of {asked:,} requests during {reloads:,} reloads, failed", "", 0, tally.failures),
            Target("reloads rejected", "", 0, rejected),
        ),
        (f"Failures: {dict(tally.failed)}." if tally.failures else "Nothing failed.", grown),
    )
