"""The figures of a run as text: one row a step.

Pure: takes figures, gives Markdown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.report import table
from benchmarks.rotation_kills.steps import Outcome, Step

if TYPE_CHECKING:
    from benchmarks.rotation_kills.trial import Figures

MARKER: Final = "rotation"


def text(figures: Figures, *, where: str, graces: tuple[float, ...]) -> str:
    """The part of the page: one paragraph and a table."""
    kills = figures.count()
    summary = (
        f"{kills:,} kills in {figures.seconds:,.0f} s: after {figures.count(Outcome.USABLE):,} the next start had a "
        f"token, after {figures.count(Outcome.LOGIN_NEEDED):,} it said that a login is needed, where the provider "
        f"gives no grace and the only token left was spent. Lost in silence: **{figures.lost}**."
    )
    header = ["Killed when", *(f"{grace:g} s of grace" for grace in graces), "lost in silence"]
    rows = [
        [step.value, *(_cell(figures, step, grace) for grace in graces), str(figures.count(Outcome.LOST, step=step))]
        for step in Step
    ]
    return "\n\n".join((where, summary, table(header, rows)))


def _cell(figures: Figures, step: Step, grace: float) -> str:
    """``8 usable``, and what else there was."""
    kinds = (Outcome.USABLE, Outcome.LOGIN_NEEDED)
    counted = {kind: figures.count(kind, step=step, grace=grace) for kind in kinds}
    return ", ".join(f"{number} {kind.value}" for kind, number in counted.items() if number) or "-"
