"""What a program reads."""

from __future__ import annotations

import json

from sidecar.preflight.formats.json_text import render
from tests.preflight.formats.reports import report


def test_the_documented_members_are_there() -> None:
    told = json.loads(render(report()))

    assert {key: told[key] for key in ("version", "file", "stages", "strict", "exit_code", "counts")} == {
        "version": 1,
        "file": "deploy/config.yaml",
        "stages": ["offline", "network", "live"],
        "strict": False,
        "exit_code": 5,
        "counts": {"errors": 1, "warnings": 1, "notes": 1},
    }
    assert [check["outcome"] for check in told["checks"]] == ["ok", "warning", "error", "skipped"]
    assert told["checks"][2] == {
        "stage": "network",
        "name": "idp.example.com:443",
        "outcome": "error",
        "detail": "",
        "seconds": 0.25,
    }
    assert told["findings"][-1] == {
        "id": "idp-dns",
        "severity": "error",
        "stage": "network",
        "key": "credentials.orders.token_url",
        "file": "deploy/config.yaml",
        "line": 7,
        "column": 16,
        "end_line": 7,
        "end_column": 52,
        "message": "it does not resolve",
        "remedy": "look",
    }


def test_what_is_about_the_whole_file_has_no_key() -> None:
    assert json.loads(render(report()))["findings"][0]["key"] is None
