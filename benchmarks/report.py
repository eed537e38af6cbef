"""Results to Markdown: what was measured, when, on what, and how it stands to the targets.

Pure: takes results, gives text, and puts text between markers of a page. All figures are medians over the rounds.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.peers import ENVOY, SIDECAR
from benchmarks.scenarios import CONNECTIONS, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.rounds import Footprint, Plan, Sample, Start

SECTION: Final = "benchmark"
"""What the markers of these tables are called in a page."""
MISSING: Final = "-"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when, and with what load."""

    date: str
    cpu: str
    cores: int
    kernel: str
    python: str
    openssl: str
    peers: tuple[str, ...]
    load: str


@dataclass(frozen=True, slots=True)
class Results:
    """Everything one command measured; a part that was not run is empty."""

    machine: Machine
    plan: Plan
    samples: tuple[Sample, ...]
    footprints: tuple[Footprint, ...]
    starts: tuple[Start, ...]

    def median(self, row: str, scenario: str, figure: Callable[[Sample], float]) -> float | None:
        """The median of a row's samples in one scenario; None without samples."""
        values = [figure(sample) for sample in self.samples if (sample.row, sample.scenario) == (row, scenario)]
        return statistics.median(values) if values else None

    @property
    def rows(self) -> list[str]:
        """Row names in the order in which they were first measured."""
        names = [result.row for group in (self.samples, self.footprints, self.starts) for result in group]
        return list(dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class Target:
    """One promise: a measured figure and its upper bound; ``unit`` is how to read both."""

    what: str
    unit: str
    bound: float
    measured: float | None

    @property
    def met(self) -> bool | None:
        return None if self.measured is None else self.measured <= self.bound


def _cpu(sample: Sample) -> float:
    return sample.cpu_us


def _p50(sample: Sample) -> float:
    return sample.p50_us


def _p99(sample: Sample) -> float:
    return sample.p99_us


def _per_second(sample: Sample) -> float:
    return sample.per_second


def targets(results: Results) -> list[Target]:
    """The promises, each beside what was measured."""

    def beside_envoy(scenario: str, figure: Callable[[Sample], float]) -> float | None:
        own, envoy = (results.median(row, scenario, figure) for row in (SIDECAR, ENVOY))
        return own / envoy if own is not None and envoy else None

    footprint = next((each for each in results.footprints if each.row == SIDECAR), None)
    start = next((each for each in results.starts if each.row == SIDECAR), None)
    return [
        Target("CPU per request, 1 KiB, plain upstream", "of Envoy's", 0.65, beside_envoy("1k-plain", _cpu)),
        Target("CPU per request, 1 KiB, TLS upstream", "of Envoy's", 0.85, beside_envoy("1k-tls", _cpu)),
        Target("CPU per request, 1 MiB, plain upstream", "of Envoy's", 0.80, beside_envoy("1m-plain", _cpu)),
        Target("CPU per request, 1 MiB, TLS upstream", "of Envoy's", 1.20, beside_envoy("1m-tls", _cpu)),
        Target("p99 latency, 1 KiB, plain upstream", "of Envoy's", 1.0, beside_envoy("1k-plain", _p99)),
        Target("p99 latency, 1 KiB, TLS upstream", "of Envoy's", 1.0, beside_envoy("1k-tls", _p99)),
        Target("RSS, idle with two credentials", "MiB", 48, footprint.idle.rss if footprint else None),
        Target("RSS after 10⁶ requests", "MiB", 56, footprint.loaded.rss if footprint else None),
        Target("Start to first proxied request", "s", 0.7, start.median if start else None),
    ]


# --- text -----------------------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: first column to the left, the others to the right."""
    lines = [header, [":--", *("--:" for _ in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, digits: int) -> str:
    return MISSING if value is None else f"{value:,.{digits}f}"


def _figure_table(results: Results, figure: Callable[[Sample], float], *, digits: int, scale: float = 1.0) -> str:
    scenarios = results.plan.scenarios

    def cell(row: str, scenario: Scenario) -> str:
        value = results.median(row, scenario.name, figure)
        return _number(None if value is None else value * scale, digits)

    rows = [[row, *(cell(row, scenario) for scenario in scenarios)] for row in results.rows]
    return table(["", *(scenario.title for scenario in scenarios)], rows)


def _target_table(results: Results) -> str:
    words = {True: "met", False: "**missed**", None: "not measured"}
    rows = [
        [each.what, f"≤ {each.bound:g} {each.unit}", f"{_number(each.measured, 2)}", words[each.met]]
        for each in targets(results)
    ]
    return table(["Target", "Bound", "Measured", ""], rows)


def _memory_table(results: Results) -> str:
    rows = [
        [each.row, *(_number(value, 1) for value in (each.idle.rss, each.idle.pss, each.idle.uss))]
        + [_number(value, 1) for value in (each.loaded.rss, each.loaded.pss, each.loaded.uss)]
        for each in results.footprints
    ]
    return table(["MiB", "idle RSS", "PSS", "USS", "loaded RSS", "PSS", "USS"], rows)


def _start_table(results: Results) -> str:
    rows = [[each.row, _number(each.median, 3), _number(each.worst, 3)] for each in results.starts]
    return table(["seconds", "median", "worst"], rows)


def where(machine: Machine) -> str:
    """The sentence that goes before all figures."""
    return (
        f"Measured on {machine.date}: {machine.cpu}, {machine.cores} cores, Linux {machine.kernel}; "
        f"{', '.join(machine.peers)}; Python {machine.python}, {machine.openssl}; load by {machine.load}."
    )


def _how(results: Results) -> str:
    plan = results.plan
    noise = statistics.median(sample.elsewhere for sample in results.samples) if results.samples else 0.0
    return (
        f"{CONNECTIONS} kept connections, medians of {plan.rounds} interleaved rounds of {plan.seconds:g} s in "
        f"rotating order; the proxy on one core, wrk and the origin (one nginx process) on the other. The "
        f"origin answers 401 to every request without the token, and one error fails a run. HAProxy and nginx have no "
        f"OAuth: they get the token as a static header and mark the floor. In the median run {noise:.0%} of the "
        f"machine's CPU went to processes that had no part in it."
    )


def full(results: Results) -> str:
    """The page: every table that there are results for."""
    parts = [where(results.machine)]
    if results.samples:
        parts += [
            _how(results),
            "CPU microseconds per request, in the proxy:",
            _figure_table(results, _cpu, digits=1),
            "Requests per second:",
            _figure_table(results, _per_second, digits=0),
            "Median latency, milliseconds:",
            _figure_table(results, _p50, digits=2, scale=1e-3),
            "p99 latency, milliseconds:",
            _figure_table(results, _p99, digits=2, scale=1e-3),
        ]
    if results.footprints:
        parts += [f"Memory before and after {results.plan.requests:,} requests:", _memory_table(results)]
    if results.starts:
        parts += [
            f"From exec to the first answer with a token, {results.plan.starts} starts, bytecode compiled:",
            _start_table(results),
        ]
    return "\n\n".join([*parts, "Targets:", _target_table(results)])


def summary(results: Results) -> str:
    """The README's table: one row a proxy, the figures people ask for."""
    memory = {each.row: each.loaded.rss for each in results.footprints}
    starts = {each.row: each.median for each in results.starts}

    def line(row: str) -> list[str]:
        cpu = [_number(results.median(row, each.name, _cpu), 0) for each in results.plan.scenarios]
        p99 = results.median(row, results.plan.scenarios[0].name, _p99)
        tail = [_number(None if p99 is None else p99 / 1000, 1), _number(memory.get(row), 0)]
        return [row, *cpu, *tail, _number(starts.get(row), 2)]

    titles = [f"{each.title}, µs CPU" for each in results.plan.scenarios]
    header = ["", *titles, f"p99 ms, {results.plan.scenarios[0].title}", "RSS MiB", "start s"]
    return f"{table(header, map(line, results.rows))}\n\n{where(results.machine)}"


def between_markers(page: str, text: str, *, section: str = SECTION) -> str:
    """The page with the text between the markers of a section in place of what stood there.

    Raises:
        ValueError: the page has not exactly one pair of markers, in order.
    """
    start_marker, end_marker = f"<!-- {section}:start -->", f"<!-- {section}:end -->"
    head, start, rest = page.partition(start_marker)
    _old, end, tail = rest.partition(end_marker)
    if not start or not end or start_marker in rest or end_marker in tail:
        raise ValueError(f"the page needs one {start_marker} and after it one {end_marker}")
    return f"{head}{start}\n{text}\n{end}{tail}"
