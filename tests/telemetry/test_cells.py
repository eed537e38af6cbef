"""Cells and the lines they are written as."""

from __future__ import annotations

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.telemetry.cells import Buckets, Cell, Family, Kind


def written(family: Family, *, openmetrics: bool = False) -> str:
    lines: list[str] = []
    family.write(lines, openmetrics=openmetrics)
    return "".join(lines)


@pytest.mark.parametrize(("seconds", "index"), [(0.0, 0), (0.1, 0), (0.100001, 1), (1.0, 1), (1.1, 2), (math.inf, 2)])
def test_an_observation_lands_in_the_first_bucket_whose_bound_is_not_below_it(seconds: float, index: int) -> None:
    buckets = Buckets((0.1, 1.0))
    buckets.observe(seconds)
    assert buckets.counts.index(1) == index
    assert buckets.count == 1


def test_a_histogram_is_written_cumulative_with_its_sum() -> None:
    family = Family("wait_seconds", Kind.HISTOGRAM, "Waiting.")
    buckets = family.buckets((0.1, 1.0), (("route", "a"),))
    for seconds in (0.05, 0.5, 0.5, 5.0):
        buckets.observe(seconds)
    (parsed,) = text_string_to_metric_families(written(family))
    values = {(sample.name, sample.labels.get("le")): sample.value for sample in parsed.samples}
    assert values == {
        ("wait_seconds_bucket", "0.1"): 1,
        ("wait_seconds_bucket", "1.0"): 3,
        ("wait_seconds_bucket", "+Inf"): 4,
        ("wait_seconds_count", None): 4,
        ("wait_seconds_sum", None): pytest.approx(6.05),
    }


def test_label_values_are_escaped() -> None:
    family = Family("hits_total", Kind.COUNTER, "Hits.")
    value = 'back\\slash "quote"\nline é'
    family.cell((("route", value),))
    (parsed,) = text_string_to_metric_families(written(family))
    assert parsed.samples[0].labels == {"route": value}


@pytest.mark.parametrize(("value", "text"), [(math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (2, "2")])
def test_a_gauge_may_hold_what_is_no_finite_float(value: float, text: str) -> None:
    family = Family("expiry", Kind.GAUGE, "Expiry.")
    family.cell().value = value
    assert written(family).splitlines()[-1] == f"expiry {text}"


def test_openmetrics_names_a_family_without_its_suffix() -> None:
    counter = Family("hits_total", Kind.COUNTER, "Hits.")
    counter.cell()
    assert written(counter, openmetrics=True).splitlines()[1:] == ["# TYPE hits counter", "hits_total 0.0"]
    assert written(counter).splitlines()[1:] == ["# TYPE hits_total counter", "hits_total 0.0"]
    info = Family("build_info", Kind.INFO, "Build.")
    info.cell((("version", "1"),), 1.0)
    assert written(info, openmetrics=True).splitlines()[1] == "# TYPE build info"
    assert written(info).splitlines()[1] == "# TYPE build_info gauge"


def test_a_family_without_series_writes_nothing() -> None:
    family = Family("hits_total", Kind.COUNTER, "Hits.")
    labels = (("route", "a"),)
    family.cell(labels)
    family.remove(labels)
    assert written(family) == ""
    assert len(family) == 0


def test_a_repr_shows_what_was_counted() -> None:
    buckets = Buckets((1.0,))
    buckets.observe(0.5)
    assert repr(buckets) == "<Buckets 1 observations, 0.5 s>"
    assert repr(Cell(3.0)) == "<Cell 3>"
