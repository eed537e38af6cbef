"""The command: carry out the runs, print the table, and put it into the page where asked.

Exit code 1 if a target was missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.fleet import outcomes
from benchmarks.fleet.runs import HOUR, LIFETIME_SECONDS, Plan, simulate
from benchmarks.machine import this_machine
from benchmarks.peers import sidecar_version
from benchmarks.report import between_markers
from benchmarks.soaks import report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.soaks.report import Outcome

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "benchmarks.md"
SECTION: Final = "fleet"
SIZE: Final = 1_000
HOURS: Final = 24.0
HALF_AN_HOUR: Final = 1800.0
SHORT_SECONDS: Final = 20.0
NOON: Final = 4 * HOUR
"""By then a fleet that started together is spread."""
AFTER_HOURS: Final = 4.0


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--size", type=int, default=SIZE, help="sidecars")
    parser.add_argument("--hours", type=float, default=HOURS, help="length of the days")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    chosen = parser.parse_args(argv)
    if chosen.write and (chosen.size, chosen.hours) != (SIZE, HOURS):
        parser.error("--write takes a whole run")
    return chosen


def carried_out(size: int, hours: float, seed: int) -> Iterator[Outcome]:
    """One run after the other."""
    quiet = Plan(size, hours, seed)
    yield outcomes.day("a day", simulate(quiet))
    yield outcomes.day("a day, refresh_in", simulate(replace(quiet, refresh_in=LIFETIME_SECONDS / 2)))
    after = Plan(size, AFTER_HOURS, seed, app_pause=1.0)
    for name, plan, promised in (
        ("30 min from the start, requests wait", replace(after, down=(0.0, HALF_AN_HOUR)), 30.0),
        ("30 min from the start, none waits", replace(after, down=(0.0, HALF_AN_HOUR), app_pause=None), 30.0),
        ("30 min later on, requests wait", replace(after, down=(NOON, NOON + HALF_AN_HOUR)), 30.0),
        ("20 s from the start, requests wait", replace(after, down=(0.0, SHORT_SECONDS)), 2.0),
    ):
        yield outcomes.outage(name, simulate(plan), promised_seconds=promised)


def say(line: str) -> None:
    """Progress, on standard error; the table goes to standard output."""
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> int:
    """Run it all; returns the exit code."""
    chosen = arguments(argv)
    done: list[Outcome] = []
    began = time.monotonic()
    for outcome in carried_out(chosen.size, chosen.hours, chosen.seed):
        done.append(replace(outcome, seconds=time.monotonic() - began))
        began = time.monotonic()
        for line in report.rows(outcome):
            say("  ".join(line))
    machine = this_machine([sidecar_version()], load=f"simulation of {chosen.size:,} sidecars, seed {chosen.seed}")
    text = report.full(machine, done, kind="Fleet")
    print(text)
    if chosen.write:
        PAGE.write_text(between_markers(PAGE.read_text(), text, section=SECTION))
        say(f"wrote {PAGE.name}")
    return 0 if all(outcome.succeeded for outcome in done) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
