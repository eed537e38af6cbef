"""Reading /proc, and what many numbers come to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from benchmarks.soaks import readings

if TYPE_CHECKING:
    from pathlib import Path

STATUS = "Name:\tsidecar\nVmHWM:\t   99999 kB\nVmRSS:\t   47104 kB\nRssAnon:\t   30000 kB\n"


def test_resident_memory_is_read_in_mebibytes() -> None:
    assert readings.parse_rss_mib(STATUS) == 46.0


def test_a_process_that_has_ended_has_no_memory_to_read() -> None:
    with pytest.raises(ValueError, match="has ended"):
        readings.parse_rss_mib("Name:\tsidecar\nState:\tZ (zombie)\n")


def test_time_without_a_core_is_read_in_seconds() -> None:
    assert readings.parse_waited_seconds("9000000000 1500000000 1234\n") == 1.5
    assert readings.waited_seconds(os.getpid()) >= 0


def test_an_open_file_is_a_descriptor_more(tmp_path: Path) -> None:
    before = readings.descriptors(os.getpid())
    with (tmp_path / "file").open("w"):
        assert readings.descriptors(os.getpid()) == before + 1


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert readings.percentile(list(range(100, 0, -1)), share) == expected


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        readings.percentile([], 0.99)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0, 1), (1, 3), (2, 5)], 2.0),
        ([(0, 7), (5, 7)], 0.0),
        ([(0, 0), (1, 3), (2, 0)], 0.0),
        ([(1, 1)], 0.0),
        ([], 0.0),
    ],
)
def test_the_slope_is_that_of_the_line_nearest_to_all(points: list[tuple[float, float]], expected: float) -> None:
    assert readings.slope(points) == pytest.approx(expected)
