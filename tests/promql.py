"""What PromQL names, and what a sidecar shows: so that no alert and no panel asks for what does not exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

ROOT: Final = Path(__file__).resolve().parent.parent
TARGET_LABELS: Final = frozenset({"namespace", "job", "instance", "pod"})
"""Labels that Prometheus adds to what it scrapes."""

_SELECTOR: Final = re.compile(r"(?<![:\w])((?:tokensidecar|process)_[a-z_]+)(?:\{([^}]*)\})?")
_MATCHER: Final = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_LABELS: Final = re.compile(r"\b(?:by|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


class Selector(NamedTuple):
    """A metric, and what is asked of its labels: name, operator, value."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


def selectors(expression: str) -> list[Selector]:
    """Every selector of an expression."""
    return [
        Selector(match[1], tuple((found[1], found[2], found[3]) for found in _MATCHER.finditer(match[2] or "")))
        for match in _SELECTOR.finditer(expression)
    ]


def grouping(expression: str) -> set[str]:
    """The labels that an expression groups or joins by."""
    return {label.strip() for match in _LABELS.finditer(expression) for label in match[1].split(",") if label.strip()}


class Shown:
    """The series of one scrape: for each metric its labels, for each label its values."""

    def __init__(self, text: str) -> None:
        self._labels: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = self._labels[sample.name]
                for label, value in sample.labels.items():
                    labels[label].add(value)

    def missing(self, expression: str) -> list[str]:
        """What an expression asks for that is not there."""
        wrong = [problem for selector in selectors(expression) for problem in self._missing(selector)]
        known = {label for labels in self._labels.values() for label in labels} | TARGET_LABELS
        return wrong + [f"no metric has the label {label}" for label in grouping(expression) - known]

    def _missing(self, selector: Selector) -> list[str]:
        if selector.metric not in self._labels:
            return [f"there is no {selector.metric}"]
        return [
            f"{selector.metric} has no {label}{operator}{value}"
            for label, operator, value in selector.matchers
            if label not in TARGET_LABELS and not self._has(selector.metric, label, operator, value)
        ]

    def _has(self, metric: str, label: str, operator: str, value: str) -> bool:
        values = self._labels[metric].get(label)
        if values is None:
            return False
        if "$" in value:  # a variable of the dashboard
            return True
        return set(value.split("|") if operator in ("=~", "!~") else [value]) <= values


def promtool(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool. Where there is none the test is skipped, but not in continuous integration, which brings one."""
    found = shutil.which("promtool", path=f"{os.environ.get('PATH', '')}:{ROOT / '.ci' / 'tools'}")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is not there: .ci/run brings it")
        pytest.skip("promtool is not installed: .ci/run brings it to .ci/tools")
    return subprocess.run([found, *arguments], cwd=cwd, check=False, capture_output=True, text=True, timeout=120)
