"""What a credential tells: gauges and log lines, and never a secret."""

from __future__ import annotations

import asyncio
import math

import msgspec
import pytest

from sidecar.broker.report import NEXT_STEPS
from sidecar.errors import (
    InternalError,
    LoginNeeded,
    SecretMissing,
    SidecarError,
    StoreLocked,
    StoreUnusable,
    TokenRequestError,
    leaves,
)
from sidecar.simulation.idp import Step
from sidecar.telemetry.metrics import STATES
from tests.broker.conftest import DOWN, LIMITS, House, LogLines


def state_shown(house: House) -> list[str]:
    text = house.metrics.render(None)[0].decode()
    return [state for state in STATES if f'credential_state{{credential="orders",state="{state}"}} 1' in text]


async def test_the_metrics_of_a_healthy_token(house: House) -> None:
    credential = await house.run_one()
    meters, wall = house.meters(), house.clock.wall()
    assert meters.up.value == 1
    assert meters.lifetime.value == 3600
    assert meters.refreshed_timestamp.value == wall
    assert meters.expiry_timestamp.value == wall + 3600
    assert meters.next_refresh_timestamp.value == pytest.approx(wall + 0.575 * 3600)
    assert meters.requests["success"].value == 1
    assert meters.request_duration.count == 1
    assert meters.consecutive_failures.value == 0
    assert credential.status().next_attempt_at == pytest.approx(house.clock.now() + 0.575 * 3600)


async def test_a_token_without_end_has_an_infinite_expiry_and_no_next_refresh(house: House) -> None:
    path = house.secret_file.with_name("token")
    path.write_text("canary-token-static")
    await house.run_one(grant="static", token_file=str(path))
    assert house.meters().expiry_timestamp.value == math.inf
    assert house.meters().next_refresh_timestamp.value == 0


async def test_the_states_are_shown_one_at_a_time(house: House, held: asyncio.Event) -> None:
    await house.broker.apply({"orders": house.config()}, msgspec.structs.replace(LIMITS, token_request=1000.0))
    credential = house.broker.credential("orders")
    assert state_shown(house) == ["empty"]
    held.set()
    house.clock.idle = lambda: not credential.status().fetching
    await house.clock.settle()
    assert state_shown(house) == ["fresh"]
    refresh = asyncio.Event()
    house.idp.script(Step(hold=refresh))
    house.idp.always(DOWN)
    house.clock.idle = lambda: True
    await house.clock.advance(3000.0)
    assert state_shown(house) == ["due"]
    house.idp.secrets.clear()
    refresh.set()
    house.clock.idle = lambda: not credential.status().fetching
    await house.clock.settle()
    assert state_shown(house) == ["failing"]
    await house.clock.advance(601.0)
    assert state_shown(house) == ["stale"]
    house.idp.always(None)
    house.idp.secrets["client"] = {"client-secret"}
    await house.clock.advance(400.0)
    assert state_shown(house) == ["fresh"]


async def test_a_refresh_is_logged_with_its_numbers(house: House, log_lines: LogLines) -> None:
    await house.run_one()
    (line,) = log_lines("token_refreshed")
    assert {key: line[key] for key in ("credential", "generation", "lifetime_seconds", "trigger", "level")} == {
        "credential": "orders",
        "generation": 1,
        "lifetime_seconds": 3600.0,
        "trigger": "startup",
        "level": "info",
    }
    assert line["next_refresh_in_seconds"] == pytest.approx(0.575 * 3600)


async def test_an_outage_is_logged_from_its_first_failure_to_its_end(house: House, log_lines: LogLines) -> None:
    house.idp.ttl = 60.0
    await house.run_one()
    house.idp.always(Step(status=503, body=b'{"error": "temporarily_unavailable", "error_description": "canary"}'))
    await house.clock.advance(90.0)
    failures = log_lines("token_refresh_failed")
    assert failures[0]["level"] == "warning"
    assert failures[-1]["level"] == "error"
    wanted = {"reason": "server_error", "fault": "idp", "http_status": 503, "oauth_error": "temporarily_unavailable"}
    for number, line in enumerate(failures, 1):
        assert {key: line[key] for key in wanted} == wanted
        assert line["attempt"] == number
        assert line["retry_in_seconds"] <= 30.0
        assert line["next"]
    assert failures[0]["usable_for_seconds"] > 20
    assert failures[-1]["usable_for_seconds"] == 0
    assert len(log_lines("token_expired")) == 1
    house.idp.always(None)
    await house.clock.advance(30.0)
    (recovered,) = log_lines("token_recovered")
    assert 55.0 <= recovered["outage_seconds"] <= 90.0
    assert recovered["failures"] == len(failures)
    assert house.meters().oauth_error("temporarily_unavailable").value == len(failures)


async def test_no_token_and_no_secret_is_in_any_line(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.secret_file.write_text("canary-client-secret")
    house.idp.secrets["client"] = {"canary-client-secret"}
    house.idp.ttl = 10.0
    house.idp.script(
        Step(),
        Step(status=400, body=b'{"error": "invalid_request", "error_description": "canary-client-secret is odd"}'),
        Step(body=b"<html>canary-token</html>"),
        Step(fault="reset"),
        Step(fields={"access_token": "canary-token with a space"}),
    )
    await house.run_one()
    await house.clock.advance(2000.0)
    lines = capsys.readouterr().err
    assert "token_refresh_failed" in lines
    assert "canary" not in lines
    assert b"canary" not in house.metrics.render(None)[0]


def test_every_failure_has_a_next_step() -> None:
    beside: set[type[SidecarError]] = {SecretMissing, InternalError, StoreUnusable, StoreLocked, LoginNeeded}
    assert {leaf.reason for leaf in (*leaves(TokenRequestError), *beside)} == NEXT_STEPS.keys()
