"""The identity provider goes away for longer than a token lives, while an app keeps asking.

Tokens are used to their end and not beyond, then the app gets 503 with Retry-After, the provider is asked within the
bounds, and within 2 s of its return the app is served again, by the same process.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.simulation.idp import MockIdP
from tests.end_to_end.gate import Door, Gate
from tests.end_to_end.origin import VALID, Authority, Origin
from tests.end_to_end.traffic import Answer, Traffic, steady_traffic
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.end_to_end.sidecar_process import Configuration, SidecarProcess

LIFETIME_SECONDS: Final = 4
OUTAGE_SECONDS: Final = 9.0
TOKEN_WAIT_SECONDS: Final = 0.4
RECOVERY_SECONDS: Final = 2.0
FEWEST_ATTEMPTS: Final = 3
MOST_ATTEMPTS: Final = 20
"""In the 9 s of the outage; the bound for half an hour is 250, and the first minute is when it hurries."""


@pytest.fixture
async def idp() -> AsyncIterator[MockIdP]:
    async with MockIdP(clients={"orders-worker": "worker-secret"}, ttl=LIFETIME_SECONDS) as idp:
        yield idp


@pytest.fixture
async def gate(idp: MockIdP) -> AsyncIterator[Gate]:
    async with Gate(idp.port) as gate:
        yield gate


@pytest.fixture
async def origin(idp: MockIdP, authority: Authority) -> AsyncIterator[Origin]:
    def judge(token: str) -> str:
        return VALID if idp.is_valid(token) else "not valid"

    async with Origin(judge, authority.server) as origin:
        yield origin


@pytest.fixture
async def sidecar(
    gate: Gate,
    origin: Origin,
    authority: Authority,
    start_sidecar: Callable[[Configuration], Awaitable[SidecarProcess]],
) -> SidecarProcess:
    return await start_sidecar(
        {
            "listeners": [{"name": "orders", "mode": "reverse", "upstream": f"https://localhost:{origin.port}"}],
            "credentials": {
                "orders": {
                    "grant": "client_credentials",
                    "token_url": f"http://127.0.0.1:{gate.port}/token",
                    "client_id": "orders-worker",
                    "client_secret": "worker-secret",
                }
            },
            "routes": [
                {
                    "name": "orders",
                    "host": "localhost",
                    "port": origin.port,
                    "credential": "orders",
                    "ca_file": str(authority.ca_file),
                }
            ],
            "limits": {"token_wait": f"{TOKEN_WAIT_SECONDS * 1000:.0f}ms", "token_request": "1s"},
            "allow_inline_secrets": True,
        }
    )


@pytest.mark.parametrize("outage", [Door.REFUSING, Door.FAILING, Door.SILENT])
async def test_an_outage_longer_than_a_tokens_life_costs_503s_and_nothing_else(
    outage: Door, sidecar: SidecarProcess, gate: Gate, origin: Origin
) -> None:
    async with steady_traffic(sidecar.url("orders")) as traffic:
        await until(lambda: traffic.statuses()[200] > 10, "the app is served")
        attempts = await token_requests(sidecar)

        went_at = time.monotonic()
        await gate.turn(outage)
        await until(lambda: traffic.statuses()[503] > 0, "the last token ends")
        expired_at = (await sidecar.metrics()).value("token_expiry_timestamp_seconds", credential="orders")
        await until(lambda: time.monotonic() - went_at >= OUTAGE_SECONDS, "the outage lasts")
        await assert_alive_and_failing(sidecar)
        attempts = await token_requests(sidecar) - attempts

        came_at = time.monotonic()
        await gate.turn(Door.OPEN)
        await until(lambda: served_since(traffic, came_at), "the app is served again")

    answers = traffic.since(went_at)
    assert {answer.status for answer in answers} == {200, 503}
    assert_refused_with_reason([answer for answer in answers if answer.status == 503])
    assert origin.invalid() == []
    assert last_before_the_return(origin, came_at) == pytest.approx(expired_at, abs=1.0)
    assert FEWEST_ATTEMPTS <= attempts <= MOST_ATTEMPTS
    assert first_served(answers, came_at) - came_at <= RECOVERY_SECONDS

    assert sidecar.running
    await assert_recovered(sidecar)
    assert await sidecar.stop() == 0


async def token_requests(sidecar: SidecarProcess) -> float:
    """How many token requests have come out one way or another."""
    return (await sidecar.metrics()).total("token_requests_total", credential="orders")


async def assert_alive_and_failing(sidecar: SidecarProcess) -> None:
    """An outage shows in the metrics, and turns no probe red: a restart would cure nothing."""
    assert [await sidecar.status(page) for page in ("/livez", "/readyz", "/startupz")] == [200, 200, 200]
    metrics = await sidecar.metrics()
    assert metrics.value("token_up", credential="orders") == 0
    assert metrics.value("token_refresh_consecutive_failures", credential="orders") >= FEWEST_ATTEMPTS


async def assert_recovered(sidecar: SidecarProcess) -> None:
    metrics = await sidecar.metrics()
    assert metrics.value("token_up", credential="orders") == 1
    assert metrics.value("token_refresh_consecutive_failures", credential="orders") == 0
    assert metrics.total("upstream_unauthorized_total") == 0


def assert_refused_with_reason(refused: list[Answer]) -> None:
    """Each says that it is the sidecar's own, why, and when to come again; none kept the app waiting for long."""
    for answer in refused:
        problem = json.loads(answer.body)
        assert (problem["status"], problem["reason"]) == (503, "token_unavailable")
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert "Proxy-Status" in answer.headers
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.at - answer.asked_at < TOKEN_WAIT_SECONDS + 1


def served_since(traffic: Traffic, at: float) -> bool:
    return any(answer.status == 200 for answer in traffic.since(at))


def first_served(answers: list[Answer], at: float) -> float:
    """When the first good answer came after the instant."""
    return min(answer.at for answer in answers if answer.status == 200 and answer.at >= at)


def last_before_the_return(origin: Origin, came_at: float) -> float:
    """Unix time of the last request that reached the origin before the provider was back."""
    came_at_unix = time.time() - (time.monotonic() - came_at)
    return max(arrival.at for arrival in origin.arrivals if arrival.at < came_at_unix)
