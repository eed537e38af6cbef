"""The metrics against the contract: names, types, labels, closed sets, the series budget, both text formats."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics import parser as openmetrics_parser

import sidecar
from sidecar.errors import Denied, TokenRequestError, leaves
from sidecar.telemetry.metrics import STATES, UNMATCHED, Metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)

# The contract, written out by hand: name -> (type, labels). Not derived from the code it checks.
CONTRACT = {
    "http_requests_total": ("counter", {"route", "method", "code"}),
    "http_request_duration_seconds": ("histogram", {"route"}),
    "proxy_overhead_seconds": ("histogram", set()),
    "http_requests_in_flight": ("gauge", {"route"}),
    "injections_total": ("counter", {"route", "credential", "result"}),
    "upstream_errors_total": ("counter", {"route", "reason"}),
    "upstream_unauthorized_total": ("counter", {"route", "outcome"}),
    "denied_requests_total": ("counter", {"reason"}),
    "token_up": ("gauge", {"credential"}),
    "token_expiry_timestamp_seconds": ("gauge", {"credential"}),
    "token_refreshed_timestamp_seconds": ("gauge", {"credential"}),
    "token_next_refresh_timestamp_seconds": ("gauge", {"credential"}),
    "token_lifetime_seconds": ("gauge", {"credential"}),
    "token_requests_total": ("counter", {"credential", "result"}),
    "token_request_triggers_total": ("counter", {"credential", "trigger"}),
    "oauth_errors_total": ("counter", {"credential", "error"}),
    "token_request_duration_seconds": ("histogram", {"credential"}),
    "token_wait_seconds": ("histogram", {"credential"}),
    "token_refresh_consecutive_failures": ("gauge", {"credential"}),
    "refresh_loop_heartbeat_timestamp_seconds": ("gauge", {"credential"}),
    "credential_state": ("gauge", {"credential", "state"}),
    "token_rotations_total": ("counter", {"credential"}),
    "refresh_token_expiry_timestamp_seconds": ("gauge", {"credential"}),
    "secret_last_change_timestamp_seconds": ("gauge", {"credential"}),
    "secret_read_errors_total": ("counter", {"credential"}),
    "clock_skew_seconds": ("gauge", {"credential"}),
    "config_last_reload_successful": ("gauge", set()),
    "config_last_reload_success_timestamp_seconds": ("gauge", set()),
    "config_reloads_total": ("counter", {"result"}),
    "event_loop_lag_seconds": ("histogram", set()),
    "connections_open": ("gauge", {"listener"}),
    "connections_rejected_total": ("counter", {"reason"}),
    "suspected_abuse_total": ("counter", {"kind"}),
    "build_info": ("gauge", {"version", "python"}),
}
CLOSED_SETS = {
    ("injections_total", "result"): "injected already_present no_token stale_token bypassed_connect denied",
    ("upstream_errors_total", "reason"): "dns connect tls timeout reset protocol",
    ("upstream_unauthorized_total", "outcome"): "recovered rejected",
    ("token_requests_total", "result"): (
        "success invalid_client invalid_grant invalid_scope unauthorized_client rate_limited server_error timeout dns"
        " connect tls malformed refused"
    ),
    ("token_request_triggers_total", "trigger"): "startup scheduled on_demand unauthorized manual",
    ("credential_state", "state"): "empty fresh due stale failing login_needed",
    ("config_reloads_total", "result"): "applied rejected",
    ("suspected_abuse_total", "kind"): "denied_hosts proxy_credentials token_requests admin_token",
}


def configured() -> Metrics:
    metrics = Metrics()
    metrics.listener("egress")
    metrics.credential("orders")
    metrics.route("orders-api", "orders").answered(b"GET", 200)
    return metrics


def families(metrics: Metrics) -> dict[str, Metric]:
    text = metrics.render()[0].decode()
    # The parser, like OpenMetrics, names a counter without its suffix.
    return {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in parser.text_string_to_metric_families(text)
    }


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in families(metrics).values():
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is written twice"
            found[key] = sample.value
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((f"tokensidecar_{name}", frozenset(labels.items())))


def own(names: Iterable[str]) -> set[str]:
    return {name.removeprefix("tokensidecar_") for name in names if not name.startswith("process_")}


def test_every_metric_of_the_contract_exists_with_its_type_and_labels_and_no_other() -> None:
    found = families(configured())
    assert own(found) == set(CONTRACT)
    for name, (kind, labels) in CONTRACT.items():
        family = found[f"tokensidecar_{name}"]
        assert family.type == kind, name
        assert family.documentation, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, name


def test_the_values_of_a_label_are_the_closed_set_of_the_contract_from_the_start() -> None:
    found = families(configured())
    for (name, label), words in CLOSED_SETS.items():
        values = {sample.labels[label] for sample in found[f"tokensidecar_{name}"].samples}
        assert values == set(words.split()), name


def test_reasons_are_the_words_of_the_error_tree() -> None:
    metrics = configured()
    assert set(metrics.denied) == {leaf.reason for leaf in leaves(Denied)}
    requests = metrics.credential("orders").requests
    assert set(requests) - {"success"} == {leaf.reason for leaf in leaves(TokenRequestError)}


def test_the_process_and_the_build_describe_themselves() -> None:
    metrics = Metrics()
    assert value(metrics, "build_info", version=sidecar.__version__, python=platform.python_version()) == 1
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"} <= set(families(metrics))


def test_everything_of_a_configured_name_exists_before_the_first_request() -> None:
    metrics = configured()
    before = set(samples(metrics))
    meters = metrics.route("orders-api", "orders")
    meters.in_flight.value += 1
    meters.duration.observe(0.2)
    meters.injections["injected"].value += 1
    meters.answered(b"GET", 200).value += 1
    credential = metrics.credential("orders")
    credential.requests["success"].value += 1
    credential.oauth_error("invalid_client").value += 1
    credential.state("fresh")
    assert set(samples(metrics)) == before


def test_unknown_targets_are_counted_as_unmatched_without_a_credential() -> None:
    metrics = Metrics()
    metrics.route(UNMATCHED, None).answered(b"GET", 403).value += 1
    assert value(metrics, "http_requests_total", route="_unmatched", method="GET", code="403") == 1
    assert value(metrics, "http_requests_in_flight", route="_unmatched") == 0
    assert metrics.route(UNMATCHED, None) is metrics.unmatched
    assert "tokensidecar_injections_total" not in families(metrics)
    metrics.forget_route(UNMATCHED)
    assert value(metrics, "http_requests_in_flight", route="_unmatched") == 0


def test_a_name_gives_the_same_meters_each_time() -> None:
    metrics = configured()
    assert metrics.route("orders-api", "orders") is metrics.route("orders-api", "orders")
    assert metrics.credential("orders") is metrics.credential("orders")
    assert metrics.listener("egress") is metrics.listener("egress")
    meters = metrics.route("orders-api", "orders")
    assert meters.answered(b"GET", 200) is meters.answered(b"GET", 200)


def test_methods_that_are_made_up_share_one_label() -> None:
    metrics = configured()
    meters = metrics.route("orders-api", "orders")
    for number in range(1000):
        meters.answered(f"M{number}".encode(), 405).value += 1
    assert value(metrics, "http_requests_total", route="orders-api", method="other", code="405") == 1000
    assert len(meters._answers) == 2


def test_answers_beyond_the_bound_fold_into_the_class_of_their_code() -> None:
    metrics = Metrics()
    meters = metrics.route("r", "c")
    for status in range(200, 217):
        meters.answered(b"GET", status).value += 1
    for status in (500, 503, 599, 404, 700):
        meters.answered(b"PUT", status).value += 1
    meters.answered(b"GET", 200).value += 1
    assert value(metrics, "http_requests_total", route="r", method="GET", code="200") == 2
    assert value(metrics, "http_requests_total", route="r", method="other", code="5xx") == 3
    assert value(metrics, "http_requests_total", route="r", method="other", code="4xx") == 1
    assert value(metrics, "http_requests_total", route="r", method="other", code="other") == 1


def test_an_oauth_code_outside_the_closed_set_counts_as_other() -> None:
    metrics = Metrics()
    credential = metrics.credential("c")
    credential.oauth_error("invalid_client").value += 1
    credential.oauth_error("AADSTS7000215: made up\n").value += 1
    assert value(metrics, "oauth_errors_total", credential="c", error="invalid_client") == 1
    assert value(metrics, "oauth_errors_total", credential="c", error="other") == 1


def test_a_credential_is_in_exactly_one_state() -> None:
    metrics = Metrics()
    credential = metrics.credential("c")
    for state in STATES:
        credential.state(state)
        shown = {name: value(metrics, "credential_state", credential="c", state=name) for name in STATES}
        assert shown == {name: float(name == state) for name in STATES}
    with pytest.raises(KeyError):
        credential.state("asleep")
    assert value(metrics, "credential_state", credential="c", state="login_needed") == 1


def test_a_name_that_a_reload_removed_is_shown_no_more_even_if_a_late_request_still_counts() -> None:
    metrics = Metrics()
    before = set(samples(metrics))
    route, credential, listener = metrics.route("r", "c"), metrics.credential("c"), metrics.listener("l")
    metrics.forget_route("r")
    metrics.forget_credential("c")
    metrics.forget_listener("l")
    route.answered(b"GET", 200).value += 1
    route.in_flight.value -= 1
    credential.oauth_error("invalid_client").value += 1
    listener.connections_open.value -= 1
    assert set(samples(metrics)) == before
    metrics.forget_route("never-there")


def test_a_name_that_comes_back_begins_at_zero() -> None:
    metrics = Metrics()
    old = metrics.route("r", "c")
    old.answered(b"GET", 200).value += 5
    metrics.forget_route("r")
    new = metrics.route("r", "c")
    old.answered(b"POST", 200).value += 1
    new.answered(b"GET", 200).value += 1
    assert value(metrics, "http_requests_total", route="r", method="GET", code="200") == 1
    assert value(metrics, "http_requests_total", route="r", method="POST", code="200") is None


def test_a_route_that_changes_its_credential_keeps_its_counts_and_begins_new_injections() -> None:
    metrics = Metrics()
    meters = metrics.route("r", "old")
    meters.answered(b"GET", 200).value += 1
    meters.injections["injected"].value += 1
    assert metrics.route("r", "new") is meters
    assert value(metrics, "http_requests_total", route="r", method="GET", code="200") == 1
    assert value(metrics, "injections_total", route="r", credential="old", result="injected") is None
    assert value(metrics, "injections_total", route="r", credential="new", result="injected") == 0


def test_the_series_stay_within_the_budget_whatever_clients_and_idps_send() -> None:
    metrics = Metrics()
    routes = credentials = 30
    for number in range(routes):
        metrics.credential(f"c{number}").oauth_error("made_up").value += 1
        metrics.route(f"r{number}", f"c{number}")
    metrics.listener("egress")
    metrics.listener("orders")
    for label in [*(f"r{number}" for number in range(routes)), UNMATCHED]:
        meters = metrics.route(label, None if label == UNMATCHED else f"c{label[1:]}")
        for method in (b"GET", b"POST", b"PROPFIND", b"BREW", b"PUT"):
            for status in range(100, 1000, 7):
                meters.answered(method, status).value += 1
    assert len(samples(metrics)) <= 100 + 50 * routes + 80 * credentials


def test_one_route_and_one_credential_cost_no_more_than_their_share() -> None:
    metrics = Metrics()
    base = len(samples(metrics))
    metrics.credential("c")
    with_credential = len(samples(metrics))
    meters = metrics.route("r", "c")
    for status in range(100, 1000):
        meters.answered(b"GET", status)
    assert with_credential - base <= 80
    assert len(samples(metrics)) - with_credential <= 50
    assert base <= 85, "leaves no room for listeners and unmatched answers"


def test_no_histogram_has_more_than_ten_buckets() -> None:
    for family in families(configured()).values():
        if family.type == "histogram":
            ends = {sample.labels["le"] for sample in family.samples if sample.name.endswith("_bucket")}
            assert "+Inf" in ends
            assert len(ends) <= 10, family.name


def test_the_bounds_span_what_the_contract_says() -> None:
    metrics = configured()
    durations = metrics.route("orders-api", "orders").duration.bounds
    assert (durations[0], durations[-1]) == (0.005, 30.0)
    assert (metrics.overhead.bounds[0], metrics.overhead.bounds[-1]) == (0.0001, 0.05)


def test_no_created_series_are_written() -> None:
    metrics = configured()
    for accept in (None, OPENMETRICS):
        assert b"_created" not in metrics.render(accept)[0]


@pytest.mark.parametrize("accept", [None, "", "*/*", "text/plain", "application/json", "text/plain;version=0.0.4"])
def test_a_scraper_that_asks_for_nothing_special_gets_the_plain_text_format(accept: str | None) -> None:
    body, content_type = configured().render(accept)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# EOF" not in body
    assert b"# TYPE tokensidecar_http_requests_total counter\n" in body


@pytest.mark.parametrize("accept", [OPENMETRICS, PROMETHEUS_3, "application/openmetrics-text"])
def test_openmetrics_is_written_where_it_is_asked_for(accept: str) -> None:
    metrics = configured()
    metrics.route("orders-api", "orders").duration.observe(0.1)
    body, content_type = metrics.render(accept)
    assert content_type.startswith(openmetrics.exposition.CONTENT_TYPE_LATEST)
    assert body.endswith(b"# EOF\n")
    parse = openmetrics_parser.text_string_to_metric_families
    parsed = {family.name: family for family in parse(body.decode())}  # type: ignore[no-untyped-call]
    assert parsed["tokensidecar_build"].type == "info"
    assert parsed["tokensidecar_http_requests"].type == "counter"
    assert own(parsed) == {name.removesuffix("_total").removesuffix("_info") for name in CONTRACT}


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/openmetrics-text;version=x", "text/plain; version=0.0.4;"),
        ("text/plain;version=9..9é", "text/plain; version=1.0.0;"),
        ("application/openmetrics-text;version=2.0.0", "application/openmetrics-text; version=1.0.0;"),
        ("application/openmetrics-text;version=1.0.0\u2028\n", "application/openmetrics-text; version=1.0.0;"),
    ],
)
def test_an_odd_wish_for_a_format_gets_one_that_is_truly_written(accept: str, expected: str) -> None:
    body, content_type = configured().render(accept)
    assert content_type.startswith(expected)
    assert body.endswith(b"# EOF\n") == ("openmetrics" in expected)


def test_both_formats_hold_the_same_samples() -> None:
    metrics = configured()
    text = {line for line in metrics.render()[0].splitlines() if line.startswith(b"tokensidecar_")}
    other = {line for line in metrics.render(OPENMETRICS)[0].splitlines() if line.startswith(b"tokensidecar_")}
    assert text == other


def test_a_scrape_of_thirty_routes_does_not_hold_the_loop_up() -> None:
    metrics = Metrics()
    for number in range(30):
        metrics.credential(f"c{number}")
        metrics.route(f"r{number}", f"c{number}")
    # About a millisecond; the bound only tells it from the tens that an encoder per sample takes.
    best = min(_seconds_of_a_scrape(metrics) for _ in range(10))
    assert best < 0.015


def _seconds_of_a_scrape(metrics: Metrics) -> float:
    start = time.perf_counter()
    metrics.render(PROMETHEUS_3)
    return time.perf_counter() - start


def test_a_route_knows_how_many_requests_were_answered_in_all() -> None:
    meters = Metrics().route("api", "orders")
    assert meters.answers == 0
    for status in range(200, 240):  # more than are shown apart
        meters.answered(b"GET", status).value += 1
    assert meters.answers == 40
