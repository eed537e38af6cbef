"""``sidecar login`` as a command: what it opens, shows and leaves behind, and with which code it exits."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.cli import login, main
from tests.broker.store_kit import open_store
from tests.cli.authorization_server import CLIENT, AuthorizationServer
from tests.end_to_end.waiting import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.broker.store import TokenStore

NAME: Final = "repository"
PATIENCE: Final = 30


@dataclass
class Files:
    """A configuration file and the store it names."""

    path: Path
    store: TokenStore

    def write(self, **credential: Any) -> None:
        whole = {
            "listeners": [{"name": "egress", "bind": "127.0.0.1:6180"}],
            "store": {"path": str(self.store.path), "key": f"file:{self.path.parent / 'store-key'}"},
            "credentials": {
                NAME: credential,
                "machine": {
                    "grant": "client_credentials",
                    "token_url": "https://idp.test/token",
                    "client_id": "m",
                    "client_secret": "env:NOT_THERE",
                },
            },
        }
        self.path.write_text(json.dumps(whole))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "sidecar.yaml", open_store(tmp_path))


BROWSER: Final = "import sys, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(sys.argv[1]).read()"


async def start(files: Files, *arguments: str, browser: bool = False) -> asyncio.subprocess.Process:
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")}
    if browser:
        kept["BROWSER"] = f"{shlex.quote(sys.executable)} -c {shlex.quote(BROWSER)} %s"
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "sidecar", "login", "-c", str(files.path), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=kept,
    )


async def end(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err
    return process.returncode, out.decode(), err.decode()


async def test_the_command_opens_the_browser_and_stores_the_grant(files: Files, server: AuthorizationServer) -> None:
    files.write(grant="authorization_code", issuer=server.url(), client_id=CLIENT, scopes=["read"])
    code, out, err = await end(await start(files, NAME, browser=True))
    assert (code, out.startswith(f"The grant of credential {NAME} is stored")) == (0, True), err
    grant = files.store.read(NAME)
    assert grant is not None
    assert grant.refresh_token.reveal() in server.refresh_tokens
    assert grant.refresh_token.reveal() not in out + err


async def test_without_a_browser_the_address_stands_on_standard_error(
    files: Files, server: AuthorizationServer
) -> None:
    files.write(grant="authorization_code", issuer=server.url(), client_id=CLIENT)
    process = await start(files, "--no-browser", NAME, browser=True)
    await server.agree(await address_shown(process))
    code, out, _ = await end(process)
    assert (code, len(server.asked)) == (0, 1)
    assert "stored" in out


async def address_shown(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        while not (line := (await process.stderr.readline()).decode().strip()).startswith("http"):
            assert not process.stderr.at_eof()
    return line


async def test_ctrl_c_leaves_nothing_behind(files: Files, server: AuthorizationServer) -> None:
    port = free_port()
    files.write(grant="authorization_code", issuer=server.url(), client_id=CLIENT)
    process = await start(files, NAME, "--port", str(port))
    await address_shown(process)
    process.send_signal(signal.SIGINT)
    code, out, _ = await end(process)
    assert (code, out) == (130, "")
    assert files.store.read(NAME) is None
    assert not files.store.path.exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_device_code_can_be_logged_in_with_and_revoked(files: Files, server: AuthorizationServer) -> None:
    server.device = {"interval": 0.01}
    files.write(grant="device_code", issuer=server.url(), client_id=CLIENT)
    code, _, err = await end(await start(files, NAME))
    assert (code, "WDJB-MJHT" in err) == (0, True)
    assert files.store.read(NAME) is not None
    code, out, _ = await end(await start(files, NAME, "--revoke"))
    assert (code, out) == (0, f"The grant of credential {NAME} is revoked and forgotten.\n")
    assert (files.store.read(NAME), server.refresh_tokens) == (None, set())


def code_and_message(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    try:
        code = main(("login", *arguments))
    except SystemExit as exc:
        code = int(exc.code or 0)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return code, err


CODE: Final = {
    "grant": "authorization_code",
    "token_url": "https://idp.test/token",
    "authorization_url": "https://idp.test/authorize",
    "client_id": CLIENT,
}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "CREDENTIAL"),
        (("repositry",), "did you mean 'repository'"),
        (("machine",), "nobody logs in for"),
        (("machine", "--revoke"), "nobody logs in for"),
        ((NAME, "--port", "0"), "--port"),
        ((NAME, "--port", "65536"), "--port"),
        ((NAME, "--port", "http"), "--port"),
        ((NAME, "--port", "٣"), "--port"),
        ((NAME, "--timeout", "30"), "--timeout"),
        ((NAME, "--timeout", "0s"), "--timeout"),
        ((NAME, "--nonsense"), "nonsense"),
    ],
)
def test_wrong_usage_exits_with_2(
    capsys: pytest.CaptureFixture[str], files: Files, arguments: tuple[str, ...], words: str
) -> None:
    files.write(**CODE)
    code, message = code_and_message(capsys, "-c", str(files.path), *arguments)
    assert (code, words in message) == (2, True), message


def test_a_port_that_the_configuration_does_not_mean_exits_with_2(
    capsys: pytest.CaptureFixture[str], files: Files
) -> None:
    files.write(**CODE, redirect_uri="http://127.0.0.1:8400/cb")
    code, message = code_and_message(capsys, "-c", str(files.path), NAME, "--port", "8401")
    assert (code, "8400" in message) == (2, True)


def test_an_invalid_configuration_exits_with_3(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    files.path.write_text("listeners: 5\n")
    assert code_and_message(capsys, "-c", str(files.path), NAME)[0] == 3


def test_a_key_that_is_none_exits_with_3_and_a_missing_one_with_4_before_anybody_is_asked(
    capsys: pytest.CaptureFixture[str], files: Files
) -> None:
    files.write(**CODE)
    key = files.path.parent / "store-key"
    key.write_text("short")
    assert code_and_message(capsys, "-c", str(files.path), NAME)[0] == 3
    key.unlink()
    code, message = code_and_message(capsys, "-c", str(files.path), NAME)
    assert (code, "store.key" in message, "idp.test" in message) == (4, True, False)


def test_a_store_that_cannot_be_written_exits_with_3_before_anybody_is_asked(
    capsys: pytest.CaptureFixture[str], files: Files
) -> None:
    files.write(**CODE)
    files.store.path.write_text("a file where the folder belongs")
    code, message = code_and_message(capsys, "-c", str(files.path), NAME)
    assert (code, str(files.store.path) in message, "idp.test" in message) == (3, True, False)


def test_only_the_secrets_of_the_login_are_needed(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    files.write(**CODE, client_secret="env:NOT_THERE_EITHER")
    code, message = code_and_message(capsys, "-c", str(files.path), NAME)
    assert (code, "NOT_THERE_EITHER" in message) == (4, True)
    assert message.count("\n") == 1


def test_an_idp_that_cannot_be_reached_exits_with_5(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    files.write(grant="authorization_code", issuer=f"http://127.0.0.1:{free_port()}", client_id=CLIENT)
    assert code_and_message(capsys, "-c", str(files.path), NAME)[0] == 5


def test_a_port_that_is_taken_exits_with_8(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    files.write(**CODE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, message = code_and_message(capsys, "-c", str(files.path), NAME, "--port", str(port))
    assert (code, f"127.0.0.1:{port}" in message) == (8, True)


def test_nobody_answering_exits_with_6(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    files.write(**CODE)
    code, message = code_and_message(capsys, "-c", str(files.path), NAME, "--no-browser", "--timeout", "20ms")
    assert (code, "https://idp.test/authorize?response_type=code" in message) == (6, True)


def test_without_a_display_no_browser_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    assert login.find_browser() is None
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert login.find_browser() is not None
