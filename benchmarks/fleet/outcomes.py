"""Runs to figures, each beside its target. Pure: what an IdP saw in, outcomes out.

The peak minute is the highest bar of the histogram by minutes, as a rate limit or a graph sees it. The peak second is
the most in any stretch of a second, wherever it begins.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from benchmarks.report import Target
from benchmarks.soaks.readings import percentile
from benchmarks.soaks.report import Outcome
from sidecar.broker.broker import START_SPREAD_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.fleet.runs import Seen

MINUTE: Final = 60.0
PEAK_MINUTE: Final = 2.5
"""Times the mean: what a fleet may ask of its IdP in its worst minute."""
MOST_ATTEMPTS: Final = 250
START_PEAK: Final = 1.5
EVEN: Final = {30.0: 2.5, 2.0: 1.5}
"""Within how many seconds the return is to be noticed, and the most in one of them, in times of an even spread. With
two seconds, everybody in one of them would be 2."""


def most_within(instants: Sequence[float], seconds: float) -> int:
    """The most of these ascending instants in any stretch of this length."""
    most = first = 0
    for last, at in enumerate(instants):
        while instants[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def bars(instants: Sequence[float], seconds: float, since: float, until: float) -> list[int]:
    """A histogram: how many fall into each stretch of this length, from ``since`` on."""
    counted = Counter(int((at - since) // seconds) for at in instants if since <= at < until)
    return [counted[place] for place in range(round((until - since) / seconds))]


def by_minute(seen: Seen) -> list[int]:
    """The histogram of the refreshes, from the first of them on; a minute that is cut off at the end is left out."""
    refreshes = seen.refreshes()
    return bars(refreshes, MINUTE, refreshes[0], seen.ended_at - (seen.ended_at - refreshes[0]) % MINUTE)


def peak_minute(seen: Seen) -> Target:
    """The refreshes: the worst minute by the mean of all."""
    counted = by_minute(seen)
    mean = sum(counted) / len(counted)
    return Target("refreshes in the peak minute", f"of the mean, {mean:.1f} a minute", PEAK_MINUTE, max(counted) / mean)


def day(name: str, seen: Seen) -> Outcome:
    """A fleet that starts in one second, and nothing happens to it."""
    starts = seen.gathered()
    even = len(starts) / START_SPREAD_SECONDS
    spread = f"of an even spread over {START_SPREAD_SECONDS:g} s"
    return Outcome(
        name,
        (
            Target("first requests in the peak second", spread, START_PEAK, most_within(starts, 1.0) / even),
            Target("last of the first requests after the start", "s", START_SPREAD_SECONDS, starts[-1]),
            peak_minute(seen),
        ),
        (f"First requests by the second: {row(bars(starts, 1.0, 0.0, START_SPREAD_SECONDS))}.", minutes(seen)),
    )


def outage(name: str, seen: Seen, *, promised_seconds: float) -> Outcome:
    """A fleet whose IdP goes and comes back."""
    back_at = seen.back_at
    returns = seen.gathered()
    even = len(returns) / promised_seconds
    return Outcome(
        name,
        (
            Target("attempts of one sidecar in the outage", "", MOST_ATTEMPTS, seen.most_by_one()),
            Target("last to ask again after the return", "s", promised_seconds, returns[-1] - back_at),
            Target(
                "first requests in the peak second after the return",
                f"of an even spread over {promised_seconds:g} s",
                EVEN[promised_seconds],
                most_within(returns, 1.0) / even,
            ),
            peak_minute(seen),
        ),
        (asked_in_vain(seen), came_back(returns, back_at, promised_seconds), minutes(seen)),
    )


def asked_in_vain(seen: Seen) -> str:
    """What the IdP was asked while it was down."""
    assert seen.plan.down is not None
    begin, end = seen.plan.down
    during = seen.instants(begin, end)
    early = [at for at in during if at < begin + MINUTE]
    late = [at for at in during if at >= end - min(MINUTE, (end - begin) / 2)]
    return (
        f"{len(during):,} requests in the outage, {len(early):,} of them in its first minute; "
        f"in the peak second {most_within(during, 1.0):,}, towards the end {most_within(late, 1.0):,}."
    )


def came_back(returns: Sequence[float], since: float, seconds: float) -> str:
    """Who asked when, after the return."""
    seen = row(bars(returns, 1.0, since, since + seconds))
    return f"{len(returns):,} sidecars in trouble at the return; they asked, by the second: {seen}."


def minutes(seen: Seen) -> str:
    """The histogram of the refreshes, in words."""
    refreshes, counted = seen.refreshes(), by_minute(seen)
    shares = ", ".join(f"{percentile(counted, share):.0f}" for share in (0.05, 0.5, 0.95, 1.0))
    since, most = (refreshes[0] - seen.back_at) / MINUTE, most_within(refreshes, MINUTE)
    return (
        f"{len(refreshes):,} refreshes from {since:.0f} min on; a minute has (5 %, median, 95 %, most) {shares}, "
        f"and any 60 s at most {most}."
    )


def row(counted: Sequence[int]) -> str:
    """Bars as numbers."""
    return " ".join(map(str, counted))
