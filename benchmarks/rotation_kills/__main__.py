"""The command: kill as often as asked, print the table, and put it into the page where asked.

Exit code 1 if a refresh token was lost in silence.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.measure import cpu_model
from benchmarks.report import between_markers
from benchmarks.rotation_kills import page, trial

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "benchmarks.md"


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rotation_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    return parser.parse_args(argv)


def run(kills: int) -> trial.Figures:
    """Kill so many times in a folder that is gone afterwards."""
    figures = trial.Figures()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sidecar-rotation-") as folder:
        asyncio.run(trial.run(Path(folder), trial.plan(kills), figures))
    figures.seconds = time.monotonic() - began
    return figures


def where() -> str:
    """Date and machine."""
    return (
        f"Measured on {datetime.datetime.now(datetime.UTC).date().isoformat()}: {cpu_model()}, {os.cpu_count()} cores, "
        f"Linux {platform.release().partition('-')[0]}; Python {platform.python_version()}."
    )


def main(argv: Sequence[str]) -> int:
    """Run it; returns the exit code."""
    chosen = arguments(argv)
    figures = run(chosen.kills)
    text = page.text(figures, where=where(), graces=trial.GRACES)
    print(text)
    if chosen.write:
        PAGE.write_text(between_markers(PAGE.read_text(), text, section=page.MARKER))
    return 1 if figures.lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
