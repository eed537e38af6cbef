"""``sidecar run`` and the command line around it: what ends at once, with which code and which one message."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sidecar import __version__
from sidecar.cli import COMMANDS, default_config, main
from tests.end_to_end.waiting import free_port

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 30


def configuration(**changes: Any) -> str:
    """A configuration of a provider that is down, as text."""
    complete: dict[str, Any] = {
        "listeners": [{"name": "egress", "mode": "forward", "bind": f"127.0.0.1:{free_port()}"}],
        "telemetry": {"bind": f"127.0.0.1:{free_port()}"},
        "credentials": {
            "orders": {
                "grant": "client_credentials",
                "token_url": f"http://127.0.0.1:{free_port()}/token",
                "client_id": "client",
                "client_secret": "env:ORDERS_SECRET",
            }
        },
        "routes": [{"host": "api.example.com", "credential": "orders"}],
    }
    return json.dumps(complete | changes)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A valid configuration file, its secret there."""
    monkeypatch.setenv("ORDERS_SECRET", "of-the-test")
    path = tmp_path / "sidecar.yaml"
    path.write_text(configuration())
    return path


def code_and_message(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a command that ends at once: its exit code, and what it wrote to standard error."""
    try:
        code = main(arguments)
    except SystemExit as exc:  # argparse ends so
        code = int(exc.code or 0)
    out, err = capsys.readouterr()
    assert out == "" or code == 0
    assert "Traceback" not in err
    return code, err


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("run", "--nonsense"), ("run", "extra"), ("run", "-c")])
def test_wrong_usage_exits_with_2_and_says_how(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    code, message = code_and_message(capsys, *arguments)
    assert code == 2
    assert message.startswith("usage: sidecar")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: sidecar {command}")
    assert f"example: sidecar {command}" in text


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)
    assert "example: sidecar run" in text


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"token-sidecar {__version__}\n"


def test_the_configuration_is_found_in_the_environment_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIDECAR_CONFIG", raising=False)
    assert default_config() == "config.yaml"
    monkeypatch.setenv("SIDECAR_CONFIG", "/etc/sidecar.yaml")
    assert default_config() == "/etc/sidecar.yaml"


# --- what ends a run before it began ----------------------------------------------------------------------------------


def test_an_invalid_configuration_exits_with_3_and_shows_every_error_with_its_place(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    file.write_text("listeners:\n  - name: egress\n    mode: forwards\n    bind: 127.0.0.1:99999\nrouts: []\n")
    code, message = code_and_message(capsys, "run", "-c", str(file))
    assert code == 3
    for place in (f"{file}:3:11:", f"{file}:4:11:", f"{file}:5:1:"):
        assert place in message
    assert "did you mean 'routes'" in message


@pytest.mark.parametrize("kind", ["absent", "a folder", "not text", "empty", "broken"])
def test_a_configuration_that_cannot_be_read_exits_with_3(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "sidecar.yaml"
    match kind:
        case "a folder":
            path.mkdir()
        case "not text":
            path.write_bytes(b"\xff\xfe\x00listeners")
        case "empty":
            path.touch()
        case "broken":
            path.write_text("listeners: [\n")
    code, message = code_and_message(capsys, "run", "-c", str(path))
    assert code == 3
    assert message.startswith("sidecar: ")
    assert str(path) in message


def test_a_start_without_any_configuration_says_how_to_name_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIDECAR_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    code, message = code_and_message(capsys, "run")
    assert code == 3
    assert message == "sidecar: there is no config.yaml: name the configuration with -c FILE or in $SIDECAR_CONFIG\n"


def test_missing_secrets_exit_with_4_and_are_named_all_at_once(
    capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = json.loads(file.read_text())
    text["credentials"]["billing"] = text["credentials"]["orders"] | {"client_secret": f"file:{tmp_path}/absent"}
    file.write_text(json.dumps(text))
    monkeypatch.delenv("ORDERS_SECRET")
    code, message = code_and_message(capsys, "run", "-c", str(file))
    assert code == 4
    assert "env:ORDERS_SECRET" in message
    assert f"file:{tmp_path}/absent" in message


def test_a_ca_bundle_that_cannot_be_read_exits_with_3(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("no certificate")
    for ca_file in (str(tmp_path / "absent.pem"), str(bundle)):
        route = {"host": "api.example.com", "credential": "orders", "ca_file": ca_file}
        file.write_text(configuration(routes=[route]))
        code, message = code_and_message(capsys, "run", "-c", str(file))
        assert code == 3
        assert "ca_file" in message


# --- a process of its own ---------------------------------------------------------------------------------------------


def test_an_address_in_use_exits_with_8_and_names_it(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        for changes in (
            {"listeners": [{"name": "egress", "mode": "forward", "bind": bind}]},
            {"telemetry": {"bind": bind}},
        ):
            file.write_text(configuration(**changes))
            done = run("run", "-c", str(file))
            assert done.returncode == 8
            assert done.stdout == ""
            [line] = done.stderr.splitlines()
            assert line.startswith("sidecar: ")
            assert f"cannot listen on {bind}: the address is in use" in line


def test_the_default_file_is_config_yaml_in_this_folder(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("listeners: []")
    done = run("run", folder=tmp_path)
    assert done.returncode == 3
    assert "config.yaml:1:" in done.stderr


def test_the_memory_of_a_running_sidecar_is_private_and_its_descriptors_are_plenty(file: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar", "run", "-c", str(file)], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert '"event":"started"' in process.stderr.readline()
        limits = resource.prlimit(process.pid, resource.RLIMIT_CORE)
        assert limits == (0, 0)
        files, most = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        assert files == most
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert '"event":"stopped"' in err


def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a process, to its end."""
    environment = {name: value for name, value in os.environ.items() if name != "SIDECAR_CONFIG"}
    return subprocess.run(
        [sys.executable, "-m", "sidecar", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=folder,
        env=environment,
        check=False,
    )
