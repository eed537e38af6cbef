"""What a burst leaves behind."""

from __future__ import annotations

from benchmarks.soaks import trim
from benchmarks.soaks.trim import Burst


def test_what_counts_is_what_is_left_after_the_rest_beyond_what_was_there_before_all() -> None:
    first = Burst(before=40.0, held=120.0, after=110.0, rested=45.0)
    second = Burst(before=45.0, held=120.0, after=110.0, rested=50.0)
    outcome = trim.outcome(160, 15.0, first, second)
    assert [(target.measured, target.met) for target in outcome.targets] == [(5.0, True), (10.0, False)]
    assert outcome.facts[0].startswith(
        "First burst: 40.0 MiB before, 120.0 held up, 110.0 directly after, 45.0 after 15 s"
    )
