"""Every command of ``docs/simulate.md`` does what the page says."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

import pytest

from sidecar.cli import main
from tests.rehearsal.hurried import Hurried

if TYPE_CHECKING:
    from sidecar.testing import RunningIdP, StartSidecar

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PAGE: Final = (ROOT / "docs" / "simulate.md").read_text()
README: Final = (ROOT / "README.md").read_text()
COMMANDS: Final = [
    line.partition("#")[0].strip()
    for block in re.findall(r"(?ms)^```sh\n(.*?)^```", PAGE)
    for line in block.splitlines()
    if line
]
SIMULATE: Final = [command for command in COMMANDS if command.startswith("sidecar simulate ")]
MOCK: Final = [command for command in COMMANDS if command.startswith("sidecar mock-idp ")]
CURL: Final = [command for command in COMMANDS if command.startswith("curl ")]
ADMIN: Final = "cn4ry-admin-token-of-the-test"


def test_every_command_is_of_a_kind_that_is_run_here() -> None:
    assert sorted(COMMANDS) == sorted([*SIMULATE, *MOCK, *CURL])
    assert (len(SIMULATE), len(MOCK), len(CURL)) == (4, 2, 4)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As somebody has it who follows the page: the README's configuration, and the page's scenarios beside it."""
    [configuration] = [text for text in re.findall(r"(?ms)^```yaml\n(.*?)^```", README) if "orders-worker" in text]
    (tmp_path / "config.yaml").write_text(configuration)
    for name, text in scenarios():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sidecar.cli.simulate.SystemClock", Hurried)
    return tmp_path


def scenarios() -> list[tuple[str, str]]:
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```", PAGE)
    return [(match[1], block) for block in blocks if (match := re.match(r"# scenario: (\S+)\n", block))]


@pytest.mark.parametrize("command", [command for command in SIMULATE if "--against" not in command])
def test_a_rehearsal_of_the_page_goes_as_expected(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    words = shlex.split(command.partition(">")[0])[1:]
    assert main(words) == 0
    said = capsys.readouterr().out
    if "junit" in words:
        assert len(ElementTree.fromstring(said)) == len(words[words.index("junit") + 1 :])
    else:
        assert re.search(r"(?m)^PASSED  \S+$", said)


def test_a_running_sidecar_can_be_rehearsed_as_the_page_says(
    folder: Path, token_sidecar: StartSidecar, mock_idp: RunningIdP, capsys: pytest.CaptureFixture[str]
) -> None:
    [command] = [command for command in SIMULATE if "--against" in command]
    (folder / "admin-token").write_text(ADMIN)
    admin = {"bind": "127.0.0.1:6182", "token": f"file:{folder}/admin-token"}
    sidecar = token_sidecar(
        {
            "credentials": {"orders": mock_idp.credential()},
            "routes": [{"host": "api.example.com", "credential": "orders"}],
            "admin": admin,
            "simulation": {"enabled": True},
        }
    )
    text = json.dumps({"listeners": [{"name": "egress", "bind": "127.0.0.1:6180"}], "admin": admin})
    (folder / "config.yaml").write_text(text)
    words = shlex.split(command.replace("6182", str(sidecar.sidecar.admin.port)))[1:]
    assert main(words) == 0
    assert "new token, generation 2" in capsys.readouterr().out


def start(command: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "sidecar", *shlex.split(command)[1:]]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("command", MOCK)
def test_a_mock_provider_of_the_page_starts_and_ends(command: str) -> None:
    process = start(command)
    assert process.stdout is not None
    assert "http://127.0.0.1:" in process.stdout.readline()
    end(process)


def test_faults_of_the_page_go_in_and_out() -> None:
    [command] = [command for command in MOCK if "--control" in command]
    process = start(command)
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    active = [curled(each, told) for each in CURL]
    assert active == [[], ["503=20s:1m"], [], []]
    end(process)


def curled(command: str, told: dict[str, Any]) -> list[str]:
    """What a command with curl would have had: the faults that hold then."""
    text = command.replace("$CONTROL", told["control_url"]).replace("$KEY", told["control_key"])
    words = shlex.split(text)[1:]
    method, body, headers, url = "GET", None, {}, ""
    while words:
        match words.pop(0):
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            case "-d":
                method, body = "POST", words.pop(0).encode()
            case "-X":
                method = words.pop(0)
            case other:
                url = other
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, body, headers, method=method), timeout=60) as response:
        return list(json.load(response)["active"])
