"""One credential: the token that requests read, and the loop that keeps it fresh.

Holds the state and runs the loop. Leaves to ``policy`` every decision about time, to ``source`` what an IdP is, to
``fetch`` how an attempt ends, to ``report`` what is told about it.

Requests never run a fetch. They read ``published``, and wait on ``wait()`` when there is nothing usable; the fetch is a
task of its own, so that a client who hangs up, or ten thousand who arrive at once, change nothing about it. The loop
does not trust its timer: it turns at least every five seconds, and any request that finds no usable token wakes it, so
a suspended machine or a starved CPU costs a wait and not an expired token.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from sidecar.broker import policy
from sidecar.broker.fetch import Fetch
from sidecar.broker.policy import Event, State, Trigger
from sidecar.broker.report import Report
from sidecar.broker.waits import Alarm, News
from sidecar.config.model import NEEDS_LOGIN
from sidecar.errors import InvalidGrant, LoginNeeded, SidecarError, TerminalTokenError, TokenUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.broker.breaker import Breaker
    from sidecar.broker.policy import Trouble
    from sidecar.broker.source import Source
    from sidecar.config.model import Credential as CredentialConfig
    from sidecar.config.model import Limits
    from sidecar.oauth.dpop import ProofKey
    from sidecar.oauth.token import Token
    from sidecar.runtime import Clock, Tasks, Uniform
    from sidecar.secrets import Secret
    from sidecar.telemetry.metrics import CredentialMeters
    from sidecar.telemetry.spans import Link
    from sidecar.telemetry.tracing import Tracing

TURN_SECONDS: Final = 5.0
"""The loop turns at least this often: heartbeat, changed files, moments that a sleep ran over."""


@dataclass(frozen=True, slots=True)
class PublishedToken:
    """A token as requests use it. All instants are on ``Clock.now()``.

    Args:
        header: the whole field line, ``Authorization: Bearer …`` with its line end; validated characters only.
        generation: counts the different tokens of a credential; the same token again is the same generation.
        obtained_at: when the request for it was sent, the first one if the IdP gave it out several times.
        expires_at: infinite if it never expires.
        usable_until: ``expires_at`` and the grace of ``stale_for``; between the two it is injected as stale.
    """

    header: bytes = field(repr=False)
    generation: int
    obtained_at: float
    expires_at: float
    usable_until: float
    secret: Secret = field(repr=False, compare=False)
    """Keeps the value known to the log's redaction for as long as the token is in use."""
    dpop: ProofKey | None = field(default=None, repr=False, compare=False)
    """The key that each request has to be proved with (RFC 9449 section 7); None for a plain Bearer token."""
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """A credential at one moment, for pages and tests."""

    name: str
    state: State
    generation: int
    usable: bool
    expires_at: float | None
    next_attempt_at: float
    consecutive_failures: int
    last_error: str | None
    """The reason word of the failure it is in."""
    last_detail: str | None
    """Its one sentence."""
    fetching: bool
    failing_since: float | None
    refresh_at: float | None
    """When the token is to be renewed; None without one."""


