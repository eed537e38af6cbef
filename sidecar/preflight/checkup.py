"""The whole check: the stages in their order, each on what the one before left standing, and the report of it all.

Decides what is not looked at because something before it failed: asking an IdP for a token whose address does not
answer, or with a secret that is not there, would only tell the same thing twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.config.problems import did_you_mean, nearest
from sidecar.errors import UsageError
from sidecar.oauth.endpoint import Endpoint
from sidecar.preflight.dialling import Resolving, thread_lookup
from sidecar.preflight.findings import Check, Finding, Report, placed, stages_to
from sidecar.preflight.jobs import run_all
from sidecar.preflight.kinds import Kind, Severity, Stage
from sidecar.preflight.live import Live
from sidecar.preflight.network import Network
from sidecar.preflight.offline import offline
from sidecar.preflight.probe import Probe
from sidecar.preflight.subject import Machine, Subject
from sidecar.runtime import SystemClock, uniform

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sidecar.config.load import ConfigurationErrors, Loaded
    from sidecar.preflight.jobs import Job
    from sidecar.proxy.resolver import Lookup
    from sidecar.runtime import Clock, Uniform

TIMEOUT_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Options:
    """How a check is made.

    Args:
        depth: the last stage.
        strict: warnings count.
        only: names of credentials; empty for all.
        timeout: seconds for everything.
        files: the files that the configuration names are here.
    """

    depth: Stage = Stage.NETWORK
    strict: bool = False
    only: frozenset[str] = frozenset()
    timeout: float = TIMEOUT_SECONDS
    files: bool = True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a check asks of the machine it runs on."""

    clock: Clock
    lookup: Lookup
    draw: Uniform
    machine: Machine

    @classmethod
    def real(cls) -> Surroundings:
        """The machine's own."""
        return cls(SystemClock(), thread_lookup, uniform, Machine.here())


def invalid(filename: str, errors: ConfigurationErrors, options: Options) -> Report:
    """The report on a configuration that cannot be used."""
    found = [Finding(Kind.CONFIGURATION_INVALID, (), each.message, span=each.span) for each in errors.problems]
    checks = (Check(Stage.OFFLINE, "configuration", tuple(found)),)
    return Report(filename, options.depth, checks, options.strict, errors.frame)


async def check(
    loaded: Loaded, filename: str, options: Options, *, file: Path | None = None, around: Surroundings | None = None
) -> Report:
    """Check a configuration.

    Args:
        filename: what the report calls it.
        file: where it stands.
        around: the machine's own, or a test's.

    Raises:
        UsageError: ``only`` names a credential that does not exist.
        ConfigurationInvalid: see ``Endpoint``.
    """
    around = around or Surroundings.real()
    _refuse_unknown(options.only, loaded)
    subject = Subject.loaded(loaded.configuration, loaded.found, machine=around.machine, file=file, only=options.only)
    checks = [Check(Stage.OFFLINE, "configuration", said="it can be used"), *offline(subject, files=options.files)]
    stages = stages_to(options.depth)
    if Stage.NETWORK in stages:
        checks += await _Online(subject, around, until=asyncio.get_running_loop().time() + options.timeout).run(
            stages, checks
        )
    here = placed(checks, lambda path, at_key: loaded.found.span(path, at_key=at_key))
    return Report(filename, options.depth, here, options.strict, loaded.frame)


def _refuse_unknown(only: frozenset[str], loaded: Loaded) -> None:
    for name in sorted(only):
        if name not in loaded.configuration.credentials:
            near = did_you_mean(nearest(name, loaded.configuration.credentials))
            raise UsageError(f"the configuration has no credential {name}{near}")


class _Online:
    """The stages that need the network."""

    def __init__(self, subject: Subject, around: Surroundings, *, until: float) -> None:
        self._subject = subject
        self._around = around
        self._until = until

    async def run(self, stages: list[Stage], before: list[Check]) -> list[Check]:
        endpoint = Endpoint(self._around.clock, resolver=Resolving(self._around.lookup))
        try:
            checks = await self._all(Network(self._subject, endpoint=endpoint, lookup=self._around.lookup).jobs())
        finally:
            await endpoint.close()
        if Stage.LIVE not in stages:
            return checks
        live = Live(self._subject, clock=self._around.clock, lookup=self._around.lookup)
        failed = _failed_credentials([*before, *checks])
        checks += await self._all(live.jobs(failed))
        if Stage.PROBE in stages:
            probe = Probe(self._subject, clock=self._around.clock, lookup=self._around.lookup)
            checks += await self._all(probe.jobs(live.tokens, self._failed_routes(checks)))
        return checks

    async def _all(self, jobs: list[Job]) -> list[Check]:
        return await run_all(jobs, until=self._until, draw=self._around.draw)

    def _failed_routes(self, checks: list[Check]) -> Mapping[str, str]:
        failed = {each.path for each in _errors(checks)}
        routes = [route for path, route in self._subject.routes() if (*path, "host") in failed]
        return {route.label: "its upstream cannot be reached" for route in routes}


def _failed_credentials(checks: list[Check]) -> Mapping[str, str]:
    """Credentials about which there is an error already. A clock that is off is told, and the rest of it tried."""
    found = [each for each in _errors(checks) if each.kind is not Kind.CLOCK_SKEW_LARGE]
    named = [(str(each.path[1]), each.kind.id) for each in found if each.path[:1] == ("credentials",)]
    return {name: f"not asked for, because of {kind}" for name, kind in reversed(named)}


def _errors(checks: list[Check]) -> list[Finding]:
    return [each for check in checks for each in check.findings if each.severity is Severity.ERROR]
