"""A run in words, as JSON, and as JUnit's XML for pipelines."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sidecar.rehearsal.run import Result
    from sidecar.rehearsal.timeline import Entry, Outcome


def heading(name: str, description: str) -> str:
    """What stands above a timeline."""
    return f"{name}: {description}\n"


def line(entry: Entry) -> str:
    """One entry of the timeline."""
    return f"  {entry.at:6.1f} s  {entry.who:<16} {entry.what}"


def verdict(result: Result) -> str:
    """What stands below it."""
    found = [f"  {'ok    ' if finding.met else 'FAILED'}  {finding.what}\n" for finding in result.findings]
    return "".join(
        [
            f"  requests: {_counts(result.timeline.outcomes)}\n",
            *found,
            f"{'PASSED' if result.passed else 'FAILED'}  {result.name}\n",
        ]
    )


def _counts(outcomes: Sequence[Outcome]) -> str:
    counted = Counter(f"{each.status or 'no answer'}{f' {each.reason}' if each.reason else ''}" for each in outcomes)
    return ", ".join(f"{count} x {what}" for what, count in counted.most_common()) or "none"


def as_json(results: Iterable[Result]) -> str:
    """Everything, for programs."""
    return json.dumps({"scenarios": [_members(result) for result in results]}, indent=2)


def _members(result: Result) -> dict[str, Any]:
    timeline = result.timeline
    failed = timeline.failed
    return {
        "name": result.name,
        "description": result.scenario.description,
        "passed": result.passed,
        "notes": list(result.notes),
        "requests": len(timeline.outcomes),
        "failed": len(failed),
        "first_failed": _outcome(failed[0]) if failed else None,
        "refreshes": dict(timeline.refreshes),
        "expectations": [{"name": each.name, "met": each.met, "what": each.what} for each in result.findings],
        "timeline": [
            {"at": round(entry.at, 3), "kind": entry.kind.value, "who": entry.who, "what": entry.what}
            for entry in timeline.entries
        ],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "at": round(outcome.at, 3),
        "route": outcome.route,
        "status": outcome.status or None,
        "reason": outcome.reason,
    }


def as_junit(results: Sequence[Result]) -> str:
    """A suite for each scenario, a case for each expectation; the timeline is its output."""
    root = Element("testsuites", name="sidecar simulate")
    for result in results:
        unmet = [finding for finding in result.findings if not finding.met]
        seconds = f"{result.scenario.duration:.1f}"
        suite = SubElement(
            root,
            "testsuite",
            name=result.name,
            tests=str(len(result.findings)),
            failures=str(len(unmet)),
            errors="0",
            time=seconds,
        )
        for finding in result.findings:
            case = SubElement(suite, "testcase", classname=f"simulate.{result.name}", name=finding.name)
            if not finding.met:
                SubElement(case, "failure", message=finding.what)
        SubElement(suite, "system-out").text = "\n".join(line(entry) for entry in result.timeline.entries)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode")
