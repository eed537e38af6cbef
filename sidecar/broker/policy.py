"""When to ask for a token: the refresh moment, backoff, the shared circuit breaker, and the states of a credential.

Decides, from numbers alone, what a credential does next; ``credential`` acts on it, ``source`` does the asking. All
instants are seconds on ``Clock.now()``, the clock that goes on through suspend; randomness is an argument.

Theory. A token request fails in one of two ways. A *transient* failure (the network, an overloaded IdP, a middlebox's
page) ends by itself, so it is retried for ever with full jitter (https://aws.amazon.com/blogs/architecture/
exponential-backoff-and-jitter/): quickly for the first minute while requests wait, since most outages are restarts;
then slowly. A *terminal* one (a parsed OAuth error) ends when somebody acts, so it is probed every few minutes, and at
once when a secret file or the configuration changes. It is never given up: what looks final is often repaired by
others, and a sidecar that must be restarted by hand is the failure its users remember.

The breaker belongs to a token endpoint and is shared by its credentials, so that twenty of them do not call twenty
times as often. Budget: failures are paid from a bucket of 125 that gains one every 15 s, hence no more than 250 in any
30 minutes, and a retry waits for it 15 s, or 30 s where an attempt takes two requests.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.runtime import Uniform

FIRST_REFRESH_FROM: Final = 0.3
"""The first refresh may come this early in the lifetime, so that a fleet started together spreads."""
LATEST_FRACTION: Final = 0.95
"""Whatever the configuration says, a refresh comes before the token's end."""
SAME_TOKEN_SECONDS: Final = 1.0
"""Least distance between two requests that an IdP answers with the same token."""
BACKOFF_BASE_SECONDS: Final = 0.5
HURRY_CAP_SECONDS: Final = 2.0
HURRY_SECONDS: Final = 60.0
CAP_SECONDS: Final = 30.0
HINT_CAP_SECONDS: Final = 300.0
TERMINAL_PROBE_SECONDS: Final = (240.0, 360.0)
RECOVERY_SPREAD_SECONDS: Final = 1.0
UNAUTHORIZED_AGE_SECONDS: Final = 30.0
UNAUTHORIZED_EVERY_SECONDS: Final = 10.0
BREAKER_THRESHOLD: Final = 3
BREAKER_SPACING_SECONDS: Final = (1.0, 10.0)
"""Between two requests to a failing endpoint: in the first minute, and after it."""
BUDGET: Final = 125.0
BUDGET_REFILL_SECONDS: Final = 15.0
MOST_DEBT: Final = 1.0
"""An attempt may take several requests and so overdraw; many credentials that fail at once may not do it for long."""


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
        """Earliest and latest fraction; ``first`` is the first token after a start."""
        latest = min(self.at + self.jitter, LATEST_FRACTION)
        earliest = min(max(self.at - self.jitter, 0.0), latest)
        return (min(FIRST_REFRESH_FROM, earliest) if first else earliest), latest


def refresh_at(window: Window, *, sent_at: float, lifetime: float, first: bool, uniform: Uniform) -> float:
    """When to ask for the successor of a token whose request was sent at ``sent_at``; infinite if it never expires."""
    if math.isinf(lifetime):
        return math.inf
    return sent_at + lifetime * uniform(*window.bounds(first=first))


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


@dataclass(frozen=True, slots=True)
class Decision:
    """Ask for a token at ``at``, because of ``trigger``."""

    at: float
    trigger: Trigger


def decide(snapshot: Snapshot, now: float, breaker: Breaker) -> Decision:
    """When to send the next token request. A moment that has passed means at once."""
    trouble = snapshot.trouble
    trigger = snapshot.asked or (Trigger.ON_DEMAND if snapshot.waiting and trouble else Trigger.SCHEDULED)
    if trouble is None:
        at = now if snapshot.asked else snapshot.refresh_at
    elif snapshot.asked is Trigger.MANUAL:
        at = now
    else:
        at = min(trouble.hurried_at, trouble.retry_at) if snapshot.waiting else trouble.retry_at
    return Decision(max(at, breaker.opens_at(now, retry=trouble is not None)), trigger)


def may_renew_after_unauthorized(*, obtained_at: float, last_at: float, now: float, accepted_before: bool) -> bool:
    """Whether an upstream's 401 is a reason to ask for a token before its time.

    A brand-new token that no route has accepted yet is not replaced: the upstream may refuse every token (a wrong
    audience), and asking again would turn each request into a token request.
    """
    if now - last_at < UNAUTHORIZED_EVERY_SECONDS:
        return False
    return accepted_before or now - obtained_at > UNAUTHORIZED_AGE_SECONDS


# --- the endpoint's breaker ------------------------------------------------------------------------------------------


class Breaker:
    """Circuit breaker and attempt budget of one token endpoint, shared by its credentials.

    Closed it admits everything. After three failures in a row it admits one request at a time, spaced; the first that
    the IdP answers in its own words, be it a refusal, closes it.
    """

    __slots__ = ("_budget", "_budget_at", "_in_flight", "_last_at", "failures", "since")

    def __init__(self) -> None:
        self.failures = 0
        self.since = -math.inf
        self._in_flight = 0
        self._last_at = -math.inf
        self._budget = BUDGET
        self._budget_at = -math.inf

    @property
    def open(self) -> bool:
        return self.failures >= BREAKER_THRESHOLD

    def opens_at(self, now: float, *, retry: bool) -> float:
        """The earliest instant at which a request may be sent; ``-inf`` if nothing holds it back."""
        at = -math.inf
        if self.open:
            first_minute = self._last_at < self.since + HURRY_SECONDS
            spacing = BREAKER_SPACING_SECONDS[0 if first_minute else 1]
            # While a probe is under way its outcome decides; look again soon in case it never ends.
            at = now + spacing if self._in_flight else self._last_at + spacing
        return max(at, self._affordable_at(now)) if retry else at

    def _affordable_at(self, now: float) -> float:
        missing = 1.0 - self._refilled(now)
        return -math.inf if missing <= 0 else now + missing * BUDGET_REFILL_SECONDS

    def _refilled(self, now: float) -> float:
        return min(BUDGET, self._budget + (now - self._budget_at) / BUDGET_REFILL_SECONDS)

    def begin(self) -> None:
        """A request is sent."""
        self._in_flight += 1

    def end(self, now: float) -> None:
        """A request has ended, in whatever way; call it before ``failed`` or ``answered``."""
        self._in_flight -= 1
        self._last_at = now

    def charge(self, now: float, requests: int) -> None:
        """A failure, of whatever kind, took so many HTTP requests."""
        self._budget = max(-MOST_DEBT, self._refilled(now) - requests)
        self._budget_at = now

    def failed(self, now: float) -> None:
        """A transient failure."""
        self.since = self.since if self.failures else now
        self.failures += 1

    def answered(self) -> bool:
        """The IdP answered, with a token or a refusal of its own; True if that closed the open breaker."""
        was_open = self.open
        self.failures = 0
        return was_open

    def __repr__(self) -> str:
        return f"<Breaker {'open' if self.open else 'closed'}, {self.failures} failures, {self._in_flight} in flight>"
