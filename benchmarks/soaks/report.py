"""What came of the soaks, as a table of targets and a list of what else was seen. Pure: outcomes in, Markdown out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.report import MISSING, Target, table, where

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.report import Machine

SECTION: Final = "soaks"
"""What its markers are called in the page."""
VERDICTS: Final = {True: "met", False: "**missed**", None: "not measured"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one soak came to.

    Attributes:
        name: of the soak, as on the command line.
        facts: whole sentences, for what is worth knowing and has no bound.
        failure: why it could not be carried out; empty when it was.
    """

    name: str
    targets: tuple[Target, ...]
    facts: tuple[str, ...]
    seconds: float = 0.0
    failure: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether it was carried out and every target was met."""
        return not self.failure and all(target.met for target in self.targets)


def figure(value: float | None) -> str:
    """Whole numbers without a fraction, the others with two digits of it."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"


def rows(outcome: Outcome) -> list[list[str]]:
    """Its lines of the table."""
    if outcome.failure:
        return [[outcome.name, "the soak itself", MISSING, MISSING, f"**failed**: {outcome.failure}"]]
    return [
        [
            outcome.name,
            target.what,
            f"≤ {target.bound:,g} {target.unit}".rstrip(),
            figure(target.measured),
            VERDICTS[target.met],
        ]
        for target in outcome.targets
    ]


def full(machine: Machine, outcomes: Sequence[Outcome], *, kind: str = "Soak") -> str:
    """The section of the page; ``kind`` is what its outcomes are."""
    lines = [line for outcome in outcomes for line in rows(outcome)]
    facts = [
        f"- `{outcome.name}` ({outcome.seconds:.0f} s): {' '.join(outcome.facts)}"
        for outcome in outcomes
        if outcome.facts
    ]
    return "\n\n".join(
        (
            where(machine),
            table([kind, "Target", "Bound", "Measured", ""], lines),
            "What else was seen:",
            "\n".join(facts),
        )
    )
