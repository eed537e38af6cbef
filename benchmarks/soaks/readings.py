"""Numbers: what /proc says of a process, and what many numbers come to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse_rss_mib(status: str) -> float:
    """Resident MiB from the text of ``/proc/PID/status``; off by a few pages, and without the cost of a page walk.

    Raises:
        ValueError: it names none, as that of a process that has ended.
    """
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError("no VmRSS: the process has ended")


def rss_mib(pid: int) -> float:
    """What the process has in memory now."""
    return parse_rss_mib(Path(f"/proc/{pid}/status").read_text())


def descriptors(pid: int) -> int:
    """How many files and sockets the process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names are enough, and there may be thousands


def parse_waited_seconds(schedstat: str) -> float:
    """Seconds ready to run and without a core, from the text of ``/proc/PID/schedstat`` (its second figure)."""
    return int(schedstat.split()[1]) / 1e9


def waited_seconds(pid: int) -> float:
    """How long the process's main thread has waited for a core until now: what its neighbours cost it."""
    return parse_waited_seconds(Path(f"/proc/{pid}/schedstat").read_text())


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all do not exceed (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("nothing was measured")
    rank = max(1, -int(-share * len(values) // 1))  # the ceiling
    return sorted(values)[rank - 1]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Rise of y for each x by least squares; 0 where there is nothing to lay a line through."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread
