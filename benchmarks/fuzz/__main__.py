"""The command: make inputs, try them, say how it stands, and put the figures into the page where asked.

Exit code 1 if a difference is left that no class explains.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import report
from benchmarks.fuzz import page
from benchmarks.fuzz.differences import Difference, explained
from benchmarks.fuzz.inputs import Input, Source
from benchmarks.fuzz.page import Figures
from benchmarks.fuzz.trial import Trial
from benchmarks.measure import cpu_model

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "benchmarks.md"
ENOUGH: Final = 20
"""Unexplained differences after which there is no use in going on."""
PROGRESS_SECONDS: Final = 10.0


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=None, help="stop after this time, whatever is left")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/benchmarks.md")
    return parser.parse_args(argv)


def run(inputs: int, seed: int, seconds: float | None = None) -> Figures:
    """Try so many inputs; findings are printed as they come."""
    figures = Figures(seed)
    source = Source(seed)
    began, worked = time.monotonic(), time.process_time()
    tell_at = began + PROGRESS_SECONDS
    for number in range(1, inputs + 1):
        one(source.next(), source, figures)
        if number % 1000 == 0 and (now := time.monotonic()) >= tell_at:
            tell_at = now + PROGRESS_SECONDS
            say(f"{number:,} inputs, {number / (now - began):,.0f} a second, {figures.unexplained} unexplained")
            if seconds is not None and now - began > seconds:
                break
        if figures.unexplained >= ENOUGH:
            say("enough")
            break
    figures.seconds = time.process_time() - worked
    return figures


def one(given: Input, source: Source, figures: Figures) -> None:
    """Try one input and count what comes of it."""
    pieces = source.pieces(given.data)
    trial = Trial(given, pieces)
    accepted = trial.reading.accepted
    if given.is_answer:
        figures.answers += 1
        figures.accepted_answers += accepted
    else:
        figures.requests += 1
        figures.accepted_requests += accepted
    if trial.found:
        left = unexplained(given, trial)
        figures.known.update({known.name for each in trial.found if (known := explained(each, given.data))})
        if left:
            figures.unexplained += 1
            print(page.finding(*smallest(given, left, pieces)), flush=True)


def unexplained(given: Input, trial: Trial) -> list[Difference]:
    """What is left of the differences that an input showed."""
    return [each for each in trial.found if explained(each, given.data) is None]


def smallest(given: Input, left: list[Difference], pieces: list[bytes]) -> tuple[Input, list[Difference]]:
    """The smallest input that shows the same kind of difference; as it is, if the pieces matter."""
    if left[0].stage == "pieces":
        say(f"in these pieces: {pieces}")
        return given, left
    wanted = left[0][:3]

    def shown(candidate: Input) -> list[Difference]:
        found = unexplained(candidate, Trial(candidate, [candidate.data]))
        return [each for each in found if each[:3] == wanted]

    least = page.smallest(given, lambda candidate: bool(shown(candidate)))
    return least, shown(least)


def where() -> str:
    """Date, machine and versions."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("httptools", "h11", "aiohttp"))
    return (
        f"Measured on {datetime.datetime.now(datetime.UTC).date().isoformat()}: {cpu_model()}, {os.cpu_count()} cores, "
        f"Linux {platform.release().partition('-')[0]}; Python {platform.python_version()}, {versions}."
    )


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> int:
    """Run it; returns the exit code."""
    chosen = arguments(argv)
    figures = run(chosen.inputs, chosen.seed, chosen.seconds)
    text = page.text(figures, where=where())
    print(text)
    if chosen.write:
        PAGE.write_text(report.between_markers(PAGE.read_text(), text, section=page.MARKER))
        say(f"wrote {PAGE.name}")
    return 1 if figures.unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
