"""The stage of a soak: the provider and the origins in this event loop, and the sidecar as a process with a core of its
own.

What a sidecar logs is looked through when its part is over: a crash that no request noticed fails the soak all the
same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import ssl
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import peers
from benchmarks.processes import START_SECONDS, Core, Program, Running, free_ports, is_open
from benchmarks.scenarios import Upstream
from benchmarks.soaks import readings
from benchmarks.soaks.client import Ask, Broken, Caller
from benchmarks.soaks.origin import Origin
from benchmarks.workshop import Workshop, open_workshop
from sidecar.simulation.idp import MockIdP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

STOP_SECONDS: Final = 40.0
"""More than any drain here takes."""
LOOK_SECONDS: Final = 0.02
_CORES: Final = sorted(os.sched_getaffinity(0))
"""Those that were ours before anything was bound to one of them."""
CRASHES: Final = ("Traceback", "crashed", "unexpected error")
"""What a log line says where the sidecar met a bug of its own."""


class SoakFailed(Exception):
    """The soak could not be carried out, or the sidecar crashed in it."""


def bind_to(pid: int, core: Core) -> None:
    """Let the process run on that core alone, where there is one for each part."""
    if len(_CORES) >= len(Core):
        os.sched_setaffinity(pid, {_CORES[core.value]})


def crashes(log: str) -> list[str]:
    """The lines that tell of a bug."""
    return [line for line in log.splitlines() if any(word in line for word in CRASHES)]


def sample(text: str, name: str, labels: Mapping[str, str]) -> float | None:
    """The value of the sample with exactly these labels, in Prometheus's text format; None if it is not there."""
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        found, _, inside = series.partition("{")
        if found == name and set(inside.rstrip("}").split(",")) - {""} == wanted:
            return float(value)
    return None


@dataclass(frozen=True, slots=True)
class Reading:
    """What the sidecar holds at one moment."""

    at: float
    rss: float
    descriptors: int


