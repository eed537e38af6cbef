"""When to ask for a token: the refresh moment, backoff, and the states of a credential.

Decides, from numbers alone, what a credential does next. Leaves acting on it to ``credential``, asking to ``source``,
and what an endpoint's credentials may do together to ``breaker``. All instants are seconds on ``Clock.now()``, the
clock that goes on through suspend; randomness is an argument.

Theory. A token request fails in one of two ways. A *transient* failure (the network, an overloaded IdP, a middlebox's
page) ends by itself, so it is retried for ever with full jitter (https://aws.amazon.com/blogs/architecture/
exponential-backoff-and-jitter/): quickly for the first minute while requests wait, since most outages are restarts;
then slowly. A *terminal* one (a parsed OAuth error) ends when somebody acts, so it is probed every few minutes, and at
once when a secret file or the configuration changes. It is never given up: what looks final is often repaired by
others, and a sidecar that must be restarted by hand is the failure its users remember.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.runtime import Uniform

FIRST_REFRESH_FROM: Final = 0.3
"""The first refresh, and the first after an outage, may come this early in the lifetime: what starts together, or gets
its tokens together when the IdP is back, would ask together again."""
LATEST_FRACTION: Final = 0.95
"""Whatever the configuration says, a refresh comes before the token's end."""
SHORTEST_WISH_SECONDS: Final = 30.0
"""A provider's wish for an earlier refresh is a mistake of units or worse: successes are free, so nothing else would
keep us from asking as fast as it answers."""
SAME_TOKEN_SECONDS: Final = 1.0
"""Least distance between two requests that an IdP answers with the same token."""
BACKOFF_BASE_SECONDS: Final = 0.5
HURRY_CAP_SECONDS: Final = 1.75
HURRY_SECONDS: Final = 60.0
CAP_SECONDS: Final = 29.0
"""A return of the IdP is to be noticed within 2 s, later 30 s: the request itself takes its part of that."""
HINT_CAP_SECONDS: Final = 300.0
TERMINAL_PROBE_SECONDS: Final = (240.0, 360.0)
RECOVERY_SPREAD_SECONDS: Final = 1.0
"""When an endpoint comes back, credentials that no request waits for come after the others."""
UNAUTHORIZED_AGE_SECONDS: Final = 30.0
UNAUTHORIZED_EVERY_SECONDS: Final = 10.0
UNAUTHORIZED_MOST_SECONDS: Final = 300.0
"""Least and most distance of two renewals because of 401s; ten minutes without one, and it is the least again."""


# --- the states of a credential --------------------------------------------------------------------------------------


class State(enum.Enum):
    """What a credential is in; the values are the labels of ``credential_state``."""

    EMPTY = "empty"
    """No token was ever obtained, and no request has failed yet."""
    FRESH = "fresh"
    DUE = "due"
    """The token is valid, and it is time for its successor."""
    FAILING = "failing"
    """Requests fail; the token, if there is one, is still valid."""
    STALE = "stale"
    """The token has expired and has no successor."""
    LOGIN_NEEDED = "login_needed"
    """The grant itself is gone: a person has to log in again."""


