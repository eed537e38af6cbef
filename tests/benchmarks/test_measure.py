"""Reading /proc: the numbers are the kernel's, so the places they stand in are what can be wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import measure

STAT = "42 (a (b) c) S 1 42 42 0 -1 4194304 900 0 0 0 250 150 9 9 20 0 3 0 12345 1000000 500 18446744073709551615"
ROLLUP = """\
55d0c0a00000-7ffd2a5f9000 ---p 00000000 00:00 0                          [rollup]
Rss:               24576 kB
Pss:               20480 kB
Pss_Dirty:          9000 kB
Shared_Clean:       6144 kB
Shared_Dirty:          0 kB
Private_Clean:      2048 kB
Private_Dirty:     16384 kB
"""
MACHINE = "cpu  100 20 30 5000 600 7 8 9 0 0\ncpu0 50 10 15 2500 300 3 4 4 0 0\n"


def test_cpu_is_user_plus_system_time_without_that_of_ended_children() -> None:
    assert measure.parse_cpu_seconds(STAT) == pytest.approx(400 / measure.TICKS_PER_SECOND)


def test_a_command_name_with_spaces_and_parentheses_shifts_no_field() -> None:
    plain = STAT.replace("(a (b) c)", "(nginx)")
    assert measure.parse_cpu_seconds(plain) == measure.parse_cpu_seconds(STAT)


def test_memory_is_read_in_mebibytes() -> None:
    assert measure.parse_memory(ROLLUP) == measure.Memory(rss=24.0, pss=20.0, uss=18.0)


def test_idle_and_waiting_cores_are_not_busy() -> None:
    assert measure.parse_busy_seconds(MACHINE) == pytest.approx(174 / measure.TICKS_PER_SECOND)


def test_this_process_can_be_measured() -> None:
    assert measure.cpu_seconds(os.getpid()) > 0
    if Path("/proc/self/smaps_rollup").exists():
        assert 1 < measure.memory(os.getpid()).uss <= measure.memory(os.getpid()).rss
