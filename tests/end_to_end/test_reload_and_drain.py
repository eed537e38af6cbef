"""A running process is told to change and to end: SIGHUP, a changed file, SIGTERM, and a second signal."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.simulation.idp import MockIdP
from tests.end_to_end.waiting import until
from tests.proxy.raw_client import RawClient, get
from tests.proxy.raw_origin import Origin, Request, ok

if TYPE_CHECKING:
    from tests.end_to_end.sidecar_process import Configuration, SidecarProcess

QUIET_SECONDS: Final = 2.0
Start = Callable[["Configuration"], Awaitable["SidecarProcess"]]


@pytest.fixture
async def idp() -> AsyncIterator[MockIdP]:
    async with MockIdP() as idp:
        yield idp


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
def configuration(idp: MockIdP, origin: Origin) -> dict[str, Any]:
    return {
        "listeners": [{"name": "egress", "mode": "forward"}],
        "credentials": {
            "orders": {
                "grant": "client_credentials",
                "token_url": idp.token_url,
                "client_id": "client",
                "client_secret": "client-secret",
            }
        },
        "routes": [route(origin, "/a")],
        "limits": {"drain": "20s"},
        "allow_inline_secrets": True,
    }


def route(origin: Origin, prefix: str) -> dict[str, Any]:
    return {
        "name": prefix[1:],
        "host": "localhost",
        "port": origin.port,
        "paths": [prefix],
        "upstream_tls": "plain",
        "credential": "orders",
    }


async def ask(sidecar: SidecarProcess, url: str) -> int:
    async with await RawClient.to(sidecar.port("egress")) as client:
        return (await client.ask(get(url))).status


# --- reload -----------------------------------------------------------------------------------------------------------


async def test_sighup_takes_a_new_configuration_over_without_losing_a_connection_or_a_token(
    configuration: dict[str, Any], origin: Origin, idp: MockIdP, start_sidecar: Start
) -> None:
    sidecar = await start_sidecar(configuration)
    url = f"http://localhost:{origin.port}"
    async with await RawClient.to(sidecar.port("egress")) as kept:
        assert (await kept.ask(get(f"{url}/a"))).status == 200
        assert (await kept.ask(get(f"{url}/b"))).status == 403
        await sidecar.reload(configuration | {"routes": [route(origin, "/a"), route(origin, "/b")]})
        assert (await kept.ask(get(f"{url}/b"))).status == 200
        await sidecar.reload_text("routes: [nonsense", outcome="rejected")
        assert (await kept.ask(get(f"{url}/b"))).status == 200
    assert len(idp.token_requests) == 1
    metrics = await sidecar.metrics()
    assert metrics.value("config_last_reload_successful") == 0
    [rejected] = sidecar.logs("reload_rejected")
    assert rejected["reason"] == "configuration_invalid"
    assert "sidecar.yaml:" in rejected["detail"]
    await sidecar.reload(configuration)
    assert (await sidecar.metrics()).value("config_last_reload_successful") == 1
    assert await ask(sidecar, f"{url}/b") == 403
    assert await sidecar.stop() == 0


async def test_a_changed_file_is_taken_over_without_a_signal(
    configuration: dict[str, Any], origin: Origin, start_sidecar: Start
) -> None:
    sidecar = await start_sidecar(configuration)
    sidecar.write(configuration | {"routes": [route(origin, "/b")]})

    async def applied() -> bool:
        return (await sidecar.metrics()).value("config_reloads_total", result="applied") == 1

    await until(applied, "the change is noticed", seconds=12)
    assert await ask(sidecar, f"http://localhost:{origin.port}/b") == 200
    assert await sidecar.stop() == 0


async def test_many_reloads_in_a_row_fail_no_request(
    configuration: dict[str, Any], origin: Origin, idp: MockIdP, start_sidecar: Start
) -> None:
    sidecar = await start_sidecar(configuration)
    url = f"http://localhost:{origin.port}/a"
    statuses: list[int] = []
    enough = asyncio.Event()

    async def keep_asking() -> None:
        async with await RawClient.to(sidecar.port("egress")) as client:
            while not enough.is_set():
                statuses.append((await client.ask(get(url))).status)

    asking = asyncio.ensure_future(keep_asking())
    for number in range(10):
        await sidecar.reload(configuration | {"routes": [route(origin, "/a"), route(origin, f"/{number}")]})
    enough.set()
    await asking
    assert len(statuses) > 20
    assert set(statuses) == {200}
    assert len(idp.token_requests) == 1


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_sigterm_drains_and_exits_with_0_after_two_quiet_seconds(
    configuration: dict[str, Any], origin: Origin, start_sidecar: Start
) -> None:
    sidecar = await start_sidecar(configuration)
    url = f"http://localhost:{origin.port}/a"
    release = asyncio.Event()

    async def slow(request: Request) -> None:
        await release.wait()
        await request.connection.send(ok(b"slow"))

    async with await RawClient.to(sidecar.port("egress")) as busy:
        origin.reply(slow)
        await busy.send(get(url))
        await origin.next_request()
        sidecar.send(signal.SIGTERM)

        async def red() -> bool:
            return await sidecar.status("/readyz") == 503

        await until(red, "readiness is red")
        assert await sidecar.status("/livez") == 200
        async with await RawClient.to(sidecar.port("egress")) as fresh:
            answer = await fresh.ask(get(url))
            assert (answer.status, answer.value("Connection")) == (200, "close")
            assert await fresh.closed_cleanly()
        assert sidecar.running
        release.set()
        answer = await busy.answer()
        assert (answer.body, answer.value("Connection")) == (b"slow", "close")
    answered_at = time.monotonic()
    assert await sidecar.ended(seconds=15) == 0
    assert time.monotonic() - answered_at >= QUIET_SECONDS - 0.5
    assert [line["event"] for line in sidecar.logs() if line["event"] in ("draining", "stopped")] == [
        "draining",
        "stopped",
    ]


async def test_a_drain_ends_at_its_limit_whatever_still_runs(
    configuration: dict[str, Any], origin: Origin, start_sidecar: Start
) -> None:
    sidecar = await start_sidecar(configuration | {"limits": {"drain": "500ms"}})

    async def never(request: Request) -> None:
        await request.connection.read_to_the_end()

    origin.reply(never)
    async with await RawClient.to(sidecar.port("egress")) as client:
        await client.send(get(f"http://localhost:{origin.port}/a"))
        await origin.next_request()
        assert await sidecar.stop(seconds=10) == 0
        assert (await client.rest()) == (b"", False)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_at_once(
    configuration: dict[str, Any], start_sidecar: Start, second: signal.Signals
) -> None:
    sidecar = await start_sidecar(configuration)
    sidecar.send(signal.SIGINT)
    await until(lambda: bool(sidecar.logs("draining")), "it drains")
    asked_at = time.monotonic()
    sidecar.send(second)
    assert await sidecar.ended(seconds=10) == 0
    assert time.monotonic() - asked_at < QUIET_SECONDS - 0.2


async def test_a_reload_during_a_drain_does_no_harm(configuration: dict[str, Any], start_sidecar: Start) -> None:
    sidecar = await start_sidecar(configuration)
    sidecar.send(signal.SIGTERM)
    sidecar.write(configuration)
    sidecar.send(signal.SIGHUP)
    assert await sidecar.ended(seconds=15) == 0
