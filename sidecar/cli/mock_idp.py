"""``sidecar mock-idp``: the identity provider of the demo and the tests as a command, to try clients and failures on.

It listens on loopback, takes no care of secrets and forgets everything at its end. Decides what it is started with and
what it says first; what it answers is ``simulation``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import re
import secrets
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import uvloop

from sidecar.config import scalars
from sidecar.errors import CannotBind, UsageError

if TYPE_CHECKING:
    from sidecar.simulation.catalogue import Ordered
    from sidecar.simulation.control import Control
    from sidecar.simulation.idp import MockIdP
    from sidecar.simulation.injection import Injection

HELP: Final = """A mock identity provider on loopback: every grant, signed JWTs, discovery, and faults on command. Its
first lines say where it is and how a configuration names it. It ends by SIGTERM or Ctrl-C."""
EXAMPLE: Final = """example: sidecar mock-idp --ttl 20s --jwt ES256 --fault 429=5s:30s --control
exit codes: 0 ended by a signal, 2 usage, 8 the port cannot be bound"""

LONGEST_TTL: Final = 366 * 86400.0
_CLIENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
REDIRECTS: Final = ("http://127.0.0.1/callback", "http://[::1]/callback", "http://127.0.0.1", "http://[::1]")
"""Where `sidecar login` may have its answer sent, on any port."""


@dataclass(frozen=True, slots=True)
class NamedClient:
    """A client and its secret; ``made_up`` where the command line gave none."""

    client_id: str
    secret: str
    made_up: bool

    @property
    def variable(self) -> str:
        """The environment variable that the configuration reads the secret from."""
        return re.sub(r"[^A-Z0-9]", "_", self.client_id.upper()) + "_SECRET"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it is started with."""
    add = parser.add_argument
    add("--port", type=_port, default=0, metavar="N", help="of 127.0.0.1 (default: a free one)")
    add("--client", type=_client, action="append", default=[], metavar="ID[:SECRET]", help="default: one, 'client'")
    add("--ttl", type=_ttl, default=3600.0, metavar="TIME", help="how long access tokens live (default: 1h)")
    add("--jwt", choices=("ES256", "RS256"), default=None, help="issue signed JWTs (default: opaque tokens)")
    add("--rotate", action="store_true", help="refresh tokens are good for one use; a later one revokes the login")
    add("--grace", type=_grace, default=0.0, metavar="TIME", help="how long a spent one is still taken (default: 0s)")
    add("--fault", type=_fault, action="append", default=[], metavar="FAULT", help="such as 500x3; docs/simulate.md")
    add("--control", action="store_true", help="take faults by HTTP while it runs; the key is printed once")
    add("--format", choices=("text", "json"), default="text", help="of the first lines (default: text)")


def _port(text: str) -> int:
    if not text.isdecimal() or not int(text) <= 65535:
        raise argparse.ArgumentTypeError("a port is a number up to 65535")
    return int(text)


def _client(text: str) -> NamedClient:
    client_id, colon, secret = text.partition(":")
    if not _CLIENT.fullmatch(client_id) or (colon and not secret):
        raise argparse.ArgumentTypeError("a client is ID or ID:SECRET, its id of letters, digits and _ . -")
    return NamedClient(client_id, secret or secrets.token_urlsafe(24), made_up=not colon)


def _ttl(text: str) -> float:
    if not 1.0 <= (seconds := _duration(text)) <= LONGEST_TTL:
        raise argparse.ArgumentTypeError("tokens live between 1s and 366d")
    return seconds


def _grace(text: str) -> float:
    return _duration(text)


