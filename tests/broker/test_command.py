"""Tokens from a command: every form it may print, and every way it may fail, none of which leaves a process behind."""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.config import model

if TYPE_CHECKING:
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
    for pid in map(int, pids.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIGCONT) if not _is_zombie(pid) else os.kill(2**22 + 1, 0)


def _is_zombie(pid: int) -> bool:
    """Ended, and not yet collected by its parent, which may be the machine's first process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return False
