"""The one command: carry out the soaks that are named, or all, print the tables, and write them where asked."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from benchmarks.machine import this_machine
from benchmarks.peers import sidecar_version
from benchmarks.processes import Core, StartFailed
from benchmarks.report import between_markers
from benchmarks.soaks import (
    drain,
    endurance,
    idle_connections,
    idle_race,
    idle_websockets,
    reload,
    report,
    retry_amplification,
    slowloris,
    stalled,
    trim,
)
from benchmarks.soaks.client import Broken
from benchmarks.soaks.report import Outcome
from benchmarks.soaks.stage import SoakFailed, bind_to

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "benchmarks.md"
LONGEST_SECONDS: Final = 1200.0
"""No soak may take longer."""
SOAKS: Final[dict[str, Callable[[bool], Awaitable[Outcome]]]] = {
    stalled.NAME: stalled.soak,
    slowloris.NAME: slowloris.soak,
    idle_race.NAME: idle_race.soak,
    retry_amplification.NAME: retry_amplification.soak,
    drain.NAME: drain.soak,
    reload.NAME: reload.soak,
    idle_connections.NAME: idle_connections.soak,
    idle_websockets.NAME: idle_websockets.soak,
    trim.NAME: trim.soak,
    endurance.NAME: endurance.soak,
}


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soaks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(SOAKS)}")
    parser.add_argument("--quick", action="store_true", help="a smoke run; its numbers mean nothing")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    chosen = parser.parse_args(argv)
    if unknown := set(chosen.names) - set(SOAKS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are: {', '.join(SOAKS)}")
    if chosen.write and (chosen.quick or chosen.names):
        parser.error("--write takes a whole run")
    return chosen


async def carry_out(name: str, quick: bool) -> Outcome:
    """One soak; what keeps it from its end becomes its outcome, so that the others still run."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            outcome = await SOAKS[name](quick)
    except (SoakFailed, StartFailed, Broken, OSError, ValueError, ExceptionGroup) as exc:
        outcome = Outcome(name, (), (), failure=why(exc))
    return Outcome(name, outcome.targets, outcome.facts, time.monotonic() - began, outcome.failure)


def why(exc: BaseException) -> str:
    """What went wrong, in one line; of a group, what its parts say, each once."""
    return "; ".join(dict.fromkeys(" ".join(f"{type(each).__name__}: {each}".split()) for each in parts(exc)))


def parts(exc: BaseException) -> Iterator[BaseException]:
    """The errors themselves, out of all groups."""
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions:
            yield from parts(each)
    else:
        yield exc


def say(line: str) -> None:
    """Progress, on standard error; the tables go to standard output."""
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> int:
    """Carry them out; 1 if a target was missed."""
    chosen = arguments(argv)
    bind_to(os.getpid(), Core.LOAD)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: nothing stays behind
    outcomes = []
    for name in chosen.names or SOAKS:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(carry_out(name, chosen.quick))
        outcomes.append(outcome)
        for row in report.rows(outcome):
            say("  ".join(row))
        say(f"{name} took {outcome.seconds:.0f} s. {' '.join(outcome.facts)}")
    load = f"a generator of its own on uvloop {importlib.metadata.version('uvloop')}"
    machine = this_machine([sidecar_version()], load=load)
    text = report.full(machine, outcomes)
    print(text)
    if chosen.write:
        PAGE.write_text(between_markers(PAGE.read_text(), text, section=report.SECTION))
        say(f"wrote {PAGE.name}")
    return 0 if all(outcome.succeeded for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
