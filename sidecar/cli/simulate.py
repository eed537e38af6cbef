"""``sidecar simulate``: a configuration run through the failures of its identity provider, before they happen.

Decides which scenarios run and how the outcome is told; a scenario's run is ``rehearsal``.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from sidecar.cli import configuration_file
from sidecar.config import load
from sidecar.errors import UsageError
from sidecar.runtime import SystemClock

if TYPE_CHECKING:
    from sidecar.config.model import Configuration
    from sidecar.rehearsal.run import Result
    from sidecar.rehearsal.scenario import Scenario
    from sidecar.rehearsal.timeline import Entry

HELP: Final = """Run a configuration through a scenario: the IdP is down, tokens are revoked, a secret is rotated. Its
credentials are pointed at a mock provider and its routes at an API that wants valid tokens, all of it in this process;
secrets are made up, nothing leaves the machine. Fails if a request failed that should not have."""
EXAMPLE: Final = """example: sidecar simulate -c config.yaml idp-outage-short ./mine.yaml
exit codes: 0 as expected, 1 not as expected, 2 usage, 3 configuration or scenario; --against: 5 nobody answers there"""

ENDED: Final = 128 + signal.SIGTERM
FORMATS: Final = ("text", "json", "junit")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The scenarios, the configuration, and how the outcome is told."""
    add = parser.add_argument
    add("scenarios", metavar="SCENARIO", nargs="*", help="the name of a shipped one, or the path of a file")
    add("-c", "--config", metavar="FILE", default=None, help="default: $SIDECAR_CONFIG, then config.yaml")
    add("--format", choices=FORMATS, default="text", help="default: text, as it happens")
    add("--against", metavar="ADMIN_URL", default=None, type=_admin_url, help="a running sidecar's admin listener")
    add("--list", action="store_true", help="name the shipped scenarios")


def _admin_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/?#@\s]+/?", text):
        raise argparse.ArgumentTypeError("an admin URL is http://HOST:PORT")
    return text.rstrip("/")


def execute(arguments: argparse.Namespace) -> int:
    """Run each scenario.

    Raises:
        UsageError: no scenario, or none of this name.
        ConfigurationInvalid: the configuration or a scenario file is wrong, or they do not fit each other.
    """
    from sidecar.rehearsal import reading  # here: with it comes all of the sidecar

    if arguments.list:
        for name, path in reading.shipped().items():
            print(f"{name:<30} {reading.load(path).description}")
        return 0
    if not arguments.scenarios:
        raise UsageError("name a scenario: sidecar simulate --list shows those that are shipped")
    scenarios = [(Path(name).stem, reading.load(reading.find(name))) for name in arguments.scenarios]
    configuration = load.load(configuration_file(arguments.config), check_files=False)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            results = runner.run(_run(scenarios, configuration, arguments))
    except asyncio.CancelledError:
        return ENDED
    _print(results, arguments.format)
    return 0 if all(result.passed for result in results) else 1


async def _run(
    scenarios: list[tuple[str, Scenario]], configuration: Configuration, arguments: argparse.Namespace
) -> list[Result]:
    from sidecar.rehearsal import remote, reports, run

    if (task := asyncio.current_task()) is not None:  # a pipeline that is cancelled leaves no folder behind
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    clock = SystemClock()
    is_text = arguments.format == "text"
    results = []
    for name, scenario in scenarios:
        if is_text:
            print(reports.heading(name, scenario.description), end="")
        tell = _tell if is_text else _keep
        if arguments.against is None:
            result = await run.rehearse(name, scenario, configuration, clock=clock, tell=tell)
        else:
            sidecar = remote.RunningSidecar(arguments.against, configuration)
            result = await remote.rehearse(name, scenario, sidecar, clock=clock, tell=tell)
        if is_text:
            print(reports.verdict(result), flush=True)
        results.append(result)
    return results


def _tell(entry: Entry) -> None:
    from sidecar.rehearsal import reports

    print(reports.line(entry), flush=True)


def _keep(_: Entry) -> None:
    """Nothing is said before the end."""


def _print(results: list[Result], form: str) -> None:
    from sidecar.rehearsal import reports

    if form == "json":
        print(reports.as_json(results))
    elif form == "junit":
        print(reports.as_junit(results))
    sys.stdout.flush()
