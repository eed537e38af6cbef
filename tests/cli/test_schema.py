"""``sidecar schema``: what it prints is JSON Schema, and the one that the loader goes by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sidecar.cli import main
from sidecar.config.schema import json_schema

if TYPE_CHECKING:
    import pytest


def test_it_prints_valid_json_of_the_schema_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json_schema()
    assert err == ""


def test_it_names_its_draft_and_every_top_level_key(capsys: pytest.CaptureFixture[str]) -> None:
    main(["schema"])
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    text = json.dumps(schema)
    for key in ("listeners", "telemetry", "credentials", "routes", "unmatched", "limits", "log"):
        assert f'"{key}"' in text
