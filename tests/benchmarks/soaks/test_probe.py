"""What probes felt, within a span."""

from __future__ import annotations

import pytest

from benchmarks.soaks.probe import Felt, Mark, Probe


def test_only_answers_within_the_span_count() -> None:
    probe = Probe(1, [(0.5, 9.0), (1.0, 0.001), (1.5, 0.003), (2.0, 9.0)])
    felt = probe.between(Mark(1.0, waited=7.0), Mark(2.0, waited=7.25))
    assert felt == Felt(p99_ms=3.0, waited=0.25)
    assert str(felt) == "3.00 ms (no core for 25% of the time)"


def test_a_span_without_an_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Probe(1, [(0.5, 0.001)]).between(Mark(1.0, 0.0), Mark(2.0, 0.0))
