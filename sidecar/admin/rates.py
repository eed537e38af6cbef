"""What counters say of the last minute: rates, and quantiles of a histogram. Pure arithmetic.

Samples are taken only while somebody looks at the status page, so the first look has none before it: quantiles then
count from the start of the process, and a rate is not known yet.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.telemetry.cells import Buckets

RATE_SECONDS: Final = 10.0
WINDOW_SECONDS: Final = 60.0
GAP_SECONDS: Final = 15.0
"""Nobody looked for so long: what was sampled before says nothing of now."""


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value below which this share of the observations lies, as ``histogram_quantile`` of Prometheus reckons it.

    Args:
        bounds: upper bounds of the buckets, ascending, without the infinite one.
        counts: of each bucket alone, the infinite one last; beyond the last bound that one is the answer.

    Returns:
        None without observations.
    """
    totals = list(accumulate(counts))
    if not totals[-1]:
        return None
    rank = share * totals[-1]
    index = next(number for number, total in enumerate(totals) if total >= rank and counts[number])
    if index == len(bounds):
        return bounds[-1]
    low = bounds[index - 1] if index else 0.0
    below = totals[index - 1] if index else 0
    return low + (bounds[index] - low) * (rank - below) / counts[index]


@dataclass(frozen=True, slots=True)
class Recent:
    """What a histogram says.

    Args:
        per_second: None while there is nothing to compare with.
        p50, p99: seconds; None without observations.
        since_start: the quantiles are of the process's whole life: nothing came in the last minute.
    """

    per_second: float | None
    p50: float | None
    p99: float | None
    since_start: bool


class Window:
    """The last minute of one histogram."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[tuple[float, tuple[int, ...]]] = deque()

    def look(self, buckets: Buckets, now: float) -> Recent:
        """Take a sample, and say what it comes to beside the earlier ones."""
        samples, counts = self._samples, tuple(buckets.counts)
        if samples and now - samples[-1][0] > GAP_SECONDS:
            samples.clear()
        samples.append((now, counts))
        while now - samples[0][0] > WINDOW_SECONDS:
            samples.popleft()
        lately = [after - before for before, after in zip(samples[0][1], counts, strict=True)]
        since_start = not any(lately)
        of = counts if since_start else lately
        p50, p99 = quantile(buckets.bounds, of, 0.5), quantile(buckets.bounds, of, 0.99)
        return Recent(self._rate(now, sum(counts)), p50, p99, since_start)

    def _rate(self, now: float, count: int) -> float | None:
        at, counts = next(each for each in self._samples if now - each[0] <= RATE_SECONDS)
        return (count - sum(counts)) / (now - at) if now > at else None
