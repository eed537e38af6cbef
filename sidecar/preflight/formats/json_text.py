"""For programs: JSON in a form that has a version; within one, members may come and none changes its meaning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from sidecar.preflight.kinds import Severity

if TYPE_CHECKING:
    from sidecar.preflight.findings import Check, Finding, Report
    from sidecar.preflight.kinds import Stage

VERSION: Final = 1


def render(report: Report) -> str:
    """The report as one object."""
    return json.dumps(
        {
            "version": VERSION,
            "file": report.filename,
            "stages": [stage.value for stage in report.stages],
            "strict": report.strict,
            "exit_code": report.exit_code,
            "counts": {f"{severity.value}s": report.count(severity) for severity in Severity},
            "checks": [_check(check) for stage in report.stages for check in report.of(stage)],
            "findings": [_finding(stage, finding, report.filename) for stage, finding in report.findings],
        },
        indent=2,
    )


def _check(check: Check) -> dict[str, Any]:
    outcome = "skipped" if check.skipped else check.worst.value if check.worst is not None else "ok"
    return {
        "stage": check.stage.value,
        "name": check.name,
        "outcome": outcome,
        "detail": check.skipped or check.said,
        "seconds": round(check.seconds, 3),
    }


def _finding(stage: Stage, finding: Finding, filename: str) -> dict[str, Any]:
    span = finding.span
    return {
        "id": finding.kind.id,
        "severity": finding.severity.value,
        "stage": stage.value,
        "key": finding.key or None,
        "file": filename,
        "line": None if span is None else span.line + 1,
        "column": None if span is None else span.column + 1,
        "end_line": None if span is None else span.end_line + 1,
        "end_column": None if span is None else span.end_column + 1,
        "message": finding.message,
        "remedy": finding.next_step,
    }
