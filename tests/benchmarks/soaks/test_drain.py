"""What counts in a drain."""

from __future__ import annotations

from collections import Counter

from benchmarks.soaks import drain
from benchmarks.soaks.drain import Round
from benchmarks.soaks.traffic import Tally

GOOD = Round(Tally(answered=100), ready_in_drain=False, end_seconds=2.1, exit_code=0)


def test_a_drain_that_nobody_noticed_meets_all_targets() -> None:
    outcome = drain.outcome([GOOD, GOOD], Tally(answered=50, failed=Counter(reset=3)))
    assert outcome.succeeded
    assert "3 requests were broken off" in outcome.facts[1]


def test_each_thing_that_goes_wrong_misses_a_target_of_its_own() -> None:
    bad = Round(Tally(answered=99, failed=Counter(reset=1)), ready_in_drain=True, end_seconds=9.0, exit_code=1)
    outcome = drain.outcome([GOOD, bad], Tally())
    assert [target.met for target in outcome.targets] == [False] * 4
    assert [target.measured for target in outcome.targets] == [1, 1, 1, 9.0]
