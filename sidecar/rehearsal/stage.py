"""Everything that a rehearsal needs, up and running in this process: providers, echoes, the sidecar between them.

All sockets are real and on loopback. Decides who talks to whom; what happens when is for ``run``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.app import Sidecar
from sidecar.errors import ConfigurationInvalid
from sidecar.rehearsal import arrangement
from sidecar.rehearsal.credentials import endpoint_of, provider_settings
from sidecar.rehearsal.made_up import MadeUp
from sidecar.runtime import Tasks
from sidecar.simulation.echo import Echo
from sidecar.simulation.idp import MockIdP
from sidecar.simulation.injection import Injection
from sidecar.telemetry import log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from sidecar.broker.credential import Credential, Status
    from sidecar.config.model import Configuration
    from sidecar.rehearsal.arrangement import Call
    from sidecar.runtime import Clock
    from sidecar.secrets import SecretReference
    from sidecar.simulation.catalogue import Ordered

FIRST_TOKENS_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.02
LEEWAY_SECONDS: Final = 2.0
"""APIs take a token for a little longer than it lives, most a minute: clocks differ, and requests are under way."""


@dataclass(slots=True)
class Provided:
    """A provider and its faults."""

    idp: MockIdP
    injection: Injection


@dataclass(slots=True)
class Stage:
    """What a run acts on."""

    sidecar: Sidecar
    providers: dict[str, Provided]
    """By the name of the credential; several may share one."""
    made_up: MadeUp
    calls: Sequence[Call]
    notes: Sequence[str]
    tasks: Tasks
    clock: Clock

    @property
    def proxy(self) -> str:
        [listener] = self.sidecar.listeners
        assert listener.address is not None  # noqa: S101 - it is bound, and no Unix socket
        return f"http://127.0.0.1:{listener.address[1]}"

    @property
    def names(self) -> list[str]:
        """Of the credentials that a provider is asked for."""
        return list(self.providers)

    def statuses(self) -> list[Status]:
        return [self.sidecar.broker.credential(name).status() for name in self.names]

    async def happen(self, order: Ordered, credential: str | None) -> None:
        """Let an event happen, to one credential or to all."""
        names = self.names if credential is None else [credential]
        match order.fault.name:
            case "expire":
                for name in names:
                    self.sidecar.broker.credential(name).expire_now()
            case "refresh":
                for name in names:
                    self.sidecar.broker.credential(name).request_refresh()
            case "rotate_secret":
                for provided in self._concerned(names):
                    await self._rotate_secrets(provided.idp, order.value or 0.0)
            case _:
                for provided in self._concerned(names):
                    await provided.injection.inject(order)

    async def end(self, fault: str, credential: str | None) -> None:
        """End an event before its time."""
        for provided in self._concerned(self.names if credential is None else [credential]):
            await provided.injection.end(fault)

    def _concerned(self, names: Sequence[str]) -> list[Provided]:
        return list({id(self.providers[name]): self.providers[name] for name in names}.values())

    async def _rotate_secrets(self, idp: MockIdP, later_seconds: float) -> None:
        changed = self.made_up.change_at_idp(idp)
        if later_seconds:
            self.tasks.spawn("secret files follow", self._change_files_at(self.clock.now() + later_seconds, changed))
        else:
            self.made_up.change_files(changed)

    async def _change_files_at(self, at: float, changed: dict[SecretReference, str]) -> None:
        await self.clock.sleep_until(at)
        self.made_up.change_files(changed)


@contextlib.asynccontextmanager
async def stage(
    configuration: Configuration, *, ttl: float, clock: Clock, on_end: Callable[[Ordered], None]
) -> AsyncIterator[Stage]:
    """Set it up, wait for the first token of every credential, and take it down at the end.

    Args:
        configuration: the user's.
        ttl: how long access tokens live.
        on_end: told of faults that end by themselves.

    Raises:
        ConfigurationInvalid: a credential gets no token even now.
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="token-sidecar-rehearsal-"))
        tasks = Tasks(_crashed)
        stack.push_async_callback(tasks.close)
        providers = await _providers(configuration, stack, ttl=ttl, clock=clock, tasks=tasks, on_end=on_end)
        made_up = MadeUp(Path(folder))
        distinct = {id(provided.idp): provided.idp for provided in providers.values()}
        echoes = await _echoes(configuration, stack, list(distinct.values()), clock)
        idps = {name: provided.idp for name, provided in providers.items()}
        arranged = arrangement.arranged(configuration, idps=idps, echoes=echoes, made_up=made_up)
        asked = {name: each for name, each in providers.items() if configuration.credentials[name].grant != "static"}
        stack.enter_context(log.borrowed("error"))
        sidecar = Sidecar(arranged.configuration, clock=clock, draw=_draw(), lookup=_look_up)
        await sidecar.start()
        stack.push_async_callback(sidecar.close)
        log.configure("critical")  # failures are the point of it, and the timeline tells them
        set_up = Stage(sidecar, asked, made_up, arranged.calls, arranged.notes, tasks, clock)
        await _first_tokens(sidecar, clock)
        yield set_up


