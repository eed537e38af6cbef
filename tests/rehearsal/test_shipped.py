"""Every shipped scenario goes as it expects, on a client's secret and on a login."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from sidecar.rehearsal import reading, run
from sidecar.rehearsal.scenario import Traffic
from sidecar.telemetry import log
from tests.rehearsal.hurried import Hurried
from tests.rehearsal.plays import ORDERS, ROUTE, STORE, configuration

REQUESTS_PER_SECOND = 2.0
"""All scenarios run at once, in hurried time."""
PATIENCE_SECONDS = 300.0
"""A run that hangs has to end some time."""


async def test_every_shipped_scenario_goes_as_it_expects() -> None:
    login = ORDERS | {"grant": "refresh_token", "refresh_token": "file:/absent", "issuer": "https://other.example.com"}
    both = configuration(
        credentials={"orders": ORDERS, "login": login},
        routes=[ROUTE, {"name": "other", "host": "other.example.com", "credential": "login"}],
        store=STORE,
        limits={"token_wait": "20s"},
    )
    plays = {name: reading.load(path) for name, path in reading.shipped().items()}
    slow = Traffic(rate=REQUESTS_PER_SECOND)
    running = [run.rehearse(name, replace(play, traffic=slow), both, clock=Hurried()) for name, play in plays.items()]
    with log.borrowed("critical"):  # their ends are in no order
        results = await asyncio.wait_for(asyncio.gather(*running), PATIENCE_SECONDS)
    assert {result.name: [each.what for each in result.findings if not each.met] for result in results} == {
        name: [] for name in plays
    }
    assert all(not result.notes for result in results)
