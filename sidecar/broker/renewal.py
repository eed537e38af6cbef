"""Tokens by a refresh token that lives in the store: what a login left, or a seed from the configuration.

Decides which refresh token is spent, what is written down before and after, and when a login is needed. Leaves the
request to ``idp``, the disk to ``store``, and the next moment to ``credential``.

Theory. A provider that rotates refresh tokens takes a spent one for stolen and revokes everything that came of the same
login (RFC 9700 section 4.14.2). So there are two ways to lose a grant: the answer with the successor is lost, or the
successor is lost before it is written. Against the second, the successor is on disk before anybody sees the token that
came with it. Against the first nothing helps for certain, but most providers honour the old token for some seconds more
(``dialect.rotation_grace``). So what was sent without an answer is *in doubt*: it is presented once more, soon; if that
answer is lost as well, nobody but a person can help for certain, and the credential says so. The old token is then
tried slowly, and only when no access token is valid any more that its revocation could cost. Often enough the request
never arrived, and the grant is sound.

That a token is being spent is on disk before the request leaves: the next process has to know. What cannot be written
is kept in memory, and serves; the log says so until the disk takes it.

A request that has begun is not given up because its credential is: the answer may hold the only refresh token there is.

A volume may hang, for ever. Each source waits for it in a thread of its own, so that what hangs is one credential, and
not what others do in threads, or the loop.
"""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from sidecar.broker.source import WatchedFiles, read_counted
from sidecar.broker.store import Grant, fingerprint, new_lineage
from sidecar.errors import (
    InvalidGrant,
    LoginNeeded,
    SecretMissing,
    SidecarError,
    StoreUnusable,
    TerminalTokenError,
    TokenRequestError,
)
from sidecar.oauth.dpop import ProofKey
from sidecar.oauth.token import Successor
from sidecar.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from sidecar.broker.store import Ownership, TokenStore
    from sidecar.config.model import Limits
    from sidecar.oauth.endpoint import FileStamp
    from sidecar.oauth.token import Token
    from sidecar.runtime import Clock, Tasks
    from sidecar.secrets import Secret, SecretReference
    from sidecar.telemetry.metrics import CredentialMeters

log = get_logger("broker")

TRIES: Final = 2
"""A refresh token whose answers are lost is presented this often while an access token is at stake."""
SLOW_SECONDS: Final = 30.0
"""Least distance of the tries after that; an IdP that is back is to be noticed within this time."""
LOOK_SECONDS: Final = 0.05
"""How long a look at the disk may take before it is left for later: everything else stands still meanwhile."""
CLOSE_SECONDS: Final = 3.0
"""How long an ending credential waits for an answer that is under way."""


Result = TypeVar("Result")


class Asks(Protocol):
    """Sends token requests; ``IdP`` does.

    Attributes:
        dpop: the key that tokens are to be bound to.
    """

    requests_sent: int
    limits: Limits
    dpop: ProofKey | None

    async def ask(self, refresh_token: Secret | None = None) -> Token:
        """The token in the answer to one request.

        Raises:
            TokenRequestError: there is none; ``sent`` says whether the refresh token was presented.
            SidecarError: the request could not be made, so it was not presented.
        """

    def inputs_changed(self) -> bool:
        """Whether a file that requests depend on is another one than at the last request."""


