"""A child process of a test: its output in files, ended by its own id, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path

PROXY_VARIABLES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without its own proxy settings."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in PROXY_VARIABLES}
    return kept | more


class Program:
    """One program, from start to end; ``async with`` starts and stops it.

    Args:
        folder: where ``NAME.out`` and ``NAME.err`` are written.
    """

    def __init__(
        self, name: str, command: list[str], *, folder: Path, environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = command
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        self._folder = folder
        self._environment = clean_environment() if environment is None else environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; a second start appends to the same files."""
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self._process = subprocess.Popen(
                self.command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def stdout(self) -> str:
        """What it wrote so far."""
        return self._out.read_text(errors="replace") if self._out.exists() else ""

    @property
    def stderr(self) -> str:
        """What it wrote so far."""
        return self._err.read_text(errors="replace") if self._err.exists() else ""

    async def ended(self, *, seconds: float) -> int:
        """Its exit code, once it has ended.

        Raises:
            AssertionError: it still runs after ``seconds``.
        """
        try:
            return await asyncio.to_thread(self.process.wait, seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {seconds:g} s\n{self.stderr[-4000:]}") from None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def stop(self, *, seconds: float = 30.0) -> int:
        """SIGTERM, and its exit code; killed when it takes too long, which fails the test."""
        self.send(signal.SIGTERM)
        try:
            return await self.ended(seconds=seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it now, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.kill()
