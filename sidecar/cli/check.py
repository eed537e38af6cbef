"""``sidecar check``: the preflight for pipelines, from lint to a call of the upstream; see ``preflight``.

Decides what the command line says and where the report goes: to standard output, whatever the outcome. Only what is not
about the configuration (wrong use, a name that does not exist) goes to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.cli import configuration_file
from sidecar.cli.run import keep_memory_private
from sidecar.config import load, scalars
from sidecar.errors import UsageError
from sidecar.preflight import checkup
from sidecar.preflight.checkup import Options
from sidecar.preflight.formats import github, json_text, junit, sarif, text
from sidecar.preflight.kinds import Stage
from sidecar.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.preflight.findings import Report

HELP: Final = """Check a configuration before it is used: what can be seen offline (--offline), then names, TLS and the
metadata of issuers (without a flag), then a token of each credential (--live), then a call of each route that has
a `probe` (--probe). Each includes those before it. No token, secret or body is ever shown."""
EXAMPLE: Final = """example: sidecar check -c config.yaml --offline --strict --format github
         sidecar check --live --format junit > sidecar.xml
exit codes: 0 ok, 1 warnings with --strict, 2 usage, 3 configuration, 4 a secret is missing, 5 IdP unreachable,
  6 IdP refused, 7 upstream unreachable or refused; the first stage with errors decides"""
FORMATS: Final[dict[str, Callable[[Report], str]]] = {
    "text": text.render,
    "json": json_text.render,
    "junit": junit.render,
    "sarif": sarif.render,
    "github": github.render,
}
LONGEST_TIMEOUT: Final = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, how far to go, and how to tell it."""
    add = parser.add_argument
    add("-c", "--config", metavar="FILE", default=None, help="default: $SIDECAR_CONFIG, then config.yaml")
    depth = parser.add_mutually_exclusive_group()
    for stage, words in (
        (Stage.OFFLINE, "only what can be seen without the network"),
        (Stage.LIVE, "also ask for a token of each credential; `exec` runs its command"),
        (Stage.PROBE, "also call the upstream of each route with a `probe`"),
    ):
        flag = f"--{stage.value}"
        depth.add_argument(flag, dest="depth", action="store_const", const=stage, default=Stage.NETWORK, help=words)
    add("--strict", action="store_true", help="warnings make it fail, with exit code 1")
    add("--format", choices=FORMATS, default="text", help="default: text")
    add("--only", metavar="CREDENTIAL", nargs="+", action="extend", default=[], help="only these, and their routes")
    add("--no-files", action="store_true", help="with --offline: the secrets and certificates it names are elsewhere")
    add("--timeout", metavar="TIME", type=_timeout, default=checkup.TIMEOUT_SECONDS, help="for everything; default: 2m")


def _timeout(text: str) -> float:
    try:
        seconds = scalars.duration(f"{text}s" if text.isdigit() else text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise argparse.ArgumentTypeError("more than nothing and at most 1h is waited")
    return seconds


def execute(arguments: argparse.Namespace) -> int:
    """Check it, print the report, and return the contract's exit code.

    Raises:
        UsageError: a credential of --only does not exist, or flags do not go together.
        ConfigurationInvalid: nobody named a file, and there is none.
    """
    if arguments.no_files and arguments.depth is not Stage.OFFLINE:
        raise UsageError("--no-files belongs to --offline: beyond it, secrets and certificates are used")
    path = configuration_file(arguments.config)
    options = Options(
        arguments.depth,
        strict=arguments.strict,
        only=frozenset(arguments.only),
        timeout=arguments.timeout,
        files=not arguments.no_files,
    )
    log.configure("critical")  # the report says it all
    keep_memory_private()
    report = _report(path, options)
    print(FORMATS[arguments.format](report))
    return report.exit_code


def _report(path: Path, options: Options) -> Report:
    filename = _called(path)
    try:
        loaded = load.parse_with_places(load.text_of(path, filename), filename, check_files=options.files)
    except load.ConfigurationErrors as errors:
        return checkup.invalid(filename, errors, options)
    return asyncio.run(checkup.check(loaded, filename, options, file=path))


def _called(path: Path) -> str:
    """The name that annotations go by: as seen from the working directory, where it is below it."""
    try:
        return str(path.absolute().relative_to(Path.cwd())) if path.is_absolute() else str(path)
    except ValueError:
        return str(path)
