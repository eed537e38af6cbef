"""One credential's life against a provider on a real socket, in fake time."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.broker.credential import Credential, PublishedToken
from sidecar.broker.policy import State, Trigger
from sidecar.errors import TokenUnavailable
from sidecar.secrets import Secret
from sidecar.simulation.idp import Step
from tests.broker.conftest import DOWN, LIMITS, House, LogLines, token_of

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
    await house.received(1)
    sent_at = house.clock.now()
    house.clock.slip(30.0)
    held.set()
    house.clock.idle = lambda: house.broker.credential("orders").status().usable
    await house.clock.settle()
    token = token_of(house.broker.credential("orders"))
    assert (token.obtained_at, token.expires_at) == (sent_at, sent_at + 3600.0)


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
    await house.received(1)
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
    await house.received(1)
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
    await house.received(1)
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
    await house.received(1)
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
    await house.received(1)
    await credential.close()
    async with asyncio.timeout(5):
        assert isinstance(await waiter, TokenUnavailable)
    with pytest.raises(TokenUnavailable):
        await credential.wait()
    assert not credential.alive


def test_published_tokens_are_equal_by_what_requests_see() -> None:
    one, other = (
        PublishedToken(b"h", generation=1, obtained_at=0.0, expires_at=1.0, usable_until=1.0, secret=Secret(value))
        for value in ("a", "b")
    )
    assert one == other


# --- for a rehearsal -------------------------------------------------------------------------------------------------


async def test_a_token_that_ends_on_command_is_used_no_more_and_has_a_successor_at_once(house: House) -> None:
    credential = await house.run_one()
    assert credential.expire_now()
    assert credential.usable(house.clock.now()) is None
    assert (await credential.wait()).generation == 2
    assert (house.idp.issued[-1] == token_of(credential).secret.reveal(), len(house.idp.issued)) == (True, 2)


async def test_the_grace_of_stale_tokens_begins_at_the_command_or_does_not_count(house: House) -> None:
    credential = await house.run_one(stale_for=60.0)
    house.idp.always(DOWN)
    credential.expire_now()
    await house.clock.advance(59.0)
    assert credential.status().state is State.STALE
    assert credential.usable(house.clock.now()) is not None
    credential.expire_now(grace=False)
    assert credential.usable(house.clock.now()) is None


async def test_without_a_token_there_is_nothing_to_end(house: House) -> None:
    house.idp.always(DOWN)
    credential = await house.run_one()
    assert not credential.expire_now()