class Renewal:
    """The source of grants that rest on a person's consent.

    Args:
        seed: the configuration's ``refresh_token``; a lineage begins with it whenever it is another one than before.
        grace_seconds: how long the provider honours a refresh token that it has replaced.
        party: the client and the provider as configured; a grant of others is not presented to them.
    """

    def __init__(
        self,
        asks: Asks,
        *,
        name: str,
        store: TokenStore,
        seed: SecretReference | None,
        grace_seconds: float,
        party: str,
        clock: Clock,
        tasks: Tasks,
        meters: CredentialMeters,
    ) -> None:
        self._asks = asks
        self._name = name
        self._store = store
        self._seed = seed
        self._grace_seconds = grace_seconds
        self._party = party
        self._clock = clock
        self._tasks = tasks
        self._meters = meters
        self._seed_file = WatchedFiles([str(seed.path)] if seed and seed.path else [])
        self._ownership: Ownership | None = None
        self._spending: asyncio.Task[Token | SidecarError] | None = None
        self._saving: asyncio.Task[bool] | None = None
        self._unsaved: Grant | None = None
        """What the disk has not taken; it goes before what stands there."""
        self._disk = ThreadPoolExecutor(1, f"store:{name}")
        self._look: Future[FileStamp | None] | None = None
        self._seen: FileStamp | None = None
        self._on_disk: str | None = None
        """The lineage that was on disk at the last look."""
        self._closing = False
        self._lineage: str | None = None
        self._lost = 0
        """Answers lost in a row, of those that this lineage was owed by this process."""
        self._token_ends_at = -math.inf
        self._again_at = math.inf
        self.watches = False
        self.requests_sent = 0

    @property
    def limits(self) -> Limits:
        return self._asks.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._asks.limits = limits

    def inputs_changed(self) -> bool:
        """Whether there is a reason to try again: another login, seed or secret, or the moment to try what is in doubt.

        A write that failed is tried again here, in the background.
        """
        if self._unsaved is not None and (self._saving is None or self._saving.done()) and self._spending is None:
            self._saving = self._tasks.spawn(f"store:{self._name}", self._save(self._unsaved))
        return (
            self._asks.inputs_changed()
            or self._seed_file.changed()
            or self._stamp() != self._seen
            or self._clock.now() >= self._again_at
        )

    def _stamp(self) -> FileStamp | None:
        """The stamp as it is, or the last one while that cannot be seen. What hangs is waited for once."""
        if self._spending is not None or not (self._saving is None or self._saving.done()):
            return self._seen  # the disk is at work on what is newer
        seconds = LOOK_SECONDS if self._look is None else 0.0
        self._look = self._look or self._disk.submit(self._store.stamp, self._name)
        try:
            stamp = self._look.result(seconds)
        except TimeoutError:
            return self._seen
        self._look = None
        return stamp

    async def fetch(self) -> Token:
        task = self._spending
        if task is None:
            task = self._spending = self._tasks.spawn(f"spend:{self._name}", self._outcome())
        try:
            outcome = await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task}, timeout=CLOSE_SECONDS)
            raise
        finally:
            if task.done():
                self._spending = None
        if isinstance(outcome, SidecarError):
            raise outcome
        return outcome

    def close(self) -> None:
        """Let another process have the grant, at the latest when the answer has come that is still under way.

        What the disk has not taken is offered to it once more: who replaces this source knows nothing of it.
        """
        for task in (self._spending, self._saving):
            if task is not None and not task.done():
                task.add_done_callback(lambda _: self.close())
                return
        if self._unsaved is not None and not self._closing:
            self._closing = True
            self._saving = self._tasks.spawn(f"store:{self._name}", self._save(self._unsaved))
            self._saving.add_done_callback(lambda _: self.close())
            return
        self._disk.shutdown(wait=False)
        if self._ownership is not None:
            self._ownership.close()
            self._ownership = None

    # --- one attempt ------------------------------------------------------------------------------------------------

    async def _outcome(self) -> Token | SidecarError:
        try:
            return await self._renew()
        except SidecarError as exc:
            return exc

    async def _renew(self) -> Token:
        if self._saving is not None:
            await asyncio.wait({self._saving})  # what it writes is older than what comes now
        await self._note()
        if self._ownership is None:
            self._ownership = await self._at_the_disk(self._store.own, self._name)
        grant = await self._spendable()
        self._bind(grant)
        try:
            token = await self._asks.ask(grant.refresh_token)
        except SidecarError as exc:
            if (failure := await self._failed(grant, exc)) is exc:
                raise
            raise failure from exc
        finally:
            self.requests_sent = self._asks.requests_sent
        await self._keep(grant, token)
        return token

    def _bind(self, grant: Grant) -> None:
        key = self._asks.dpop
        if grant.dpop_key is not None and (key is None or key.jwk != grant.dpop_key):
            self._asks.dpop = ProofKey(grant.dpop_key)

    async def _note(self) -> None:
        """Remember the inputs as they are before they are read."""
        self._look, self._seen = None, await self._at_the_disk(self._store.stamp, self._name)
        self._seed_file.note()
        self._again_at = math.inf

    async def _spendable(self) -> Grant:
        """The grant to present, as it was before; on disk it is marked as spent."""
        while True:
            grant = await self._grant()
            self._hold_back(grant)
            if grant.spent_at is not None or await self._save(replace(grant, spent_at=self._clock.wall())):
                return grant

    async def _grant(self) -> Grant:
        """The newest there is: what could not be written yet, a new seed, or what stands on disk."""
        if self._unsaved is not None:
            await self._save(self._unsaved)
        grant = self._unsaved
        if grant is None:
            grant = await self._at_the_disk(self._store.read, self._name)
            self._on_disk = grant.lineage if grant else None
        seed = self._read_seed(needed=grant is None)
        foreign = grant is not None and grant.party not in (None, self._party)
        if seed is not None and (grant is None or foreign or grant.seed != fingerprint(seed)):
            grant = Grant(seed, new_lineage(), self._clock.wall(), seed=fingerprint(seed), party=self._party)
            log.info("seed_taken", credential=self._name, reference=str(self._seed))
            return grant if await self._save(grant) else await self._grant()
        if grant is None:
            raise self._login_needed(f"credential {self._name} has no login yet")
        if foreign:
            raise self._login_needed(f"credential {self._name} has a login, but it is of {grant.party}")
        self._use(grant)
        return grant

    def _read_seed(self, *, needed: bool) -> Secret | None:
        if self._seed is None:
            return None
        try:
            return read_counted(self._seed, self._meters)
        except SecretMissing:
            if needed:
                raise
            return None

    def _use(self, grant: Grant) -> None:
        if grant.lineage != self._lineage:
            if self._lineage is not None:
                log.info("login_found", credential=self._name)
            self._lineage, self._lost = grant.lineage, 0
        self._meters.refresh_token_expiry_timestamp.value = grant.expires_at or 0.0

    # --- what came of it --------------------------------------------------------------------------------------------

    async def _keep(self, before: Grant, token: Token) -> None:
        """Write down what an answer brought; when this returns, the token may be used."""
        successor = _successor(before, token, self._clock.wall())
        rotated = successor.refresh_token is not before.refresh_token
        self._lost = 0
        self._token_ends_at = token.sent_at + token.lifetime
        if rotated:
            self._meters.rotations.value += 1
        if not await self._save(successor):
            log.info("login_found", credential=self._name, next="what the old login still brought is not kept")
        elif rotated:
            self._meters.refresh_token_expiry_timestamp.value = successor.expires_at or 0.0
        self.watches = self._unsaved is not None

    async def _failed(self, before: Grant, exc: SidecarError) -> SidecarError:
        """What a failed request comes to; the mark goes if nothing was spent."""
        if isinstance(exc, TokenRequestError) and isinstance(exc.successor, Successor):
            return await self._keep_successor(before, exc.successor, exc)
        if _is_lost(exc):
            return self._answer_lost(exc) if before.rotates else exc
        if before.spent_at is None:
            await self._save(before)
        return self._refused(before, exc) if isinstance(exc, InvalidGrant) else exc

    async def _keep_successor(self, before: Grant, brought: Successor, exc: SidecarError) -> SidecarError:
        """The access token is refused (too few scopes, another type), but the answer's refresh token is the one now."""
        self._lost = 0
        successor = _rotated(before, brought, self._clock.wall())
        if successor.refresh_token != before.refresh_token:
            self._meters.rotations.value += 1
        await self._save(successor)
        return exc

    def _answer_lost(self, exc: SidecarError) -> SidecarError:
        self._lost += 1
        if self._lost >= TRIES:
            return self._in_doubt()
        log.warning("rotation_answer_lost", credential=self._name, next="the same refresh token is tried once more")
        return exc

    def _hold_back(self, grant: Grant) -> None:
        """Not to present what may be spent, while its revocation would cost an access token.

        Raises:
            LoginNeeded: a person is needed, as far as one can tell.
        """
        if not grant.rotates or grant.spent_at is None or self._clock.now() >= self._token_ends_at:
            return
        if self._lost >= TRIES or self._clock.wall() >= grant.spent_at + self._grace_seconds:
            raise self._in_doubt()

    def _in_doubt(self) -> LoginNeeded:
        self._again_at = max(self._clock.now() + SLOW_SECONDS, self._token_ends_at)
        return self._login_needed("the answer to a rotation was lost, and perhaps the next refresh token with it")

    def _refused(self, before: Grant, exc: InvalidGrant) -> InvalidGrant:
        self.watches = True
        why = "; the answer to a rotation was lost before" if before.spent_at is not None and before.rotates else ""
        return InvalidGrant(
            f"{exc.detail}{why}: {self._remedy()}",
            retry_after_seconds=exc.retry_after_seconds,
            oauth_error=exc.oauth_error,
            http_status=exc.http_status,
        )

    def _login_needed(self, why: str) -> LoginNeeded:
        self.watches = True
        return LoginNeeded(f"{why}: {self._remedy()}")

    def _remedy(self) -> str:
        if self._seed is not None:
            return f"put another refresh token at {self._seed}"
        return f"run `sidecar login {self._name}`"

    # --- the disk ---------------------------------------------------------------------------------------------------

    async def _at_the_disk(self, call: Callable[..., Result], *arguments: str) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._disk, call, *arguments)

    async def _save(self, grant: Grant) -> bool:
        """Put it on disk; False: a newer login is there, and this goes for nothing. What the disk refuses is kept."""
        again = grant is self._unsaved
        try:
            stamp = await self._at_the_disk(partial(self._store.replace, self._name, grant, lineage=self._on_disk))
        except StoreUnusable as exc:
            if not again:
                self._say_unsaved(exc)
            self._unsaved, self.watches = grant, True
            return True
        if self._unsaved is not None:
            log.info("store_write_recovered", credential=self._name)
        self._unsaved = None
        if stamp is not None:
            self._look, self._seen, self._on_disk = None, stamp, grant.lineage
        return stamp is not None

    def _say_unsaved(self, exc: StoreUnusable) -> None:
        log.error(
            "store_write_failed",
            credential=self._name,
            detail=exc.detail,
            next="the refresh token is kept in memory and the write tried again; a restart before that costs the login",
        )


