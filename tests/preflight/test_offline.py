"""The first stage, and what of it a start says."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from sidecar.config import load
from sidecar.preflight.kinds import Kind, Severity, Stage
from sidecar.preflight.offline import LINTS, ON_FILES, advice, offline
from tests.config.conftest import VALID
from tests.preflight.kit import subject

if TYPE_CHECKING:
    from pathlib import Path

MIXED = "environment: blue\n" + VALID.replace("idp.example.com", "idp.staging.example.com")


def test_every_lint_is_a_check_of_its_own() -> None:
    checks = offline(subject())

    assert [check.name for check in checks] == list(LINTS)
    assert {check.stage for check in checks} == {Stage.OFFLINE}
    assert [check.name for check in checks if check.findings] == ["secrets"]  # which is not on this machine


def test_files_that_are_elsewhere_are_not_looked_for() -> None:
    checks = offline(subject(), files=False)

    assert {check.name for check in checks if check.skipped} == ON_FILES
    assert [finding for check in checks for finding in check.findings] == []


def test_a_sound_configuration_starts_without_advice(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    text = VALID.replace("/run/secrets/orders", str(secret))

    assert advice(load.parse(text, "config.yaml")) == []


def test_a_start_says_what_it_finds_but_for_notes_and_missing_secrets() -> None:
    text = "environment: production\n" + VALID.replace("idp.example.com", "idp.staging.example.com")
    found = advice(load.parse(text + "    on_failure: open\n", "config.yaml"))

    assert [each.kind for each in found] == [Kind.ENVIRONMENT_MISMATCH, Kind.ROUTE_FAILS_OPEN]
    assert advice(load.parse(MIXED, "config.yaml")) == []
    assert all(each.severity is Severity.WARNING for each in found)


def test_the_library_for_certificates_is_loaded_only_where_there_is_a_ca() -> None:
    code = "import sys; from sidecar.config import load; from sidecar.preflight.offline import advice"
    code += "; advice(load.parse(sys.argv[1], 'f')); import sidecar.app; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, VALID], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
