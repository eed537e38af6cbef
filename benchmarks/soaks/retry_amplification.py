"""An origin that never serves a second request on a connection and does not say so: what it is asked for all the same.

Each request on a kept connection dies with it and goes out again on a fresh one. Without a lesson drawn from that,
every request is sent twice, and an origin in trouble gets double the load when it can least bear it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from benchmarks.report import Target
from benchmarks.soaks.client import Ask
from benchmarks.soaks.idle_race import call
from benchmarks.soaks.report import Outcome
from benchmarks.soaks.stage import open_stage

if TYPE_CHECKING:
    from benchmarks.soaks.origin import Exchange

NAME: Final = "retry_amplification"
CALLERS_PER_PORT: Final = 8
RATIO: Final = 1.2


class OneOnly:
    """Answers the first request of a connection, and closes it when a second one is there."""

    def __init__(self) -> None:
        self.arrived = 0

    def begins(self, exchange: Exchange) -> None:
        self.arrived += 1
        if exchange.connection.served:
            exchange.connection.close()

    def continues(self, exchange: Exchange, data: bytes) -> None:
        """Nobody reads it."""

    def ends(self, exchange: Exchange) -> None:
        exchange.answer(b"only one")


async def soak(quick: bool) -> Outcome:
    """GETs through plain and TLS upstreams at once."""
    count = 1_000 if quick else 20_000
    application = OneOnly()
    asks = (Ask("/one") for _ in range(count))
    async with open_stage(quick=quick) as stage, stage.sidecar() as subject:
        for origin in stage.origins.values():
            origin.serve("one", application)
        async with asyncio.TaskGroup() as group:
            ports = list(subject.ports.values()) * CALLERS_PER_PORT
            tasks = [group.create_task(call(port, asks)) for port in ports]
    said = sum((task.result() for task in tasks), Counter[str]())
    return outcome(count, said, application.arrived)


def outcome(count: int, said: Counter[str], arrived: int) -> Outcome:
    """The target."""
    return Outcome(
        NAME,
        (
            Target("requests at the origin", "for each of the client", RATIO, arrived / count),
            Target(f"of {count:,} GETs, failed", "", 0, count - said["200"]),
        ),
        (f"{arrived:,} requests at the origin for {count:,} of the client.",),
    )
