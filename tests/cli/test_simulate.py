"""``sidecar simulate``: what it prints, in which form, and what it exits with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

import pytest

from sidecar.cli import main
from sidecar.rehearsal import reading
from tests.rehearsal.plays import written

if TYPE_CHECKING:
    from pathlib import Path

SECONDS: Final = 60
QUIET: Final = "description: Nothing happens.\nduration: 300ms\nttl: 1h\n"
FAILING: Final = """\
description: The token ends while the IdP is down.
duration: 600ms
ttl: 1h
steps:
  - {at: 0s, event: outage}
  - {at: 100ms, event: expire}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a configuration that waits for no token, and two scenarios."""
    (tmp_path / "config.yaml").write_text(written(limits={"token_wait": "0s"}))
    (tmp_path / "quiet.yaml").write_text(QUIET)
    (tmp_path / "failing.yaml").write_text(FAILING)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "SIDECAR_CONFIG"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "sidecar", "simulate", *arguments],
        cwd=folder,
        env=environment | {"TMPDIR": str(folder)},
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def test_it_prints_what_happened_and_exits_with_0_where_all_went_as_expected(folder: Path) -> None:
    done = run(folder, "./quiet.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "quiet: Nothing happens.\n     0.0 s  event            traffic: 20 requests/s to api\n"
    )
    assert "  ok      0 of 6 requests failed, at most 0 may\nPASSED  quiet\n" in done.stdout
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "quiet.yaml", "failing.yaml"}


def test_a_request_that_failed_exits_with_1_and_is_named_with_its_reason(folder: Path) -> None:
    done = run(folder, "./failing.yaml", "./quiet.yaml")
    assert (done.returncode, done.stderr) == (1, "")
    assert "api              first failed request: 503 token_unavailable" in done.stdout
    assert "FAILED  failing\n" in done.stdout
    assert "PASSED  quiet\n" in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_ended_leaves_nothing_behind(folder: Path, number: signal.Signals, code: int) -> None:
    (folder / "quiet.yaml").write_text(QUIET.replace("300ms", "1m"))
    command = [sys.executable, "-W", "error", "-m", "sidecar", "simulate", "./quiet.yaml"]
    environment = os.environ | {"TMPDIR": str(folder)}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("quiet")
    assert "traffic" in process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (code, "")
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "quiet.yaml", "failing.yaml"}


def test_for_programs_it_prints_json_and_for_pipelines_junit(folder: Path) -> None:
    done = run(folder, "--format", "json", "./failing.yaml")
    [told] = json.loads(done.stdout)["scenarios"]
    assert (done.returncode, told["passed"], told["first_failed"]["reason"]) == (1, False, "token_unavailable")
    done = run(folder, "--format", "junit", "./quiet.yaml")
    assert done.returncode == 0
    [suite] = ElementTree.fromstring(done.stdout).findall("testsuite")
    assert (suite.get("name"), suite.get("failures")) == ("quiet", "0")


def test_the_shipped_scenarios_are_listed_with_what_they_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(reading.shipped())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "name a scenario"),
        (("expiri",), 2, "did you mean 'expiry'"),
        (("--against", "nowhere", "expiry"), 2, "an admin URL is http://HOST:PORT"),
        (("--format", "html", "expiry"), 2, "invalid choice"),
        (("./absent.yaml",), 3, "absent.yaml: the scenario cannot be read"),
        (("./wrong.yaml",), 3, "wrong.yaml:1:1: unknown key"),
        (("-c", "absent.yaml", "expiry"), 3, "absent.yaml"),
        (("--against", "http://127.0.0.1:1", "expiry"), 3, "admin.token"),
    ],
)
def test_what_cannot_be_run_is_told_in_one_message(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    (folder / "wrong.yaml").write_text("tempo: 3\ndescription: x\nduration: 1s\n")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SIDECAR_CONFIG", raising=False)
    try:
        ended: object = main(["simulate", *arguments])
    except SystemExit as exc:
        ended = exc.code
    err = capsys.readouterr().err
    assert ended == code
    assert message in err
    assert "Traceback" not in err
