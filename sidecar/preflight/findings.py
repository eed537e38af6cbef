"""What a check found, and what it comes to: findings with their place, by stage, and the exit code of the contract.

The first stage with an error decides, and within it the highest code: who has to act comes before who has to wait.
Leaves how it is shown to ``formats``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sidecar.config.found import Path, dotted
from sidecar.preflight.kinds import Kind, Severity, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.config.problems import Frame, Span

Places = Callable[[Path, bool], "Span | None"]
"""Where a path stands in the file: its value, or with True its key."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth a line.

    Args:
        path: the key it is about; ``()`` for the file as a whole.
        message: one sentence without its key; never secret.
        remedy: what to do, if more is known than the kind says.
        at_key: point at the key, not at its value.
        span: where it stands; ``placed`` finds it out.
    """

    kind: Kind
    path: Path
    message: str
    remedy: str = ""
    at_key: bool = False
    span: Span | None = None

    @property
    def severity(self) -> Severity:
        return self.kind.facts.severity

    @property
    def key(self) -> str:
        """``credentials.orders.token_url``."""
        return dotted(self.path)

    @property
    def next_step(self) -> str:
        return self.remedy or self.kind.facts.remedy

    @property
    def sentence(self) -> str:
        """The message behind its key."""
        return f"{self.key}: {self.message}" if self.path else self.message


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: what it is about: ``credentials.orders.token_url``, or the subject of a lint.
        said: what is worth knowing though nothing is wrong.
        skipped: why it was not looked at; empty if it was.
    """

    stage: Stage
    name: str
    findings: tuple[Finding, ...] = ()
    said: str = ""
    skipped: str = ""
    seconds: float = 0.0

    @property
    def worst(self) -> Severity | None:
        """The gravest of its findings."""
        there = {finding.severity for finding in self.findings}
        return next((severity for severity in Severity if severity in there), None)


def _no_frame(_: Span) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was looked at.

    Args:
        filename: the configuration, as messages call it.
        depth: the last stage that was asked for.
        strict: warnings count.
        frame: gives the source line of a place, as it may be shown.
    """

    filename: str
    depth: Stage
    checks: tuple[Check, ...]
    strict: bool = False
    frame: Frame = field(default=_no_frame, repr=False)

    def of(self, stage: Stage) -> list[Check]:
        """The checks of one stage."""
        return [check for check in self.checks if check.stage is stage]

    @property
    def stages(self) -> list[Stage]:
        """The stages that were asked for."""
        return stages_to(self.depth)

    @property
    def findings(self) -> list[tuple[Stage, Finding]]:
        """All of them, in the order of the stages."""
        return [(stage, finding) for stage in Stage for check in self.of(stage) for finding in check.findings]

    def count(self, severity: Severity) -> int:
        return sum(finding.severity is severity for _, finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0 ok, 1 warnings with ``strict``, else the code of the first stage that has errors."""
        for stage in Stage:
            worst = max((each.kind.facts.exit_code for at, each in self.findings if at is stage), default=0)
            if worst:
                return worst
        return 1 if self.strict and self.count(Severity.WARNING) else 0


def stages_to(depth: Stage) -> list[Stage]:
    """The stages up to this one."""
    every = list(Stage)
    return every[: every.index(depth) + 1]


def placed(checks: Iterable[Check], places: Places) -> tuple[Check, ...]:
    """The checks with the place of each finding in the file; within a check they are in the file's order."""
    return tuple(replace(check, findings=_in_order(check.findings, places)) for check in checks)


def _in_order(findings: tuple[Finding, ...], places: Places) -> tuple[Finding, ...]:
    found = [each if each.span else replace(each, span=places(each.path, each.at_key)) for each in findings]
    return tuple(sorted(found, key=lambda finding: finding.span or (-1, -1, -1, -1)))
