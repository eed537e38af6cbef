"""What holds for every command alike: help with an example, and wrong use that is told in a line."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from sidecar.cli import COMMANDS

PATIENCE_SECONDS = 60


def sidecar(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "sidecar", *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_SECONDS
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_of_the_command_itself(command: str) -> None:
    done = sidecar(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(rf"(?m)^examples?:(.*\n)*?.*\bsidecar {command}\b", done.stdout), done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_does_not_exist_is_2_and_a_line_after_the_usage(command: str) -> None:
    done = sidecar(command, "--no-such-option")
    assert (done.returncode, done.stdout) == (2, "")
    *usage, last = done.stderr.splitlines()
    assert last.startswith((f"sidecar {command}: ", "sidecar: "))
    assert not any(line.startswith("Traceback") for line in usage)


def test_a_command_that_does_not_exist_is_2() -> None:
    done = sidecar("serve")
    assert (done.returncode, done.stdout) == (2, "")
    assert "serve" in done.stderr.splitlines()[-1]


def test_the_contracts_commands_are_all_there() -> None:
    contract = {
        *("run", "demo", "check", "explain", "status", "login", "token", "exec", "mock-idp", "simulate", "init"),
        *("env", "ca", "schema"),
    }
    assert set(COMMANDS) == contract
