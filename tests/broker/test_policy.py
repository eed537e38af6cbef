"""The decisions about time, from numbers alone."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest

from sidecar.broker import policy
from sidecar.broker.policy import Event, Snapshot, State, Trigger, Trouble, Window
from sidecar.telemetry.metrics import STATES, TRIGGERS

WINDOW = Window(at=0.75, jitter=0.1)


def lowest(low: float, high: float) -> float:
    return low


def highest(low: float, high: float) -> float:
    return high


def fail(
    before: Trouble | None = None, *, now: float = 0.0, terminal: bool = False, hint: float | None = None
) -> Trouble:
    return policy.trouble_after(before, began_at=now, now=now, terminal=terminal, hint_seconds=hint, uniform=highest)


def decide(
    now: float,
    *,
    trouble: Trouble | None = None,
    asked: Trigger | None = None,
    waiting: bool = False,
    due: float = 50.0,
    opens_at: float = -math.inf,
) -> policy.Decision:
    snapshot = Snapshot(refresh_at=due, trouble=trouble, asked=asked, waiting=waiting, opens_at=opens_at)
    return policy.decide(snapshot, now)


# --- the refresh moment ----------------------------------------------------------------------------------------------


def test_a_refresh_falls_between_65_and_85_percent_of_the_lifetime() -> None:
    for lifetime in (6.0, 300.0, 3600.0, 86400.0):
        earliest, latest = (
            policy.refresh_at(WINDOW, sent_at=100.0, lifetime=lifetime, first=False, uniform=draw)
            for draw in (lowest, highest)
        )
        assert earliest == pytest.approx(100.0 + 0.65 * lifetime)
        assert latest == pytest.approx(100.0 + 0.85 * lifetime)


def test_the_first_refresh_spreads_from_30_percent() -> None:
    first = policy.refresh_at(WINDOW, sent_at=0.0, lifetime=100.0, first=True, uniform=lowest)
    assert first == pytest.approx(30.0)
    assert policy.refresh_at(WINDOW, sent_at=0.0, lifetime=100.0, first=True, uniform=highest) == pytest.approx(85.0)


def test_a_fleet_that_started_together_does_not_refresh_together() -> None:
    draw = random.Random(1).uniform
    moments = [policy.refresh_at(WINDOW, sent_at=0.0, lifetime=3600.0, first=True, uniform=draw) for _ in range(1000)]
    for start in range(1080, 3060, 60):
        assert sum(start <= at < start + 60 for at in moments) < 60


def test_a_providers_own_moment_is_the_earliest_and_not_the_same_for_all() -> None:
    draw = random.Random(1).uniform
    moments = [
        policy.refresh_at(WINDOW, sent_at=0.0, lifetime=3600.0, first=False, uniform=draw, refresh_in=1800.0)
        for _ in range(1000)
    ]
    assert 1800.0 <= min(moments) <= max(moments) <= 1800.0 * 1.2
    assert max(Counter(at // 60 for at in moments).values()) < 1.5 * 1000 / 6
    first = policy.refresh_at(WINDOW, sent_at=0.0, lifetime=3600.0, first=True, uniform=lowest, refresh_in=1800.0)
    assert first == pytest.approx(0.3 * 3600.0)


@pytest.mark.parametrize("wish", [1e-9, 0.001, 5.0])
def test_a_wish_for_the_next_moment_is_not_fulfilled(wish: float) -> None:
    soon = policy.refresh_at(WINDOW, sent_at=0.0, lifetime=3600.0, first=False, uniform=lowest, refresh_in=wish)
    assert soon == policy.SHORTEST_WISH_SECONDS
    short = policy.refresh_at(WINDOW, sent_at=0.0, lifetime=10.0, first=False, uniform=highest, refresh_in=wish)
    assert short == policy.refresh_at(WINDOW, sent_at=0.0, lifetime=10.0, first=False, uniform=highest)


def test_a_providers_own_moment_counts_for_a_token_without_end_and_not_behind_the_window() -> None:
    def planned(lifetime: float, refresh_in: float) -> float:
        return policy.refresh_at(
            WINDOW, sent_at=10.0, lifetime=lifetime, first=False, uniform=highest, refresh_in=refresh_in
        )

    assert planned(math.inf, 100.0) == pytest.approx(130.0)
    assert planned(100.0, 99.0) == pytest.approx(95.0)


@pytest.mark.parametrize(("at", "jitter"), [(1.0, 0.0), (1.0, 1.0), (0.9, 0.5)])
def test_no_configuration_puts_the_refresh_behind_the_expiry(at: float, jitter: float) -> None:
    assert policy.refresh_at(Window(at, jitter), sent_at=0.0, lifetime=100.0, first=False, uniform=highest) <= 95.0


@pytest.mark.parametrize(("at", "jitter"), [(0.0, 0.0), (0.1, 0.5), (0.0, 1.0), (0.2, 0.1)])
def test_an_early_window_is_taken_as_it_is(at: float, jitter: float) -> None:
    low, high = Window(at, jitter).bounds(first=True)
    assert 0.0 <= low <= high <= 0.95


def test_a_token_without_end_is_never_due() -> None:
    assert policy.refresh_at(WINDOW, sent_at=0.0, lifetime=math.inf, first=False, uniform=lowest) == math.inf


def test_the_same_token_again_is_asked_for_a_few_times_in_all_and_at_its_end() -> None:
    now, expires_at, asked = 75.0, 100.0, 0
    while now < expires_at:
        planned = policy.refresh_at(WINDOW, sent_at=now, lifetime=expires_at - now, first=False, uniform=lowest)
        following = policy.ask_same_again_at(planned, now=now, expires_at=expires_at)
        assert following == expires_at or following - now >= policy.SAME_TOKEN_SECONDS
        now, asked = following, asked + 1
    assert now == expires_at
    assert asked <= 6


# --- backoff ---------------------------------------------------------------------------------------------------------


def test_the_caps_leave_time_for_the_request_itself() -> None:
    assert 1.5 <= policy.HURRY_CAP_SECONDS < 2.0
    assert 25.0 <= policy.CAP_SECONDS < 30.0


def test_backoff_grows_with_full_jitter_to_its_cap() -> None:
    trouble, delays = None, []
    for _ in range(10):
        trouble = fail(trouble, now=0.0)
        delays.append(trouble.retry_at)
    assert delays[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, policy.CAP_SECONDS]
    assert max(delays) == policy.CAP_SECONDS
    soonest = policy.trouble_after(trouble, began_at=0.0, now=0.0, terminal=False, hint_seconds=None, uniform=lowest)
    assert soonest.retry_at == 0.0


def test_backoff_never_overflows_however_long_the_outage() -> None:
    trouble = fail()
    for _ in range(5000):
        trouble = fail(trouble)
    assert trouble.retry_at == policy.CAP_SECONDS


def test_waiting_requests_shorten_the_backoff_in_the_first_minute() -> None:
    trouble = None
    for _ in range(10):
        trouble = fail(trouble, now=59.0) if trouble else fail(now=0.0)
    assert trouble is not None
    assert decide(59.0, trouble=trouble, waiting=True).at == pytest.approx(59.0 + policy.HURRY_CAP_SECONDS)
    assert decide(59.0, trouble=trouble, waiting=False).at == pytest.approx(59.0 + policy.CAP_SECONDS)


def test_after_the_first_minute_waiting_requests_change_nothing() -> None:
    trouble = None
    for _ in range(10):
        trouble = fail(trouble, now=60.0) if trouble else fail(now=0.0)
    assert trouble is not None
    assert decide(60.0, trouble=trouble, waiting=True).at == pytest.approx(60.0 + policy.CAP_SECONDS)


def test_an_attempt_of_the_first_minute_that_failed_after_it_is_still_hurried() -> None:
    trouble = policy.trouble_after(
        fail(now=0.0), began_at=55.0, now=65.0, terminal=False, hint_seconds=None, uniform=highest
    )
    assert decide(65.0, trouble=trouble, waiting=True).at <= 67.0


def test_the_idps_retry_after_comes_first_and_is_capped_at_5_minutes() -> None:
    assert fail(hint=60.0).retry_at >= 60.0
    assert fail(hint=60.0).hurried_at >= 60.0
    assert fail(hint=86400.0).retry_at == 300.0
    assert fail(hint=0.0) == fail(hint=None)
    trouble = policy.trouble_after(None, began_at=0, now=0, terminal=False, hint_seconds=60.0, uniform=lowest)
    assert trouble.retry_at == 60.0


def test_a_terminal_failure_is_probed_every_few_minutes_for_ever() -> None:
    trouble = None
    for _ in range(100):
        trouble = fail(trouble, terminal=True)
        assert 240.0 <= trouble.retry_at <= 360.0
        assert decide(0.0, trouble=trouble, waiting=True).at == trouble.retry_at


def test_cutting_a_trouble_short_never_postpones_it() -> None:
    trouble = fail(now=10.0)
    assert policy.trouble_cut_short(trouble, 10.1).retry_at == 10.1
    assert policy.trouble_cut_short(trouble, 1000.0) == trouble


# --- deciding --------------------------------------------------------------------------------------------------------


def test_without_trouble_the_refresh_moment_decides() -> None:
    assert decide(10.0) == policy.Decision(50.0, Trigger.SCHEDULED)


def test_a_wish_is_served_at_once() -> None:
    assert decide(10.0, asked=Trigger.ON_DEMAND) == policy.Decision(10.0, Trigger.ON_DEMAND)


def test_nobody_passes_a_breaker_that_is_open() -> None:
    assert decide(60.0, opens_at=61.0).at == 61.0
    assert decide(60.0, asked=Trigger.MANUAL, trouble=fail(now=60.0), opens_at=61.0).at == 61.0


def test_a_waiting_request_does_not_jump_the_backoff_but_a_person_does() -> None:
    trouble = fail(now=10.0, hint=60.0)
    assert decide(11.0, trouble=trouble, asked=Trigger.ON_DEMAND, waiting=True).at >= 70.0
    assert decide(11.0, trouble=trouble, asked=Trigger.MANUAL).at == 11.0


def test_a_retry_for_waiting_requests_counts_as_on_demand() -> None:
    trouble = fail(now=10.0)
    assert decide(11.0, trouble=trouble, waiting=True).trigger is Trigger.ON_DEMAND
    assert decide(11.0, trouble=trouble, waiting=False).trigger is Trigger.SCHEDULED


@pytest.mark.parametrize(
    ("age", "since_last", "accepted", "allowed"),
    [
        (5.0, 100.0, True, True),
        (5.0, 100.0, False, False),
        (31.0, 100.0, False, True),
        (31.0, 9.0, True, False),
        (31.0, 10.0, True, True),
    ],
)
def test_a_401_renews_only_a_token_that_was_good_or_is_old_and_once_in_10_seconds(
    age: float, since_last: float, accepted: bool, allowed: bool
) -> None:
    renewals = policy.Renewals(last_at=1000.0 - since_last, count=1)
    assert renewals.may_follow(obtained_at=1000.0 - age, now=1000.0, accepted_before=accepted) is allowed


def asked_in(seconds: float, *, every: float) -> int:
    """How many renewals an upstream gets that refuses a good token this often."""
    renewals, count, now = policy.Renewals(), 0, 0.0
    while now < seconds:
        if renewals.may_follow(obtained_at=now - 1.0, now=now, accepted_before=True):
            renewals, count = renewals.with_one_at(now), count + 1
        now += every
    return count


def test_an_upstream_that_takes_and_refuses_tokens_in_turns_is_renewed_for_ever_less_often() -> None:
    assert asked_in(60.0, every=1.0) == 3  # after 0, 10 and 30 s
    assert asked_in(86400.0, every=1.0) <= 300


def test_ten_minutes_without_a_401_and_the_next_is_an_ordinary_one() -> None:
    assert asked_in(86400.0, every=601.0) == 144
    renewals = policy.Renewals(0.0, 9).with_one_at(601.0)
    assert renewals.may_follow(obtained_at=0.0, now=611.0, accepted_before=True)


# --- the states ------------------------------------------------------------------------------------------------------


def test_states_and_triggers_are_the_labels_of_the_metrics() -> None:
    assert tuple(state.value for state in State) == ("empty", "fresh", "due", "failing", "stale", "login_needed")
    assert {state.value for state in State} == set(STATES)
    assert {trigger.value for trigger in Trigger} == set(TRIGGERS)


def test_a_token_makes_every_state_fresh() -> None:
    assert {policy.TRANSITIONS[state, Event.OBTAINED] for state in State} == {State.FRESH}


def test_a_lost_grant_needs_a_login_from_every_state_and_no_failure_hides_it() -> None:
    assert {policy.TRANSITIONS[state, Event.LOST_GRANT] for state in State} == {State.LOGIN_NEEDED}
    assert policy.TRANSITIONS[State.LOGIN_NEEDED, Event.FAILED] is State.LOGIN_NEEDED


def test_what_cannot_happen_is_not_in_the_table() -> None:
    absent = set(itertools.product(State, Event)) - policy.TRANSITIONS.keys()
    assert absent == {
        (State.EMPTY, Event.CAME_DUE),
        (State.EMPTY, Event.EXPIRED),
        (State.DUE, Event.CAME_DUE),
        (State.FAILING, Event.CAME_DUE),
        (State.STALE, Event.CAME_DUE),
        (State.STALE, Event.EXPIRED),
        (State.LOGIN_NEEDED, Event.CAME_DUE),
    }
