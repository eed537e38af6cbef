"""For GitLab, Jenkins and others: JUnit XML, a test suite for each stage and a test case for each check.

There is no standard; this keeps to what all of them read: ``failure`` for what makes the check fail, ``skipped``, and
``system-out`` for the rest. Characters that XML 1.0 cannot have (section 2.2) become a question mark.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape, quoteattr

from sidecar.preflight.kinds import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.preflight.findings import Check, Finding, Report
    from sidecar.preflight.kinds import Stage

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> str:
    """The report as one document."""
    suites = [_Suite(stage, report) for stage in report.stages]
    totals = _attributes(
        name="sidecar check",
        tests=sum(suite.tests for suite in suites),
        failures=sum(suite.failures for suite in suites),
        errors=0,
        skipped=sum(suite.skipped for suite in suites),
        time=f"{sum(suite.seconds for suite in suites):.3f}",
    )
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites{totals}>"]
    for suite in suites:
        lines += suite.lines()
    return "\n".join([*lines, "</testsuites>"])


class _Suite:
    """One stage."""

    def __init__(self, stage: Stage, report: Report) -> None:
        self._stage = stage
        self._report = report
        self._checks = report.of(stage)
        self.tests = len(self._checks)
        self.failures = sum(any(map(self._fails, check.findings)) for check in self._checks)
        self.skipped = sum(bool(check.skipped) for check in self._checks)
        self.seconds = sum(check.seconds for check in self._checks)

    def lines(self) -> Iterator[str]:
        figures = _attributes(
            name=f"sidecar check: {self._stage.value}",
            tests=self.tests,
            failures=self.failures,
            errors=0,
            skipped=self.skipped,
            time=f"{self.seconds:.3f}",
        )
        yield f"  <testsuite{figures}>"
        for check in self._checks:
            yield from self._case(check)
        yield "  </testsuite>"

    def _fails(self, finding: Finding) -> bool:
        return finding.severity is Severity.ERROR or (self._report.strict and finding.severity is Severity.WARNING)

    def _case(self, check: Check) -> Iterator[str]:
        named = _attributes(
            name=check.name,
            classname=f"sidecar.check.{self._stage.value}",
            file=self._report.filename,
            time=f"{check.seconds:.3f}",
        )
        yield f"    <testcase{named}>"
        if check.skipped:
            yield f"      <skipped{_attributes(message=check.skipped)}/>"
        failing = [finding for finding in check.findings if self._fails(finding)]
        if failing:  # one element: some readers take only the first
            kind = _attributes(message=failing[0].sentence, type=failing[0].kind.id)
            yield f"      <failure{kind}>{_text(self._told(each) for each in failing)}</failure>"
        told = [self._told(each) for each in check.findings if each not in failing]
        if check.said:
            told.append(check.said)
        if told:
            yield f"      <system-out>{_text(told)}</system-out>"
        yield "    </testcase>"

    def _told(self, finding: Finding) -> str:
        place = "" if finding.span is None else f":{finding.span.position}"
        where = f"{self._report.filename}{place}"
        head = f"{where}: {finding.severity.value}: {finding.sentence} [{finding.kind.id}]"
        return f"{head}\n  next: {finding.next_step}"


def _attributes(**values: object) -> str:
    return "".join(f" {name}={quoteattr(_clean(str(value)))}" for name, value in values.items())


def _text(parts: Iterable[str]) -> str:
    return escape(_clean("\n".join(parts)))


def _clean(text: str) -> str:
    return _NOT_XML.sub("?", text)
