"""Tokens from a command: every form it may print, and every way it may fail, none of which leaves a process behind."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.config import model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.broker.credential import Credential
    from tests.broker.conftest import House


def printing(text: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", f"print({text!r})")


async def run(house: House, command: tuple[str, ...], **changes: Any) -> Credential:
    plain = {"token_url": None, "client_id": None, "client_secret": None}
    await house.broker.apply(
        {"orders": house.config(grant="exec", command=command, **plain, **changes)}, model.Limits(token_request=5.0)
    )
    credential = house.broker.credential("orders")
    while credential.status().fetching or (credential.published is None and credential.status().last_error is None):
        await house.clock.settle()
    return credential


@pytest.mark.parametrize(
    ("printed", "lifetime"),
    [
        ("canary-bare", 300.0),
        (json.dumps({"access_token": "canary-bare", "expires_in": 60}), 60.0),
        (json.dumps({"token": "canary-bare"}), 300.0),
        (json.dumps({"accessToken": "canary-bare", "expiresOn": "2024-01-01", "expires_on": "{in}"}), 120.0),
        (
            json.dumps({"kind": "ExecCredential", "status": {"token": "canary-bare", "expirationTimestamp": "{iso}"}}),
            120.0,
        ),
    ],
)
async def test_every_form_of_output_is_a_token(house: House, printed: str, lifetime: float) -> None:
    end = house.clock.wall() + 120
    printed = printed.replace("{in}", str(int(end))).replace("{iso}", datetime.fromtimestamp(end, UTC).isoformat())
    credential = await run(house, printing(printed))
    assert credential.published is not None
    assert credential.published.header == b"Authorization: Bearer canary-bare\r\n"
    assert house.meters().lifetime.value == pytest.approx(lifetime, abs=1.0)
    assert house.meters().requests["success"].value == 1


async def test_a_preset_says_where_the_token_stands(house: House) -> None:
    output = json.dumps({"authorizationToken": "canary", "expiration": house.clock.wall() + 60, "token": "other"})
    credential = await run(house, printing(output), dialect=model.Dialect(token_field="authorizationToken"))
    assert credential.published is not None
    assert credential.published.secret.reveal() == "canary"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit(3)", "server_error"),
        ("pass", "malformed"),
        ("print('two words')", "malformed"),
        ("print('x' * 300_000)", "malformed"),
        ("print('{\"expires_in\": 5}')", "malformed"),
    ],
)
async def test_a_command_that_gives_no_token_is_a_failure(house: House, code: str, reason: str) -> None:
    credential = await run(house, (sys.executable, "-S", "-c", code))
    assert credential.published is None
    assert credential.status().last_error == reason
    assert house.meters().requests[reason].value == 1


async def test_a_command_that_is_not_there_is_told(house: House) -> None:
    credential = await run(house, ("no-such-command-anywhere",))
    assert credential.status().last_error == "refused"


async def test_what_it_says_on_standard_error_is_shown_nowhere(house: House, capfd: pytest.CaptureFixture[str]) -> None:
    await run(house, (sys.executable, "-S", "-c", "import sys; print('canary-secret', file=sys.stderr); sys.exit(1)"))
    assert "canary-secret" not in "".join(capfd.readouterr())


async def test_a_command_that_hangs_ends_with_all_that_it_started(house: House, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r} + '.new', 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(pids)!r} + '.new', {str(pids)!r})\n"
        "time.sleep(600)\n"
    )
    plain = {"token_url": None, "client_id": None, "client_secret": None}
    config = house.config(grant="exec", command=(sys.executable, "-S", "-c", code), **plain)
    await house.broker.apply({"orders": config}, model.Limits(token_request=0.5))
    credential = house.broker.credential("orders")
    while credential.status().last_error is None:
        await house.clock.settle()
    assert credential.status().last_error == "timeout"
    await house.broker.close()
    if not pids.exists():
        return  # the machine was too slow for it to begin: then there is nothing to be left over
    async with asyncio.timeout(30):
        while any(map(_runs, map(int, pids.read_text().split()))):
            await asyncio.sleep(0)  # killed, and not yet gone


BACKGROUND = "import subprocess, sys; subprocess.Popen(['sleep', '600'], start_new_session=%s); print('canary-bare')"


@pytest.mark.parametrize("apart", [False, True])
async def test_what_a_command_leaves_running_is_not_waited_for(house: House, apart: bool, sleepers: None) -> None:
    credential = await run(house, (sys.executable, "-S", "-c", BACKGROUND % apart))
    assert credential.published is not None
    assert credential.published.secret.reveal() == "canary-bare"


async def test_a_command_that_hangs_is_over_whoever_holds_its_output(house: House, sleepers: None) -> None:
    hanging = (BACKGROUND % True) + "; import time; time.sleep(600)"
    plain = {"token_url": None, "client_id": None, "client_secret": None}
    config = house.config(grant="exec", command=(sys.executable, "-S", "-c", hanging), **plain)
    await house.broker.apply({"orders": config}, model.Limits(token_request=0.5))
    credential = house.broker.credential("orders")
    async with asyncio.timeout(30):
        while credential.status().last_error is None:
            await house.clock.settle()
        await house.broker.close()
    assert credential.status().last_error == "timeout"


async def test_a_command_that_prints_for_ever_is_ended_at_once(house: House) -> None:
    printing_on = "while True: print('x' * 1000)"
    async with asyncio.timeout(30):
        credential = await run(house, (sys.executable, "-S", "-c", printing_on))
    assert credential.status().last_error == "malformed"


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EMFILE])
async def test_a_machine_that_is_full_for_a_moment_is_no_reason_to_give_the_command_up(
    house: House, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse() -> tuple[int, int]:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.pipe", refuse)
    credential = await run(house, printing("canary-bare"))
    monkeypatch.undo()
    assert credential.status().last_error == "server_error"


def test_the_first_process_of_a_container_collects_what_it_ended() -> None:
    ended = subprocess.run([sys.executable, "-c", INIT], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("timeout 0\n", "")


INIT = """
import asyncio, ctypes
import uvloop
from sidecar.broker.command import Command
from sidecar.config import model
from sidecar.errors import TokenTimeout
from sidecar.runtime import SystemClock
from sidecar.telemetry.metrics import Metrics

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what loses its parent is ours
config = model.Credential(grant="exec", command=("sh", "-c", "sleep 600 & sleep 600 & sleep 600"))
limits = model.Limits(token_request=0.5)


async def main():
    command = Command(config, clock=SystemClock(), meters=Metrics().credential("x"), limits=limits)
    try:
        await command.fetch()
    except TokenTimeout as exc:
        print(exc.reason, len(open("/proc/thread-self/children").read().split()))


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


@pytest.fixture
def sleepers() -> Iterator[None]:
    """Ends what a command left running, which is what this process is the parent of in the end."""
    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    yield
    libc.prctl(36, 0, 0, 0, 0)
    for pid in map(int, Path("/proc/thread-self/children").read_text().split()):
        if Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _runs(pid: int) -> bool:
    """Whether it has not ended; what is not yet collected by its parent has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
