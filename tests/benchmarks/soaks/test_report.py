"""Outcomes to Markdown."""

from __future__ import annotations

from benchmarks.report import Machine, Target
from benchmarks.soaks import report
from benchmarks.soaks.report import Outcome

MACHINE = Machine(
    date="2026-01-31",
    cpu="Example CPU",
    cores=2,
    kernel="6.1",
    python="3.11.2",
    openssl="OpenSSL 3.0",
    peers=("Token Sidecar 0.1.0",),
    load="a generator",
)
GOOD = Outcome(
    "calm", (Target("RSS growth", "MiB", 16, 3.456), Target("of 100,000 GETs, failed", "", 0, 0)), ("Fine.",), 12
)
BAD = Outcome("storm", (Target("requests at the origin", "for each", 1.2, 1_999),), ("Not fine.",), 3)
BROKEN = Outcome("wreck", (), (), 1, failure="SoakFailed: it sank")


def test_each_target_has_a_line_with_its_bound_its_figure_and_the_verdict() -> None:
    assert report.rows(GOOD) == [
        ["calm", "RSS growth", "≤ 16 MiB", "3.46", "met"],
        ["calm", "of 100,000 GETs, failed", "≤ 0", "0", "met"],
    ]
    assert report.rows(BAD) == [["storm", "requests at the origin", "≤ 1.2 for each", "1,999", "**missed**"]]


def test_a_soak_that_could_not_be_carried_out_says_why() -> None:
    assert report.rows(BROKEN) == [["wreck", "the soak itself", "-", "-", "**failed**: SoakFailed: it sank"]]


def test_only_what_was_carried_out_and_met_all_its_targets_has_succeeded() -> None:
    assert [outcome.succeeded for outcome in (GOOD, BAD, BROKEN)] == [True, False, False]


def test_the_section_says_when_and_on_what_and_what_else_was_seen() -> None:
    text = report.full(MACHINE, [GOOD, BAD, BROKEN])
    assert text.startswith(
        "Measured on 2026-01-31: Example CPU, 2 cores, Linux 6.1; Token Sidecar 0.1.0; Python 3.11.2"
    )
    assert "load by a generator." in text
    assert "- `calm` (12 s): Fine." in text
    assert "| wreck | the soak itself |" in text
    assert "- `wreck`" not in text