def _duration(text: str) -> float:
    try:
        return scalars.duration(f"{text}s" if text.isdigit() else text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def _fault(text: str) -> Ordered:
    from sidecar.simulation.catalogue import ordered  # needs aiohttp, which --help does not

    try:
        return ordered(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def execute(arguments: argparse.Namespace) -> int:
    """Serve until a signal.

    Raises:
        UsageError: a client is named twice, or a grace without rotation.
        CannotBind: the port is not to be had.
    """
    clients = arguments.client or [_client("client")]
    if len({client.client_id for client in clients}) < len(clients):
        raise UsageError("--client: each client once")
    if arguments.grace and not arguments.rotate:
        raise UsageError("--grace belongs to --rotate: without it no refresh token is ever spent")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # whoever waits for the first line in a pipe gets it
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(arguments, clients))
    except BrokenPipeError:  # who read the first line needs no more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


async def _serve(arguments: argparse.Namespace, clients: list[NamedClient]) -> int:
    from sidecar.runtime import SystemClock, Tasks
    from sidecar.simulation.control import Control
    from sidecar.simulation.idp import MockIdP
    from sidecar.simulation.injection import Injection

    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    clock, tasks = SystemClock(), Tasks(_crashed)
    idp = MockIdP(clients={each.client_id: each.secret for each in clients}, ttl=arguments.ttl, jwt=arguments.jwt)
    idp.port = arguments.port
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(idp)
        except OSError as exc:
            raise CannotBind(f"cannot listen on 127.0.0.1:{arguments.port}: {exc.strerror}") from exc
        stack.push_async_callback(tasks.close)
        _register(idp, clients, arguments)
        injection = Injection(idp, clock=clock, tasks=tasks, on_end=lambda order: _tell(f"end of {order}"))
        control = await stack.enter_async_context(Control(injection)) if arguments.control else None
        _introduce(introduction(idp, clients, control), arguments.format)
        await _begin(injection, arguments.fault)
        await ended.wait()
    return 0


async def _begin(injection: Injection, faults: list[Ordered]) -> None:
    for order in faults:
        await injection.inject(order)
        _tell(f"begin of {order}")


def _register(idp: MockIdP, clients: list[NamedClient], arguments: argparse.Namespace) -> None:
    """Each client may use every grant, with its secret in every way that there is."""
    from sidecar.simulation.registration import SECRET_METHODS, Client, Refreshing, Trusted

    refreshing = Refreshing(rotates=arguments.rotate, grace=arguments.grace)
    for each in clients:
        auth = SECRET_METHODS | {"client_secret_jwt"}
        registered = Client(auth=auth, refreshing=refreshing, redirect_uris=REDIRECTS, any_loopback_port=True)
        idp.register(each.client_id, registered)
    if arguments.jwt is not None:  # its own JWTs are good assertions (RFC 7523): the only issuer it can know
        idp.trusted.append(Trusted(issuer=idp.issuer, keys=tuple(idp.tokens.jwks()["keys"])))


# --- what it says ----------------------------------------------------------------------------------------------------


def introduction(idp: MockIdP, clients: list[NamedClient], control: Control | None) -> dict[str, Any]:
    """All that somebody needs to use it; secrets only where they were made up here."""
    described: dict[str, Any] = {
        "issuer": idp.issuer,
        "token_url": idp.token_url,
        "clients": [_client_fields(idp, each) for each in clients],
        "configuration": configuration(idp, clients),
    }
    if control is not None:
        described |= {"control_url": control.url, "control_key": control.key}
    return described


def _client_fields(idp: MockIdP, client: NamedClient) -> dict[str, str]:
    fields = {"client_id": client.client_id, "secret_variable": client.variable}
    if client.made_up:
        fields["client_secret"] = client.secret
    return fields | {"refresh_token": idp.login(client.client_id)}


def configuration(idp: MockIdP, clients: list[NamedClient]) -> str:
    """The section ``credentials`` that fits it."""
    entries = (
        f"""\
  {each.client_id}:
    grant: client_credentials
    issuer: {idp.issuer}
    client_id: {each.client_id}
    client_secret: env:{each.variable}
"""
        for each in clients
    )
    return f"credentials:\n{''.join(entries)}"


def _introduce(described: dict[str, Any], form: str) -> None:
    if form == "json":
        print(json.dumps(described))
        return
    print(f"issuer {described['issuer']} token_url {described['token_url']}")
    if "control_url" in described:
        print(f"control {described['control_url']} key {described['control_key']}")
    for client in described["clients"]:
        if "client_secret" in client:
            print(f"export {client['secret_variable']}={client['client_secret']}")
        print(f"refresh token of {client['client_id']}: {client['refresh_token']}")
    print(f"\n{described['configuration']}")


def _tell(what: str) -> None:
    """One line about what changes while it runs; standard output is for the first lines."""
    print(what, file=sys.stderr)


def _crashed(task: str, error: BaseException) -> None:
    _tell(f"{task}: {type(error).__name__}: {error}")
