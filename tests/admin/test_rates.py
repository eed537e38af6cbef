"""Rates and quantiles of counters that somebody looks at now and then."""

from __future__ import annotations

import pytest

from sidecar.admin.rates import GAP_SECONDS, Window, quantile
from sidecar.telemetry.cells import Buckets

BOUNDS = (0.1, 0.5, 1.0)


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ((0, 0, 0, 0), 0.5, None),
        ((10, 0, 0, 0), 0.5, 0.05),
        ((0, 10, 0, 0), 0.5, 0.3),
        ((5, 5, 0, 0), 0.5, 0.1),
        ((5, 0, 5, 0), 0.99, 0.99),
        ((0, 0, 0, 3), 0.5, 1.0),
        ((1, 0, 0, 0), 1.0, 0.1),
        ((0, 1, 0, 0), 0.0, 0.1),
    ],
)
def test_a_quantile_lies_inside_its_bucket(counts: tuple[int, ...], share: float, value: float | None) -> None:
    assert quantile(BOUNDS, counts, share) == (None if value is None else pytest.approx(value))


def observed(buckets: Buckets, *values: float) -> Buckets:
    for value in values:
        buckets.observe(value)
    return buckets


def test_the_first_look_has_no_rate_and_the_quantiles_of_all_time() -> None:
    recent = Window().look(observed(Buckets(BOUNDS), 0.05, 0.05), 100.0)
    assert (recent.per_second, recent.since_start) == (None, True)
    assert recent.p50 == pytest.approx(0.05)


def test_a_rate_is_of_the_last_seconds_and_quantiles_of_the_last_minute() -> None:
    buckets, window = observed(Buckets(BOUNDS), *[0.05] * 1000), Window()
    window.look(buckets, 100.0)
    assert window.look(buckets, 105.0).since_start
    recent = window.look(observed(buckets, *[0.7] * 20), 110.0)
    assert (recent.per_second, recent.since_start) == (2.0, False)
    assert recent.p50 == pytest.approx(0.75)
    for second in range(111, 125):
        recent = window.look(buckets, float(second))
    assert (recent.per_second, recent.since_start) == (0.0, False)
    for second in range(125, 175):
        recent = window.look(buckets, float(second))
    assert recent.since_start


def test_after_a_time_without_a_look_the_old_samples_say_nothing() -> None:
    buckets, window = Buckets(BOUNDS), Window()
    window.look(buckets, 100.0)
    recent = window.look(observed(buckets, 0.7), 100.0 + GAP_SECONDS + 1)
    assert (recent.per_second, recent.since_start) == (None, True)


def test_two_looks_in_one_instant_do_not_divide_by_nothing() -> None:
    buckets, window = Buckets(BOUNDS), Window()
    window.look(buckets, 100.0)
    assert window.look(observed(buckets, 0.7), 100.0).per_second is None
