"""What the stage reads out of the sidecar's own words."""

from __future__ import annotations

import pytest

from benchmarks.soaks import stage

METRICS = """\
# HELP tokensidecar_http_requests_total Answers.
tokensidecar_http_requests_total{route="plain",method="GET",code="200"} 12.0
tokensidecar_http_requests_total{route="plain",method="GET",code="502"} 3.0
tokensidecar_config_last_reload_successful 1.0
"""


@pytest.mark.parametrize(
    "labels", [{"route": "plain", "method": "GET", "code": "502"}, {"code": "502", "method": "GET", "route": "plain"}]
)
def test_a_sample_is_found_by_its_labels_in_any_order(labels: dict[str, str]) -> None:
    assert stage.sample(METRICS, "tokensidecar_http_requests_total", labels) == 3.0


def test_a_sample_without_labels_is_found() -> None:
    assert stage.sample(METRICS, "tokensidecar_config_last_reload_successful", {}) == 1.0


@pytest.mark.parametrize("labels", [{}, {"route": "plain"}, {"route": "gone", "method": "GET", "code": "200"}])
def test_a_sample_with_other_labels_is_not_there(labels: dict[str, str]) -> None:
    assert stage.sample(METRICS, "tokensidecar_http_requests_total", labels) is None


def test_a_bug_of_the_sidecar_is_seen_in_its_log() -> None:
    log = '{"event": "started"}\n{"event": "task_crashed", "task": "sweep"}\n{"event": "upstream_failed"}\n'
    assert stage.crashes(log) == ['{"event": "task_crashed", "task": "sweep"}']
