"""One credential: the token that requests read, and the loop that keeps it fresh.

Decides nothing about time, which ``policy`` does, and nothing about IdPs, which ``source`` knows. This file holds the
state, runs the loop, publishes tokens and tells about it all in log and metrics.

Requests never run a fetch. They read ``published``, and wait on ``wait()`` when there is nothing usable; the fetch is a
task of its own, so that a client who hangs up, or ten thousand who arrive at once, change nothing about it. The loop
does not trust its timer: it turns at least every five seconds, and any request that finds no usable token wakes it, so
a suspended machine or a starved CPU costs a wait and not an expired token.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sidecar.broker import policy
from sidecar.broker.policy import Event, State, Trigger
from sidecar.errors import (
    InternalError,
    InvalidGrant,
    SidecarError,
    TerminalTokenError,
    TokenMalformed,
    TokenTimeout,
    TokenUnavailable,
    TransientTokenError,
)
from sidecar.oauth.grants import NEEDS_LOGIN
from sidecar.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.broker.policy import Breaker, Trouble
    from sidecar.broker.source import Source
    from sidecar.config.model import Credential as CredentialConfig
    from sidecar.config.model import Limits
    from sidecar.oauth.token import Token
    from sidecar.runtime import Clock, Tasks, Uniform
    from sidecar.secrets import Secret
    from sidecar.telemetry.metrics import CredentialMeters

log = get_logger("broker")

TURN_SECONDS: Final = 5.0
"""The loop turns at least this often: heartbeat, changed files, moments that a sleep ran over."""
REQUESTS_AN_ATTEMPT: Final = 4
"""Two metadata addresses, the new secret and the old one: what an attempt can take, each with its own deadline."""

NEXT_STEPS: Final = {
    "invalid_client": "check client_id, client_secret, client_auth and basic_encoding",
    "invalid_grant": "check the grant with the IdP; it may have been revoked",
    "invalid_scope": "check scopes and required_scopes against what the IdP grants this client",
    "unauthorized_client": "allow this client the grant at the IdP",
    "refused": "look the error code up in the IdP's documentation",
    "rate_limited": "nothing: it is asked again when the IdP said; look for other clients of the same id if it stays",
    "server_error": "nothing, if it passes; else see the IdP's status page",
    "timeout": "check the way to the IdP: firewall, egress policy, proxy",
    "dns": "check the host in token_url or issuer, and the resolver",
    "connect": "check that the IdP is up, and the way to it: firewall, egress policy",
    "tls": "check ca_file, and whether something intercepts TLS on the way",
    "malformed": "check that token_url or issuer is right, and for a page that a middlebox puts in the way",
    "secret_missing": "put the secret where the configuration says",
}


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
    fetching: bool


class Credential:
    """One token, kept fresh.

    Args:
        on_recovery: told when an answer of the IdP closed the breaker, so that others need not wait out their backoff.
        first_generation: the number of its first token; numbers go on when a changed configuration replaces it.
    """

    __slots__ = (
        *("_asked", "_breaker", "_clock", "_closed", "_error", "_expiry_told", "_fetch", "_fetch_began_at", "_grant"),
        *("_limits", "_looked_at", "_loop", "_news", "_next_at", "_on_recovery", "_refresh_at"),
        *("_sent_before", "_sleeper", "_source", "_stale_for", "_start_at", "_state", "_tasks", "_trouble"),
        *(
            "_unauthorized_at",
            "_uniform",
            "_waiting",
            "_window",
            "meters",
            "name",
            "next_generation",
            "published",
            "turns",
        ),
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
        first_generation: int = 1,
    ) -> None:
        self.name = name
        self.published: PublishedToken | None = None
        self.meters = meters
        self.turns = 0
        self._limits = limits
        self._grant = config.grant
        self._stale_for = config.stale_for
        self._source = source
        self._breaker = breaker
        self._clock = clock
        self._uniform = uniform
        self._tasks = tasks
        self._on_recovery = on_recovery
        self._window = policy.Window(config.refresh.at, config.refresh.jitter)
        self.next_generation = first_generation
        self._state = State.EMPTY
        self._refresh_at = -math.inf
        self._start_at = -math.inf
        self._unauthorized_at = -math.inf
        self._trouble: Trouble | None = None
        self._error: SidecarError | None = None
        self._expiry_told = False
        self._asked: Trigger | None = Trigger.STARTUP
        self._waiting = 0
        self._news: asyncio.Future[None] | None = None
        self._fetch: asyncio.Task[Token | SidecarError] | None = None
        self._fetch_began_at = math.inf
        self._sent_before = 0
        self._looked_at = -math.inf
        self._next_at = -math.inf
        self._sleeper: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None
        self._closed = False

    # --- what requests use ------------------------------------------------------------------------------------------

    def usable(self, now: float) -> PublishedToken | None:
        """The token, if it may be sent at ``now``. None wakes the loop if its timer is late."""
        token = self.published
        if token is not None and now < token.usable_until:
            return token
        if now >= self._next_at:
            self._wake()
        return None

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
                raise self._unavailable(next_at)
            await self._news_or(deadline)

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
                await self._news_or(deadline)
        finally:
            self._waiting -= 1
        return self._newer_than(generation)

    def _newer_than(self, generation: int) -> PublishedToken | None:
        token = self.usable(self._clock.now())
        return token if token is not None and token.generation > generation else None

    def _join_or_begin_renewal(self, now: float, *, accepted_before: bool) -> bool:
        if self.published is None or self._closed:
            return False
        if self._fetch is not None or self._asked is Trigger.UNAUTHORIZED:
            return True
        if not policy.may_renew_after_unauthorized(
            obtained_at=self.published.obtained_at,
            last_at=self._unauthorized_at,
            now=now,
            accepted_before=accepted_before,
        ):
            return False
        self._unauthorized_at = now
        return True

    # --- what others ask of it --------------------------------------------------------------------------------------

    def request_refresh(self, trigger: Trigger = Trigger.MANUAL) -> None:
        """Ask for a token as soon as the endpoint's breaker allows, backoff or not."""
        self._asked = trigger
        self._wake()

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
        """Another credential's request closed the breaker: try again soon, spread a little."""
        trouble = self._trouble
        if breaker is self._breaker and trouble is not None and not trouble.terminal and not trouble.hinted:
            spread = self._uniform(0.0, policy.RECOVERY_SPREAD_SECONDS)
            self._trouble = policy.trouble_cut_short(trouble, self._clock.now() + spread)
            self._wake()

    async def close(self) -> None:
        """End loop and fetch; who waits gets TokenUnavailable."""
        self._closed = True
        self._tell_news()
        ending = [task for task in (self._loop, self._fetch, self._sleeper) if task is not None]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

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
            fetching=self._fetch is not None,
        )

    # --- the loop ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            now = self._clock.now()
            self._turn(now)
            await self._rest(self._next_moment(now))

    def _turn(self, now: float) -> None:
        self.turns += 1
        self.meters.heartbeat_timestamp.value = self._clock.wall()
        self._age(now)
        self._look_at_inputs(now)
        if self._fetch is not None:
            self._abandon_if_hung(now)
            return
        decision = self._decide(now)
        self._next_at = decision.at
        if decision.at <= now:
            self._begin(decision.trigger, now)
        else:
            self.meters.next_refresh_timestamp.value = 0.0 if math.isinf(decision.at) else self._wall_at(decision.at)

    def _decide(self, now: float) -> policy.Decision:
        snapshot = policy.Snapshot(
            refresh_at=self._refresh_at, trouble=self._trouble, asked=self._asked, waiting=self._waiting > 0
        )
        decision = policy.decide(snapshot, now, self._breaker)
        if decision.trigger is Trigger.STARTUP and not self._waiting and decision.at < self._start_at:
            return policy.Decision(self._start_at, Trigger.STARTUP)
        return decision

    def _age(self, now: float) -> None:
        """What time alone does to the token."""
        token = self.published
        self.meters.up.value = float(token is not None and now < token.usable_until)
        if token is None:
            return
        if now >= token.expires_at and not self._expiry_told:
            self._expiry_told = True
            self._move(Event.EXPIRED)
            log.warning(
                "token_expired",
                credential=self.name,
                generation=token.generation,
                usable_for_seconds=_seconds(token.usable_until - now),
            )
        elif now >= self._refresh_at and self._state is State.FRESH:
            self._move(Event.CAME_DUE)

    def _look_at_inputs(self, now: float) -> None:
        """Ask at once when a file changed that could end the trouble, or that is the token itself."""
        if self._fetch is not None or now < self._looked_at + TURN_SECONDS:
            return
        self._looked_at = now
        if not (self._source.watches or self._trouble) or not self._source.inputs_changed():
            return
        if self._trouble is not None:
            self._trouble = policy.trouble_cut_short(self._trouble, now)
        self._refresh_at = min(self._refresh_at, now)

    def _abandon_if_hung(self, now: float) -> None:
        # Every request has its own deadline, so this is for what they do not see: a loop that stood still, a bug.
        if self._fetch is not None and now > self._fetch_began_at + REQUESTS_AN_ATTEMPT * self._limits.token_request:
            self._fetch.cancel()

    def _next_moment(self, now: float) -> float:
        moments = [now + TURN_SECONDS]
        if self._fetch is None:
            moments.append(self._next_at)
        if self.published is not None:
            moments += (self._refresh_at, self.published.expires_at, self.published.usable_until)
        return min((at for at in moments if at > now), default=now)

    async def _rest(self, until: float) -> None:
        self._sleeper = self._tasks.spawn(f"sleep:{self.name}", self._clock.sleep_until(until))
        try:
            await asyncio.wait({self._sleeper})
        finally:
            self._sleeper.cancel()

    def _wake(self) -> None:
        if self._sleeper is not None:
            self._sleeper.cancel()

    def _ask(self, trigger: Trigger) -> float:
        """Note a wish and wake the loop; the instant at which it can be served."""
        now = self._clock.now()
        if self._fetch is not None:
            return now
        self._asked = self._asked or trigger
        at = self._decide(now).at
        if at < self._next_at or at <= now:
            self._wake()
        return at

    # --- one attempt ------------------------------------------------------------------------------------------------

    def _begin(self, trigger: Trigger, now: float) -> None:
        self._asked = None
        self._fetch_began_at = now
        self._sent_before = self._source.requests_sent
        self.meters.triggers[trigger.value].value += 1
        self._breaker.begin()
        self._fetch = self._tasks.spawn(f"fetch:{self.name}", self._attempt())
        self._fetch.add_done_callback(lambda task: self._conclude(task, trigger))

    async def _attempt(self) -> Token | SidecarError:
        try:
            return await self._source.fetch()
        except SidecarError as exc:
            return exc

    def _conclude(self, task: asyncio.Task[Token | SidecarError], trigger: Trigger) -> None:
        now = self._clock.now()
        self._fetch = None
        self._breaker.end(now)
        if self._closed:
            return
        outcome = _outcome(task, now)
        if isinstance(outcome, SidecarError):
            self._failed(outcome, now)
        else:
            self._obtained(outcome, now, trigger)
        self._tell_news()
        self._wake()

    def _tell_news(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _news_or(self, deadline: float) -> None:
        """Return when an attempt has ended, or at the deadline. Cancelling who waits here cancels nothing else."""
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        sleeper = self._tasks.spawn(f"wait:{self.name}", self._clock.sleep_until(deadline))
        try:
            await asyncio.wait({self._news, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()

    def _obtained(self, token: Token, now: float, trigger: Trigger) -> None:
        before, trouble = self.published, self._trouble
        same = before is not None and before.secret == token.value
        self._publish(token, before if same else None)
        self._plan(token, now, first=before is None, same=same)
        self._trouble = self._error = None
        self._expiry_told = False
        self._move(Event.OBTAINED)
        self._show_token(token)
        self._tell_obtained(token, now, trigger, trouble, same=same)
        if self._breaker.answered():
            self._on_recovery(self._breaker)

    def _publish(self, token: Token, same: PublishedToken | None) -> None:
        if same is None:
            generation, obtained_at = self.next_generation, token.sent_at
            self.next_generation += 1
        else:
            generation, obtained_at = same.generation, same.obtained_at
        expires_at = token.sent_at + token.lifetime
        self.published = PublishedToken(
            header=b"Authorization: Bearer %b\r\n" % token.value.reveal().encode("ascii"),
            generation=generation,
            obtained_at=obtained_at,
            expires_at=expires_at,
            usable_until=expires_at + self._stale_for,
            secret=token.value,
        )

    def _plan(self, token: Token, now: float, *, first: bool, same: bool) -> None:
        at = policy.refresh_at(
            self._window, sent_at=token.sent_at, lifetime=token.lifetime, first=first, uniform=self._uniform
        )
        if same:
            at = policy.ask_same_again_at(at, now=now, expires_at=token.sent_at + token.lifetime)
        self._refresh_at = at

    def _failed(self, error: SidecarError, now: float) -> None:
        requests = self._source.requests_sent - self._sent_before
        if requests and isinstance(error, TransientTokenError):
            self._breaker.failed(now)
        elif isinstance(error, TerminalTokenError) and self._breaker.answered():
            self._on_recovery(self._breaker)
        self._breaker.charge(now, requests)
        self._error = error
        self._trouble = policy.trouble_after(
            self._trouble,
            began_at=self._fetch_began_at,
            now=now,
            terminal=isinstance(error, TerminalTokenError),
            hint_seconds=error.retry_after_seconds,
            uniform=self._uniform,
        )
        self.meters.consecutive_failures.value = self._trouble.failures
        lost = isinstance(error, InvalidGrant) and self._grant in NEEDS_LOGIN
        self._move(Event.LOST_GRANT if lost else Event.FAILED)
        self._tell_failed(error, now)

    def _move(self, event: Event) -> None:
        self._state = policy.TRANSITIONS[self._state, event]
        self.meters.state(self._state.value)

    # --- telling ----------------------------------------------------------------------------------------------------

    def _wall_at(self, at: float) -> float:
        return self._clock.wall() + (at - self._clock.now())

    def _show_token(self, token: Token) -> None:
        meters, expires_at = self.meters, token.sent_at + token.lifetime
        meters.up.value = 1.0
        meters.consecutive_failures.value = 0.0
        meters.lifetime.value = token.lifetime
        meters.refreshed_timestamp.value = self._wall_at(token.sent_at)
        meters.expiry_timestamp.value = self._wall_at(expires_at)

    def _tell_obtained(
        self, token: Token, now: float, trigger: Trigger, trouble: Trouble | None, *, same: bool
    ) -> None:
        assert self.published is not None  # noqa: S101 - it was published just now
        log.info(
            "token_unchanged" if same else "token_refreshed",
            credential=self.name,
            generation=self.published.generation,
            lifetime_seconds=_seconds(token.lifetime),
            next_refresh_in_seconds=_seconds(self._refresh_at - now),
            trigger=trigger.value,
        )
        if trouble is not None:
            outage = _seconds(now - trouble.since)
            log.info("token_recovered", credential=self.name, outage_seconds=outage, failures=trouble.failures)
        if token.missing_scopes:
            missing = " ".join(token.missing_scopes)
            log.error("scope_missing", credential=self.name, missing=missing, next=NEXT_STEPS["invalid_scope"])

    def _tell_failed(self, error: SidecarError, now: float) -> None:
        assert self._trouble is not None  # noqa: S101 - the failure was noted just now
        usable_for = self.published.usable_until - now if self.published else 0.0
        tell = log.error if isinstance(error, TerminalTokenError) or usable_for <= 0 else log.warning
        tell(
            "token_refresh_failed",
            credential=self.name,
            reason=error.reason,
            fault=error.fault.value,
            detail=error.detail,
            http_status=getattr(error, "http_status", None),
            oauth_error=getattr(error, "oauth_error", None),
            attempt=self._trouble.failures,
            retry_in_seconds=_seconds(self._decide(now).at - now),
            usable_for_seconds=_seconds(usable_for),
            next=NEXT_STEPS.get(error.reason),
        )

    def _unavailable(self, next_at: float) -> TokenUnavailable:
        why = f": {self._error.title} ({self._error.reason})" if self._error else ""
        return TokenUnavailable(
            f"credential {self.name} has no valid token now{why}",
            retry_after_seconds=max(1.0, next_at - self._clock.now()),
        )

    def __repr__(self) -> str:
        token = f"generation {self.published.generation}" if self.published else "no token"
        return f"<Credential {self.name} {self._state.value}, {token}>"


def _outcome(task: asyncio.Task[Token | SidecarError], now: float) -> Token | SidecarError:
    """What an attempt came to; a token that arrived after its end is no token."""
    if task.cancelled():
        return TokenTimeout("the attempt did not end by itself and was given up")
    if (crash := task.exception()) is not None:
        return InternalError(f"unexpected {type(crash).__name__}")
    outcome = task.result()
    if not isinstance(outcome, SidecarError) and outcome.sent_at + outcome.lifetime <= now:
        return TokenMalformed("the token had expired before the answer arrived")
    return outcome


def _seconds(value: float) -> float | None:
    """For the log: rounded, never negative, None for "never"."""
    return None if math.isinf(value) else round(max(value, 0.0), 1)
