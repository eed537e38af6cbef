"""The figures of a run as text, and the smallest input that shows a difference.

Pure: takes figures, gives Markdown.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from benchmarks.fuzz.corpus import escaped
from benchmarks.fuzz.differences import KNOWN, Difference
from benchmarks.report import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.fuzz.inputs import Input

MARKER: Final = "fuzz"


@dataclass(slots=True)
class Figures:
    """What a run counted."""

    seed: int
    requests: int = 0
    answers: int = 0
    accepted_requests: int = 0
    accepted_answers: int = 0
    seconds: float = 0.0
    """CPU time of the process."""
    known: Counter[str] = field(default_factory=Counter)
    """Inputs by the name of a class of differences."""
    unexplained: int = 0

    @property
    def inputs(self) -> int:
        return self.requests + self.answers


def text(figures: Figures, *, where: str) -> str:
    """The part of the page: one paragraph, and a table of the known differences."""
    accepted = figures.accepted_requests + figures.accepted_answers
    summary = (
        f"{figures.inputs:,} inputs (seed {figures.seed}), {figures.requests:,} streams of requests and "
        f"{figures.answers:,} answers, {figures.inputs / figures.seconds:,.0f} a second on one core. Of {accepted:,} "
        f"({figures.accepted_requests:,} and {figures.accepted_answers:,}) the sidecar takes at least one message "
        f"whole, and the others read it as it came and as it goes out. Unexplained differences: "
        f"**{figures.unexplained}**."
    )
    rows = [[f"{known.name}: {known.why}", known.reader, f"{figures.known[known.name]:,}"] for known in KNOWN]
    return "\n\n".join((where, summary, table(["Explained differences", "Reader", "Inputs"], rows)))


def finding(source: Input, differences: list[Difference]) -> str:
    """An unexplained difference, with its input as a seed is written."""
    lines = [f"{each.reader}, {each.stage}: {each.what}: {each.told}" for each in differences]
    lines += [f"  ours: {getattr(each.ours, each.what)!r}" for each in differences if hasattr(each.ours, each.what)]
    method = f" [{source.method.decode()}]" if source.is_answer else ""
    return "\n".join((*lines, f"== {'answer' if source.is_answer else 'request'}{method} ->", escaped(source.data)))


def smallest(source: Input, shows: Callable[[Input], bool]) -> Input:
    """The input without every piece that it does not need to show what it shows: halves first, bytes last."""
    size = max(1, len(source.data) // 2)
    while size:
        at = 0
        while at < len(source.data):
            shorter = source._replace(data=source.data[:at] + source.data[at + size :])
            if shows(shorter):
                source = shorter
            else:
                at += size
        size //= 2
    return source
