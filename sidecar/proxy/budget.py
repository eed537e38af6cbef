"""How many requests may be sent a second time after a kept connection died: a share of the traffic, and a few.

Without a bound, an upstream that breaks under load gets double the load (retry amplification). The figures are those of
Linkerd: a fifth of the requests of the last 10 s, and ten a second where there is little traffic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_SECONDS: Final = 10.0
SHARE: Final = 0.2
FEWEST: Final = 100


class RetryBudget:
    """Counts by what is counted anyway, so that requests without a retry cost nothing.

    Args:
        served: the number of requests answered so far.
    """

    __slots__ = ("_allowance", "_before", "_served", "_served_at_start", "_spent", "_started_at")

    def __init__(self, served: Callable[[], int]) -> None:
        self._served = served
        self._started_at = 0.0
        self._served_at_start = 0
        self._before = 0
        self._spent = 0
        self._allowance = float(FEWEST)

    def allows(self, now: float) -> bool:
        """Whether one more may be sent again; if so, it is spent."""
        if now - self._started_at >= WINDOW_SECONDS:
            self._begin(now)
        traffic = max(self._before, self._served() - self._served_at_start)
        self._allowance = max(FEWEST, SHARE * traffic)
        if self._spent >= self._allowance:
            return False
        self._spent += 1
        return True

    @property
    def is_strained(self) -> bool:
        """Whether half of it is spent: time to do something about what makes retries necessary."""
        return self._spent >= self._allowance / 2

    def _begin(self, now: float) -> None:
        """A new window; the one before it counts as traffic only if nothing lies between them."""
        served = self._served()
        is_next = now - self._started_at < 2 * WINDOW_SECONDS
        self._before = served - self._served_at_start if is_next else 0
        self._started_at, self._served_at_start, self._spent = now, served, 0

    def __repr__(self) -> str:
        return f"<RetryBudget spent={self._spent}>"
