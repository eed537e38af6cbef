"""What happened when: the entries of a run, what became of each request, and where a run of failures begins and ends.

Only the record; whether it is as it should be is for ``verdict``, how it is printed for ``reports``.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Kind(enum.Enum):
    """What an entry is about."""

    EVENT = "event"
    CREDENTIAL = "credential"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the timeline: so many seconds after the start."""

    at: float
    kind: Kind
    who: str
    what: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request that began at ``at``.

    Args:
        reason: why it failed; None if it went well.
    """

    at: float
    route: str
    status: int
    reason: str | None = None


@dataclass(slots=True)
class Timeline:
    """The record of one run.

    Attributes:
        now: seconds since the start.
        tell: given each entry as it is made.
        quiet_since: when the last event that is known to end had ended.
        refreshes: new tokens by credential, those of the start not among them.
    """

    now: Callable[[], float]
    tell: Callable[[Entry], None] = lambda _: None
    entries: list[Entry] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    quiet_since: float = 0.0
    refreshes: Counter[str] = field(default_factory=Counter)
    _failing: dict[str, list[Outcome]] = field(default_factory=dict)

    def note(self, kind: Kind, who: str, what: str) -> None:
        entry = Entry(self.now(), kind, who, what)
        self.entries.append(entry)
        self.tell(entry)

    def event(self, what: str) -> None:
        self.note(Kind.EVENT, "event", what)

    def came_to(self, outcome: Outcome) -> None:
        """Note a request, and a line where failing begins and where it ends."""
        self.outcomes.append(outcome)
        failing = self._failing.setdefault(outcome.route, [])
        if outcome.reason is not None:
            failing.append(outcome)
            if len(failing) == 1:
                self.note(Kind.REQUEST, outcome.route, f"first failed request: {_told(outcome)}")
        elif failing and outcome.at > failing[0].at:
            self._failing[outcome.route] = []
            self.note(Kind.REQUEST, outcome.route, f"requests go well again, {len(failing)} failed")

    @property
    def failed(self) -> list[Outcome]:
        return sorted((each for each in self.outcomes if each.reason is not None), key=lambda each: each.at)


def _told(outcome: Outcome) -> str:
    return f"{outcome.status} {outcome.reason}" if outcome.status else str(outcome.reason)
