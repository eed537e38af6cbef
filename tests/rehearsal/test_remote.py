"""A running sidecar is asked by its admin API, where its configuration allows it."""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.errors import ConfigurationInvalid, SidecarError, TokenConnect, UsageError
from sidecar.rehearsal import remote
from sidecar.rehearsal.remote import RunningSidecar
from sidecar.runtime import SystemClock
from tests.proxy.conftest import logs, pytest_asyncio_loop_factories, rig, trust  # noqa: F401 - fixtures
from tests.rehearsal.plays import configuration, scenario

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.rehearsal.run import Result
    from sidecar.rehearsal.scenario import Scenario
    from tests.proxy.conftest import Logs
    from tests.proxy.rig import Rig

ADMIN = "cn4ry-admin-token-of-the-test"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "admin-token"
    path.write_text(ADMIN)
    return path


async def started(rig: Rig, secret: Path, *, enabled: bool = True) -> None:
    await rig.start(
        admin={"bind": f"127.0.0.1:{rig.port('admin')}", "token": f"file:{secret}"}, simulation={"enabled": enabled}
    )


async def played(rig: Rig, secret: Path, play: Scenario) -> Result:
    known = configuration(admin={"token": f"file:{secret}"})
    sidecar = RunningSidecar(f"http://127.0.0.1:{rig.port('admin')}", known)
    return await remote.rehearse("mine", play, sidecar, clock=SystemClock(), tell=lambda _: None)


@pytest.mark.parametrize(("event", "action"), [("expire", "expire"), ("revoke", "revoke-token")])
async def test_its_tokens_end_on_command_and_come_again(
    rig: Rig, secret: Path, logs: Logs, event: str, action: str
) -> None:
    await started(rig, secret)
    play = scenario({"at": "100ms", "event": event}, duration="2s", expect={"failed": 10, "refreshes": 1})
    result = await played(rig, secret, play)
    assert result.passed, result.findings
    assert rig.orders.status().generation == 2
    [line] = logs("token_expired_on_command")
    assert (line["credential"], line["action"], line["level"]) == ("orders", action, "warning")


async def test_it_can_be_asked_for_a_new_token(rig: Rig, secret: Path) -> None:
    await started(rig, secret, enabled=False)
    play = scenario({"at": "0s", "event": "refresh", "credential": "orders"}, duration="1s", expect={"refreshes": 1})
    assert (await played(rig, secret, play)).passed


async def test_a_sidecar_that_does_not_allow_it_refuses(rig: Rig, secret: Path) -> None:
    await started(rig, secret, enabled=False)
    with pytest.raises(ConfigurationInvalid, match="refuses to expire: nothing is simulated here"):
        await played(rig, secret, scenario({"at": "0s", "event": "expire"}))
    assert rig.orders.status().generation == 1


async def test_events_that_need_a_provider_of_ours_are_refused(rig: Rig, secret: Path) -> None:
    with pytest.raises(UsageError, match="outage needs the mock provider; a running sidecar can expire, refresh or"):
        await played(rig, secret, scenario({"at": "0s", "event": "outage"}))


async def test_nobody_at_the_address_is_told(rig: Rig, secret: Path) -> None:
    with pytest.raises(TokenConnect, match="no sidecar's admin API answers"):
        await played(rig, secret, scenario({"at": "0s", "event": "expire"}))


async def test_somebody_else_at_the_address_gets_no_token(rig: Rig, secret: Path) -> None:
    rig.ports["admin"] = rig.idp.port
    with pytest.raises(TokenConnect, match="does not answer as a sidecar's admin API"):
        await played(rig, secret, scenario({"at": "0s", "event": "expire"}))
    assert not any(ADMIN in str(received.headers) for received in rig.idp.received)


@pytest.mark.parametrize(
    ("url", "admin", "error"),
    [
        ("http://127.0.0.1:1/v1", {"token": "file:/absent"}, UsageError),
        ("http://127.0.0.1:1", {}, ConfigurationInvalid),
        ("http://127.0.0.1:1", None, ConfigurationInvalid),
    ],
)
def test_what_cannot_work_is_told_before(url: str, admin: Any, error: type[SidecarError]) -> None:
    known = configuration() if admin is None else configuration(admin=admin)
    with pytest.raises(error):
        RunningSidecar(url, known)


async def test_an_admin_token_that_is_not_the_sidecars_is_told(rig: Rig, secret: Path, tmp_path: Path) -> None:
    await started(rig, secret)
    other = tmp_path / "other"
    other.write_text("another-admin-token-of-the-test")
    with pytest.raises(ConfigurationInvalid, match="refuses to expire"):
        await played(rig, other, scenario({"at": "0s", "event": "expire"}))