class Event(enum.Enum):
    """What moves a credential from state to state."""

    OBTAINED = "obtained"
    CAME_DUE = "came_due"
    FAILED = "failed"
    EXPIRED = "expired"
    LOST_GRANT = "lost_grant"


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.EMPTY, Event.OBTAINED): State.FRESH,
    (State.EMPTY, Event.FAILED): State.FAILING,
    (State.EMPTY, Event.LOST_GRANT): State.LOGIN_NEEDED,
    (State.FRESH, Event.OBTAINED): State.FRESH,  # asked early: after an upstream's 401, or by hand
    (State.FRESH, Event.CAME_DUE): State.DUE,
    (State.FRESH, Event.FAILED): State.FAILING,
    (State.FRESH, Event.EXPIRED): State.STALE,  # the machine slept over both moments
    (State.FRESH, Event.LOST_GRANT): State.LOGIN_NEEDED,
    (State.DUE, Event.OBTAINED): State.FRESH,
    (State.DUE, Event.FAILED): State.FAILING,
    (State.DUE, Event.EXPIRED): State.STALE,
    (State.DUE, Event.LOST_GRANT): State.LOGIN_NEEDED,
    (State.FAILING, Event.OBTAINED): State.FRESH,
    (State.FAILING, Event.FAILED): State.FAILING,
    (State.FAILING, Event.EXPIRED): State.STALE,
    (State.FAILING, Event.LOST_GRANT): State.LOGIN_NEEDED,
    (State.STALE, Event.OBTAINED): State.FRESH,
    (State.STALE, Event.FAILED): State.STALE,
    (State.STALE, Event.LOST_GRANT): State.LOGIN_NEEDED,
    (State.LOGIN_NEEDED, Event.OBTAINED): State.FRESH,
    (State.LOGIN_NEEDED, Event.FAILED): State.LOGIN_NEEDED,
    (State.LOGIN_NEEDED, Event.EXPIRED): State.LOGIN_NEEDED,
    (State.LOGIN_NEEDED, Event.LOST_GRANT): State.LOGIN_NEEDED,
}
"""The whole machine. A pair that is absent cannot happen; looking it up is a KeyError and a bug."""


class Trigger(enum.Enum):
    """Why a token is asked for; the values are the labels of ``token_request_triggers_total``."""

    STARTUP = "startup"
    SCHEDULED = "scheduled"
    ON_DEMAND = "on_demand"
    UNAUTHORIZED = "unauthorized"
    MANUAL = "manual"


# --- a token's moments -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Window:
    """Where in a lifetime the refresh falls, as fractions of it."""

    at: float
    jitter: float

    def bounds(self, *, first: bool) -> tuple[float, float]:
        """Earliest and latest fraction; ``first`` is the first token after a start or an outage."""
        latest = min(self.at + self.jitter, LATEST_FRACTION)
        earliest = min(max(self.at - self.jitter, 0.0), latest)
        return (min(FIRST_REFRESH_FROM, earliest) if first else earliest), latest


def refresh_at(
    window: Window,
    *,
    sent_at: float,
    lifetime: float,
    first: bool,
    uniform: Uniform,
    refresh_in: float | None = None,
) -> float:
    """When to ask for the successor of a token whose request was sent at ``sent_at``; infinite if it never expires.

    Args:
        refresh_in: after how long the provider wants it to be renewed. All sidecars are told the same, so we come up
            to the window's width later: at the same moment, a fleet would stay together for ever.
    """
    earliest, latest = window.bounds(first=first)
    moments = (math.inf, math.inf) if math.isinf(lifetime) else (lifetime * earliest, lifetime * latest)
    if refresh_in is not None:
        refresh_in = max(refresh_in, SHORTEST_WISH_SECONDS)
        wished = refresh_in, refresh_in * (1.0 + latest - earliest)
        moments = min(moments[0], wished[0]), min(moments[1], wished[1])
    return math.inf if math.isinf(moments[1]) else sent_at + uniform(*moments)


def ask_same_again_at(planned_at: float, *, now: float, expires_at: float) -> float:
    """When to ask again after the IdP handed out the token we had already.

    Metadata servers cache a token until minutes before its end, others until its very end. Going by the shorter life
    that is left asks a few times in all, ever closer to the end: each time at the same fraction of a smaller rest.
    """
    return min(max(planned_at, now + SAME_TOKEN_SECONDS), max(expires_at, now))


# --- after a failure -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trouble:
    """The run of failures a credential is in."""

    since: float
    failures: int
    terminal: bool
    hinted: bool
    """The IdP itself named the moment (Retry-After)."""
    retry_at: float
    hurried_at: float
    """The retry's moment while requests wait; earlier than ``retry_at`` only in the first minute."""


