"""The linter, the formatter and the type checker have nothing to say, so that one command checks everything."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "--output-format", "concise"),
        ("ruff", "format", "--check"),
        ("mypy", "--no-error-summary"),
    ],
    ids=["linter", "formatter", "types"],
)
def test_the_tool_has_nothing_to_say(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, check=False, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_the_readme_has_one_line_that_runs_the_tests_and_ci_runs_that_one() -> None:
    lines = re.findall(r"(?m)^python3 -m venv .*pytest(?: .*)?$", (ROOT / "README.md").read_text())
    assert len(lines) == 1
    assert "requirements-dev.lock" in lines[0]
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script
    assert "pip install" not in script, "the README says how, not the script"