class Credential:
    """One token, kept fresh.

    Args:
        on_recovery: told when an answer of the IdP closed the breaker, so that others need not wait out their backoff.
        first_generation: the number of its first token; numbers go on when a changed configuration replaces it.

    Attributes:
        any_401: any 401 of an upstream says that the token is bad (``dialect.unauthorized``).
    """

    __slots__ = (
        *("_alarm", "_asked", "_breaker", "_clock", "_closed", "_error", "_expiry_told", "_fetch", "_grant"),
        *("_limits", "_looked_at", "_loop", "_news", "_next_at", "_on_recovery", "_refresh_at", "_renewals", "_report"),
        *("_source", "_stale_for", "_start_at", "_state", "_tasks", "_trigger", "_trouble", "_uniform"),
        *("_waiting", "_window", "any_401", "meters", "name", "next_generation", "published", "turns"),
    )

    def __init__(
        self,
        config: CredentialConfig,
        *,
        name: str,
        source: Source,
        breaker: Breaker,
        clock: Clock,
        uniform: Uniform,
        tasks: Tasks,
        meters: CredentialMeters,
        limits: Limits,
        on_recovery: Callable[[Breaker], None],
        tracing: Tracing,
        first_generation: int = 1,
    ) -> None:
        self.name = name
        self.meters = meters
        self.published: PublishedToken | None = None
        self.next_generation = first_generation
        self.turns = 0
        self.any_401 = config.dialect.unauthorized == "any"
        self._grant = config.grant
        self._stale_for = config.stale_for
        self._window = policy.Window(config.refresh.at, config.refresh.jitter)
        self._limits = limits
        self._source = source
        self._breaker = breaker
        self._clock = clock
        self._uniform = uniform
        self._tasks = tasks
        self._on_recovery = on_recovery
        self._alarm = Alarm(f"sleep:{name}", clock=clock, tasks=tasks)
        self._news = News(f"wait:{name}", clock=clock, tasks=tasks)
        self._fetch = Fetch(f"fetch:{name}", breaker=breaker, clock=clock, tasks=tasks, on_end=self._conclude)
        self._report = Report(name, clock=clock, meters=meters, tracing=tracing)
        self._loop: asyncio.Task[None] | None = None
        self._closed = False
        self._state = State.EMPTY
        self._asked: Trigger | None = Trigger.STARTUP
        self._trigger = Trigger.STARTUP
        self._trouble: Trouble | None = None
        self._error: SidecarError | None = None
        self._expiry_told = False
        self._waiting = 0
        self._start_at = self._refresh_at = self._next_at = self._looked_at = -math.inf
        self._renewals = policy.Renewals()

    # --- what requests use ------------------------------------------------------------------------------------------

    def usable(self, now: float) -> PublishedToken | None:
        """The token, if it may be sent at ``now``. None wakes the loop if its timer is late."""
        token = self.published
        if token is not None and now < token.usable_until:
            return token
        if now >= self._next_at:
            self._alarm.ring()
        return None

    @property
    def fetched(self) -> Link | None:
        """The span of the last attempt that ended; None where it has none."""
        return self._report.fetched

    async def wait(self) -> PublishedToken:
        """A usable token; asks for one if there is none, and waits at most ``limits.token_wait``.

        Raises:
            TokenUnavailable: there is none in time, or the next attempt comes too late to wait for it.
        """
        began_at = self._clock.now()
        if (token := self.usable(began_at)) is not None:
            return token
        self._waiting += 1
        try:
            return await self._usable_until(began_at + self._limits.token_wait)
        finally:
            self._waiting -= 1
            self.meters.wait.observe(self._clock.now() - began_at)

    async def _usable_until(self, deadline: float) -> PublishedToken:
        while True:
            now = self._clock.now()
            if (token := self.usable(now)) is not None:
                return token
            next_at = self._ask(Trigger.ON_DEMAND)
            if self._closed or now >= deadline or next_at > deadline:
                raise self._unavailable(next_at - now)
            await self._news.wait_until(deadline)

    def _unavailable(self, seconds: float) -> TokenUnavailable:
        why = f": {self._error.title} ({self._error.reason})" if self._error else ""
        detail = f"credential {self.name} has no valid token now{why}"
        return TokenUnavailable(detail, retry_after_seconds=max(1.0, seconds))

    async def renew_after_unauthorized(self, generation: int, *, accepted_before: bool) -> PublishedToken | None:
        """A newer token than ``generation``, which an upstream refused with 401; None means: relay the 401.

        A burst of 401s leads to one request. The refused token stays published meanwhile: one upstream's word is
        not proof, and the others may still accept it.
        """
        now = self._clock.now()
        newer = self._newer_than(generation)
        if newer is not None or not self._join_or_begin_renewal(now, accepted_before=accepted_before):
            return newer
        deadline = now + self._limits.token_wait
        self._waiting += 1
        try:
            if self._ask(Trigger.UNAUTHORIZED) <= deadline:
                await self._news.wait_until(deadline)
        finally:
            self._waiting -= 1
        return self._newer_than(generation)

    def _newer_than(self, generation: int) -> PublishedToken | None:
        token = self.usable(self._clock.now())
        return token if token is not None and token.generation > generation else None

    def _join_or_begin_renewal(self, now: float, *, accepted_before: bool) -> bool:
        if self.published is None or self._closed:
            return False
        if self._fetch.under_way or self._asked is Trigger.UNAUTHORIZED:
            return True
        if not self._renewals.may_follow(
            obtained_at=self.published.obtained_at, now=now, accepted_before=accepted_before
        ):
            return False
        self._renewals = self._renewals.with_one_at(now)
        return True

    # --- what others ask of it --------------------------------------------------------------------------------------

    def request_refresh(self, trigger: Trigger = Trigger.MANUAL) -> None:
        """Ask for a token as soon as the endpoint's breaker allows, backoff or not."""
        self._asked = trigger
        self._alarm.ring()

    def expire_now(self, *, grace: bool = True) -> bool:
        """Take the token to be at its end, for a rehearsal; False if there is none.

        Args:
            grace: what ``stale_for`` allows begins now; else the token is of no use at all any more.
        """
        if self.published is None:
            return False
        now = self._clock.now()
        usable_until = now + self._stale_for if grace else now
        self.published = replace(self.published, expires_at=now, usable_until=usable_until)
        self._refresh_at = min(self._refresh_at, now)
        self._alarm.ring()
        return True

    def start(self, *, delay_seconds: float = 0.0) -> None:
        """Begin the loop; the first token is asked for after the delay, or when the first request waits for it."""
        self._start_at = self._clock.now() + delay_seconds
        self._loop = self._tasks.spawn(f"refresh:{self.name}", self._run())

    def restart(self) -> None:
        """Begin the loop anew, whatever became of the old one; state, token and a fetch under way stay."""
        if self._loop is not None:
            self._loop.cancel()
        self._loop = self._tasks.spawn(f"refresh:{self.name}", self._run())

    @property
    def alive(self) -> bool:
        """Whether the loop's task is there; that it turns is seen from ``turns``."""
        return self._loop is not None and not self._loop.done()

    def use_limits(self, limits: Limits) -> None:
        """Go by other limits from now on."""
        self._limits = self._source.limits = limits

    def endpoint_recovered(self, breaker: Breaker) -> None:
        """Another credential's request closed the breaker: try again, at once if requests wait, else spread."""
        trouble = self._trouble
        if breaker is self._breaker and trouble is not None and not trouble.terminal and not trouble.hinted:
            spread = 0.0 if self._waiting else self._uniform(0.0, policy.RECOVERY_SPREAD_SECONDS)
            self._trouble = policy.trouble_cut_short(trouble, self._clock.now() + spread)
            self._alarm.ring()

    async def close(self) -> None:
        """End loop and fetch; who waits gets TokenUnavailable."""
        self._closed = True
        self._news.tell()
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait({self._loop})
        await self._fetch.close()
        self._source.close()

    def status(self) -> Status:
        """How it stands now."""
        now = self._clock.now()
        token = self.published
        return Status(
            name=self.name,
            state=self._state,
            generation=token.generation if token else 0,
            usable=token is not None and now < token.usable_until,
            expires_at=token.expires_at if token else None,
            next_attempt_at=self._decide(now).at,
            consecutive_failures=self._trouble.failures if self._trouble else 0,
            last_error=self._error.reason if self._error else None,
            last_detail=self._error.detail if self._error else None,
            fetching=self._fetch.under_way,
            failing_since=self._trouble.since if self._trouble else None,
            refresh_at=self._refresh_at if token else None,
        )

    # --- the loop ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            now = self._clock.now()
            self._turn(now)
            await self._alarm.sleep_until(self._next_moment(now))

    def _turn(self, now: float) -> None:
        self.turns += 1
        self._age(now)
        self._look_at_inputs(now)
        if self._fetch.under_way:
            self._fetch.abandon_if_hung(self._limits.token_request)
            return
        decision = self._decide(now)
        self._next_at = decision.at
        if decision.at <= now:
            self._begin(decision.trigger)
        else:
            self._report.next_attempt(decision.at)

    def _decide(self, now: float) -> policy.Decision:
        snapshot = policy.Snapshot(
            refresh_at=self._refresh_at,
            trouble=self._trouble,
            asked=self._asked,
            waiting=self._waiting > 0,
            opens_at=self._breaker.opens_at(now, retry=self._trouble is not None),
        )
        decision = policy.decide(snapshot, now)
        if decision.trigger is Trigger.STARTUP and not self._waiting and decision.at < self._start_at:
            return policy.Decision(self._start_at, Trigger.STARTUP)
        return decision

    def _age(self, now: float) -> None:
        """What time alone does to the token."""
        token = self.published
        self._report.beat(usable=token is not None and now < token.usable_until)
        if token is None:
            return
        if now >= token.expires_at and not self._expiry_told:
            self._expiry_told = True
            self._move(Event.EXPIRED)
            self._report.expired(token.generation, usable_until=token.usable_until)
        elif now >= self._refresh_at and self._state is State.FRESH:
            self._move(Event.CAME_DUE)

    def _look_at_inputs(self, now: float) -> None:
        """Ask at once when a file changed that could end the trouble, or that is the token itself."""
        if self._fetch.under_way or now < self._looked_at + TURN_SECONDS:
            return
        self._looked_at = now
        if not (self._source.watches or self._trouble) or not self._source.inputs_changed():
            return
        if self._trouble is not None:
            self._trouble = policy.trouble_cut_short(self._trouble, now)
        self._refresh_at = min(self._refresh_at, now)

    def _next_moment(self, now: float) -> float:
        moments = [now + TURN_SECONDS]
        if not self._fetch.under_way:
            moments.append(self._next_at)
        if self.published is not None:
            moments += (self._refresh_at, self.published.expires_at, self.published.usable_until)
        return min(at for at in moments if at > now)

    def _ask(self, trigger: Trigger) -> float:
        """Note a wish and wake the loop; the instant at which it can be served."""
        now = self._clock.now()
        if self._fetch.under_way:
            return now
        self._asked = self._asked or trigger
        at = self._decide(now).at
        if at < self._next_at or at <= now:
            self._alarm.ring()
        return at

    # --- what an attempt came to ------------------------------------------------------------------------------------

    def _begin(self, trigger: Trigger) -> None:
        self._asked, self._trigger = None, trigger
        self._report.attempt(trigger)
        self._fetch.begin(self._source)

    def _conclude(self, outcome: Token | SidecarError, recovered: bool) -> None:
        if isinstance(outcome, SidecarError):
            self._failed(outcome)
        else:
            self._obtained(outcome)
        self._news.tell()
        self._alarm.ring()
        if recovered:
            self._on_recovery(self._breaker)

    def _obtained(self, token: Token) -> None:
        before, trouble = self.published, self._trouble
        same = before if before is not None and before.secret == token.value else None
        self.published = published = self._published(token, same)
        self._refresh_at = self._planned(token, first=before is None or trouble is not None, same=same is not None)
        self._trouble = self._error = None
        self._expiry_told = False
        self._move(Event.OBTAINED)
        self._report.obtained(
            token,
            generation=published.generation,
            same=same is not None,
            refresh_at=self._refresh_at,
            trigger=self._trigger,
            trouble=trouble,
        )

    def _published(self, token: Token, same: PublishedToken | None) -> PublishedToken:
        if same is None:
            generation, obtained_at = self.next_generation, token.sent_at
            self.next_generation += 1
        else:
            generation, obtained_at = same.generation, same.obtained_at
        expires_at = token.sent_at + token.lifetime
        scheme = b"Bearer" if token.dpop is None else b"DPoP"
        return PublishedToken(
            header=b"Authorization: %b %b\r\n" % (scheme, token.value.reveal().encode("ascii")),
            generation=generation,
            obtained_at=obtained_at,
            expires_at=expires_at,
            usable_until=expires_at + self._stale_for,
            secret=token.value,
            dpop=token.dpop,
            scope=token.scope,
        )

    def _planned(self, token: Token, *, first: bool, same: bool) -> float:
        at = policy.refresh_at(
            self._window,
            sent_at=token.sent_at,
            lifetime=token.lifetime,
            first=first,
            uniform=self._uniform,
            refresh_in=token.refresh_in,
        )
        if same:
            at = policy.ask_same_again_at(at, now=self._clock.now(), expires_at=token.sent_at + token.lifetime)
        return at

    def _failed(self, error: SidecarError) -> None:
        now = self._clock.now()
        self._error = error
        self._trouble = policy.trouble_after(
            self._trouble,
            began_at=self._fetch.began_at,
            now=now,
            terminal=isinstance(error, TerminalTokenError | LoginNeeded),
            hint_seconds=error.retry_after_seconds,
            uniform=self._uniform,
        )
        lost = isinstance(error, LoginNeeded) or (isinstance(error, InvalidGrant) and self._grant in NEEDS_LOGIN)
        self._move(Event.LOST_GRANT if lost else Event.FAILED)
        self._report.failed(
            error,
            trouble=self._trouble,
            retry_at=self._decide(now).at,
            usable_until=self.published.usable_until if self.published else now,
        )

    def _move(self, event: Event) -> None:
        self._state = policy.TRANSITIONS[self._state, event]
        self._report.state(self._state)

    def __repr__(self) -> str:
        token = f"generation {self.published.generation}" if self.published else "no token"
        return f"<Credential {self.name} {self._state.value}, {token}>"
