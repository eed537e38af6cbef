"""The whole check: the offline stage, then those that need the network, and the report of it all.

Decides what a report is made of. Leaves to ``online`` what is not looked at because something before it failed; that
file is only loaded where it is needed, so that a lint in an editor or a commit hook is quick.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.config.problems import did_you_mean, nearest
from sidecar.errors import UsageError
from sidecar.preflight.findings import Check, Finding, Report, placed, stages_to
from sidecar.preflight.kinds import Kind, Stage
from sidecar.preflight.offline import offline
from sidecar.preflight.subject import Subject, Surroundings

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.config.load import ConfigurationErrors, Loaded

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
    until = asyncio.get_running_loop().time() + options.timeout
    around = around or Surroundings.real()
    _refuse_unknown(options.only, loaded)
    subject = Subject.loaded(loaded.configuration, loaded.found, machine=around.machine, file=file, only=options.only)
    checks = [Check(Stage.OFFLINE, "configuration", said="it can be used"), *offline(subject, files=options.files)]
    stages = stages_to(options.depth)
    if Stage.NETWORK in stages:
        from sidecar.preflight.online import Online  # here: it brings aiohttp and Authlib with it

        checks += await Online(subject, around, until=until).run(stages, checks)
    here = placed(checks, lambda path, at_key: loaded.found.span(path, at_key=at_key))
    return Report(filename, options.depth, here, options.strict, loaded.frame)


def _refuse_unknown(only: frozenset[str], loaded: Loaded) -> None:
    for name in sorted(only):
        if name not in loaded.configuration.credentials:
            near = did_you_mean(nearest(name, loaded.configuration.credentials))
            raise UsageError(f"the configuration has no credential {name}{near}")
