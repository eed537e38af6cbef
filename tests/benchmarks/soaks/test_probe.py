"""What probes felt, within a span."""

from __future__ import annotations

import pytest

from benchmarks.soaks.probe import Probe


def test_only_answers_within_the_span_count() -> None:
    probe = Probe([(0.5, 9.0), (1.0, 0.001), (1.5, 0.003), (2.0, 9.0)])
    assert probe.p99_ms((1.0, 2.0)) == 3.0


def test_a_span_without_an_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Probe([(0.5, 0.001)]).p99_ms((1.0, 2.0))
