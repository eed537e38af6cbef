"""All credentials together: what a reload keeps, replaces and ends, and the watch over the loops."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from sidecar.broker import broker
from sidecar.broker.broker import START_SPREAD_SECONDS, Broker
from sidecar.broker.waits import Alarm
from sidecar.config.model import Credential as CredentialConfig
from sidecar.config.model import Dialect, Refresh, Store
from sidecar.errors import ConfigurationInvalid, StoreUnusable
from sidecar.runtime import Tasks
from sidecar.secrets import SecretReference
from sidecar.simulation.idp import Step
from sidecar.telemetry.metrics import Metrics
from tests.broker.conftest import LIMITS, House
from tests.broker.store_kit import key_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fake_clock import FakeClock

LogLines = Callable[[str], list[dict[str, Any]]]


async def test_credentials_start_together_and_at_once(house: House) -> None:
    await house.run({name: house.config(scopes=(name,)) for name in "abc"})
    await house.clock.advance(0.1)
    assert all(house.broker.credential(name).status().usable for name in "abc")
    assert len(house.idp.received) == 3
    assert [one.name for one in house.broker.credentials()] == ["a", "b", "c"]


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> float:
    """Starts are spread as in production; over how many seconds."""
    monkeypatch.setattr(broker, "START_SPREAD_SECONDS", START_SPREAD_SECONDS)
    return START_SPREAD_SECONDS


async def test_a_fleet_that_starts_in_one_second_does_not_ask_in_one(house: House, spread: float) -> None:
    house.broker._uniform = random.Random(1).uniform
    began_at = house.clock.now()
    await house.run({f"c{number}": house.config(scopes=(str(number),)) for number in range(60)})
    assert house.idp.received == deque()
    await house.clock.advance(spread)
    seconds = Counter(int(received.at - began_at) for received in house.idp.received)
    assert seconds.total() == 60
    assert max(seconds.values()) <= 1.5 * 60 / spread


async def test_no_request_waits_for_the_spread(house: House, spread: float) -> None:
    house.chance.at = 1.0
    await house.run({f"c{number}": house.config(scopes=(str(number),)) for number in range(5)})
    waiting = house.tasks.spawn("waiting", house.broker.credential("c4").wait())
    await house.clock.settle()
    assert waiting.done()
    assert house.clock.now() == 1000.0
    assert len(house.idp.received) == 1
    assert house.meters("c4").triggers["startup"].value == 1
    await house.clock.advance(spread)
    assert len(house.idp.received) == 5


async def test_readiness_waits_no_longer_than_the_spread(house: House, spread: float) -> None:
    house.chance.at = 1.0
    await house.run({"must": house.config(required_for_ready=True)})
    assert house.broker.ready() == ["must"]
    await house.clock.advance(spread)
    assert house.broker.ready() == []
    assert spread < 5.0


@pytest.mark.usefixtures("spread")
async def test_what_replaces_a_credential_is_asked_for_at_once(house: House) -> None:
    await house.run({"must": house.config(required_for_ready=True)})
    house.chance.at = 1.0
    await house.run({"must": house.config(required_for_ready=True, audience="https://other.test")})
    assert house.broker.ready() == []


@pytest.mark.usefixtures("spread")
async def test_a_token_that_lies_here_is_read_at_once(house: House, tmp_path: Path) -> None:
    house.chance.at = 1.0
    file = tmp_path / "token"
    file.write_text("given-token\n")
    given = CredentialConfig(grant="static", token=SecretReference.parse(f"file:{file}"))
    await house.run({"given": given})
    assert house.broker.credential("given").status().usable


async def test_an_unchanged_credential_carries_over_with_everything(house: House) -> None:
    credential = await house.run_one()
    token, requests = credential.published, len(house.idp.received)
    await house.clock.advance(100.0)
    await house.run({"orders": house.config(), "more": house.config(audience="x")})
    assert house.broker.credential("orders") is credential
    assert credential.published is token
    assert len(house.idp.received) == requests + 1
    assert house.meters().triggers["startup"].value == 1


async def test_a_carried_over_credential_goes_by_the_new_limits(house: House) -> None:
    house.idp.always(Step(status=503, headers={"Retry-After": "3"}))
    credential = await house.run_one()
    await house.run({"orders": house.config()}, msgspec.structs.replace(LIMITS, token_wait=0.5))
    waiting = house.tasks.spawn("waiting", credential.wait())
    await house.clock.settle()
    assert waiting.done()
    assert waiting.exception() is not None
    house.crashes.clear()


async def test_a_changed_credential_starts_anew_and_counts_generations_on(house: House) -> None:
    credential = await house.run_one()
    await house.run({"orders": house.config(audience="https://other.test")})
    changed = house.broker.credential("orders")
    assert changed is not credential
    assert not credential.alive
    assert changed.status().generation == 2
    assert house.idp.received[-1].field("audience") == "https://other.test"
    assert house.meters().requests["success"].value == 1


async def test_a_removed_credential_ends_and_its_series_with_it(house: House) -> None:
    credential = await house.run_one()
    await house.run({})
    assert not credential.alive
    assert house.broker.credentials() == []
    assert b'credential="orders"' not in house.metrics.render(None)[0]
    with pytest.raises(KeyError):
        house.broker.credential("orders")
    requests = len(house.idp.received)
    await house.clock.advance(7200.0)
    assert len(house.idp.received) == requests


async def test_readiness_asks_for_the_token_itself(house: House) -> None:
    house.idp.always(Step(status=503))
    await house.run({"must": house.config(required_for_ready=True), "may": house.config()})
    assert house.broker.ready() == ["must"]
    house.idp.always(None)
    await house.clock.advance(60.0)
    assert house.broker.ready() == []
    await house.idp.stop()
    await house.clock.advance(3601.0)
    assert house.broker.ready() == ["must"]


async def test_a_dead_loop_is_restarted(house: House, log_lines: LogLines) -> None:
    credential = await house.run_one()
    token = credential.published
    assert credential._loop is not None
    credential._loop.cancel()
    await house.clock.advance(5.0)
    assert credential.alive
    assert credential.published is token
    assert [line["cause"] for line in log_lines("refresh_loop_restarted")] == ["ended"]
    await house.clock.advance(3599.0)
    assert credential.status().usable


async def test_a_loop_that_dies_of_a_bug_is_restarted_and_reported(house: House, log_lines: LogLines) -> None:
    credential = await house.run_one()
    source = credential._source
    credential._source = None  # type: ignore[assignment]
    await house.clock.advance(5.0)
    credential._source = source
    await house.clock.advance(5.0)
    assert credential.alive
    assert log_lines("refresh_loop_restarted")
    assert house.crashes
    house.crashes.clear()


async def test_a_hung_loop_is_restarted(house: House, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch) -> None:
    credential = await house.run_one()
    monkeypatch.setattr(Alarm, "sleep_until", lambda self, at: asyncio.Event().wait())
    await house.clock.advance(5.0)
    monkeypatch.undo()
    await house.clock.advance(20.0)
    assert [line["cause"] for line in log_lines("refresh_loop_restarted")] == ["hung"]
    turns = credential.turns
    await house.clock.advance(5.0)
    assert credential.turns > turns


async def test_a_suspended_machine_makes_no_loop_look_hung(house: House, log_lines: LogLines) -> None:
    await house.run_one()
    for _ in range(5):
        await house.clock.jump(3600.0)
    assert log_lines("refresh_loop_restarted") == []


async def test_closing_leaves_no_task_and_no_connection(house: House) -> None:
    await house.run({name: house.config(scopes=(name,)) for name in "abc"})
    await house.broker.close()
    await house.clock.settle()
    assert len(house.tasks) == 0


async def test_credentials_of_different_endpoints_do_not_share_a_breaker(house: House) -> None:
    down = house.config(token_url=f"{house.idp.origin}/elsewhere")
    await house.run({"down": down, "orders": house.config()})
    await house.clock.advance(30.0)
    assert house.broker.credential("orders").status().usable
    assert not house.broker.credential("down").status().usable


def test_authlibs_insecure_switch_keeps_the_broker_from_starting(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    with pytest.raises(ConfigurationInvalid):
        Broker(clock=clock, uniform=lambda low, high: low, metrics=Metrics(), tasks=Tasks(lambda name, error: None))


OTHER_VALUES: dict[str, Any] = {
    "token_url": "http://127.0.0.1:1/other",
    "issuer": "http://127.0.0.1:1",
    "client_id": "other",
    "client_secret": SecretReference.parse("env:OTHER"),
    "client_auth": "client_secret_post",
    "basic_encoding": "raw",
    "scopes": ("other",),
    "required_scopes": ("other",),
    "on_scope_missing": "degraded",
    "audience": "other",
    "token_params": {"resource": "other"},
    "ca_file": "/other.pem",
    "refresh": Refresh(at=0.5),
    "default_ttl": 1.0,
    "stale_for": 1.0,
    "token_file": "/other",
    "dpop": True,
    "secret_max_age": 1.0,
    "dialect": Dialect(body="json"),
    "assertion_algorithm": "ES256",
    "assertion_claims": {"other": "other"},
    "command": ("other",),
    **dict.fromkeys(
        ("token", "private_key", "certificate_key", "assertion", "subject_token", "actor_token", "refresh_token"),
        SecretReference.parse("env:OTHER"),
    ),
    **dict.fromkeys(
        (
            *("token_issuer", "key_id", "assertion_audience", "assertion_subject", "certificate", "assertion_file"),
            *("subject_token_type", "actor_token_type"),
        ),
        "other",
    ),
    **dict.fromkeys(
        (*("authorization_url", "device_authorization_url", "revocation_url", "redirect_uri", "impersonation_url"),),
        "http://127.0.0.1:1/other",
    ),
}


@pytest.mark.parametrize("key", OTHER_VALUES)
async def test_a_difference_in_any_input_is_another_credential(house: House, key: str) -> None:
    credential = await house.run_one()
    await house.broker.apply({"orders": house.config(**{key: OTHER_VALUES[key]})}, LIMITS)
    assert house.broker.credential("orders") is not credential


def test_every_input_of_a_credential_was_tried() -> None:
    not_alone = {"provider", "provider_params", "grant", "required_for_ready"}
    assert {field.name for field in msgspec.structs.fields(CredentialConfig)} == not_alone | OTHER_VALUES.keys()


async def test_a_login_needs_a_place_for_its_grant_and_a_key_that_is_one(house: House, tmp_path: Path) -> None:
    await house.run({"a": house.config()})
    meters = Metrics().credential("a")
    assert house.broker.config("a") == house.config()
    with pytest.raises(ConfigurationInvalid, match="store"):
        house.broker.for_login("a", meters)
    place = Store(path=str(tmp_path / "tokens"), key=SecretReference("file", str(tmp_path / "key")))
    await house.broker.apply({"a": house.config()}, LIMITS, place)
    with pytest.raises(StoreUnusable):
        house.broker.for_login("a", meters)
    key_file(tmp_path).rename(tmp_path / "key")
    _, store = house.broker.for_login("a", meters)
    assert store.path == tmp_path / "tokens"
