"""The tables: medians, ratios to Envoy, targets met and missed, and markers in the pages."""

from __future__ import annotations

import pytest

from benchmarks import report
from benchmarks.measure import Memory
from benchmarks.report import Machine, Results
from benchmarks.rounds import Footprint, Plan, Sample, Start
from benchmarks.scenarios import SCENARIOS

MACHINE = Machine(
    date="2026-01-31",
    cpu="Example CPU",
    cores=2,
    kernel="6.1",
    python="3.11.2",
    openssl="OpenSSL 3.0",
    peers=("Token Sidecar 0.1.0", "Envoy 1.40.0"),
    load="wrk 4.1.0",
)
PLAN = Plan(SCENARIOS, rounds=3, seconds=5.0, requests=1_000_000, starts=10)


def sample(row: str, scenario: str, cpu_us: float, p99_us: float = 5000.0) -> Sample:
    return Sample(row, scenario, cpu_us, per_second=10_000.0, p50_us=2000.0, p99_us=p99_us, elsewhere=0.02)


def results(*samples: Sample, idle: float = 40.0, start: float = 0.5) -> Results:
    footprint = Footprint("sidecar", Memory(idle, 30.0, 25.0), 1_000_000, Memory(45.0, 35.0, 30.0))
    return Results(MACHINE, PLAN, samples, (footprint,), (Start("sidecar", start, start),))


MEASURED = results(
    sample("sidecar", "1k-plain", 60.0),
    sample("sidecar", "1k-plain", 40.0),
    sample("sidecar", "1k-plain", 900.0),
    sample("envoy", "1k-plain", 80.0),
    sample("envoy", "1k-plain", 100.0),
    sample("envoy", "1k-plain", 120.0, p99_us=9000.0),
)


def test_a_row_stands_for_the_median_of_its_rounds() -> None:
    assert MEASURED.median("sidecar", "1k-plain", lambda each: each.cpu_us) == 60.0


def test_targets_are_ratios_of_medians_to_envoys() -> None:
    plain = report.targets(MEASURED)[0]
    assert (plain.measured, plain.met) == (0.6, True)


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    tls = report.targets(MEASURED)[1]
    assert (tls.measured, tls.met) == (None, None)


def test_a_missed_target_says_so_in_the_page() -> None:
    page = report.full(results(sample("sidecar", "1k-plain", 99.0), sample("envoy", "1k-plain", 100.0), idle=50.0))
    assert "| CPU per request, 1 KiB, plain upstream | ≤ 0.65 of Envoy's | 0.99 | **missed** |" in page
    assert "| RSS, idle with two credentials | ≤ 48 MiB | 50.00 | **missed** |" in page
    assert "| Start to first proxied request | ≤ 0.7 s | 0.50 | met |" in page


def test_the_page_says_when_and_on_what() -> None:
    page = report.full(MEASURED)
    assert "Measured on 2026-01-31: Example CPU, 2 cores, Linux 6.1; Token Sidecar 0.1.0, Envoy 1.40.0" in page


def test_the_readme_has_one_line_a_proxy() -> None:
    lines = report.summary(MEASURED).splitlines()
    assert lines[2].startswith("| sidecar | 60 | - | - | - | 5.0 | 45 | 0.50 |")
    assert lines[3].startswith("| envoy | 100 | - | - | - | 5.0 | - | - |")


def test_a_page_keeps_what_stands_outside_the_markers() -> None:
    page = "# Title\n<!-- benchmark:start -->\nold\n<!-- benchmark:end -->\nafter\n"
    once = report.between_markers(page, "new")
    assert once == "# Title\n<!-- benchmark:start -->\nnew\n<!-- benchmark:end -->\nafter\n"
    assert report.between_markers(once, "new") == once


def test_a_page_has_a_pair_of_markers_for_each_section() -> None:
    page = "<!-- benchmark:start -->\nkept\n<!-- benchmark:end -->\n<!-- soaks:start -->\nold\n<!-- soaks:end -->\n"
    assert report.between_markers(page, "new", section="soaks") == page.replace("old", "new")


@pytest.mark.parametrize(
    "page",
    [
        "no markers",
        "<!-- benchmark:end --> <!-- benchmark:start -->",
        "<!-- benchmark:start --> <!-- benchmark:start --> <!-- benchmark:end -->",
    ],
)
def test_a_page_without_exactly_one_pair_of_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="benchmark:start"):
        report.between_markers(page, "new")
