"""When a slow head's end is on time."""

from __future__ import annotations

import pytest

from benchmarks.soaks import slowloris
from benchmarks.soaks.probe import Felt
from benchmarks.soaks.slowloris import QUICK, End


@pytest.mark.parametrize(
    ("end", "on_time"),
    [
        (End(10.0, 408), True),
        (End(11.2, 408), True),
        (End(9.9, 408), False),
        (End(12.0, 408), False),
        (End(10.5, None), False),
        (End(10.5, 400), False),
    ],
)
def test_an_end_is_on_time_with_408_within_a_sweep_of_the_limit(end: End, on_time: bool) -> None:
    assert end.on_time(10.0) is on_time


def test_what_was_late_and_what_the_others_felt_are_held_to_their_bounds() -> None:
    ends = [End(2.1, 408), End(5.0, 408), End(2.0, None)]
    late, ratio = slowloris.outcome(QUICK, ends, before=Felt(2.0, 0.0), during=Felt(2.8, 0.1)).targets
    assert (late.measured, late.met) == (2, False)
    assert (ratio.measured, ratio.met) == (1.4, True)
