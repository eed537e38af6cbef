"""What a process cost, read from /proc: CPU of all its threads, and its memory.

``/proc/PID/stat`` sums the whole thread group, ended threads included, so Envoy's workers and anybody's helper threads
are counted without walking ``task/``. The kernel scales utime + stime to the exact run time (sum_exec_runtime) before
it rounds to ticks of 10 ms: over a run of seconds the rounding is nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
UTIME, STIME = 14 - 3, 15 - 3
"""Their places in proc(5)'s numbering, counted after the command name, which is field 2 and may hold spaces."""


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB: resident, proportional (shared pages divided), and unique to the process."""

    rss: float
    pss: float
    uss: float


def cpu_model() -> str:
    """The machine's processor, as it calls itself."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), "unknown CPU")


def parse_cpu_seconds(stat: str) -> float:
    """User plus system seconds from the text of ``/proc/PID/stat``."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[UTIME]) + int(fields[STIME])) / TICKS_PER_SECOND


def parse_memory(rollup: str) -> Memory:
    """Memory from the text of ``/proc/PID/smaps_rollup``."""
    kib = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines() if line.endswith(" kB")}
    return Memory(
        rss=kib["Rss"] / 1024,
        pss=kib["Pss"] / 1024,
        uss=(kib["Private_Clean"] + kib["Private_Dirty"]) / 1024,
    )


def parse_busy_seconds(stat: str) -> float:
    """Seconds that all cores together were busy, from the text of ``/proc/stat`` (idle and iowait left out)."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.splitlines()[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def cpu_seconds(pid: int) -> float:
    """User plus system seconds of the process and its threads until now."""
    return parse_cpu_seconds(Path(f"/proc/{pid}/stat").read_text())


def memory(pid: int) -> Memory:
    """The process's memory now."""
    return parse_memory(Path(f"/proc/{pid}/smaps_rollup").read_text())


def busy_seconds() -> float:
    """Seconds that the machine's cores were busy since boot."""
    return parse_busy_seconds(Path("/proc/stat").read_text())