class Subject:
    """A sidecar that runs.

    Attributes:
        ports: of its reverse listeners, by their upstream's transport.
        configuration: as it was started.
    """

    def __init__(
        self, running: Running, *, ports: Mapping[Upstream, int], telemetry_port: int, configuration: dict[str, Any]
    ) -> None:
        self.running = running
        self.ports = ports
        self.configuration = configuration
        self._telemetry_port = telemetry_port

    def rss(self) -> float:
        """MiB."""
        return readings.rss_mib(self.running.pid)

    def reading(self) -> Reading:
        pid = self.running.pid
        return Reading(time.monotonic(), readings.rss_mib(pid), readings.descriptors(pid))

    def signal(self, number: signal.Signals) -> None:
        self.running.signal(number)

    def configure(self, configuration: Mapping[str, Any]) -> None:
        """Replace the file in one step, so that nobody reads half of it."""
        file = Path(self.running.program.command[-1])
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(configuration))  # JSON is YAML
        fresh.replace(file)

    async def metric(self, name: str, **labels: str) -> float | None:
        """The value of one sample of ``/metrics``; None if it is not there."""
        text = (await Caller(self._telemetry_port, keeps=False).ask(Ask("/metrics"))).body.decode()
        return sample(text, name, labels)

    async def ready_status(self) -> int:
        """What ``/readyz`` answers."""
        return (await Caller(self._telemetry_port, keeps=False).ask(Ask("/readyz"))).status

    async def ended(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for its end; the exit code.

        Raises:
            SoakFailed: it goes on.
        """
        deadline = time.monotonic() + seconds
        while (code := self.running.exit_code) is None:
            if time.monotonic() > deadline:
                raise SoakFailed(f"the sidecar still runs after {seconds:g} s")
            await asyncio.sleep(LOOK_SECONDS)
        return code

    async def stop(self) -> None:
        """End it at once: a second signal cuts the drain short."""
        for _ in range(2):
            if self.running.exit_code is None:
                self.signal(signal.SIGTERM)
                await asyncio.sleep(0.2)
        with contextlib.suppress(SoakFailed):
            await self.ended(2.0)
        self.running.stop()


@dataclass(frozen=True, slots=True)
class Stage:
    """What every soak needs.

    Attributes:
        quick: a smoke run; its numbers mean nothing.
    """

    workshop: Workshop
    idp: MockIdP
    origins: Mapping[Upstream, Origin]
    quick: bool

    @contextlib.asynccontextmanager
    async def sidecar(self, *, cold: bool = False, **changes: Any) -> AsyncIterator[Subject]:
        """Start one, with these keys of the configuration replaced; it ends with the block.

        Args:
            cold: go on as soon as it listens; otherwise it has its tokens, and its routes have taken them.

        Raises:
            SoakFailed: its log tells of a crash.
            StartFailed
        """
        plain, tls, forward, telemetry = free_ports(4)
        ports = {Upstream.PLAIN: plain, Upstream.TLS: tls}
        configuration = peers.sidecar_configuration(self.workshop, ports, forward, telemetry) | changes
        file = self.workshop.write(f"sidecar-{plain}.yaml", json.dumps(configuration))
        command = [sys.executable, "-m", "sidecar", "run", "-c", str(file)]
        program = Program(f"sidecar-{plain}", command, self.workshop.folder, (plain, tls, forward, telemetry))
        subject = Subject(Running(program), ports=ports, telemetry_port=telemetry, configuration=configuration)
        try:
            await _start(subject)
            if not cold:
                await _has_tokens(subject)
            yield subject
        finally:
            await subject.stop()
        if said := crashes((self.workshop.folder / f"{program.name}.log").read_text(errors="replace")):
            raise SoakFailed(f"the sidecar crashed: {said[0][:1000]}")


async def _start(subject: Subject) -> None:
    running, deadline = subject.running, time.monotonic() + START_SECONDS
    running.launch()
    bind_to(running.pid, Core.PROXY)
    while not all(is_open(port) for port in running.program.ports):
        if running.exit_code is not None or time.monotonic() > deadline:
            raise running.failure("did not start")
        await asyncio.sleep(LOOK_SECONDS)


async def _has_tokens(subject: Subject) -> None:
    deadline = time.monotonic() + START_SECONDS
    for port in subject.ports.values():
        while not await _has_token(port):
            if time.monotonic() > deadline:
                raise subject.running.failure("got no token")
            await asyncio.sleep(LOOK_SECONDS)


async def _has_token(port: int) -> bool:
    with contextlib.suppress(Broken):
        return (await Caller(port, keeps=False).ask(Ask("/size/1"))).status == 200
    return False


@contextlib.contextmanager
def many_descriptors() -> Iterator[None]:
    """As many as the system allows, for this process and those that it starts."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.asynccontextmanager
async def open_stage(*, quick: bool, token_seconds: float = 3600.0) -> AsyncIterator[Stage]:
    """The provider and both origins, on fresh ports, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="sidecar-soak-") as folder, many_descriptors():
        workshop = open_workshop(Path(folder))
        workshop.write("client-secret", workshop.client_secret)
        idp = MockIdP(clients={each.value: workshop.client_secret for each in Upstream}, ttl=token_seconds)
        idp.port = workshop.idp_port
        async with (
            idp,
            Origin(workshop.origin[Upstream.PLAIN], idp) as plain,
            Origin(workshop.origin[Upstream.TLS], idp, _server_tls(workshop)) as tls,
        ):
            yield Stage(workshop, idp, {Upstream.PLAIN: plain, Upstream.TLS: tls}, quick)


def _server_tls(workshop: Workshop) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(workshop.certificate)
    return context


def transport_name(upstream: Upstream) -> str:
    """As tables name it: ``plain upstream`` or ``TLS upstream``."""
    return f"{'TLS' if upstream is Upstream.TLS else 'plain'} upstream"