def _successor(before: Grant, token: Token, wall: float) -> Grant:
    """The grant after an answer (RFC 6749 section 6): with its refresh token, if it has another one."""
    after = replace(
        before,
        spent_at=None,
        scope=token.scope or before.scope,
        dpop_key=token.dpop.jwk if token.dpop else before.dpop_key,
    )
    if token.refresh_token:
        return _rotated(after, Successor(token.refresh_token, token.refresh_token_lifetime), wall)
    return (
        after
        if token.refresh_token_lifetime is None
        else replace(after, expires_at=wall + token.refresh_token_lifetime)
    )


def _rotated(before: Grant, brought: Successor, wall: float) -> Grant:
    """The grant with the refresh token that an answer brought, which may be the same again."""
    lifetime = brought.refresh_token_lifetime
    ends_at = None if lifetime is None else wall + lifetime
    if brought.refresh_token == before.refresh_token:
        return replace(before, spent_at=None, expires_at=before.expires_at if ends_at is None else ends_at)
    return replace(
        before,
        spent_at=None,
        refresh_token=brought.refresh_token,
        obtained_at=wall,
        expires_at=ends_at,
        rotates=True,
    )


def _is_lost(exc: SidecarError) -> bool:
    """Whether the refresh token was presented, and nobody knows what the IdP made of it.

    A refusal is an answer (4xx, or a parsed OAuth error whatever the status): nothing was issued with it. A 5xx may be
    a gateway's, for a request that was served behind it. A 200 that is no token for us may have been one.
    """
    if not isinstance(exc, TokenRequestError) or not exc.sent:
        return False
    status = exc.http_status
    if status is None:
        return not isinstance(exc, TerminalTokenError)  # that is said of a request that could not be made
    if status >= 500:
        return exc.oauth_error != "temporarily_unavailable"
    return status < 400 and exc.oauth_error is None