async def _providers(
    configuration: Configuration,
    stack: AsyncExitStack,
    *,
    ttl: float,
    clock: Clock,
    tasks: Tasks,
    on_end: Callable[[Ordered], None],
) -> dict[str, Provided]:
    """A provider for each token endpoint, up; by the names of the credentials."""
    by_endpoint: dict[tuple[str, ...], Provided] = {}
    providers: dict[str, Provided] = {}
    for name, credential in configuration.credentials.items():
        place = endpoint_of(credential)
        if place not in by_endpoint:
            idp = MockIdP(
                clients={"nobody": "nothing"}, ttl=ttl, now=clock.now, wall=clock.wall, **provider_settings(credential)
            )
            await stack.enter_async_context(idp)
            by_endpoint[place] = Provided(idp, Injection(idp, clock=clock, tasks=tasks, on_end=on_end))
        providers[name] = by_endpoint[place]
    return providers


async def _echoes(
    configuration: Configuration, stack: AsyncExitStack, idps: Sequence[MockIdP], clock: Clock
) -> dict[int, int]:
    """An echo for each port that routes lead to."""

    def is_valid(token: str) -> bool:
        now = clock.now() - LEEWAY_SECONDS
        return token.startswith("static-") or any(idp.is_valid(token, now) for idp in idps)

    echoes = {}
    for port in arrangement.upstream_ports(configuration):
        echo = await stack.enter_async_context(Echo(is_valid=is_valid))
        echoes[port] = echo.port
    return echoes


async def _first_tokens(sidecar: Sidecar, clock: Clock) -> None:
    """Wait until every credential has a token.

    Raises:
        ConfigurationInvalid: one gets none, from a provider that has no faults yet.
    """
    waiting = list(sidecar.broker.credentials())
    for credential in waiting:
        if not credential.status().fetching:
            credential.request_refresh()  # at once: what spreads the starts of a fleet has no use here
    deadline = clock.now() + FIRST_TOKENS_SECONDS
    while waiting := [each for each in waiting if not each.status().usable]:
        if (refused := _refused(waiting)) or clock.now() >= deadline:
            status = (refused or waiting[0]).status()
            why = status.last_error or "no answer in time"
            raise ConfigurationInvalid(f"credential {status.name} cannot be rehearsed: the mock provider says {why}")
        await asyncio.sleep(LOOK_SECONDS)


def _refused(waiting: Sequence[Credential]) -> Credential | None:
    return next((each for each in waiting if each.status().consecutive_failures > 1), None)


def _draw() -> Callable[[float, float], float]:
    """The same jitter in every run, so that two runs of a scenario differ as little as they can."""
    return random.Random("rehearsal").uniform  # noqa: S311 - nothing secret comes of it


async def _look_up(_: str) -> list[str]:
    """Every name is here: a rehearsal asks no DNS."""
    return ["127.0.0.1"]


def _crashed(task: str, error: BaseException) -> None:
    log.get_logger("rehearsal").error("task_crashed", task=task, exc_info=error)
