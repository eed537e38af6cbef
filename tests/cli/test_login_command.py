"""``sidecar login`` as a command: what it opens, shows and leaves behind, and with which code it exits."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.cli import login, main
from sidecar.simulation.idp import Client, MockIdP, Refreshing, Step
from tests.broker.store_kit import open_store
from tests.cli.browser import get
from tests.end_to_end.waiting import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sidecar.broker.store import TokenStore

NAME: Final = "repository"
PATIENCE: Final = 30
APP: Final = Client(
    auth=frozenset({"none"}),
    redirect_uris=("http://127.0.0.1/callback",),
    any_loopback_port=True,
    refreshing=Refreshing(),
)


@dataclass
class Files:
    """A configuration file and the store it names."""

    path: Path
    store: TokenStore

    def write(self, **credential: Any) -> None:
        whole = {
            "listeners": [{"name": "egress", "bind": f"127.0.0.1:{free_port()}"}],
            "telemetry": {"bind": f"127.0.0.1:{free_port()}"},
            "routes": [{"host": "api.example.com", "credential": NAME}],
            "store": {"path": str(self.store.path), "key": f"file:{self.path.parent / 'store-key'}"},
            "credentials": {
                NAME: credential,
                "machine": {
                    "grant": "client_credentials",
                    "token_url": f"http://127.0.0.1:{free_port()}/token",
                    "client_id": "m",
                    "client_secret": "env:NOT_THERE",
                },
            },
        }
        self.path.write_text(json.dumps(whole))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "sidecar.yaml", open_store(tmp_path))


@pytest.fixture
async def provider() -> AsyncIterator[MockIdP]:
    async with MockIdP() as provider:
        provider.register("app", APP)
        yield provider


BROWSER: Final = """
import html, re, sys, urllib.parse, urllib.request
browser = urllib.request.build_opener(urllib.request.ProxyHandler({}))
page = browser.open(sys.argv[1]).read().decode()
form = re.findall('type="hidden" name="([^"]*)" value="([^"]*)"', page)
form = [tuple(map(html.unescape, each)) for each in form] + [("decision", "approve")]
browser.open(sys.argv[1], urllib.parse.urlencode(form).encode()).read()
"""


async def start(
    files: Files, *arguments: str, browser: bool = False, command: str = "login", **more: str
) -> asyncio.subprocess.Process:
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")}
    if browser:
        program = files.path.parent / "browser.py"
        program.write_text(BROWSER)
        kept["BROWSER"] = f"{shlex.quote(sys.executable)} {shlex.quote(str(program))} %s"
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "sidecar", command, "-c", str(files.path), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=kept | more,
    )


async def end(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err
    return process.returncode, out.decode(), err.decode()


async def test_the_command_opens_the_browser_and_stores_the_grant(files: Files, provider: MockIdP) -> None:
    files.write(grant="authorization_code", issuer=provider.issuer, client_id="app", scopes=["read"])
    code, out, err = await end(await start(files, NAME, browser=True))
    assert (code, out.startswith(f"The grant of credential {NAME} is stored")) == (0, True), err
    grant = files.store.read(NAME)
    assert grant is not None
    assert provider.tokens.owner(grant.refresh_token.reveal()) == "app"
    assert grant.refresh_token.reveal() not in out + err


async def test_without_a_browser_the_address_stands_on_standard_error(files: Files, provider: MockIdP) -> None:
    files.write(grant="authorization_code", issuer=provider.issuer, client_id="app")
    process = await start(files, "--no-browser", NAME, browser=True)
    await get(provider.consent(await address_shown(process)))
    code, out, _ = await end(process)
    assert (code, "stored" in out) == (0, True)
    assert "/authorize" not in {received.path for received in provider.received}


async def address_shown(process: asyncio.subprocess.Process) -> str:
    return await shown(process, r"  (http\S+)\n")


async def shown(process: asyncio.subprocess.Process, pattern: str) -> str:
    """What stands on the line of standard error that looks like this."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        while not (match := re.fullmatch(pattern, (await process.stderr.readline()).decode())):
            assert not process.stderr.at_eof()
    return match[1]