def trouble_after(
    before: Trouble | None,
    *,
    began_at: float,
    now: float,
    terminal: bool,
    hint_seconds: float | None,
    uniform: Uniform,
) -> Trouble:
    """The run of failures with one more in it: an attempt that began at ``began_at`` and failed ``now``.

    Args:
        hint_seconds: the IdP's Retry-After, if it sent one.
    """
    failures = before.failures + 1 if before else 1
    since = before.since if before else now
    hint = _hint_delay(hint_seconds, uniform)
    calm, hurried = _terminal_delays(uniform) if terminal else _transient_delays(failures, uniform)
    if began_at >= since + HURRY_SECONDS:
        hurried = calm
    return Trouble(
        since=since,
        failures=failures,
        terminal=terminal,
        hinted=hint > 0,
        retry_at=now + max(calm, hint),
        hurried_at=now + max(hurried, hint),
    )


def _hint_delay(seconds: float | None, uniform: Uniform) -> float:
    # A tenth more at random: those who were told the same moment should not all come at it.
    if seconds is None or seconds <= 0:
        return 0.0
    return min(seconds + uniform(0.0, seconds / 10), HINT_CAP_SECONDS)


def _transient_delays(failures: int, uniform: Uniform) -> tuple[float, float]:
    reach = BACKOFF_BASE_SECONDS * 2.0 ** min(failures - 1, 16)
    return uniform(0.0, min(reach, CAP_SECONDS)), uniform(0.0, min(reach, HURRY_CAP_SECONDS))


def _terminal_delays(uniform: Uniform) -> tuple[float, float]:
    delay = uniform(*TERMINAL_PROBE_SECONDS)
    return delay, delay


def trouble_cut_short(trouble: Trouble, at: float) -> Trouble:
    """The same trouble, tried again no later than ``at``: a secret changed, or the endpoint came back."""
    return replace(trouble, retry_at=min(trouble.retry_at, at), hurried_at=min(trouble.hurried_at, at))


# --- the decision ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the next step of a credential depends on."""

    refresh_at: float
    """When the token's successor is due; ``-inf`` without a token."""
    trouble: Trouble | None
    asked: Trigger | None
    """A wish from outside that has not been served yet."""
    waiting: bool
    """Requests wait for a token now."""
    opens_at: float
    """When the endpoint's breaker admits a request."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Ask for a token at ``at``, because of ``trigger``."""

    at: float
    trigger: Trigger


def decide(snapshot: Snapshot, now: float) -> Decision:
    """When to send the next token request. A moment that has passed means at once."""
    trouble = snapshot.trouble
    trigger = snapshot.asked or (Trigger.ON_DEMAND if snapshot.waiting and trouble else Trigger.SCHEDULED)
    if trouble is None:
        at = now if snapshot.asked else snapshot.refresh_at
    elif snapshot.asked is Trigger.MANUAL:
        at = now
    else:
        at = min(trouble.hurried_at, trouble.retry_at) if snapshot.waiting else trouble.retry_at
    return Decision(max(at, snapshot.opens_at), trigger)


@dataclass(frozen=True, slots=True)
class Renewals:
    """The renewals that 401s of upstreams have led to, as far as they belong together."""

    last_at: float = -math.inf
    count: int = 0

    def may_follow(self, *, obtained_at: float, now: float, accepted_before: bool) -> bool:
        """Whether an upstream's 401 is a reason to ask for a token before its time.

        A brand-new token that no route has accepted yet is not replaced: the upstream may refuse every token (a wrong
        audience), and asking again would turn each request into a token request. An upstream that takes a token and
        refuses it in turns would do the same, so each further renewal in a row has to wait twice as long.
        """
        if now - self.last_at < self._spacing_seconds:
            return False
        return accepted_before or now - obtained_at > UNAUTHORIZED_AGE_SECONDS

    @property
    def _spacing_seconds(self) -> float:
        return min(UNAUTHORIZED_EVERY_SECONDS * 2.0 ** min(self.count - 1, 16), UNAUTHORIZED_MOST_SECONDS)

    def with_one_at(self, now: float) -> Renewals:
        """With one more; what lies long back is forgotten."""
        in_a_row = now - self.last_at < 2 * UNAUTHORIZED_MOST_SECONDS
        return Renewals(now, self.count + 1 if in_a_row else 1)
