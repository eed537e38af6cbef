"""The first stage: everything that can be seen without the network, one check for each subject of the lints.

Decides which lints there are, and which of them are also worth a line in the log when a sidecar starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.preflight.findings import Check, Finding
from sidecar.preflight.kinds import Stage
from sidecar.preflight.lints import (
    certificates,
    environment,
    exposure,
    redirects,
    routes,
    scopes,
    secret_files,
    startup,
    usage,
)
from sidecar.preflight.subject import Machine, Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecar.config.model import Configuration

    Lint = Callable[[Subject], Iterator[Finding]]

LINTS: Final[dict[str, tuple[Lint, ...]]] = {
    "environment": (environment.lint,),
    "exposure": (exposure.lint,),
    "routes": (routes.lint,),
    "scopes": (scopes.lint,),
    "redirect addresses": (redirects.lint,),
    "unused credentials": (usage.credentials,),
    "unused grants": (usage.grants,),
    "secrets": (secret_files.lint,),
    "mounts": (secret_files.mounted_alone,),
    "start": (startup.lint,),
    "certificates": (certificates.lint,),
}
ON_FILES: Final = frozenset({"unused grants", "secrets", "mounts", "start", "certificates"})
"""Those that look at files."""
AT_START: Final[tuple[Lint, ...]] = (
    *(environment.lint, exposure.lint, usage.credentials, scopes.required),
    *(secret_files.open_to_others, secret_files.mounted_alone, certificates.local_ca),
)
"""What a start says, too. The others read more files, or cost more than a start may."""


def offline(subject: Subject, *, files: bool = True) -> list[Check]:
    """Run every lint.

    Args:
        files: the files that the configuration names are on this machine.
    """
    return [
        _check(name, lints, subject)
        if files or name not in ON_FILES
        else Check(Stage.OFFLINE, name, skipped="the files are elsewhere")
        for name, lints in LINTS.items()
    ]


def _check(name: str, lints: tuple[Lint, ...], subject: Subject) -> Check:
    found = [finding for lint in lints for finding in lint(subject) if subject.covers(finding.path)]
    return Check(Stage.OFFLINE, name, tuple(found))


def advice(configuration: Configuration) -> list[Finding]:
    """What is allowed and yet worth a line in the log; notes are not."""
    subject = Subject(configuration, Machine.here())
    found = [finding for lint in AT_START for finding in lint(subject)]
    return [finding for finding in found if finding.severity.counts]
