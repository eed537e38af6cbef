"""A grant in a store, a provider that rotates refresh tokens, and the source between them, on a fake clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from sidecar.broker.breaker import Breaker
from sidecar.broker.credential import Credential
from sidecar.broker.idp import IdP, party
from sidecar.broker.renewal import Asks, Renewal
from sidecar.broker.store import Grant, new_lineage
from sidecar.config import model
from sidecar.oauth.endpoint import Endpoint
from sidecar.oauth.token import Token
from sidecar.runtime import Tasks
from sidecar.secrets import Secret, SecretReference
from sidecar.simulation.registration import Client, Refreshing
from sidecar.telemetry.metrics import CredentialMeters, Metrics
from sidecar.telemetry.tracing import Tracing
from tests.broker.store_kit import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.oauth.dpop import ProofKey
    from sidecar.simulation.idp import MockIdP
    from tests.fake_clock import FakeClock


LIMITS: Final = model.Limits(token_request=60.0, connect=60.0)
"""These are real seconds, and a busy machine is no reason to lose an answer."""


class Asked:
    """Answers from a list, in the place of an IdP: tokens are returned, errors raised."""

    def __init__(self, *answers: Token | Exception) -> None:
        self.answers = list(answers)
        self.presented: list[str | None] = []
        self.requests_sent = 0
        self.limits = LIMITS
        self.dpop: ProofKey | None = None
        self.changed = False

    async def ask(self, refresh_token: Secret | None = None) -> Token:
        self.presented.append(refresh_token.reveal() if refresh_token else None)
        self.requests_sent += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def inputs_changed(self) -> bool:
        return self.changed


@dataclass
class Rig:
    """Everything that one source of this kind lives among."""

    clock: FakeClock
    idp: MockIdP
    folder: Path
    metrics: Metrics = field(default_factory=Metrics)
    crashes: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = open_store(self.folder)
        self.tasks = Tasks(lambda name, error: self.crashes.append(error))
        self.endpoint = Endpoint(self.clock)
        self.credentials: list[Credential] = []
        self.policy(Refreshing(grace=30.0))
        self.config = model.Credential(
            grant="refresh_token",
            token_url=self.idp.token_url,
            client_id="client",
            client_secret=SecretReference.parse("x", allow_inline=True),
            client_auth="client_secret_basic",
        )
        self.idp.secrets["client"] = {"x"}
        self.clock.idle = self._is_idle

    def _is_idle(self) -> bool:
        """No request and no write is under way."""
        return "store:" not in repr(self.tasks) and not any(one.status().fetching for one in self.credentials)

    @property
    def meters(self) -> CredentialMeters:
        return self.metrics.credential("orders")

    def policy(self, refreshing: Refreshing) -> None:
        """How the provider treats refresh tokens from now on."""
        self.idp.register("client", Client(refreshing=refreshing))

    def source(self, asks: Asks | None = None, *, seed: Path | None = None, grace: float = 30.0) -> Renewal:
        return Renewal(
            asks or self._idp(),
            name="orders",
            store=self.store,
            seed=SecretReference("file", str(seed)) if seed else None,
            grace_seconds=grace,
            party=party(self.config),
            clock=self.clock,
            tasks=self.tasks,
            meters=self.meters,
        )

    def _idp(self) -> IdP:
        return IdP(
            self.config,
            name="orders",
            clock=self.clock,
            endpoint=self.endpoint,
            meters=self.meters,
            limits=LIMITS,
        )

    async def run(self, source: Renewal) -> Credential:
        """A credential on this source, after its first attempt."""
        credential = Credential(
            self.config,
            name="orders",
            source=source,
            breaker=Breaker(),
            clock=self.clock,
            uniform=lambda low, high: (low + high) / 2,
            tasks=self.tasks,
            meters=self.meters,
            limits=LIMITS,
            on_recovery=lambda breaker: None,
            tracing=Tracing(),
        )
        self.credentials.append(credential)
        credential.start()
        await self.clock.settle()
        return credential

    def log_in(self, *, rotates: bool = False) -> str:
        """What ``sidecar login`` does; the refresh token it leaves."""
        token = self.idp.login()
        self.store.write("orders", Grant(Secret(token), new_lineage(), self.clock.wall(), rotates=rotates))
        return token

    def answer(self, refresh_token: str | None = None, **changes: Any) -> Token:
        """What an IdP's answer is read as."""
        secret = Secret(refresh_token) if refresh_token is not None else None
        return replace(Token(Secret("canary-access"), self.clock.now(), 3600.0, refresh_token=secret), **changes)

    @property
    def on_disk(self) -> Grant:
        """The grant in the store; there has to be one."""
        grant = self.store.read("orders")
        assert grant is not None
        return grant

    @property
    def presented(self) -> list[str | None]:
        """The refresh tokens that the provider was sent."""
        return [request.field("refresh_token") for request in self.idp.token_requests]

    async def close(self) -> None:
        for credential in self.credentials:
            await credential.close()
        await self.tasks.close()
        await self.endpoint.close()
        assert self.crashes == []
