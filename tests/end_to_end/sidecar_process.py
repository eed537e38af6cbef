"""``sidecar run`` as its users run it: a process of its own, a configuration file, signals, logs and metrics.

Tests give the configuration as a mapping; listeners without ``bind``, telemetry and ``admin`` get free ports.
"""

from __future__ import annotations

import copy
import json
import signal
import sys
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.programs import Program, clean_environment
from tests.end_to_end.waiting import free_port, until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PREFIX: Final = "tokensidecar_"
Configuration = dict[str, Any]


class Readings:
    """One scrape of ``/metrics``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The one sample of this name that has these labels, and perhaps others.

        Raises:
            AssertionError: there is none, or more than one.
        """
        found = self._matching(name, labels)
        assert len(found) == 1, f"{len(found)} samples of {name} {labels}"
        return found[0]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels; 0 without any."""
        return sum(self._matching(name, labels))

    def _matching(self, name: str, labels: Mapping[str, str]) -> list[float]:
        return [
            sample.value
            for sample in self._samples
            if sample.name == PREFIX + name and labels.items() <= sample.labels.items()
        ]


class SidecarProcess(Program):
    """The sidecar under test. ``async with`` returns when ``/startupz`` is green.

    Args:
        configuration: as in the file; binds that are left out are chosen.
    """

    def __init__(
        self, folder: Path, configuration: Configuration, *, environment: dict[str, str] | None = None
    ) -> None:
        self.file = folder / "sidecar.yaml"
        self._ports: dict[str, int] = {}
        self.configuration = configuration
        self.write(configuration)
        super().__init__(
            "sidecar",
            [sys.executable, "-m", "sidecar", "run", "-c", str(self.file)],
            folder=folder,
            environment=clean_environment(**(environment or {})),
        )

    def write(self, configuration: Configuration) -> None:
        """Put a configuration into the file; ports that were chosen before stay."""
        complete = copy.deepcopy(configuration)
        complete.setdefault("telemetry", {}).setdefault("bind", f"127.0.0.1:{self._port_for('telemetry')}")
        if "admin" in complete:
            complete["admin"].setdefault("bind", f"127.0.0.1:{self._port_for('admin')}")
        for listener in complete["listeners"]:
            listener.setdefault("bind", f"127.0.0.1:{self._port_for(listener['name'])}")
        self.write_text(json.dumps(complete, indent=1))  # JSON is YAML

    def write_text(self, text: str) -> None:
        """Put any text into the file, in one step, as an editor or a mounted ConfigMap does."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.file)

    def _port_for(self, name: str) -> int:
        if name not in self._ports:
            self._ports[name] = free_port()
        return self._ports[name]

    def url(self, listener: str) -> str:
        """The base URL of a listener by its name, of ``telemetry`` or of ``admin``."""
        return f"http://127.0.0.1:{self._ports[listener]}"

    def port(self, listener: str) -> int:
        """The port of a listener by its name, of ``telemetry`` or of ``admin``."""
        return self._ports[listener]

    async def __aenter__(self) -> Self:
        self.start()
        try:
            await until(self._started, "the sidecar starts")
        except BaseException:
            self.kill()
            raise
        return self

    async def _started(self) -> bool:
        assert self.running, f"the sidecar ended with {self.process.returncode}:\n{self.stderr}"
        return await self.status("/startupz") == 200

    async def status(self, path: str) -> int:
        """The status of a page of the telemetry listener; 0 when nobody listens."""
        try:
            return (await self._get(path))[0]
        except aiohttp.ClientError:
            return 0

    async def metrics(self) -> Readings:
        """Scrape ``/metrics``."""
        status, text = await self._get("/metrics")
        assert status == 200, text
        return Readings(text)

    async def _get(self, path: str) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(total=5)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(self.url("telemetry") + path) as answer,
        ):
            return answer.status, await answer.text()

    def logs(self, event: str | None = None) -> list[dict[str, Any]]:
        """The log lines of standard error, all or those of one event.

        Raises:
            AssertionError: a line is not a JSON object: whatever writes to standard error goes through the log.
        """
        lines = []
        for line in self.stderr.splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                raise AssertionError(f"not a JSON log line: {line!r}") from None
        return [line for line in lines if event is None or line.get("event") == event]

    async def reload(self, configuration: Configuration, *, outcome: str = "applied") -> None:
        """Write a configuration, send SIGHUP, and wait until the reload has come out as expected."""
        await self._reload(lambda: self.write(configuration), outcome)

    async def reload_text(self, text: str, *, outcome: str = "applied") -> None:
        """The same with the text of a file."""
        await self._reload(lambda: self.write_text(text), outcome)

    async def _reload(self, write: Callable[[], None], outcome: str) -> None:
        before = (await self.metrics()).value("config_reloads_total", result=outcome)
        write()
        self.send(signal.SIGHUP)

        async def done() -> bool:
            return (await self.metrics()).value("config_reloads_total", result=outcome) > before

        await until(done, f"the reload is {outcome}")
