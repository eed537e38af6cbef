"""``sidecar status``: how the credentials of a running sidecar stand, in a terminal or for a program, once or again.

Decides whom to ask, what that means as an exit code, and when to look again. Leaves how it looks to ``status_table``.
Nothing here needs the admin token: what is asked for is what everybody may see who reaches the admin listener.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from sidecar.admin.client import AdminClient, may_pass, read_metrics
from sidecar.cli import configuration_file
from sidecar.cli.arguments import add_config, seconds_within
from sidecar.cli.status_table import Look, counted, for_programs, lines
from sidecar.config import load
from sidecar.config.model import Bind
from sidecar.errors import ConfigurationInvalid, TokenConnect, TransientTokenError

if TYPE_CHECKING:
    from collections.abc import Sequence

HELP: Final = """Show how the credentials of the running sidecar stand: state, expiry, next attempt, of a failure the
reason and the next step; and what its routes have counted. Asks the configuration's admin listener, or --admin."""
EXAMPLE: Final = """example: sidecar status
         sidecar status --watch 5s
         sidecar status --admin http://127.0.0.1:6182 --json
exit codes: 0 every credential has a usable token, 2 usage, 3 configuration, 5 no sidecar answers, or a credential has
  no token for a reason that may pass by itself, 6 one has none and somebody has to act"""

UNREACHABLE, TO_BE_MENDED = 5, 6
ANSWER_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 2.0
_PAUSE: Final = seconds_within(0.1, 3600.0, "it looks again after 100ms at least and 1h at most")
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
"""Drawn over in place, so that nothing flickers (ECMA-48: CUP, EL, ED)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whom to ask, how it is shown, and how often."""
    add_config(parser)
    parser.add_argument(
        "--admin", type=_admin, metavar="URL", help="http://HOST:PORT or unix:PATH, in place of the file"
    )
    parser.add_argument("--json", action="store_true", help="for programs; with --watch a line each time")
    parser.add_argument(
        "--watch",
        nargs="?",
        const=WATCH_SECONDS,
        type=_PAUSE,
        metavar="TIME",
        help="look again and again, until Ctrl-C (default: each 2s)",
    )


def _admin(text: str) -> Bind:
    if text.startswith("unix:/"):
        return Bind(path=text.removeprefix("unix:"))
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme != "http" or not host or not port or parts.path not in ("", "/") or parts.query or parts.username:
        raise argparse.ArgumentTypeError("not http://HOST:PORT or unix:PATH")
    return Bind(host=host, port=port)


def execute(arguments: argparse.Namespace) -> int:
    """Show it.

    Raises:
        ConfigurationInvalid: there is no file, or it has no admin listener.
        TokenConnect, TokenTimeout: nobody answers there, or something else does.
    """
    admin, telemetry = _whom(arguments)
    if arguments.watch is None:
        return _once(admin, telemetry, as_json=arguments.json)
    return _watch(admin, telemetry, arguments.watch, as_json=arguments.json)


def _whom(arguments: argparse.Namespace) -> tuple[Bind, Bind | None]:
    """Where the admin listener is, and where telemetry, if a file says so."""
    if arguments.admin is not None and arguments.config is None:
        return arguments.admin, None
    configuration = load.load(configuration_file(arguments.config), check_files=False)
    telemetry = configuration.telemetry.bind
    if arguments.admin is not None:
        return arguments.admin, telemetry
    if configuration.admin is None:
        raise ConfigurationInvalid(
            "a running sidecar tells how it stands by its admin listener, and this configuration has none: "
            "add 'admin: {bind: 127.0.0.1:6182}', or name another one's with --admin"
        )
    return configuration.admin.bind, telemetry


# --- one look --------------------------------------------------------------------------------------------------------


def _once(admin: Bind, telemetry: Bind | None, *, as_json: bool) -> int:
    look = asyncio.run(_look(admin, telemetry))
    if as_json:
        print(json.dumps(_for_programs(look), indent=2))
    elif look.trouble:
        raise TokenConnect(look.trouble)
    else:
        print("\n".join(_lines(look)))
    return exit_code(look)


async def _look(admin: Bind, telemetry: Bind | None) -> Look:
    """What there is to see now; who does not answer is seen as well."""
    listed, trouble = None, f"nobody listens at {admin}: the sidecar does not run here, or without its admin API"
    try:
        listed = await AdminClient(admin).credentials(timeout=ANSWER_SECONDS)
    except TransientTokenError as error:
        trouble = error.detail
    if listed is None:
        return Look(str(admin), time.time(), trouble=trouble)
    text = None if telemetry is None else await read_metrics(telemetry, timeout=ANSWER_SECONDS)
    return Look(str(admin), time.time(), tuple(listed), counted(text or ""))


def exit_code(look: Look) -> int:
    """0 if every token can be used; else by the worst reason why one cannot."""
    if look.trouble:
        return UNREACHABLE
    missing = [each.get("last_error") for each in look.credentials if not each.get("usable")]
    if not missing:
        return 0
    return UNREACHABLE if all(may_pass(reason) for reason in missing) else TO_BE_MENDED


def _lines(look: Look) -> Sequence[str]:
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else None
    return lines(look, coloured=is_terminal and not os.environ.get("NO_COLOR"), width=width)


def _for_programs(look: Look) -> dict[str, object]:
    return for_programs(look) | {"exit_code": exit_code(look)}


# --- again and again -------------------------------------------------------------------------------------------------


def _watch(admin: Bind, telemetry: Bind | None, seconds: float, *, as_json: bool) -> int:
    """Until Ctrl-C, with the exit code of the last look. A sidecar that goes away may come back."""
    code, seen = 0, None
    try:
        while True:
            look = asyncio.run(_look(admin, telemetry))
            code = exit_code(look)
            if not look.trouble:
                seen = look
            _draw(look, seen, as_json=as_json)
            time.sleep(seconds)
    except KeyboardInterrupt:
        return code


def _draw(look: Look, seen: Look | None, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_for_programs(look)), flush=True)
        return
    shown = look if seen is None else dataclasses.replace(seen, at=look.at, trouble=look.trouble)
    text = _lines(shown)
    if sys.stdout.isatty():
        text = text[: shutil.get_terminal_size().lines - 1]  # what does not fit would scroll the rest away
        sys.stdout.write(_HOME + "".join(f"{line}{_REST_OF_LINE}\n" for line in text) + _REST_OF_SCREEN)
    else:
        sys.stdout.writelines(f"{line}\n" for line in (*text, ""))
    sys.stdout.flush()
