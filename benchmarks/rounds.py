"""The measurements: interleaved rounds, memory before and after a million requests, start to first answer.

Rounds are interleaved and their order rotates, so that a neighbour's noise or a warming machine falls on all alike;
medians then drop what fell on one.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Final, Self

from benchmarks import load, measure
from benchmarks.processes import START_SECONDS, Running
from benchmarks.scenarios import CONNECTIONS, SCENARIOS, Scenario, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.load import Address
    from benchmarks.measure import Memory
    from benchmarks.peers import Peer
    from benchmarks.workshop import Workshop

WARM_UP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One wrk run through one proxy.

    Attributes:
        cpu_us: CPU microseconds of the proxy's process for each request.
        elsewhere: share of the machine's CPU time that went to nobody in this run: noise of neighbours.
    """

    row: str
    scenario: str
    cpu_us: float
    per_second: float
    p50_us: float
    p99_us: float
    elsewhere: float


@dataclass(frozen=True, slots=True)
class Entrant:
    """One row under load: its process, and where it listens."""

    row: str
    pid: int
    addresses: dict[Upstream, Address]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is run."""

    scenarios: tuple[Scenario, ...]
    rounds: int
    seconds: float
    requests: int
    starts: int


@dataclass(frozen=True, slots=True)
class Stage:
    """What every measurement needs: the shared files, the origin that runs, how much to do."""

    workshop: Workshop
    origin_pid: int
    plan: Plan

    def load(self, address: Address, scenario: Scenario, seconds: float) -> load.Load:
        """One wrk run."""
        folder = self.workshop.folder
        return load.run(address, scenario.path, seconds=seconds, connections=CONNECTIONS, folder=folder)


def entrants(running: Sequence[tuple[Peer, Running]]) -> list[Entrant]:
    """Every row of every started peer."""
    return [Entrant(row, process.pid, where) for peer, process in running for row, where in peer.rows.items()]


def await_token(address: Address, path: str) -> None:
    """Ask until the proxy has its token and the origin answers 200.

    Raises:
        TimeoutError: it never did.
    """
    deadline = time.monotonic() + START_SECONDS
    while (status := _status(address, path)) != 200:
        if time.monotonic() > deadline:
            raise TimeoutError(f"port {address.port} still answers {status} after {START_SECONDS:.0f} s")
        time.sleep(0.001)


def _status(address: Address, path: str) -> int | str:
    connection = HTTPConnection("127.0.0.1", address.port, timeout=START_SECONDS)
    try:
        connection.request("GET", address.prefix + path, headers={"Host": address.host})
        return connection.getresponse().status
    except OSError as exc:
        return str(exc)
    finally:
        connection.close()


def samples(contest: Sequence[Entrant], stage: Stage) -> Iterator[Sample]:
    """All rounds of all scenarios, one sample at a time."""
    for scenario in stage.plan.scenarios:
        for entrant in contest:
            await_token(entrant.addresses[scenario.upstream], scenario.path)
            _run(entrant, scenario, stage, WARM_UP_SECONDS)
        for turn in range(stage.plan.rounds):
            shift = turn % len(contest)
            for entrant in (*contest[shift:], *contest[:shift]):
                yield _run(entrant, scenario, stage, stage.plan.seconds)


def _run(entrant: Entrant, scenario: Scenario, stage: Stage, seconds: float) -> Sample:
    before = _Spent.until_now(entrant.pid, stage.origin_pid)
    result = stage.load(entrant.addresses[scenario.upstream], scenario, seconds)
    after = _Spent.until_now(entrant.pid, stage.origin_pid)
    return Sample(
        row=entrant.row,
        scenario=scenario.name,
        cpu_us=(after.proxy - before.proxy) / result.requests * 1e6,
        per_second=result.per_second,
        p50_us=result.p50_us,
        p99_us=result.p99_us,
        elsewhere=max(0.0, after.elsewhere - before.elsewhere) / (after.at - before.at) / (os.cpu_count() or 1),
    )


@dataclass(frozen=True, slots=True)
class _Spent:
    """CPU seconds so far: the proxy's, and those of processes that have no part in the run."""

    at: float
    proxy: float
    elsewhere: float

    @classmethod
    def until_now(cls, proxy_pid: int, origin_pid: int) -> Self:
        proxy, origin = measure.cpu_seconds(proxy_pid), measure.cpu_seconds(origin_pid)
        ours = os.times()  # the children that have ended are the wrk runs
        load = ours.user + ours.system + ours.children_user + ours.children_system
        return cls(time.monotonic(), proxy, measure.busy_seconds() - proxy - origin - load)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory with tokens and no traffic, and after many requests."""

    row: str
    idle: Memory
    requests: int
    loaded: Memory


def footprint(peer: Peer, stage: Stage) -> Footprint:
    """Start the peer alone, look, send the requests, look again."""
    scenario = SCENARIOS[0]
    addresses = next(iter(peer.rows.values()))
    with Running(peer.program) as process:
        for address in addresses.values():
            await_token(address, scenario.path)
        idle, sent = measure.memory(process.pid), 0
        while sent < stage.plan.requests:
            sent += stage.load(addresses[scenario.upstream], scenario, stage.plan.seconds).requests
        return Footprint(peer.name, idle, sent, measure.memory(process.pid))


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from exec to the first proxied answer with a token: median and worst."""

    row: str
    median: float
    worst: float


def start_up(peer: Peer, stage: Stage) -> Start:
    """Start and end the peer again and again."""
    scenario = SCENARIOS[0]
    address = next(iter(peer.rows.values()))[scenario.upstream]
    times = [_one_start(peer, address, scenario.path) for _ in range(stage.plan.starts)]
    return Start(peer.name, statistics.median(times), max(times))


def _one_start(peer: Peer, address: Address, path: str) -> float:
    process = Running(peer.program)
    started = time.monotonic()
    process.launch()
    try:
        await_token(address, path)
        return time.monotonic() - started
    finally:
        process.stop()
