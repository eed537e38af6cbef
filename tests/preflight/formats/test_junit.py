"""JUnit XML that every reader takes."""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree

import pytest

from sidecar.preflight.formats.junit import render
from tests.preflight.formats.reports import report

REQUIRED: Final = {
    # What the schemas in use (Jenkins, GitLab, Ant) want of each element.
    "testsuites": {"name", "tests", "failures", "errors", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testcase": {"name", "classname", "time"},
    "failure": {"message", "type"},
    "skipped": {"message"},
    "system-out": set[str](),
}
WITHIN: Final = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase"},
    "testcase": {"failure", "skipped", "system-out"},
}


@pytest.mark.parametrize("strict", [False, True])
def test_every_element_is_one_that_is_known_with_its_attributes(strict: bool) -> None:
    root = ElementTree.fromstring(render(report(strict=strict)))

    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.attrib) >= REQUIRED[element.tag]
        assert {child.tag for child in element} <= WITHIN.get(element.tag, set())


@pytest.mark.parametrize(("strict", "failures"), [(False, 1), (True, 2)])
def test_the_figures_are_those_of_the_cases(strict: bool, failures: int) -> None:
    root = ElementTree.fromstring(render(report(strict=strict)))
    suites = root.findall("testsuite")

    assert [suite.get("name") for suite in suites] == [
        f"sidecar check: {stage}" for stage in ("offline", "network", "live")
    ]
    for suite in suites:
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
        assert int(suite.get("skipped", "")) == len(suite.findall("testcase/skipped"))
    for figure in ("tests", "failures", "skipped"):
        assert int(root.get(figure, "")) == sum(int(suite.get(figure, "")) for suite in suites)
    assert root.get("failures") == str(failures)


def test_a_failure_says_what_and_where_and_what_to_do() -> None:
    root = ElementTree.fromstring(render(report()))
    (failure,) = root.findall(".//failure")

    assert (failure.get("type"), failure.get("message")) == (
        "idp-dns",
        "credentials.orders.token_url: it does not resolve",
    )
    assert failure.text is not None
    assert failure.text.startswith("deploy/config.yaml:7:16: error: ")
    assert failure.text.endswith("\n  next: look")
    said = [element.text for element in root.findall(".//system-out")]
    assert "it can be used" in said


def test_text_that_xml_cannot_have_is_made_harmless() -> None:
    message = 'a <tag> & "quotes" ]]> \x00\x1b\ufffe end'
    root = ElementTree.fromstring(render(report(message=message)))

    (failure,) = root.findall(".//failure")
    assert failure.get("message") == 'credentials.orders.token_url: a <tag> & "quotes" ]]> ??? end'
