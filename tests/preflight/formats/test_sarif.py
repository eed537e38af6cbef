"""SARIF 2.1.0: the members that its schema requires, and those that code scanning reads."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from sidecar.preflight.formats.sarif import render
from tests.preflight.formats.reports import report


def one_run(**how: Any) -> dict[str, Any]:
    log = json.loads(render(report(**how)))
    assert set(log) == {"$schema", "version", "runs"}
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    assert isinstance(run, dict)
    return run


def test_a_run_has_its_tool_with_a_rule_for_each_kind() -> None:
    driver = one_run()["tool"]["driver"]

    assert driver["name"] == "Token Sidecar"
    assert re.fullmatch(r"\d+\.\d+\.\d+", driver["semanticVersion"])
    assert [rule["id"] for rule in driver["rules"]] == ["mounted-alone", "idp-over-plain-http", "idp-dns"]
    for rule in driver["rules"]:
        assert re.fullmatch(r"([A-Z][a-z]*)+", rule["name"])
        assert rule["shortDescription"]["text"].endswith(".")
        assert rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")


def test_every_result_has_message_level_rule_and_place() -> None:
    run = one_run()
    rules = run["tool"]["driver"]["rules"]

    assert [result["level"] for result in run["results"]] == ["warning", "note", "error"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"] == "deploy/config.yaml"
        assert re.fullmatch(r"[0-9a-f]{32}", result["partialFingerprints"]["key/v1"])
    assert run["results"][-1]["locations"][0]["physicalLocation"]["region"] == {
        "startLine": 7,
        "startColumn": 16,
        "endLine": 7,
        "endColumn": 52,
    }


def test_an_invocation_says_that_it_ran_and_what_came_of_it() -> None:
    run = one_run()

    assert run["invocations"] == [{"executionSuccessful": True, "exitCode": 5}]
    assert run["columnKind"] == "unicodeCodePoints"


def test_a_finding_is_the_same_one_when_its_words_change() -> None:
    prints = [one_run(message=message)["results"][-1]["partialFingerprints"] for message in ("one", "other")]
    assert prints[0] == prints[1]


@pytest.mark.parametrize(
    ("filename", "uri"),
    [("a b/c#d.yaml", "a%20b/c%23d.yaml"), ("/etc/side car/c.yaml", "file:///etc/side%20car/c.yaml")],
)
def test_a_file_is_named_by_a_uri(filename: str, uri: str) -> None:
    result = one_run(filename=filename)["results"][0]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri
