"""One credential's life against a provider on a real socket, in fake time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from sidecar.broker.credential import Credential, PublishedToken
from sidecar.broker.policy import State, Trigger
from sidecar.errors import TokenUnavailable
from sidecar.secrets import Secret
from sidecar.simulation.idp import Step
from sidecar.telemetry.metrics import STATES
from tests.broker.conftest import LIMITS, House

LogLines = Callable[[str], list[dict[str, Any]]]
DOWN = Step(status=503)


def state_shown(house: House) -> list[str]:
    text = house.metrics.render(None)[0].decode()
    return [state for state in STATES if f'credential_state{{credential="orders",state="{state}"}} 1' in text]


def token_of(credential: Credential) -> PublishedToken:
    assert credential.published is not None
    return credential.published


@pytest.fixture
async def held(house: House) -> AsyncIterator[asyncio.Event]:
    """The provider holds its next answer back until this is set; time moves on meanwhile."""
    release = asyncio.Event()
    house.idp.script(Step(hold=release))
    house.clock.idle = lambda: True
    yield release
    release.set()


async def received(house: House, count: int) -> None:
    async with asyncio.timeout(5):
        while len(house.idp.received) < count:
            await asyncio.sleep(0)


Outcome = PublishedToken | TokenUnavailable


async def spawn_waiters(house: House, credential: Credential, count: int) -> list[asyncio.Task[Outcome]]:
    waiters = [house.tasks.spawn(f"waiter:{number}", _quiet(credential)) for number in range(count)]
    await house.clock.settle()
    return waiters


async def _quiet(credential: Credential) -> Outcome:
    try:
        return await credential.wait()
    except TokenUnavailable as exc:
        return exc


# --- getting tokens --------------------------------------------------------------------------------------------------


async def test_the_first_token_is_fetched_at_start_without_any_request(house: House) -> None:
    credential = await house.run_one()
    token = credential.usable(house.clock.now())
    assert token is not None
    assert token.header == f"Authorization: Bearer {house.idp.issued[0]}\r\n".encode()
    assert token.generation == 1
    assert house.meters().triggers["startup"].value == 1


async def test_a_token_is_replaced_before_it_expires_and_requests_never_notice(house: House) -> None:
    house.idp.ttl = 6.0
    credential = await house.run_one()
    for _ in range(600):
        await house.clock.advance(0.1)
        token = credential.usable(house.clock.now())
        assert token is not None
        assert house.idp.is_valid(token.secret.reveal())
    assert 60 / (0.85 * 6) <= token_of(credential).generation <= 60 / (0.6 * 6)
    assert house.meters().triggers["scheduled"].value == token_of(credential).generation - 1
    assert house.meters().wait.count == 0


async def test_the_lifetime_counts_from_the_moment_the_request_was_sent(house: House, held: asyncio.Event) -> None:
    await house.broker.apply({"orders": house.config()}, LIMITS)
    await received(house, 1)
    sent_at = house.clock.now()
    house.clock.slip(30.0)
    held.set()
    house.clock.idle = lambda: house.broker.credential("orders").status().usable
    await house.clock.settle()
    token = token_of(house.broker.credential("orders"))
    assert (token.obtained_at, token.expires_at) == (sent_at, sent_at + 3600.0)


async def test_a_token_that_expired_on_its_way_is_no_token(house: House, held: asyncio.Event) -> None:
    await house.broker.apply({"orders": house.config()}, LIMITS)
    await received(house, 1)
    house.clock.slip(3600.0)
    held.set()
    house.clock.idle = lambda: house.broker.credential("orders").status().last_error == "malformed"
    await house.clock.settle()
    assert house.broker.credential("orders").published is None


async def test_setting_the_wall_clock_changes_nothing(house: House) -> None:
    credential = await house.run_one()
    for wall in (0.0, 4_000_000_000.0):
        house.clock.set_wall(wall)
        await house.clock.advance(6.0)
        assert credential.status().usable
    assert len(house.idp.received) == 1


async def test_a_token_shows_itself_in_no_repr(house: House) -> None:
    credential = await house.run_one()
    for shown in (credential, credential.published, credential.status(), house.broker, house.clock):
        assert "canary" not in repr(shown)
    assert repr(credential) == "<Credential orders fresh, generation 1>"


async def test_an_expired_token_is_never_handed_out(house: House) -> None:
    credential = await house.run_one()
    token = token_of(credential)
    assert credential.usable(token.expires_at - 0.001) is token
    assert credential.usable(token.expires_at) is None


async def test_stale_for_is_a_grace_after_the_expiry_and_no_more(house: House) -> None:
    credential = await house.run_one(stale_for=60.0)
    token = token_of(credential)
    await house.idp.stop()
    await house.clock.advance(3600.0 + 59.0)
    assert credential.usable(house.clock.now()) is token
    assert house.clock.now() > token.expires_at
    assert house.meters().up.value == 1
    await house.clock.advance(1.0)
    assert credential.usable(house.clock.now()) is None
    assert house.meters().up.value == 0


# --- waiting ---------------------------------------------------------------------------------------------------------


async def test_a_burst_waits_on_one_request(house: House, held: asyncio.Event) -> None:
    await house.broker.apply({"orders": house.config()}, LIMITS)
    credential = house.broker.credential("orders")
    waiters = await spawn_waiters(house, credential, 200)
    await received(house, 1)
    held.set()
    async with asyncio.timeout(5):
        tokens = await asyncio.gather(*waiters)
    assert set(map(id, tokens)) == {id(credential.published)}
    assert len(house.idp.received) == 1
    assert house.meters().wait.count == 200


async def test_a_waiter_that_leaves_cancels_nothing(house: House, held: asyncio.Event) -> None:
    await house.broker.apply({"orders": house.config()}, LIMITS)
    credential = house.broker.credential("orders")
    waiters = await spawn_waiters(house, credential, 3)
    await received(house, 1)
    waiters[0].cancel()
    waiters[1].cancel()
    await house.clock.settle()
    held.set()
    async with asyncio.timeout(5):
        assert await waiters[2] is credential.published
    assert waiters[0].cancelled()
    assert len(house.idp.received) == 1


async def test_a_wait_is_bounded(house: House, held: asyncio.Event) -> None:
    await house.broker.apply({"orders": house.config()}, LIMITS)
    credential = house.broker.credential("orders")
    (waiter,) = await spawn_waiters(house, credential, 1)
    await received(house, 1)
    await house.clock.advance(LIMITS.token_wait - 0.1)
    assert not waiter.done()
    await house.clock.advance(0.1)
    assert waiter.done()
    error = waiter.result()
    assert isinstance(error, TokenUnavailable)
    assert error.retry_after_seconds == 1.0
    assert (error.status, error.reason) == (503, "token_unavailable")


async def test_nobody_waits_for_an_attempt_that_comes_too_late(house: House) -> None:
    house.idp.always(Step(status=503, headers={"Retry-After": "60"}))
    credential = await house.run_one()
    with pytest.raises(TokenUnavailable, match="server_error") as caught:
        await credential.wait()
    assert caught.value.retry_after_seconds is not None
    assert 60.0 <= caught.value.retry_after_seconds <= 66.0
    assert house.clock.now() == 1000.0


async def test_a_wait_outlasts_failed_attempts_within_its_bound(house: House) -> None:
    house.idp.script(DOWN, DOWN)
    credential = await house.run_one()
    (waiter,) = await spawn_waiters(house, credential, 1)
    took = await house.clock.advance_until(waiter.done, at_most=LIMITS.token_wait)
    assert took > 0
    assert waiter.result() is credential.published


async def test_a_wait_with_a_usable_token_is_none(house: House) -> None:
    credential = await house.run_one()
    assert await credential.wait() is credential.published
    assert house.meters().wait.count == 0


# --- failures --------------------------------------------------------------------------------------------------------


async def test_a_refresh_that_fails_keeps_the_valid_token(house: House) -> None:
    credential = await house.run_one()
    token = token_of(credential)
    house.idp.always(DOWN)
    await house.clock.advance(3599.0)
    assert credential.usable(house.clock.now()) is token
    assert credential.status().state is State.FAILING
    assert house.meters().consecutive_failures.value > 10


async def test_the_idps_retry_after_is_obeyed(house: House) -> None:
    house.idp.script(Step(status=429, headers={"Retry-After": "100"}))
    credential = await house.run_one()
    await spawn_waiters(house, credential, 3)
    await house.clock.advance(99.0)
    assert len(house.idp.received) == 1
    await house.clock.advance(11.0)
    assert len(house.idp.received) == 2
    assert credential.status().usable


async def test_a_retry_after_of_a_day_is_five_minutes(house: House) -> None:
    house.idp.script(Step(status=503, headers={"Retry-After": "86400"}))
    await house.run_one()
    await house.clock.advance(299.0)
    assert len(house.idp.received) == 1
    await house.clock.advance(1.0)
    assert len(house.idp.received) == 2


async def test_a_terminal_failure_is_probed_slowly_and_never_given_up(house: House) -> None:
    house.idp.secrets["client"] = {"another"}
    credential = await house.run_one()
    await spawn_waiters(house, credential, 1)
    await house.clock.advance(3600.0)
    assert 10 <= len(house.idp.received) <= 16
    house.idp.secrets["client"] = {"client-secret"}
    await house.clock.advance(361.0)
    assert credential.status().usable


async def test_a_token_that_lacks_a_required_scope_is_not_published(house: House) -> None:
    house.idp.scopes = frozenset({"read"})
    credential = await house.run_one(scopes=("read", "write"), required_scopes=("write",))
    assert credential.published is None
    assert credential.status().last_error == "invalid_scope"
    assert house.meters().requests["invalid_scope"].value == 1


async def test_a_degraded_token_is_used_and_raises_an_alarm(house: House, log_lines: LogLines) -> None:
    house.idp.scopes = frozenset({"read"})
    credential = await house.run_one(scopes=("read", "write"), required_scopes=("write",), on_scope_missing="degraded")
    assert credential.status().usable
    (line,) = log_lines("scope_missing")
    assert (line["level"], line["missing"]) == ("error", "write")


async def test_a_fetch_that_never_ends_is_given_up(house: House) -> None:
    house.idp.always(Step(fault="hang"))
    limits = msgspec.structs.replace(LIMITS, token_request=1000.0)
    house.clock.idle = lambda: True
    await house.broker.apply({"orders": house.config()}, limits)
    await received(house, 1)
    await house.clock.advance(4000.0)
    assert house.meters().consecutive_failures.value == 0
    await house.clock.advance(10.0)
    assert house.broker.credential("orders").status().last_error == "timeout"


class Broken:
    """A source with a bug."""

    watches = False
    requests_sent = 0
    limits = LIMITS

    async def fetch(self) -> Any:
        raise ZeroDivisionError("canary-secret")

    def inputs_changed(self) -> bool:
        return False


async def test_a_bug_in_an_attempt_is_reported_and_retried_with_backoff(house: House, log_lines: LogLines) -> None:
    credential = await house.run_one()
    credential._source = Broken()
    credential.request_refresh()
    await house.clock.advance(60.0)
    assert 3 <= len(house.crashes) <= 12
    assert all(isinstance(crash, ZeroDivisionError) for crash in house.crashes)
    assert credential.status().usable
    assert log_lines("token_refresh_failed")[0]["reason"] == "internal"
    house.crashes.clear()


# --- the same token --------------------------------------------------------------------------------------------------


async def test_the_same_token_again_is_the_same_generation_and_no_loop(house: House, log_lines: LogLines) -> None:
    house.idp.renews_within = 225.0
    credential = await house.run_one()
    first = token_of(credential)
    await house.clock.advance(3599.0)
    assert 3 <= len(house.idp.received) <= 5
    assert token_of(credential).generation == 2
    assert [line["generation"] for line in log_lines("token_unchanged")] == [1] * (len(house.idp.received) - 2)
    assert first.generation == 1


async def test_a_token_that_is_only_replaced_at_its_end_is_asked_for_then(house: House) -> None:
    house.idp.renews_within = 0.0
    house.idp.ttl = 60.0
    credential = await house.run_one()
    first = token_of(credential)
    await house.clock.advance(60.0)
    assert token_of(credential).generation == 2
    assert len(house.idp.received) <= 8
    assert token_of(credential).obtained_at >= first.expires_at


async def test_the_same_token_keeps_the_instant_it_was_first_obtained(house: House) -> None:
    house.idp.renews_within = 60.0
    credential = await house.run_one()
    first = token_of(credential)
    await house.clock.advance(100.0)
    credential.request_refresh()
    await house.clock.settle()
    assert len(house.idp.received) == 2
    assert token_of(credential).obtained_at == first.obtained_at
    assert token_of(credential).expires_at == pytest.approx(first.expires_at)


# --- an upstream's 401 -----------------------------------------------------------------------------------------------


async def renew(
    house: House, credential: Credential, generation: int = 1, *, accepted: bool = True
) -> PublishedToken | None:
    renewing = house.tasks.spawn("renewing", credential.renew_after_unauthorized(generation, accepted_before=accepted))
    await house.clock.settle()
    async with asyncio.timeout(5):
        renewed: PublishedToken | None = await renewing
        return renewed


async def test_a_401_brings_a_new_token_at_once(house: House) -> None:
    credential = await house.run_one()
    renewed = await renew(house, credential)
    assert renewed is credential.published
    assert renewed is not None
    assert renewed.generation == 2
    assert house.meters().triggers["unauthorized"].value == 1


async def test_a_401_to_an_older_token_gets_the_newer_one_without_a_request(house: House) -> None:
    credential = await house.run_one()
    await renew(house, credential)
    assert await renew(house, credential) is credential.published
    assert len(house.idp.received) == 2


async def test_a_burst_of_401s_leads_to_one_request(house: House, held: asyncio.Event) -> None:
    held.set()
    credential = await house.run_one()
    await received(house, 1)
    await house.clock.advance_until(lambda: credential.status().usable, at_most=1.0)
    held.clear()
    house.idp.script(Step(hold=held))
    renewing = [
        house.tasks.spawn(f"renew:{number}", credential.renew_after_unauthorized(1, accepted_before=True))
        for number in range(50)
    ]
    await received(house, 2)
    held.set()
    async with asyncio.timeout(5):
        renewed = await asyncio.gather(*renewing)
    assert set(map(id, renewed)) == {id(credential.published)}
    assert len(house.idp.received) == 2


async def test_a_401_to_a_brand_new_token_is_relayed(house: House) -> None:
    credential = await house.run_one()
    assert await renew(house, credential, accepted=False) is None
    assert len(house.idp.received) == 1
    await house.clock.advance(31.0)
    assert await renew(house, credential, accepted=False) is not None


async def test_401s_cause_at_most_one_request_in_10_seconds(house: House) -> None:
    credential = await house.run_one()
    for _ in range(100):
        await renew(house, credential, token_of(credential).generation)
        await house.clock.advance(0.5)
    assert 5 <= len(house.idp.received) <= 7


async def test_the_same_token_after_a_401_is_no_renewal(house: House) -> None:
    house.idp.renews_within = 60.0
    credential = await house.run_one()
    assert await renew(house, credential) is None
    assert len(house.idp.received) == 2


async def test_a_failed_renewal_keeps_the_token_and_relays_the_401(house: House) -> None:
    credential = await house.run_one()
    house.idp.script(DOWN)
    assert await renew(house, credential) is None
    assert credential.status().usable
    assert credential.status().state is State.FAILING


async def test_a_401_while_the_idp_asked_for_quiet_is_relayed_at_once(house: House) -> None:
    credential = await house.run_one()
    house.idp.script(Step(status=429, headers={"Retry-After": "60"}))
    credential.request_refresh()
    await house.clock.settle()
    assert await renew(house, credential) is None
    assert len(house.idp.received) == 2


async def test_without_a_token_there_is_nothing_to_renew(house: House) -> None:
    house.idp.always(DOWN)
    credential = await house.run_one()
    assert await credential.renew_after_unauthorized(1, accepted_before=True) is None


# --- late timers -----------------------------------------------------------------------------------------------------


async def test_a_machine_that_slept_over_the_expiry_asks_at_once(house: House) -> None:
    credential = await house.run_one()
    await house.clock.jump(8 * 3600.0)
    await house.clock.settle()
    assert token_of(credential).generation == 2
    assert credential.status().usable


async def test_the_loop_turns_at_least_every_5_seconds(house: House) -> None:
    credential = await house.run_one()
    for _ in range(20):
        turns = credential.turns
        await house.clock.advance(5.0)
        assert credential.turns > turns
        assert house.clock.wall() - house.meters().heartbeat_timestamp.value < 5.0


async def test_the_loop_turns_while_a_request_is_under_way(house: House, held: asyncio.Event) -> None:
    await house.broker.apply({"orders": house.config()}, LIMITS)
    await received(house, 1)
    turns = house.broker.credential("orders").turns
    await house.clock.advance(5.0)
    assert house.broker.credential("orders").turns == turns + 1


# --- by hand, and the end --------------------------------------------------------------------------------------------


async def test_a_refresh_by_hand_happens_at_once_even_in_backoff(house: House) -> None:
    house.idp.script(Step(status=503, headers={"Retry-After": "300"}))
    credential = await house.run_one()
    credential.request_refresh(Trigger.MANUAL)
    await house.clock.settle()
    assert credential.status().usable
    assert house.meters().triggers["manual"].value == 1


async def test_closing_ends_loop_and_fetch_and_lets_nobody_wait(house: House, held: asyncio.Event) -> None:
    await house.broker.apply({"orders": house.config()}, LIMITS)
    credential = house.broker.credential("orders")
    (waiter,) = await spawn_waiters(house, credential, 1)
    await received(house, 1)
    await credential.close()
    async with asyncio.timeout(5):
        assert isinstance(await waiter, TokenUnavailable)
    with pytest.raises(TokenUnavailable):
        await credential.wait()
    assert not credential.alive


# --- what it tells ---------------------------------------------------------------------------------------------------


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


def test_published_tokens_are_equal_by_what_requests_see() -> None:
    one, other = (
        PublishedToken(b"h", generation=1, obtained_at=0.0, expires_at=1.0, usable_until=1.0, secret=Secret(value))
        for value in ("a", "b")
    )
    assert one == other
