"""All credentials of the running configuration: starts, keeps, replaces and ends them, and watches over their loops.

Decides which credential carries over a reload: one whose resolved configuration is equal in every input, with its
token, loop, meters and backoff. Leaves each one's life to ``credential``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.broker.breaker import Breaker
from sidecar.broker.command import Command
from sidecar.broker.credential import Credential
from sidecar.broker.idp import IdP, party
from sidecar.broker.source import GivenToken
from sidecar.config import files
from sidecar.config.model import NEEDS_LOGIN
from sidecar.errors import ConfigurationInvalid
from sidecar.oauth.endpoint import Endpoint
from sidecar.telemetry.log import get_logger
from sidecar.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sidecar.broker.source import Source
    from sidecar.broker.store import TokenStore
    from sidecar.config import model
    from sidecar.runtime import Clock, Tasks, Uniform
    from sidecar.telemetry.metrics import CredentialMeters, Metrics

log = get_logger("broker")

WATCH_SECONDS: Final = 5.0
MISSED_WATCHES: Final = 3
"""So many rounds without a turn of its loop, and a credential counts as hung; a loop turns every 5 s."""
START_SPREAD_SECONDS: Final = 3.0
"""A fleet that starts in one second asks its IdP over this long. No request waits for it, the first one wakes its
credential; and it is less than what lies between two looks at ``/readyz`` (10 s by default in Kubernetes)."""


class Broker:
    """The credentials by name.

    Args:
        tracing: whether fetches have spans; without it none has.

    Raises:
        ConfigurationInvalid: see ``Endpoint``.
    """

    def __init__(
        self, *, clock: Clock, uniform: Uniform, metrics: Metrics, tasks: Tasks, tracing: Tracing | None = None
    ) -> None:
        self._clock = clock
        self._uniform = uniform
        self._metrics = metrics
        self._tasks = tasks
        self._tracing = tracing or Tracing()
        self._endpoint = Endpoint(clock)
        self._credentials: dict[str, Credential] = {}
        self._configs: dict[str, model.Credential] = {}
        self._breakers: dict[str, Breaker] = {}
        self._store: model.Store | None = None
        self._limits: model.Limits
        self._turns_seen: dict[str, tuple[int, int]] = {}
        self._watchdog: asyncio.Task[None] | None = None

    async def apply(
        self, credentials: Mapping[str, model.Credential], limits: model.Limits, store: model.Store | None = None
    ) -> None:
        """Make ``credentials`` the ones that run: unchanged ones go on, others start, the rest ends.

        Those that rest on a person's consent keep it in ``store``; in another store they are others.
        """
        moved = store != self._store
        self._store, self._limits = store, limits
        ending = [self._take_out(name) for name in self._credentials.keys() - credentials.keys()]
        starting: list[tuple[Credential, float]] = []
        for name, config in credentials.items():
            if self._configs.get(name) == config and not (moved and config.grant in NEEDS_LOGIN):
                self._credentials[name].use_limits(limits)
                continue
            replaced = self._credentials.get(name)
            credential = self._build(name, config, limits, replaced)
            self._credentials[name], self._configs[name] = credential, config
            starting.append((credential, 0.0 if replaced else self._start_delay(config)))
            ending += [replaced] if replaced else []
        await _close_all(ending)  # first, because what replaces one may want what it owns
        for credential, delay_seconds in starting:
            credential.start(delay_seconds=delay_seconds)
        self._drop_unused_breakers()
        if self._watchdog is None:
            self._watchdog = self._tasks.spawn("watchdog", self._watch())

    def credential(self, name: str) -> Credential:
        """The credential of that name, as it runs now.

        Raises:
            KeyError: there is none.
        """
        return self._credentials[name]

    def credentials(self) -> list[Credential]:
        """All of them, in the order of the configuration they came from."""
        return list(self._credentials.values())

    def config(self, name: str) -> model.Credential:
        """What the credential of that name runs with.

        Raises:
            KeyError: there is none.
        """
        return self._configs[name]

    def for_login(self, name: str, meters: CredentialMeters) -> tuple[IdP, TokenStore]:
        """What a login of that credential asks, counted in ``meters``, and where its grant goes.

        Raises:
            KeyError: there is none.
            ConfigurationInvalid, StoreUnusable: nothing could be kept, so nobody is to be asked.
        """
        from sidecar.broker.sealing import read_keys
        from sidecar.broker.store import TokenStore

        config, limits = self._configs[name], self._limits
        if self._store is None:
            raise ConfigurationInvalid("a login needs the section 'store', where its grant is kept")
        read_keys(self._store.key)
        idp = IdP(config, name=name, clock=self._clock, endpoint=self._endpoint, meters=meters, limits=limits)
        return idp, TokenStore(Path(self._store.path), self._store.key)

    def ready(self) -> list[str]:
        """Names of the credentials that are ``required_for_ready`` and have no usable token now."""
        now = self._clock.now()
        required = (name for name, config in self._configs.items() if config.required_for_ready)
        return [name for name in required if self._credentials[name].usable(now) is None]

    async def close(self) -> None:
        """End all loops and fetches, and the session to the IdPs."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        await _close_all(self._credentials.values())
        await self._endpoint.close()

    # --- building ---------------------------------------------------------------------------------------------------

    def _build(
        self, name: str, config: model.Credential, limits: model.Limits, replaced: Credential | None
    ) -> Credential:
        if replaced is not None:
            self._metrics.forget_credential(name)
        meters = self._metrics.credential(name)
        return Credential(
            config,
            name=name,
            source=self._source(name, config, limits, meters),
            breaker=self._breakers.setdefault(_endpoint_of(config), Breaker()),
            clock=self._clock,
            uniform=self._uniform,
            tasks=self._tasks,
            meters=meters,
            limits=limits,
            on_recovery=self._endpoint_recovered,
            tracing=self._tracing,
            first_generation=replaced.next_generation if replaced else 1,
        )

    def _source(self, name: str, config: model.Credential, limits: model.Limits, meters: CredentialMeters) -> Source:
        match config.grant:
            case "static":
                return GivenToken(files.given_token(config), clock=self._clock, meters=meters, limits=limits)
            case "exec":
                return Command(config, clock=self._clock, meters=meters, limits=limits)
        idp = IdP(config, name=name, clock=self._clock, endpoint=self._endpoint, meters=meters, limits=limits)
        if config.grant not in NEEDS_LOGIN:
            return idp
        from sidecar.broker.renewal import Renewal  # only who keeps a login
        from sidecar.broker.store import TokenStore

        assert self._store is not None  # noqa: S101 - the rules want one
        return Renewal(
            idp,
            name=name,
            store=TokenStore(Path(self._store.path), self._store.key),
            seed=config.refresh_token,
            grace_seconds=config.dialect.rotation_grace,
            party=party(config),
            clock=self._clock,
            tasks=self._tasks,
            meters=meters,
        )

    def _start_delay(self, config: model.Credential) -> float:
        # Credentials of one sidecar spread as those of a fleet do. A token that lies here spares nobody by waiting, and
        # what replaces a credential had better be there: requests and readiness have come to rely on it.
        return 0.0 if config.grant == "static" else self._uniform(0.0, START_SPREAD_SECONDS)

    def _take_out(self, name: str) -> Credential:
        self._configs.pop(name)
        self._turns_seen.pop(name, None)
        self._metrics.forget_credential(name)
        return self._credentials.pop(name)

    def _drop_unused_breakers(self) -> None:
        used = {_endpoint_of(config) for config in self._configs.values()}
        self._breakers = {key: breaker for key, breaker in self._breakers.items() if key in used}

    # --- watching ---------------------------------------------------------------------------------------------------

    def _endpoint_recovered(self, breaker: Breaker) -> None:
        for credential in self._credentials.values():
            credential.endpoint_recovered(breaker)

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.now() + WATCH_SECONDS)
            for name, credential in self._credentials.items():
                self._look_at(name, credential)

    def _look_at(self, name: str, credential: Credential) -> None:
        # Counted in turns and rounds, not in time: after a suspend every heartbeat is old, and nothing is wrong.
        turns, missed = self._turns_seen.get(name, (-1, 0))
        missed = missed + 1 if turns == credential.turns else 0
        if not credential.alive or missed >= MISSED_WATCHES:
            log.error("refresh_loop_restarted", credential=name, cause="hung" if credential.alive else "ended")
            credential.restart()
            missed = 0
        self._turns_seen[name] = credential.turns, missed


async def _close_all(credentials: Iterable[Credential]) -> None:
    """All at once: each may wait for an answer that holds its next refresh token."""
    await asyncio.gather(*(credential.close() for credential in credentials))


def _endpoint_of(config: model.Credential) -> str:
    """What credentials share a breaker by: the token endpoint, or what it is found by."""
    return config.token_url or config.issuer or " ".join(config.command) or f"token:{config.token_file or config.token}"
