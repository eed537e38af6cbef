"""Refresh tokens whose answer was lost: tried once more, then held back, and healed wherever that is possible."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sidecar.broker import renewal
from sidecar.broker.policy import State
from sidecar.errors import (
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    LoginNeeded,
    RateLimited,
    SecretMissing,
    ServerError,
    TokenConnect,
    TokenDNS,
    TokenMalformed,
    TokenRefused,
    TokenTimeout,
    TokenTLS,
)
from sidecar.simulation.faults import Step
from sidecar.simulation.registration import Refreshing
from tests.broker.renewal_kit import Asked, Rig
from tests.broker.store_kit import grant

LogLines = Callable[[str], list[dict[str, Any]]]
LOST = Step(commits=True, fault="reset")
NEVER_ARRIVED = Step(fault="reset")


# --- an answer that is lost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [LOST, NEVER_ARRIVED, Step(status=502, commits=True), Step(body=b"<p>", commits=True)])
async def test_a_lost_answer_is_asked_for_once_more_and_the_grace_heals_it(
    rig: Rig, step: Step, log_lines: LogLines
) -> None:
    token = rig.log_in(rotates=True)
    rig.idp.script(step)
    credential = await rig.run(rig.source())
    in_doubt = rig.on_disk
    assert in_doubt.spent_at is not None
    await rig.clock.advance(2.0)
    assert rig.presented == [token, token]
    assert credential.status().state is State.FRESH
    assert rig.on_disk.spent_at is None
    assert len(log_lines("rotation_answer_lost")) == 1


async def test_two_lost_answers_in_a_row_call_for_a_login_and_leave_the_access_token_alone(
    rig: Rig, log_lines: LogLines
) -> None:
    rig.log_in()
    credential = await rig.run(rig.source())
    token = rig.on_disk.refresh_token.reveal()
    rig.idp.script(LOST, LOST)
    await rig.clock.advance(3000.0)
    assert rig.presented[1:] == [token, token]
    assert credential.status().state is State.LOGIN_NEEDED
    assert credential.status().usable
    failed = log_lines("token_refresh_failed")
    assert failed[-1]["detail"] == (
        "the answer to a rotation was lost, and perhaps the next refresh token with it: run `sidecar login orders`"
    )
    # When the access token has ended, there is nothing more to lose.
    await rig.clock.advance(610.0)
    assert rig.presented[1:] == [token] * 3
    assert credential.status().last_error == "invalid_grant"


async def test_a_grant_that_proves_good_after_all_heals_itself(rig: Rig) -> None:
    rig.log_in()
    credential = await rig.run(rig.source())
    rig.idp.script(NEVER_ARRIVED, NEVER_ARRIVED)
    await rig.clock.advance(3000.0)
    assert credential.status().state is State.LOGIN_NEEDED
    await rig.clock.advance(610.0)
    assert credential.status().state is State.FRESH
    assert len(rig.presented) == 4


async def test_without_an_access_token_an_idp_that_is_back_is_noticed_soon(rig: Rig) -> None:
    rig.policy(Refreshing(grace=math.inf))
    rig.log_in(rotates=True)
    rig.idp.always(Step(status=503))
    credential = await rig.run(rig.source())
    await rig.clock.advance(300.0)
    assert credential.status().state is State.LOGIN_NEEDED
    assert 8 <= len(rig.presented) <= 15
    rig.idp.always(None)
    await rig.clock.advance(renewal.SLOW_SECONDS + 5.0)
    assert credential.status().state is State.FRESH


async def test_after_the_grace_the_old_token_is_not_presented_while_an_access_token_is_at_stake(rig: Rig) -> None:
    rig.log_in()
    source = rig.source(grace=0.0)
    await source.fetch()
    rig.idp.script(LOST)
    with pytest.raises(TokenConnect):
        await source.fetch()
    with pytest.raises(LoginNeeded):
        await source.fetch()
    assert len(rig.presented) == 2
    assert rig.idp.is_valid(rig.idp.issued[0])


async def test_what_a_process_before_this_one_left_in_doubt_is_tried_at_once(rig: Rig) -> None:
    token = rig.log_in(rotates=True)
    rig.store.write("orders", replace(rig.on_disk, spent_at=rig.clock.wall() - 1000.0))
    await rig.source().fetch()
    assert rig.presented == [token]
    assert rig.on_disk.spent_at is None


async def test_a_token_that_was_lost_and_is_then_refused_says_both(rig: Rig) -> None:
    rig.policy(Refreshing(grace=0.0))
    rig.log_in(rotates=True)
    rig.idp.script(LOST)
    source = rig.source()
    with pytest.raises(TokenConnect):
        await source.fetch()
    with pytest.raises(InvalidGrant) as caught:
        await source.fetch()
    assert caught.value.detail == (
        "the IdP answered HTTP 400, invalid_grant; the answer to a rotation was lost before: run `sidecar login orders`"
    )
    assert (caught.value.oauth_error, caught.value.http_status) == ("invalid_grant", 400)


async def test_a_lineage_that_never_rotated_is_tried_for_ever(rig: Rig) -> None:
    rig.policy(Refreshing(rotates=False))
    token = rig.log_in()
    rig.idp.always(Step(fault="reset"))
    credential = await rig.run(rig.source())
    await rig.clock.advance(900.0)
    assert credential.status().state is State.FAILING
    assert set(rig.presented) == {token}
    rig.idp.always(None)
    await rig.clock.advance(30.0)
    assert credential.status().state is State.FRESH


@pytest.mark.parametrize(
    "error",
    [
        TokenDNS("x", sent=False),
        TokenConnect("x", sent=False),
        TokenTLS("x", sent=False),
        TokenTimeout("x", sent=False),
        SecretMissing("x"),
        TokenRefused("no such grant here"),
        RateLimited("x", http_status=429),
        TokenTimeout("x", http_status=408),
        InvalidClient("x", oauth_error="invalid_client", http_status=401),
        InvalidGrant("x", oauth_error="bad_refresh_token", http_status=200),
        TokenMalformed("x", http_status=404),
        ServerError("x", oauth_error="temporarily_unavailable", http_status=503),
    ],
)
async def test_what_was_not_sent_or_was_refused_is_not_in_doubt(rig: Rig, error: Exception) -> None:
    rig.store.write("orders", grant(rotates=True))
    source = rig.source(Asked(*[error] * 3, rig.answer()))
    for _ in range(3):
        with pytest.raises(type(error)):
            await source.fetch()
        assert rig.on_disk.spent_at is None
    await source.fetch()


@pytest.mark.parametrize(
    "error",
    [
        TokenTimeout("x"),
        TokenConnect("x"),
        TokenMalformed("x"),
        TokenMalformed("x", http_status=200),
        ServerError("x", http_status=500),
        ServerError("x", oauth_error="server_error", http_status=500),
        InvalidScope("the token lacks required scopes", http_status=200),
    ],
)
async def test_what_was_sent_and_not_answered_is_in_doubt(rig: Rig, error: Exception) -> None:
    rig.store.write("orders", grant(rotates=True))
    source = rig.source(Asked(error, error))
    with pytest.raises(type(error)):
        await source.fetch()
    first = rig.on_disk.spent_at
    assert first == rig.clock.wall()
    await rig.clock.advance(1.0)
    with pytest.raises(LoginNeeded):
        await source.fetch()
    assert rig.on_disk.spent_at == first


async def test_a_refusal_does_not_end_the_doubt_of_before(rig: Rig) -> None:
    rig.store.write("orders", grant(rotates=True))
    source = rig.source(Asked(TokenTimeout("x"), RateLimited("x", http_status=429), TokenTimeout("x")))
    for error in (TokenTimeout, RateLimited, LoginNeeded):
        with pytest.raises(error):
            await source.fetch()
    assert rig.on_disk.spent_at is not None


async def test_a_new_login_ends_every_doubt(rig: Rig) -> None:
    rig.log_in()
    credential = await rig.run(rig.source())
    rig.idp.script(LOST, LOST)
    await rig.clock.advance(3000.0)
    assert credential.status().state is State.LOGIN_NEEDED
    rig.log_in()
    await rig.clock.advance(5.0)
    assert credential.status().state is State.FRESH


async def test_a_revoked_grant_asks_for_a_login_and_takes_it_up(rig: Rig, log_lines: LogLines) -> None:
    token = rig.log_in()
    rig.idp.revoke(token)
    credential = await rig.run(rig.source())
    assert credential.status().state is State.LOGIN_NEEDED
    assert log_lines("token_refresh_failed")[0]["detail"].endswith("invalid_grant: run `sidecar login orders`")
    rig.log_in()
    await rig.clock.advance(5.0)
    assert credential.status().state is State.FRESH
