"""The circuit breaker and attempt budget of a token endpoint, shared by all its credentials.

Decides when a request may be sent at all, so that twenty credentials do not call a failing IdP twenty times as often.
Leaves to ``policy`` when one credential would like to. All instants are seconds on ``Clock.now()``.

Budget: failures are paid from a bucket of 125 that gains one every 15 s, hence no more than 250 in any 30 minutes, and
a retry waits for it 15 s, or 30 s where an attempt takes two requests. Successes are free: short tokens need many.
"""

from __future__ import annotations

import math
from typing import Final

THRESHOLD: Final = 3
SPACING_SECONDS: Final = (1.5, 15.0)
"""Between two requests to a failing endpoint: in the first minute, and after it. Longer than half of the backoff's
caps, so that a fleet in which requests wait everywhere comes spread when it is back; shorter than the caps."""
FIRST_MINUTE_SECONDS: Final = 60.0
BUDGET: Final = 125.0
BUDGET_REFILL_SECONDS: Final = 15.0
MOST_DEBT: Final = 1.0
"""An attempt may take several requests and so overdraw; many credentials that fail at once may not do it for long."""


class Breaker:
    """Circuit breaker and attempt budget of one token endpoint, shared by its credentials.

    Closed it admits everything. After three failures in a row it admits one request at a time, spaced; the first that
    the IdP answers in its own words, be it a refusal, closes it.
    """

    __slots__ = ("_budget", "_budget_at", "_in_flight", "_last_at", "failures", "since")

    def __init__(self) -> None:
        self.failures = 0
        self.since = -math.inf
        self._in_flight = 0
        self._last_at = -math.inf
        self._budget = BUDGET
        self._budget_at = -math.inf

    @property
    def open(self) -> bool:
        return self.failures >= THRESHOLD

    def opens_at(self, now: float, *, retry: bool) -> float:
        """The earliest instant at which a request may be sent; ``-inf`` if nothing holds it back."""
        at = -math.inf
        if self.open:
            first_minute = self._last_at < self.since + FIRST_MINUTE_SECONDS
            spacing = SPACING_SECONDS[0 if first_minute else 1]
            # While a probe is under way its outcome decides; look again soon in case it never ends.
            at = now + spacing if self._in_flight else self._last_at + spacing
        return max(at, self._affordable_at(now)) if retry else at

    def _affordable_at(self, now: float) -> float:
        missing = 1.0 - self._refilled(now)
        return -math.inf if missing <= 0 else now + missing * BUDGET_REFILL_SECONDS

    def _refilled(self, now: float) -> float:
        return min(BUDGET, self._budget + (now - self._budget_at) / BUDGET_REFILL_SECONDS)

    def begin(self) -> None:
        """A request is sent."""
        self._in_flight += 1

    def end(self, now: float) -> None:
        """A request has ended, in whatever way; call it before ``failed`` or ``answered``."""
        self._in_flight -= 1
        self._last_at = now

    def charge(self, now: float, requests: int) -> None:
        """A failure, of whatever kind, took so many HTTP requests."""
        self._budget = max(-MOST_DEBT, self._refilled(now) - requests)
        self._budget_at = now

    def failed(self, now: float) -> None:
        """A transient failure."""
        self.since = self.since if self.failures else now
        self.failures += 1

    def answered(self) -> bool:
        """The IdP answered, with a token or a refusal of its own; True if that closed the open breaker."""
        was_open = self.open
        self.failures = 0
        return was_open

    def __repr__(self) -> str:
        return f"<Breaker {'open' if self.open else 'closed'}, {self.failures} failures, {self._in_flight} in flight>"
