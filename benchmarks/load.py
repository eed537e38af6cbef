"""One wrk run: one thread, kept connections, and its numbers as wrk's own ``done`` hook hands them over.

The hook prints a JSON line, which is exact to the microsecond where wrk's report is rounded for reading. The request is
fixed before the run, so no Lua runs per request.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.processes import Core, pinned

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """\
wrk.path = "{target}"
wrk.headers["Host"] = "{host}"
done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format(
        '{{"requests": %d, "microseconds": %d, "errors": %d, "p50": %d, "p99": %d}}\\n',
        summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
        latency:percentile(50), latency:percentile(99)))
end
"""


class LoadFailed(Exception):
    """A run with errors: a refused request, a broken connection, an answer that is not 2xx or 3xx."""


@dataclass(frozen=True, slots=True)
class Load:
    """One run as wrk saw it; latencies in microseconds."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Address:
    """What to connect to, and what to ask for.

    Attributes:
        port: the proxy's port on loopback.
        host: the Host field.
        prefix: goes before the path: empty for a reverse proxy, ``http://host`` for a forward proxy's absolute form.
    """

    port: int
    host: str
    prefix: str = ""


def parse_done(output: str) -> Load:
    """Read the hook's line out of what wrk printed.

    Raises:
        LoadFailed: there were errors, no requests, or no such line.
    """
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise LoadFailed(f"wrk printed no result:\n{output}")
    result: dict[str, int] = json.loads(lines[-1])
    if result["errors"] or not result["requests"]:
        raise LoadFailed(f"{result['errors']} errors in {result['requests']} requests:\n{output}")
    return Load(result["requests"], result["microseconds"] / 1e6, result["p50"], result["p99"])


def run(address: Address, path: str, *, seconds: float, connections: int, folder: Path) -> Load:
    """Load the address for some seconds.

    Raises:
        LoadFailed: a run with even one error counts for nothing.
    """
    script = folder / "load.lua"
    script.write_text(SCRIPT.format(target=address.prefix + path, host=address.host))
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{max(1, round(seconds))}s"]
    command += ["--timeout", "10s", "--script", str(script), f"http://127.0.0.1:{address.port}{path}"]
    done = subprocess.run(pinned(command, Core.LOAD), capture_output=True, text=True, check=False, timeout=seconds + 60)
    if done.returncode != 0:
        raise LoadFailed(f"wrk ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return parse_done(done.stdout)