async def test_ctrl_c_leaves_nothing_behind(files: Files, provider: MockIdP) -> None:
    port = free_port()
    files.write(grant="authorization_code", issuer=provider.issuer, client_id="app")
    process = await start(files, NAME, "--port", str(port))
    await address_shown(process)
    process.send_signal(signal.SIGINT)
    code, out, _ = await end(process)
    assert (code, out) == (130, "")
    assert files.store.read(NAME) is None
    assert not files.store.path.exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_device_code_can_be_logged_in_with_and_revoked(files: Files, provider: MockIdP) -> None:
    provider.script(Step(fields={"interval": 0.01}), endpoint="device_authorization")
    files.write(grant="device_code", issuer=provider.issuer, client_id="app")
    process = await start(files, NAME)
    provider.approve(await user_code_shown(process))
    code, _, _ = await end(process)
    assert (code, files.store.read(NAME) is not None) == (0, True)
    code, out, _ = await end(await start(files, NAME, "--revoke"))
    assert (code, out) == (0, f"The grant of credential {NAME} is revoked and forgotten.\n")
    assert files.store.read(NAME) is None


async def test_a_sidecar_that_runs_takes_the_grant_up_by_itself(files: Files, provider: MockIdP) -> None:
    files.write(grant="authorization_code", issuer=provider.issuer, client_id="app")
    running = await start(files, command="run", NOT_THERE="for this one it is")
    try:
        await shown(running, r'.*"event":"token_refresh_failed".*"reason":"(login_needed)".*\n')
        code, _, _ = await end(await start(files, NAME, browser=True))
        assert code == 0
        await shown(running, r'.*"event":"(token_refreshed)".*\n')
    finally:
        running.send_signal(signal.SIGTERM)
        code, _, _ = await end(running)
    assert code == 0
    [_, refresh] = provider.token_requests
    assert refresh.field("grant_type") == "refresh_token"


async def user_code_shown(process: asyncio.subprocess.Process) -> str:
    return await shown(process, r"  ([A-Z]{4}-[A-Z]{4})\n")


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
    "client_id": "app",
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
        ((NAME, "--port", "00000000000165535"), "--port"),
        ((NAME, "--port", "8400", "--revoke"), "--port"),
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


def test_a_port_has_no_use_for_a_device(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    files.write(grant="device_code", issuer="https://idp.test", client_id="app")
    assert code_and_message(capsys, "-c", str(files.path), NAME, "--port", "8400")[0] == 2


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


# What goes on from here makes the memory of its process private, so it is a process of its own.


async def test_a_port_that_the_configuration_does_not_mean_exits_with_2(files: Files) -> None:
    files.write(**CODE, redirect_uri="http://127.0.0.1:8400/cb")
    code, out, message = await end(await start(files, NAME, "--port", "8401"))
    assert (code, out, "8400" in message) == (2, "", True)


async def test_an_idp_that_cannot_be_reached_exits_with_5_and_the_next_step(files: Files) -> None:
    files.write(grant="authorization_code", issuer=f"http://127.0.0.1:{free_port()}", client_id="app")
    code, out, message = await end(await start(files, NAME))
    assert (code, out, "\n  next: check that the IdP is up" in message) == (5, "", True)


async def test_a_port_that_is_taken_exits_with_8(files: Files) -> None:
    files.write(**CODE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, message = await end(await start(files, NAME, "--port", str(port)))
    assert (code, out, f"127.0.0.1:{port}" in message) == (8, "", True)


async def test_nobody_answering_exits_with_6(files: Files) -> None:
    files.write(**CODE)
    code, out, message = await end(await start(files, NAME, "--no-browser", "--timeout", "20ms"))
    assert (code, out, "https://idp.test/authorize?response_type=code" in message) == (6, "", True)


def test_without_a_display_no_browser_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    assert login.find_browser() is None
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert login.find_browser() is not None
