"""A scenario played to a running sidecar, by its admin API: what can be done there, and how its credentials stand.

Only where that sidecar says ``simulation: {enabled: true}``. Its IdP is the real one, so only its own tokens can be
touched: ``expire``, ``revoke`` and ``refresh``. There is no traffic of ours either, its upstreams are real: each look
at a credential stands for a request, which would fail while the credential has no token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

import aiohttp

from sidecar.config.hosts import url_parts
from sidecar.config.problems import listed
from sidecar.errors import ConfigurationInvalid, TokenConnect, TokenUnavailable, UsageError
from sidecar.rehearsal import run
from sidecar.rehearsal.scenario import EVENTS, REMOTE_EVENTS, Scenario
from sidecar.rehearsal.timeline import Outcome, Timeline
from sidecar.rehearsal.verdict import findings
from sidecar.runtime import Tasks
from sidecar.simulation.catalogue import ordered

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sidecar.config.model import Configuration
    from sidecar.rehearsal.run import Result, Tell
    from sidecar.runtime import Clock
    from sidecar.simulation.catalogue import Ordered

LOOK_SECONDS: Final = 0.1
ASK_SECONDS: Final = 10.0
_ACTIONS: Final = {
    "expire": ("simulation", "expire"),
    "revoke": ("simulation", "revoke-token"),
    "refresh": ("credentials", "refresh"),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a credential stands, as the admin API tells it."""

    name: str
    generation: int
    consecutive_failures: int
    last_error: str | None
    usable: bool

    @classmethod
    def of(cls, told: dict[str, Any]) -> Standing:
        return cls(
            name=str(told["name"]),
            generation=int(told["generation"]),
            consecutive_failures=int(told["consecutive_failures"]),
            last_error=told["last_error"],
            usable=bool(told["usable"]),
        )


class RunningSidecar:
    """The admin API of a sidecar that runs somewhere.

    Args:
        url: of its admin listener.
        configuration: names the admin token (``admin.token``).
    """

    def __init__(self, url: str, configuration: Configuration) -> None:
        if url_parts(url).path not in ("", "/"):
            raise UsageError("--against takes the address of the admin listener: http://HOST:PORT")
        self._url = url.rstrip("/")
        admin = configuration.admin
        if admin is None or admin.token is None:
            raise ConfigurationInvalid("--against needs the admin token: the configuration has no admin.token")
        self._token = admin.token
        self._session: aiohttp.ClientSession | None = None
        self.names: list[str] = []
        self.latest: list[Standing] = []

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_SECONDS), trust_env=False)
        try:
            await self.look()
            self.names = [standing.name for standing in self.latest]
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def look(self) -> None:
        """See how all credentials stand.

        Raises:
            TokenConnect: nobody answers there as a sidecar does.
        """
        status, told = await self._ask("GET", "/v1/credentials")
        try:
            if status != 200:
                raise ValueError(f"it answered {status}")
            self.latest = [Standing.of(each) for each in told["credentials"]]
        except (ValueError, KeyError, TypeError) as exc:
            raise TokenConnect(f"what listens at {self._url} does not answer as a sidecar's admin API") from exc

    async def happen(self, order: Ordered, credential: str | None) -> None:
        """Let an event happen, to one credential or to all.

        Raises:
            ConfigurationInvalid: it may not be done there.
        """
        section, action = _ACTIONS[order.fault.name]
        headers = {"Authorization": f"Bearer {self._token.read().reveal()}"}
        for name in self.names if credential is None else [credential]:
            path = f"/v1/{section}/{quote(name, safe='')}/{action}"
            status, told = await self._ask("POST", path, headers)
            if status >= 400:
                why = str(told.get("detail", status)) if isinstance(told, dict) else str(status)
                raise ConfigurationInvalid(f"the sidecar at {self._url} refuses to {action}: {why}")

    async def end(self, fault: str, credential: str | None) -> None:
        """Nothing lasts there."""

    async def _ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        from yarl import URL

        assert self._session is not None  # noqa: S101 - it is entered
        url = URL(self._url + path, encoded=True)  # a name keeps its %2F
        try:
            async with self._session.request(method, url, headers=headers, allow_redirects=False) as response:
                return response.status, await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            raise TokenConnect(f"no sidecar's admin API answers at {self._url}") from exc


async def rehearse(name: str, scenario: Scenario, sidecar: RunningSidecar, *, clock: Clock, tell: Tell) -> Result:
    """Play a scenario to a running sidecar.

    Raises:
        UsageError: the scenario needs a provider of ours.
        ConfigurationInvalid: the sidecar does not take it.
        TokenConnect: nobody answers there.
        SecretMissing: the admin token cannot be read.
    """
    _refuse_foreign_events(name, scenario)
    tasks = Tasks(lambda *_: None)  # who waits for the task hears of it
    async with sidecar:
        start = clock.now()
        timeline = Timeline(lambda: clock.now() - start, tell)
        timeline.event(f"looking at {', '.join(sidecar.names)}")
        happening = tasks.spawn("events", run.events(scenario, sidecar, timeline, clock))
        try:
            await _watch(sidecar, scenario.duration, timeline, clock, until=lambda: _failed(happening))
            await happening
        finally:
            await tasks.close()
    return run.Result(name, scenario, timeline, findings(scenario.expect, timeline, sidecar.names))


def _refuse_foreign_events(name: str, scenario: Scenario) -> None:
    for step in scenario.steps:
        event = ordered(step.event, EVENTS).fault.name if step.event is not None else step.end
        if event not in REMOTE_EVENTS:
            able = listed(sorted(REMOTE_EVENTS))
            raise UsageError(f"scenario {name}: {event} needs the mock provider; a running sidecar can {able}")


def _failed(happening: asyncio.Task[None]) -> bool:
    """Whether an event was refused: then there is nothing to wait for."""
    return happening.done() and happening.exception() is not None


async def _watch(
    sidecar: RunningSidecar, seconds: float, timeline: Timeline, clock: Clock, *, until: Callable[[], bool]
) -> None:
    """Look again and again; each look is a request that would have been made."""
    end = clock.now() + seconds
    told: dict[str, tuple[int, int, bool]] = {}
    while clock.now() < end and not until():
        at = timeline.now()
        await sidecar.look()
        for standing in sidecar.latest:
            run.note(standing, told, timeline)
            reason = None if standing.usable else TokenUnavailable.reason
            timeline.came_to(Outcome(at, standing.name, 200 if standing.usable else 503, reason))
        await clock.sleep_until(clock.now() + LOOK_SECONDS)
