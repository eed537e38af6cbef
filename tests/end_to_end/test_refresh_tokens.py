"""A refresh token over the life of several processes: logins, restarts, a kill, a second sidecar on the same store."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.broker.store import Grant, new_lineage
from sidecar.secrets import Secret
from sidecar.simulation.idp import MockIdP
from sidecar.simulation.registration import Client, Refreshing
from tests.broker.store_kit import key_file, open_store
from tests.end_to_end.sidecar_process import Configuration, SidecarProcess
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NAME: Final = "orders"


@pytest.fixture
async def idp() -> AsyncIterator[MockIdP]:
    async with MockIdP(clients={"app": "app-secret"}) as idp:
        idp.register("app", Client(refreshing=Refreshing(grace=0.0)))
        yield idp


@pytest.fixture
def configuration(idp: MockIdP, tmp_path: Path) -> Configuration:
    return {
        "listeners": [{"name": "egress"}],
        "credentials": {
            NAME: {
                "grant": "device_code",
                "token_url": idp.token_url,
                "device_authorization_url": f"{idp.origin}/device_authorization",
                "client_id": "app",
                "client_secret": "app-secret",
                "required_for_ready": True,
            }
        },
        "store": {"path": str(tmp_path / "tokens"), "key": f"file:{key_file(tmp_path)}"},
        "allow_inline_secrets": True,
    }


def log_in(idp: MockIdP, folder: Path) -> str:
    token = idp.login("app")
    open_store(folder).write(NAME, Grant(Secret(token), new_lineage(), 1.0))
    return token


def sidecar(folder: Path, name: str, configuration: Configuration) -> SidecarProcess:
    (folder / name).mkdir()
    return SidecarProcess(folder / name, configuration)


async def until_ready(process: SidecarProcess) -> None:
    async def ready() -> bool:
        return await process.status("/readyz") == 200

    await until(ready, "the sidecar has a token", seconds=60.0)


def presented(idp: MockIdP) -> list[str | None]:
    return [request.field("refresh_token") for request in idp.token_requests]


async def test_without_a_login_the_sidecar_runs_and_takes_one_up(
    idp: MockIdP, tmp_path: Path, configuration: Configuration
) -> None:
    async with sidecar(tmp_path, "first", configuration) as process:
        await until(lambda: bool(process.logs("token_refresh_failed")), "it says what it lacks")
        line = process.logs("token_refresh_failed")[0]
        assert (line["level"], line["reason"]) == ("error", "login_needed")
        assert (await process.metrics()).value("credential_state", credential=NAME, state="login_needed") == 1
        assert await process.status("/readyz") == 503
        assert presented(idp) == []
        log_in(idp, tmp_path)
        await until_ready(process)
        assert (await process.metrics()).value("token_rotations_total", credential=NAME) == 1


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_each_process_spends_what_the_one_before_was_given(
    idp: MockIdP, tmp_path: Path, configuration: Configuration, end: signal.Signals
) -> None:
    log_in(idp, tmp_path)
    for name in ("first", "second", "third"):
        async with sidecar(tmp_path, name, configuration) as process:
            await until_ready(process)
            process.send(end)
            await process.ended(seconds=60.0)
    assert len(set(presented(idp))) == 3


async def test_a_second_sidecar_spends_nothing_until_the_first_one_dies(
    idp: MockIdP, tmp_path: Path, configuration: Configuration
) -> None:
    log_in(idp, tmp_path)
    async with sidecar(tmp_path, "first", configuration) as first:
        await until_ready(first)
        async with sidecar(tmp_path, "second", configuration) as second:
            await until(lambda: bool(second.logs("token_refresh_failed")), "it finds the grant taken")
            assert second.logs("token_refresh_failed")[0]["reason"] == "store_locked"
            assert len(presented(idp)) == 1
            first.send(signal.SIGKILL)
            await until_ready(second)
    assert len(set(presented(idp))) == 2
