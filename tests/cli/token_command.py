"""``sidecar token`` as its users run it: as a process, beside a sidecar and a provider in the process of the test."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from sidecar.cli import main
from tests.end_to_end.programs import clean_environment

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.proxy.rig import Rig

ADMIN: Final = "cn4ry-admin-token-of-the-test"
SECONDS: Final = 60
Done = subprocess.CompletedProcess[str]


def admin(rig: Rig, secret: Path) -> dict[str, Any]:
    """The section, with its token in that file."""
    return {"bind": f"127.0.0.1:{rig.port('admin')}", "token": f"file:{secret}"}


def write(rig: Rig, **changes: Any) -> None:
    """The configuration's file, without a sidecar that runs by it."""
    rig.file.write_text(rig.text(rig.configuration(**changes)))


async def ended(
    command: list[str], *, stdin: str = "", folder: Path | None = None, environment: dict[str, str] | None = None
) -> Done:
    """A program, to its end, with its output in a pipe."""
    return await asyncio.to_thread(
        subprocess.run,
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=folder,
        env=clean_environment(**(environment or {})),
        check=False,
    )


async def run(rig: Rig, *arguments: str, stdin: str = "", **environment: str) -> Done:
    """The command with the rig's file."""
    command = [sys.executable, "-W", "error", "-m", "sidecar", "token", "-c", str(rig.file), *arguments]
    return await ended(command, stdin=stdin, environment=environment)


def failed(done: Done, code: int) -> str:
    """The one message of a failure; nothing is printed beside it."""
    assert (done.returncode, done.stdout) == (code, ""), done
    assert done.stderr.startswith("sidecar: ")
    assert "Traceback" not in done.stderr
    assert ADMIN not in done.stderr
    return done.stderr.removeprefix("sidecar: ").removesuffix("\n")


def usage(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a wrong use."""
    try:
        code = main(["token", *arguments])
    except SystemExit as exc:
        code = int(exc.code or 0)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    return err
