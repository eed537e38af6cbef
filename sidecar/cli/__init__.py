"""The command ``sidecar``: one file per sub-command, imported when it is called.

Every error that ends a command is one clear message on standard error and the contract's exit code; a traceback is a
bug. The files of the commands share three names: ``HELP``, ``add_arguments(parser)`` and ``execute(arguments)``; one
that takes its arguments in an order of its own has ``parse(parser, arguments)``, too.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar import __version__
from sidecar.errors import ConfigurationInvalid, SidecarError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

COMMANDS: Final = {
    "run": "serve the configuration until a signal ends it",
    "demo": "see it work: a mock provider, an upstream over TLS and the sidecar, without any set-up",
    "init": "write a first configuration, for a provider or a grant",
    "check": "see before it counts whether a configuration works: lint, network, tokens, upstreams",
    "login": "give a person's consent for a credential, or take it back",
    "exec": "run one command with a sidecar of its own, for CI jobs",
    "env": "print the variables by which an app finds the sidecar",
    "explain": "say which route a request takes, and why, without sending it",
    "status": "show how the credentials of the running sidecar stand",
    "token": "print a credential's token, for a person, a script, git or kubectl",
    "mock-idp": "run a mock identity provider, with faults on command",
    "simulate": "run a configuration through the failures of its identity provider",
    "ca": "make the certificate authority for routes that intercept TLS",
    "schema": "print the JSON Schema of the configuration file",
}
DEFAULT_CONFIG: Final = "config.yaml"


def default_config() -> str:
    """``$SIDECAR_CONFIG``, then ``config.yaml``."""
    return os.environ.get("SIDECAR_CONFIG") or DEFAULT_CONFIG


def configuration_file(named: str | None) -> Path:
    """The file to read. Nobody named the default one, so its absence is told as what it is: a first start.

    Raises:
        ConfigurationInvalid
    """
    path = Path(named or default_config())
    if not named and not path.exists():
        raise ConfigurationInvalid(f"there is no {path}: name the configuration with -c FILE or in $SIDECAR_CONFIG")
    return path


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; the sub-commands' own arguments are added when one of them is called."""
    parser = argparse.ArgumentParser(
        prog="sidecar",
        description="A small HTTP proxy beside your workload that puts fresh OAuth 2.0 tokens on its requests.",
        epilog="example: sidecar run -c config.yaml",
    )
    parser.add_argument("--version", action="version", version=f"token-sidecar {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if not arguments or arguments[0] not in COMMANDS:
            build_parser().parse_args(arguments)
            raise UsageError("no command given")
        return _execute(arguments[0], arguments[1:])
    except SidecarError as error:
        print(f"sidecar: {error.detail}", file=sys.stderr)
        return error.exit_code or 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough (``sidecar schema | head``); nothing is left to be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser_of(name: str) -> tuple[argparse.ArgumentParser, ModuleType]:
    """The arguments of a command, and the file that it stands in."""
    command = importlib.import_module(f"sidecar.cli.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"sidecar {name}",
        description=command.HELP,
        epilog=command.EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    return parser, command


def _execute(name: str, arguments: list[str]) -> int:
    parser, command = parser_of(name)
    parse = getattr(command, "parse_arguments", argparse.ArgumentParser.parse_args)
    code: int = command.execute(parse(parser, arguments))
    return code
