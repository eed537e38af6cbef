"""For code scanning: SARIF 2.1.0 (OASIS), a rule for each kind and a result for each finding, with its place.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from sidecar import __version__
from sidecar.preflight.kinds import Kind, Severity

if TYPE_CHECKING:
    from sidecar.config.problems import Span
    from sidecar.preflight.findings import Finding, Report
    from sidecar.preflight.kinds import Stage

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}


def render(report: Report) -> str:
    """The report as a log with one run."""
    kinds = list(dict.fromkeys(finding.kind for _, finding in report.findings))
    driver = {"name": "Token Sidecar", "semanticVersion": __version__, "rules": [_rule(kind) for kind in kinds]}
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": True, "exitCode": report.exit_code}],
        "columnKind": "unicodeCodePoints",
        "results": [_result(stage, finding, report, kinds) for stage, finding in report.findings],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(kind: Kind) -> dict[str, Any]:
    facts = kind.facts
    return {
        "id": kind.id,
        "name": "".join(word.capitalize() for word in kind.id.split("-")),
        "shortDescription": {"text": _sentence(facts.meaning)},
        "help": {"text": _sentence(facts.remedy)},
        "defaultConfiguration": {"level": _LEVELS[facts.severity]},
    }


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _result(stage: Stage, finding: Finding, report: Report, kinds: list[Kind]) -> dict[str, Any]:
    region = {"startLine": 1} if finding.span is None else _region(finding.span)  # code scanning wants one
    location = {"artifactLocation": {"uri": _uri(report.filename)}, "region": region}
    return {
        "ruleId": finding.kind.id,
        "ruleIndex": kinds.index(finding.kind),
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.sentence}. Next: {finding.next_step}."},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"key/v1": _fingerprint(finding)},
        "properties": {"stage": stage.value},
    }


def _region(span: Span) -> dict[str, int]:
    """Lines and columns from 1, the end exclusive (section 3.30)."""
    return {
        "startLine": span.line + 1,
        "startColumn": span.column + 1,
        "endLine": span.end_line + 1,
        "endColumn": span.end_column + 1,
    }


def _uri(filename: str) -> str:
    """A relative name stays one (section 3.4.3): code scanning looks for it in the repository."""
    path = PurePath(filename)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _fingerprint(finding: Finding) -> str:
    """The same for the same kind at the same key, whatever lines come before it (section 3.27.17)."""
    about = finding.key or finding.message
    return hashlib.sha256(f"{finding.kind.id} {about}".encode()).hexdigest()[:32]
