"""Annotations of a pull request."""

from __future__ import annotations

from sidecar.preflight.formats.github import render
from sidecar.preflight.kinds import Kind
from tests.preflight.formats.reports import report


def test_each_finding_is_a_command_at_its_line() -> None:
    lines = render(report()).splitlines()

    assert lines[2] == (
        "::error file=deploy/config.yaml,line=7,endLine=7,col=16,endColumn=51,title=sidecar check%3A idp-dns::"
        "credentials.orders.token_url: it does not resolve%0ANext: look"
    )
    assert [line.partition(" ")[0] for line in lines[:2]] == ["::warning", "::notice"]
    assert Kind.MOUNTED_ALONE.facts.remedy in lines[0]
    assert lines[-1] == "sidecar check: 1 error, 1 warning and 1 note in deploy/config.yaml"


def test_nothing_ends_a_command_or_begins_another() -> None:
    lines = render(report(filename="a:b,c%.yaml", message="100%\r\n::error::x")).splitlines()

    assert len(lines) == 4
    assert "file=a%3Ab%2Cc%25.yaml," in lines[0]
    assert "100%25%0D%0A::error::x" in lines[2]
