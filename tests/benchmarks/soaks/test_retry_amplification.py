"""What an origin in trouble is asked for."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.soaks import retry_amplification


@pytest.mark.parametrize(("arrived", "met"), [(100, True), (120, True), (121, False), (200, False)])
def test_requests_at_the_origin_are_held_against_those_of_the_client(arrived: int, met: bool) -> None:
    ratio, lost = retry_amplification.outcome(100, Counter({"200": 100}), arrived).targets
    assert (ratio.met, lost.met) == (met, True)


def test_saving_requests_by_failing_them_does_not_count() -> None:
    assert not retry_amplification.outcome(100, Counter({"200": 90, "502": 10}), 100).succeeded
