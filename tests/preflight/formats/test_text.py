"""What a person reads."""

from __future__ import annotations

from dataclasses import replace

from sidecar.preflight.findings import Check, Report
from sidecar.preflight.formats.text import counts, render
from sidecar.preflight.kinds import Kind, Stage
from tests.preflight.formats.reports import report

TEXT = f"""\
offline: 2 looked at
  ok        configuration: it can be used
deploy/config.yaml:1:1: warning: the file is a mount of its own [mounted-alone]
  1 | listeners:
    | ^
  next: {Kind.MOUNTED_ALONE.facts.remedy}
deploy/config.yaml:7:16: note: credentials.orders.token_url: over http [idp-over-plain-http]
  7 |     token_url: https://idp.example.com/oauth2/token
    |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  next: {Kind.IDP_OVER_PLAIN_HTTP.facts.remedy}

network: 1 looked at
deploy/config.yaml:7:16: error: credentials.orders.token_url: it does not resolve [idp-dns]
  7 |     token_url: https://idp.example.com/oauth2/token
    |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  next: look

live: 0 looked at, 1 left out
  left out  credentials.orders: not asked for, because of idp-dns

1 error, 1 warning and 1 note in deploy/config.yaml"""


def test_findings_are_told_as_errors_of_the_configuration_are_by_stage_and_counted() -> None:
    assert render(report()) == TEXT


def test_a_stage_with_nothing_in_it_says_so() -> None:
    empty = Report("config.yaml", Stage.OFFLINE, ())
    assert render(empty) == "offline: nothing to look at\n\nno errors, no warnings and no notes in config.yaml"


def test_counts_are_words() -> None:
    assert counts(report()) == "1 error, 1 warning and 1 note"


def test_what_has_no_place_is_told_by_the_file_alone() -> None:
    (check,) = report().of(Stage.NETWORK)
    (finding,) = check.findings
    bare = Check(Stage.NETWORK, "x", (replace(finding, span=None),))
    assert "\nconfig.yaml: error: credentials.orders" in render(Report("config.yaml", Stage.NETWORK, (bare,)))
