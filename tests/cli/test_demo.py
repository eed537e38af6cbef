"""The demo is the first thing a newcomer sees: it works at once, says what happens, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from typing import Final

import pytest

from sidecar.cli import demo
from sidecar.config import load
from sidecar.runtime import SystemClock
from sidecar.simulation.echo import Echo

PATIENCE_SECONDS: Final = 60.0
README: Final = Path(__file__).resolve().parents[2] / "README.md"
WHOLE_TOKEN: Final = re.compile(r"demo-orders-worker-\d+-[0-9a-f]")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "sidecar", "demo", *arguments]


def environment(folder: Path) -> dict[str, str]:
    """Without any proxy of this machine, and with a place of its own for temporary files."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | {"TMPDIR": str(folder)}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(folder),
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


def shown_in_the_readme() -> str:
    """What README says that the demo prints."""
    return README.read_text().partition("sidecar demo\n```")[2].partition("\n```\n")[2].partition("\n```\n")[0]


def before_the_life(told: str) -> list[str]:
    return told.partition("The life of the token")[0][told.index("  identity provider") :].splitlines()


def shape_of(lines: list[str]) -> list[str]:
    """The lines without what differs from run to run."""
    return [re.sub(r"\d+", "N", re.sub(r'"[0-9a-f]{12}\.\.\."', '"H"', line)) for line in lines]


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_one_command_ends_in_a_proxied_request_with_a_valid_token(tmp_path: Path) -> None:
    done = run(tmp_path, "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert "200 OK" in done.stdout
    answer = json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])
    assert (answer["method"], answer["path"], answer["over_tls"]) == ("GET", "/hello", True)
    assert answer["token"]["valid"] is True
    assert not WHOLE_TOKEN.search(done.stdout)
    assert not list(tmp_path.iterdir()), "temporary files were left behind"


def test_it_tells_each_refresh_until_it_is_interrupted_and_its_lines_work(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("--ttl", "2s"),
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        watch = threading.Timer(PATIENCE_SECONDS, process.kill)
        watch.start()
        try:
            assert process.stdout is not None
            told = ""
            for line in process.stdout:  # a pipe, no terminal: each line comes at once all the same
                told += line
                if "generation 3" in line:
                    break
            base_url = re.search(r"by base URL {2}curl (\S+)", told)
            assert base_url, told
            assert shape_of(before_the_life(told)) == shape_of(before_the_life(shown_in_the_readme()))
            with urllib.request.urlopen(base_url[1], timeout=10) as response:
                assert json.load(response)["token"]["valid"] is True
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate()
        finally:
            watch.cancel()
    assert (process.returncode, errors) == (0, "")
    assert "Ended. Requests at the API: 2 x 200, 0 x 401." in rest
    assert re.search(r"\d\d:\d\d:\d\d {2}orders {2}generation 2, lives 2 s, refresh in \d\.\d s", told)
    assert "{" not in told[told.index("The life of the token") :], "a JSON line among lines for people"
    assert not WHOLE_TOKEN.search(told + rest)
    assert not list(tmp_path.iterdir()), "temporary files were left behind"


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("--ttl", "1s"), env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        watch = threading.Timer(PATIENCE_SECONDS, process.kill)
        watch.start()
        try:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr is not None
            errors = process.stderr.read()
            assert (process.wait(), errors) == (0, "")
        finally:
            watch.cancel()
    assert not list(tmp_path.iterdir())


def test_it_prints_a_configuration_that_the_loader_takes(tmp_path: Path) -> None:
    done = run(tmp_path, "--print-config")
    assert (done.returncode, done.stderr) == (0, "")
    configuration = load.parse(done.stdout, "demo.yaml", check_files=False)
    assert [listener.mode for listener in configuration.listeners] == ["forward", "reverse"]
    assert configuration.routes[0].upstream_tls == "required"


async def test_its_private_files_are_for_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with demo.stage(30.0, SystemClock()):
        (folder,) = modes_in(tmp_path).items()
        modes = modes_in(tmp_path / folder[0])
    assert folder[1] == 0o700
    assert modes["client-secret"] == modes["server-key.pem"] == 0o600
    assert not modes_in(tmp_path)


def test_a_port_in_use_is_replaced_by_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = demo.free_ports(port)
    assert found.keys() == {port}
    assert found[port] != port


async def test_a_port_that_is_not_the_usual_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    ports = {demo.FORWARD: demo.FORWARD, demo.TELEMETRY: 40001, demo.REVERSE: demo.REVERSE}
    demo.introduce(demo.Stage("", ports, "http://127.0.0.1:1", Echo(is_valid=bool)), ttl=30.0)
    assert "Port 6181 is in use; 40001 takes its place." in capsys.readouterr().out


async def test_a_first_request_that_fails_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    set_up = demo.Stage("", {demo.FORWARD: port}, "", Echo(is_valid=bool))
    assert not await demo.first_request(set_up)
    assert capsys.readouterr().err == "sidecar: the first request got no answer: ClientProxyConnectionError\n"


async def test_a_first_request_without_200_is_told_with_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    async with Echo(is_valid=lambda token: False) as refusing:  # takes absolute targets as well as a proxy does
        set_up = demo.Stage("", {demo.FORWARD: refusing.port}, "", refusing)
        assert not await demo.first_request(set_up)
    output = capsys.readouterr()
    assert "401 Unauthorized" in output.out
    assert output.err == "sidecar: the first request was answered 401, see above\n"


async def test_it_looks_up_its_own_host_and_no_other() -> None:
    assert await demo.lookup(demo.HOST) == ["127.0.0.1"]
    with pytest.raises(OSError, match="no other host"):
        await demo.lookup("example.com")


@pytest.mark.parametrize(
    ("ttl", "message"),
    [
        ("500ms", "tokens of the demo live between 1s and 1d"),
        ("2d", "tokens of the demo live between 1s and 1d"),
        ("soon", "not a duration such as 500ms, 30s, 5m, 1h or 7d"),
    ],
)
def test_a_lifetime_that_makes_no_sense_is_wrong_usage(tmp_path: Path, ttl: str, message: str) -> None:
    done = run(tmp_path, "--ttl", ttl)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_comes_without_loading_the_proxy() -> None:
    code = "import sys; from sidecar.cli import demo; print({'aiohttp', 'cryptography'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
