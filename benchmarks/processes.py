"""Programs under the benchmark: started in the foreground, pinned to a core, ended by their own process id.

With two cores or more the proxy has core 0 for itself, and load and origin share core 1, so that a proxy's latency is
its own queue and not the scheduler's choice of the day.
"""

from __future__ import annotations

import contextlib
import enum
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 10.0


class Core(enum.Enum):
    """Where a program runs."""

    PROXY = 0
    LOAD = 1


class StartFailed(Exception):
    """A program ended or kept its ports closed; the message holds the end of its output."""


def pinned(command: list[str], core: Core) -> list[str]:
    """The command bound to its core, where there are two cores and ``taskset``; ``taskset`` execs, the pid stays."""
    if len(os.sched_getaffinity(0)) < len(Core) or shutil.which("taskset") is None:
        return command
    return ["taskset", "--cpu-list", str(core.value), *command]


def free_ports(count: int) -> list[int]:
    """Ports nobody has now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass(frozen=True, slots=True)
class Program:
    """How to start something: the command, its working folder, the ports that are open when it is up."""

    name: str
    command: list[str]
    folder: Path
    ports: tuple[int, ...]
    core: Core = Core.PROXY


class Running:
    """One started program; a context manager that ends it.

    Raises:
        StartFailed: from ``__enter__``, when its ports are not open in time.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._log = program.folder / f"{program.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Start it and return at once."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                pinned(self.program.command, self.program.core),
                cwd=self.program.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None as long as it runs."""
        return None if self._process is None else self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def failure(self, why: str) -> StartFailed:
        return StartFailed(f"{self.program.name}: {why}\n{self._log.read_text(errors='replace')[-2000:]}")

    def __enter__(self) -> Self:
        self.launch()
        try:
            self._wait_until_open()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _wait_until_open(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        for port in self.program.ports:
            while not is_open(port):
                if not self.alive():
                    raise self.failure("ended while starting")
                if time.monotonic() > deadline:
                    raise self.failure(f"port {port} is still closed after {START_SECONDS:.0f} s")
                time.sleep(0.005)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; returns when it is gone."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def is_open(port: int) -> bool:
    """True when something listens on the loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
