"""``sidecar explain``: which route a request takes and what becomes of it, or why not, without sending it.

Decides how that is shown. What is said comes from ``proxy/explaining``; how the credential stands is asked of a running
sidecar, where the configuration has its admin listener, and left out where nobody answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from sidecar.cli import configuration_file
from sidecar.cli.arguments import add_config
from sidecar.config import load
from sidecar.errors import TransientTokenError, UsageError
from sidecar.proxy.explaining import Explanation, Outcome, as_json, explain
from sidecar.proxy.question import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.config.model import Configuration
    from sidecar.proxy.explaining import Judged, Way

HELP: Final = """Say which route a request takes and why the others do not, what is put on it and taken off, and how it
leaves; or why it is denied. Nothing is sent. An https:// URL is what clients make a tunnel of."""
EXAMPLE: Final = """example: sidecar explain http://api.example.com/v1/orders
         sidecar explain POST /v1/orders --listener orders
exit codes: 0 explained, be it taken or denied, 2 usage, 3 configuration"""

ANSWER_SECONDS: Final = 2.0
_WIDTH: Final = 15
_MOST_SHOWN: Final = 10
"""Routes for other hosts, where there is none for this one."""

parse_arguments = argparse.ArgumentParser.parse_intermixed_args


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The request, and the configuration that it meets."""
    parser.add_argument("method", metavar="METHOD", nargs="?", default="GET", help="default: GET")
    parser.add_argument("url", metavar="URL", help="as the app calls it; on a reverse listener also the path alone")
    add_config(parser)
    parser.add_argument("--listener", metavar="NAME", help="default: the one that the URL leads to")
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(arguments: argparse.Namespace) -> int:
    """Explain it.

    Raises:
        UsageError: there is no such listener, or nothing that an app could send.
        ConfigurationInvalid
    """
    configuration = load.load(configuration_file(arguments.config), check_files=False)
    try:
        asked = ask(configuration, arguments.method, arguments.url, arguments.listener)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    explanation = explain(configuration, asked)
    state = _state(configuration, explanation.credential)
    if arguments.json:
        print(json.dumps(as_json(explanation) | {"credential_state": state}, indent=2))
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(explanation, state))
    return 0


def _state(configuration: Configuration, name: str | None) -> dict[str, Any] | None:
    """How the credential stands in the running sidecar, if that can be asked."""
    if name is None or configuration.admin is None:
        return None
    from sidecar.admin.client import AdminClient  # here, for those who have an admin listener

    try:
        listed = asyncio.run(AdminClient(configuration.admin.bind).credentials(timeout=ANSWER_SECONDS))
    except TransientTokenError:
        return None
    return next((each for each in listed or () if each.get("name") == name), None)


# --- text ------------------------------------------------------------------------------------------------------------

_HEADLINES: Final = {
    Outcome.TOKEN: "with a token",
    Outcome.UNTOUCHED: "without a token",
    Outcome.TUNNELLED: "without a token",
    Outcome.DENIED: "denied",
}


def _lines(explanation: Explanation, state: dict[str, Any] | None) -> Iterator[str]:
    yield f"{explanation.method} {explanation.url}, by listener {explanation.listener} ({explanation.mode})"
    answer = f" {explanation.status} ({explanation.reason})" if explanation.status else ""
    yield f"{_HEADLINES[explanation.outcome]}{answer}: {explanation.detail}"
    yield ""
    if explanation.way is not None:
        yield from _way_lines(explanation.way)
        yield _row("path", f"{explanation.path}, byte for byte as it was sent")
    for form in explanation.read_as:
        yield _row("also read as", f"{form}, which has to be below the route's path as well")
    if explanation.credential is not None:
        yield _row("credential", _credential(explanation.credential, state))
    for note in explanation.notes:
        yield _row("note", note)
    yield from _route_lines(explanation.routes)
    if explanation.curl:
        yield ""
        yield _row("by the app", explanation.curl)
    if explanation.way is not None and explanation.way.curl:
        yield _row("what leaves", explanation.way.curl)


def _row(name: str, text: str) -> str:
    return f"  {name:<{_WIDTH}}{text}"


def _way_lines(way: Way) -> Iterator[str]:
    yield _row("leaves as", way.url)
    yield _row("", way.tls)
    yield _row("Authorization", f"that the app sends: {way.authorization}")
    for name, fields in (("added", way.added), ("removed", way.removed)):
        for at, field in enumerate(fields):
            yield _row("" if at else name, field)
    if way.without_token:
        yield _row("no token", way.without_token)
    yield _row("limits", ", ".join(f"{name} {seconds:g} s" for name, seconds in way.limits.items()))


def _credential(name: str, state: dict[str, Any] | None) -> str:
    if state is None:
        return f"{name} (how it stands says the running sidecar, by its admin listener)"
    said = f"{name}: {state.get('state')}, generation {state.get('generation')}, "
    said += f"expires {state.get('expires_at') or 'never'}"
    return f"{said}, last error {state['last_error']}: {state.get('next')}" if state.get("last_error") else said


def _route_lines(routes: tuple[Judged, ...]) -> Iterator[str]:
    near = [each for each in routes if each.same_host]
    far = len(routes) - len(near)
    if routes:
        yield ""
    for each in near:
        yield f"  {'>' if each.taken else ' '} route {each.label}: {each.why or 'would fit'}"
    if far:
        yield f"    {far} {'other ' if near else ''}route{'s are' if far > 1 else ' is'} for other hosts"
    if not near:
        yield from (f"      {each.why}" for each in routes[:_MOST_SHOWN])
