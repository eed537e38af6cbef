"""The one command: start the origin and every proxy, measure, print the tables, and write them where asked."""

from __future__ import annotations

import argparse
import compileall
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import report, rounds
from benchmarks.idp import token_endpoint
from benchmarks.machine import this_machine
from benchmarks.origin import origin
from benchmarks.peers import ENVOY, ENVOY_BINARY, PEERS, Peer
from benchmarks.processes import Running
from benchmarks.report import Results
from benchmarks.rounds import Footprint, Plan, Sample, Stage, Start
from benchmarks.scenarios import SCENARIOS
from benchmarks.workshop import Workshop, open_workshop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "benchmarks.md"
README: Final = ROOT / "README.md"
PARTS: Final = ("rounds", "memory", "startup")


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(PEERS)
    parser.add_argument("--peers", default=",".join(PEERS), help=f"comma-separated, of: {names}")
    parser.add_argument("--scenarios", default=",".join(each.name for each in SCENARIOS), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one wrk run")
    parser.add_argument("--requests", type=int, default=1_000_000, help="requests before the second look at memory")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="a smoke run; its numbers mean nothing")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md and README.md")
    only = parser.add_argument_group("parts (default: all)")
    for part in PARTS:
        only.add_argument(f"--{part}-only", dest="part", action="store_const", const=part)
    chosen = parser.parse_args(argv)
    if chosen.write and (chosen.quick or chosen.part):
        parser.error("--write takes a whole run")
    return chosen


def plan_of(chosen: argparse.Namespace) -> Plan:
    """How much to run; ``--quick`` overrides the numbers."""
    wanted = chosen.scenarios.split(",")
    scenarios = tuple(each for each in SCENARIOS if each.name in wanted)
    if chosen.quick:
        return Plan(scenarios, rounds=1, seconds=1.0, requests=10_000, starts=2)
    return Plan(scenarios, chosen.rounds, chosen.seconds, chosen.requests, chosen.starts)


def wrk_version() -> str:
    """Name and version as wrk prints them."""
    printed = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    return " ".join(printed.split()[:2]).removesuffix("-")


@contextlib.contextmanager
def stage_of(plan: Plan) -> Iterator[Stage]:
    """A temporary folder with the token endpoint and the origin running."""
    with tempfile.TemporaryDirectory(prefix="sidecar-benchmark-") as folder, contextlib.ExitStack() as stack:
        workshop: Workshop = open_workshop(Path(folder))
        stack.enter_context(token_endpoint(workshop))
        process = stack.enter_context(Running(origin(workshop)))
        yield Stage(workshop, process.pid, plan)


def measure_rounds(peers: Sequence[Peer], stage: Stage) -> list[Sample]:
    """All proxies up at once, one under load at a time."""
    done = []
    with contextlib.ExitStack() as stack:
        running = [(peer, stack.enter_context(Running(peer.program))) for peer in peers]
        for sample in rounds.samples(rounds.entrants(running), stage):
            done.append(sample)
            say(
                f"{sample.scenario:9} {sample.row:18} {sample.cpu_us:8.1f} µs {sample.per_second:8.0f}/s "
                f"p99 {sample.p99_us / 1000:7.2f} ms  elsewhere {sample.elsewhere:.0%}"
            )
    return done


def measure_memory(peers: Sequence[Peer], stage: Stage) -> list[Footprint]:
    """One proxy at a time."""
    done = []
    for peer in peers:
        done.append(rounds.footprint(peer, stage))
        say(f"memory    {peer.name:18} {done[-1].idle.rss:.1f} -> {done[-1].loaded.rss:.1f} MiB RSS")
    return done


def measure_starts(peers: Sequence[Peer], stage: Stage) -> list[Start]:
    """One proxy at a time, the sidecar's bytecode compiled first, as in its image."""
    compileall.compile_dir(ROOT / "sidecar", quiet=1)
    done = []
    for peer in peers:
        done.append(rounds.start_up(peer, stage))
        say(f"startup   {peer.name:18} {done[-1].median:.3f} s, worst {done[-1].worst:.3f} s")
    return done


def say(line: str) -> None:
    """Progress, on standard error; the tables go to standard output."""
    print(line, file=sys.stderr, flush=True)


def write(results: Results) -> None:
    """Put the tables into the two pages, between their markers."""
    for page, text in ((PAGE, report.full(results)), (README, report.summary(results))):
        page.write_text(report.between_markers(page.read_text(), text))
        say(f"wrote {page.relative_to(ROOT)}")


def main(argv: Sequence[str]) -> int:
    """Run it all; returns the exit code."""
    chosen = arguments(argv)
    names = chosen.peers.split(",")
    if ENVOY in names and not ENVOY_BINARY.exists():
        say("Envoy is not there: run benchmarks/setup first")
        return 2
    plan = plan_of(chosen)
    wanted = (chosen.part,) if chosen.part else PARTS
    with stage_of(plan) as stage:
        peers = [PEERS[name](stage.workshop) for name in names]
        results = Results(
            this_machine([peer.version for peer in peers], load=wrk_version()),
            plan,
            samples=tuple(measure_rounds(peers, stage)) if "rounds" in wanted else (),
            footprints=tuple(measure_memory(peers, stage)) if "memory" in wanted else (),
            starts=tuple(measure_starts(peers, stage)) if "startup" in wanted else (),
        )
    print(report.full(results))
    if chosen.write:
        write(results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
