"""For GitHub Actions: workflow commands, which become annotations beside the lines of a pull request.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.preflight.formats.text import counts
from sidecar.preflight.kinds import Severity

if TYPE_CHECKING:
    from sidecar.preflight.findings import Finding, Report

_COMMANDS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


def render(report: Report) -> str:
    """A command for each finding, and the counts for the log."""
    lines = [_command(finding, report.filename) for _, finding in report.findings]
    return "\n".join([*lines, f"sidecar check: {counts(report)} in {_data(report.filename)}"])


def _command(finding: Finding, filename: str) -> str:
    properties = {"file": filename}
    span = finding.span
    if span is not None:
        properties |= {"line": str(span.line + 1), "endLine": str(span.end_line + 1)}
        if span.line == span.end_line:  # columns count only within one line
            properties |= {"col": str(span.column + 1), "endColumn": str(max(span.end_column, span.column + 1))}
    properties["title"] = f"sidecar check: {finding.kind.id}"
    told = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    message = f"{finding.sentence}\nNext: {finding.next_step}"
    return f"::{_COMMANDS[finding.severity]} {told}::{_data(message)}"


def _data(text: str) -> str:
    """Escaped as ``@actions/core`` does it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
