"""The stages that need the network, each on what the one before left standing.

Decides what is not looked at because something before it failed: asking an IdP for a token whose address does not
answer, or with a secret that is not there, would only tell the same thing twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.oauth.endpoint import Endpoint
from sidecar.preflight.dialling import Resolving, thread_lookup
from sidecar.preflight.jobs import run_all
from sidecar.preflight.kinds import Kind, Severity, Stage
from sidecar.preflight.live import Live
from sidecar.preflight.network import Network
from sidecar.preflight.probe import Probe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.preflight.findings import Check, Finding
    from sidecar.preflight.jobs import Job
    from sidecar.preflight.subject import Subject, Surroundings


class Online:
    """The stages that need the network.

    Args:
        until: when the time is over, on the event loop's clock.
    """

    def __init__(self, subject: Subject, around: Surroundings, *, until: float) -> None:
        self._subject = subject
        self._around = around
        self._lookup = around.lookup or thread_lookup
        self._until = until

    async def run(self, stages: list[Stage], before: list[Check]) -> list[Check]:
        """The checks of these stages.

        Args:
            before: those of the offline stage.

        Raises:
            ConfigurationInvalid: see ``Endpoint``.
        """
        endpoint = Endpoint(self._around.clock, resolver=Resolving(self._lookup))
        try:
            checks = await self._all(Network(self._subject, endpoint=endpoint, lookup=self._lookup).jobs())
        finally:
            await endpoint.close()
        if Stage.LIVE not in stages:
            return checks
        live = Live(self._subject, clock=self._around.clock, lookup=self._lookup)
        failed = _failed_credentials([*before, *checks])
        checks += await self._all(live.jobs(failed))
        if Stage.PROBE in stages:
            probe = Probe(self._subject, clock=self._around.clock, lookup=self._lookup)
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
