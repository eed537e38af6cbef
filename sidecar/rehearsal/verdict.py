"""Whether a run went as the scenario expects: one finding for each thing that is expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.rehearsal.scenario import Expectation
    from sidecar.rehearsal.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Finding:
    """One expectation, and whether it was met."""

    name: str
    met: bool
    what: str


def findings(expectation: Expectation, timeline: Timeline, credentials: Iterable[str]) -> list[Finding]:
    """Hold a run against what is expected of it.

    Args:
        credentials: the names of those that are looked at.
    """
    found = [_failed(expectation, timeline)]
    if expectation.reasons:
        found.append(_reasons(expectation, timeline))
    if expectation.recovered_within is not None:
        found.append(_recovered(expectation.recovered_within, timeline))
    if expectation.refreshes:
        found += [_refreshed(expectation.refreshes, timeline, name) for name in credentials]
    return found


def _failed(expectation: Expectation, timeline: Timeline) -> Finding:
    failed = timeline.failed
    what = f"{len(failed)} of {len(timeline.outcomes)} requests failed, at most {expectation.failed} may"
    if failed:
        first = failed[0]
        what += f"; the first at {first.at:.1f} s on {first.route}: {first.status or 'no answer'} {first.reason}"
    return Finding("failed", len(failed) <= expectation.failed, what)


def _reasons(expectation: Expectation, timeline: Timeline) -> Finding:
    others = sorted({each.reason or "" for each in timeline.failed} - set(expectation.reasons))
    what = f"failed for {', '.join(others)}" if others else f"none failed but for {', '.join(expectation.reasons)}"
    return Finding("reasons", not others, what)


def _recovered(within: float, timeline: Timeline) -> Finding:
    after = [each for each in timeline.outcomes if each.at >= timeline.quiet_since]
    late = [each.at for each in after if each.reason is not None]
    took = max(late, default=timeline.quiet_since) - timeline.quiet_since
    good = [each.at for each in after if each.reason is None]
    if not good or (late and max(good) < max(late)):
        return Finding("recovered_within", met=False, what="requests did not go well again before the end")
    return Finding(
        "recovered_within", took <= within, f"went well {took:.1f} s after the last event, {within:g} s allowed"
    )


def _refreshed(least: int, timeline: Timeline, name: str) -> Finding:
    count = timeline.refreshes[name]
    return Finding(f"refreshes {name}", count >= least, f"{name} got {count} new tokens, at least {least} are expected")
