"""A fleet: an IdP that notes who asks when, sidecars that are real brokers beside it, and apps whose requests wait.

Answers are read by ``oauth.token`` as those of a real endpoint are. One IdP serves all, but each sidecar has its own
breaker, as processes on a thousand machines do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Final, Self

import structlog

from sidecar.broker.broker import Broker
from sidecar.config import model
from sidecar.errors import TokenUnavailable
from sidecar.oauth.answer import Answer
from sidecar.oauth.token import Expected, parse
from sidecar.runtime import Tasks
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.fleet.simulated_time import SimulatedClock
    from sidecar.broker.credential import Credential
    from sidecar.broker.source import Source
    from sidecar.oauth.token import Token
    from sidecar.runtime import Uniform
    from sidecar.telemetry.metrics import CredentialMeters

LATENCY_SECONDS: Final = 0.05
EXPECTED: Final = Expected()
DOWN: Final = b"<html>503 Service Unavailable</html>"


class IdP:
    """A token endpoint that is up or down.

    Args:
        lifetime: of its tokens, in seconds.
        refresh_in: after how long it wants them renewed, if it says so.

    Attributes:
        asked: the instant and the sidecar of every request, in order.
    """

    def __init__(self, clock: SimulatedClock, *, lifetime: float, refresh_in: float | None = None) -> None:
        self.is_down = False
        self.asked: list[tuple[float, int]] = []
        self._clock = clock
        self._fields: dict[str, object] = {"token_type": "Bearer", "expires_in": lifetime}
        if refresh_in is not None:
            self._fields["refresh_in"] = refresh_in

    async def answer(self, member: int) -> Answer:
        """Answer the token request of a sidecar."""
        sent_at = self._clock.now()
        self.asked.append((sent_at, member))
        status, body = (503, DOWN) if self.is_down else (200, self._token())
        await asyncio.sleep(LATENCY_SECONDS)
        return Answer(status, {}, body, sent_at, self._clock.wall())

    def _token(self) -> bytes:
        return json.dumps(self._fields | {"access_token": f"token-{len(self.asked)}"}).encode()


class Simulated:
    """A ``Source`` that asks the simulated IdP."""

    watches = False

    def __init__(self, idp: IdP, member: int, limits: model.Limits) -> None:
        self._idp = idp
        self._member = member
        self.limits = limits
        self.requests_sent = 0

    async def fetch(self) -> Token:
        self.requests_sent += 1
        return parse(await self._idp.answer(self._member), EXPECTED)

    def inputs_changed(self) -> bool:
        return False

    def close(self) -> None:
        """It owns nothing."""


class Member(Broker):
    """The broker of one sidecar of the fleet; all of it but the source is the product's."""

    def __init__(self, number: int, fleet: Fleet) -> None:
        super().__init__(clock=fleet.clock, uniform=fleet.uniform, metrics=fleet.metrics, tasks=fleet.tasks)
        self.number = number
        self._fleet = fleet

    def _source(
        self,
        name: str,  # noqa: ARG002 - as the product has it
        config: model.Credential,  # noqa: ARG002
        limits: model.Limits,
        meters: CredentialMeters,  # noqa: ARG002
    ) -> Source:
        return Simulated(self._fleet.idp, self.number, limits)

    async def start(self) -> None:
        """Begin with one credential."""
        name = f"sidecar-{self.number}"
        config = model.Credential(
            grant="client_credentials", client_auth="client_secret_basic", token_url="https://idp.example.test/token"
        )
        await self.apply({name: config}, model.Limits())
        self.only: Credential = self.credential(name)

    @property
    def is_troubled(self) -> bool:
        """Whether its last token request failed."""
        return self.only.status().consecutive_failures > 0


class Fleet:
    """So many sidecars; use it as an asynchronous context.

    Args:
        uniform: the randomness of them all.
    """

    def __init__(self, size: int, idp: IdP, *, clock: SimulatedClock, uniform: Uniform) -> None:
        self.idp = idp
        self.clock = clock
        self.uniform = uniform
        self.crashes: list[BaseException] = []
        self.tasks = Tasks(lambda _name, error: self.crashes.append(error))
        self.metrics = Metrics()
        self.members = [Member(number, self) for number in range(size)]

    async def start(self) -> None:
        """Start them all in this moment."""
        for member in self.members:
            await member.start()

    def run_apps(self, pause: float) -> list[asyncio.Task[None]]:
        """An app at each sidecar; its next request comes so many seconds after an answer, or when Retry-After says."""
        return [self.tasks.spawn(f"app:{place}", self._app(one.only, pause)) for place, one in enumerate(self.members)]

    async def _app(self, credential: Credential, pause: float) -> None:
        await asyncio.sleep(self.uniform(0.0, pause))
        while True:
            next_after = pause
            try:
                credential.usable(self.clock.now()) or await credential.wait()
            except TokenUnavailable as exc:
                next_after = max(pause, exc.retry_after_seconds or 0.0)
            await asyncio.sleep(next_after)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for member in self.members:
            await member.close()
        await self.tasks.close()
        if self.crashes:
            raise ExceptionGroup("a sidecar crashed", [each for each in self.crashes if isinstance(each, Exception)])


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing is logged: a thousand sidecars in an outage would say much, each time searched for all their tokens."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
