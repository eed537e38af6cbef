"""For people: as the errors of the configuration are told, by stage, with a last line of counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.config.problems import excerpt
from sidecar.preflight.kinds import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.preflight.findings import Check, Finding, Report

_NOTHING: Final = "nothing to look at"


def render(report: Report) -> str:
    """The report, without a line end at its end."""
    lines: list[str] = []
    for stage in report.stages:
        checks = report.of(stage)
        lines.append(f"{stage.value}: {_summary(checks)}")
        for check in checks:
            lines += _of_check(check, report)
        lines.append("")
    return "\n".join([*lines, f"{counts(report)} in {report.filename}"])


def counts(report: Report) -> str:
    """``1 error, 2 warnings and no notes``."""
    parts = [_number(report.count(severity), severity.value) for severity in Severity]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _number(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"


def _summary(checks: list[Check]) -> str:
    looked_at = sum(not check.skipped for check in checks)
    skipped = len(checks) - looked_at
    return f"{looked_at} looked at{f', {skipped} left out' if skipped else ''}" if checks else _NOTHING


def _of_check(check: Check, report: Report) -> Iterator[str]:
    if check.skipped:
        yield f"  left out  {check.name}: {check.skipped}"
    elif not check.findings:
        yield f"  ok        {check.name}{f': {check.said}' if check.said else ''}"
    for finding in check.findings:
        yield from _of_finding(finding, report)


def _of_finding(finding: Finding, report: Report) -> Iterator[str]:
    place = f"{report.filename}:{finding.span.position}" if finding.span is not None else report.filename
    yield f"{place}: {finding.severity.value}: {finding.sentence} [{finding.kind.id}]"
    if finding.span is not None:
        yield from excerpt(finding.span, report.frame)
    yield f"  next: {finding.next_step}"
