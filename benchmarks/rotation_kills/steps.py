"""The steps of a rotation at which a process can die, in their order, and what may come of it."""

from __future__ import annotations

import enum
from typing import Final


class Step(enum.Enum):
    """The process ends when this has just happened; the value is how the page calls it."""

    BEGUN = "before anything is written"
    MARK_FILLED = "mark: temporary file written"
    MARK_SYNCED = "mark: file synced"
    MARK_RENAMED = "mark: renamed"
    MARK_KEPT = "mark: folder synced, nothing sent"
    ARRIVED = "request at the IdP, not yet served"
    COMMITTED = "IdP has rotated, no answer yet"
    ANSWERED = "answer read, nothing written"
    FILLED = "successor: temporary file written"
    SYNCED = "successor: file synced"
    RENAMED = "successor: renamed"
    KEPT = "successor: folder synced, not published"
    PUBLISHED = "token published"


AT_THE_IDP: Final = frozenset({Step.ARRIVED, Step.COMMITTED})
"""These the IdP sees, and whoever runs it kills; at all others the process kills itself."""
BETWEEN: Final = frozenset({Step.COMMITTED, Step.ANSWERED})
"""The old token is spent and the new one is not on disk: without grace nobody can have either."""


class Outcome(enum.Enum):
    """What the next start came to."""

    USABLE = "usable"
    LOGIN_NEEDED = "login needed"
    LOST = "lost in silence"
    """Neither a token nor a word about it, a record that cannot be read, or a login for no reason."""


def judged(step: Step, outcome: Outcome, *, grace: bool) -> Outcome:
    """A login is an honest outcome only where it could not be spared."""
    if outcome is Outcome.LOGIN_NEEDED and (grace or step not in BETWEEN):
        return Outcome.LOST
    return outcome
