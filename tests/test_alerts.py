"""The alert rules: they hold under promtool, ask for nothing that does not exist, and each one has its runbook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from docs import alerts
from sidecar.errors import AdminError, ClientError, leaves
from sidecar.telemetry.abuse import THRESHOLDS, Kind
from sidecar.telemetry.metrics import Metrics
from tests.promql import Shown, grouping, promtool

ROOT: Final = Path(__file__).resolve().parent.parent
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
RULES: Final = PROMETHEUS / "token-sidecar.rules.yaml"
CASES: Final = sorted((PROMETHEUS / "tests").glob("*.test.yaml"))
RUNBOOKS: Final = ROOT / "docs" / "runbooks"
SECTIONS: Final = ["What it means", "See it", "Likely causes", "Mend it", "It is mended when"]
ADDRESS: Final = "https://git.example.com/token-sidecar/blob/main/"

Rule = dict[str, Any]


def rules() -> list[Rule]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


ALERTS: Final = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def shown() -> Shown:
    metrics = Metrics()
    metrics.route("ROUTE", "CREDENTIAL").answered(b"GET", 200)
    metrics.credential("CREDENTIAL")
    metrics.listener("LISTENER")
    return Shown(metrics.render()[0].decode())


def of_alert(rule: Rule) -> Any:
    return pytest.param(rule, id=rule.get("alert", rule.get("record")))


# --- promtool ---


def test_promtool_finds_no_fault_with_the_rules() -> None:
    checked = promtool("check", "rules", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.name)
def test_each_case_fires_or_not_as_it_says(cases: Path) -> None:
    tested = promtool("test", "rules", str(cases))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_cases_that_fire_and_cases_that_do_not(alert: str) -> None:
    fires = {
        bool(check["exp_samples"])
        for path in CASES
        for case in yaml.safe_load(path.read_text())["tests"]
        for check in case.get("promql_expr_test", ())
        if f'alertname="{alert}"' in check["expr"]
    }
    assert fires == {True, False}


# --- names ---


@pytest.mark.parametrize("rule", [of_alert(rule) for rule in rules()])
def test_a_rule_asks_for_nothing_that_no_sidecar_shows(rule: Rule) -> None:
    assert shown().missing(rule["expr"]) == []


def test_a_rule_that_asks_for_more_is_found_out() -> None:
    there = shown()
    assert there.missing("tokensidecar_token_upp == 0") == ["there is no tokensidecar_token_upp"]
    assert there.missing('tokensidecar_credential_state{state="gone"}') == [
        "tokensidecar_credential_state has no state=gone"
    ]
    assert there.missing('tokensidecar_token_requests_total{result=~"refused|no"}') == [
        "tokensidecar_token_requests_total has no result=~refused|no"
    ]
    assert there.missing("sum by (nothing) (tokensidecar_token_up)") == ["no metric has the label nothing"]


def test_recorded_names_are_recorded_and_used() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for rule in rules() for name in re.findall(r"\w+:\w+:\w+", rule["expr"])}
    assert recorded == used


def test_the_series_of_the_cases_are_ones_that_a_sidecar_shows() -> None:
    there = shown()
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for series in case["input_series"]:
                free = re.sub(r'(route|credential|method|code)="[^"]*"', r'\1="$"', series["series"])
                assert there.missing(free) == [], f"{path.name}: {case['name']}"


# --- form ---


@pytest.mark.parametrize("rule", [of_alert(rule) for rule in ALERTS.values()])
def test_an_alert_says_how_bad_it_is_and_what_it_is_about(rule: Rule) -> None:
    assert re.fullmatch(r"TokenSidecar([A-Z][a-z]+)+", rule["alert"])
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    [by] = re.findall(r"\A(?:count|sum) by \(([^)]*)\)", rule["expr"]) or ["namespace, job, route"]
    kept = {label.strip() for label in by.split(",")}
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert named <= kept, "a label that is aggregated away would be shown empty"
    assert kept - {"namespace", "job"} <= named, "an alert names what it is about"
    assert "instance" not in kept
    assert grouping(rule["expr"])


def test_the_operator_s_rules_are_the_same() -> None:
    document = yaml.safe_load((PROMETHEUS / "prometheusrule.yaml").read_text())
    assert (document["apiVersion"], document["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert document["spec"] == yaml.safe_load(RULES.read_text())


# --- runbooks ---


@pytest.mark.parametrize("rule", [of_alert(rule) for rule in ALERTS.values()])
def test_the_runbook_is_where_the_alert_says_and_has_its_sections(rule: Rule) -> None:
    url = rule["annotations"]["runbook_url"]
    assert url == f"{ADDRESS}docs/runbooks/{rule['alert']}.md"
    page = (ROOT / url.removeprefix(ADDRESS)).read_text()
    assert page.startswith(f"# {rule['alert']}\n")
    assert re.findall(r"(?m)^## (.+)$", page) == SECTIONS
    parts = [part.strip() for part in re.split(r"(?m)^## .+$", page)[1:]]
    assert all(parts)
    assert "curl -s http://127.0.0.1:6181/metrics" in parts[1]
    assert re.search(r"(?m)^1\. ", parts[2])
    assert re.search(r"(?m)^1\. ", parts[3])
    assert len(page.splitlines()) < 60, "it is read at night"


def test_every_runbook_is_of_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("TokenSidecar*.md")} == set(ALERTS)


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("TokenSidecar*.md")), ids=lambda path: path.stem)
def test_the_queries_and_greps_of_a_runbook_find_something(path: Path) -> None:
    page, there = path.read_text(), shown()
    query = re.search(r"(?ms)^Which sidecars \(in Prometheus\):\n\n```\n(.*?)^```", page)
    assert query is not None
    assert there.missing(query[1]) == []
    series = Metrics()
    series.route("ROUTE", "CREDENTIAL")
    series.credential("CREDENTIAL")
    series.listener("LISTENER")
    text = series.render()[0].decode()
    [metrics] = re.findall(r"/metrics \| grep -E '([^']*)'", page)
    for pattern in metrics.split("|") if "(" not in metrics else [metrics]:
        assert re.search(pattern.replace(" [1-9]", " "), text), pattern
    [events] = re.findall(r"-c token-sidecar \| grep -E '([^']*)'", page)
    source = "\n".join(file.read_text() for file in (ROOT / "sidecar").rglob("*.py"))
    for event in events.split("|"):
        assert f'"{event}' in source, f"nothing logs {event}"


def test_every_reason_has_its_entry() -> None:
    page = (RUNBOOKS / "reasons.md").read_text()
    entries = re.findall(r"(?m)^### [A-Z][a-z ]+: `(\w+)`$", page)
    assert sorted(entries) == sorted(leaf.reason for leaf in leaves())
    assert len(
        re.findall(r"(?m)^- \*\*(?:What it means|See it|Likely causes|Mend it|It is mended when)\*\*", page)
    ) == (5 * len(entries))


def test_causes_are_of_reasons_that_exist_and_all_that_no_sender_can_mend_have_some() -> None:
    told = {(word, reason) for word, causes in alerts.CAUSES.items() for reason in causes}
    page = (RUNBOOKS / "reasons.md").read_text()
    there = set(re.findall(r"(?m)^### ([A-Z][a-z ]+): `(\w+)`$", page))
    senders = {leaf.reason for root in (ClientError, AdminError) for leaf in leaves(root)}
    assert told <= there
    assert {(word, reason) for word, reason in there if reason not in senders} <= told


def test_the_burst_sizes_that_the_reference_names_are_those_of_the_code() -> None:
    page = " ".join((ROOT / "docs" / "reference" / "metrics.md").read_text().split())
    for kind, words in {
        Kind.DENIED_HOSTS: "{} denied hosts",
        Kind.PROXY_CREDENTIALS: "{} wrong proxy credentials",
        Kind.ADMIN_TOKEN: "{} wrong admin tokens",
        Kind.TOKEN_REQUESTS: "{} refused token requests",
    }.items():
        assert words.format(THRESHOLDS[kind].attempts) in page
