"""``sidecar demo``: the product at work in one process, on loopback, without anything to set up.

Around the sidecar stand an identity provider whose tokens live for seconds and an API over TLS that takes no others.
The sidecar between them is the true one: its configuration is written as YAML and read by the same loader as
everybody's (``--print-config`` shows it). Only the API's name is a fiction, so it is looked up here and nowhere else.

Everything is plain text for people; what the sidecar itself would log stays away, errors aside.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies_environment

import uvloop

from sidecar.cli.arguments import seconds_within
from sidecar.config import load
from sidecar.runtime import SystemClock
from sidecar.telemetry import log

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from sidecar.app import Sidecar
    from sidecar.broker.credential import Credential
    from sidecar.simulation.echo import Echo

HELP: Final = """See it work, without Docker, network or any set-up: a mock identity provider whose tokens live for
seconds, an API over TLS that wants them, and the sidecar between. All of it is on loopback, and gone at the end."""
EXAMPLE: Final = """example: sidecar demo --ttl 10s
exit codes: 0 ended by Ctrl-C or --once, 1 the first request failed, 2 usage, 8 an address cannot be bound"""

HOST: Final = "api.demo.test"
"""The API's name; .test names exist in no DNS (RFC 6761 section 6.2), and no NO_PROXY lists them."""
CLIENT: Final = "orders-worker"
FORWARD, TELEMETRY, ADMIN, REVERSE = 6180, 6181, 6182, 6190
_TTL: Final = seconds_within(1.0, 86400.0, "tokens of the demo live between 1s and 1d")
LOOK_SECONDS: Final = 0.1
FIRST_REQUEST_SECONDS: Final = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--ttl``, ``--once``, ``--print-config``."""
    parser.add_argument("--ttl", type=_TTL, default=30.0, metavar="TIME", help="how long tokens live (default: 30s)")
    parser.add_argument("--once", action="store_true", help="end after the first proxied request")
    parser.add_argument("--print-config", action="store_true", help="print the sidecar's configuration, and end")


def execute(arguments: argparse.Namespace) -> int:
    """Show it until a signal, or once.

    Raises:
        CannotBind: a port was taken between the moment it was found free and now.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # each line at once, into a pipe or a file too
    log.configure("error")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_demo(arguments))
    except BrokenPipeError:  # "sidecar demo | head": who read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


# --- the stage -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything but the sidecar, up and running, and the configuration that fits it."""

    configuration: str
    ports: dict[int, int]
    """The port that was wanted, and the one that is taken for it."""
    idp_url: str
    echo: Echo

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.ports[FORWARD]}"

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[REVERSE]}"

    @property
    def metrics(self) -> str:
        return f"http://127.0.0.1:{self.ports[TELEMETRY]}/metrics"

    @property
    def status_page(self) -> str:
        return f"http://127.0.0.1:{self.ports[ADMIN]}/"


@contextlib.asynccontextmanager
async def stage(ttl: float, clock: SystemClock) -> AsyncIterator[Stage]:
    """Set it up in a folder of its own, which only this user can read and which is gone at the end."""
    import ssl  # here, so that help and wrong usage come without waiting for aiohttp and cryptography

    from sidecar.simulation.certificates import issue, write_private
    from sidecar.simulation.echo import Echo
    from sidecar.simulation.idp import MockIdP

    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="token-sidecar-demo-")))
        files = issue(folder, HOST)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(files.certificate_file, files.key_file)
        client_secret = secrets.token_urlsafe(24)
        write_private(folder / "client-secret", client_secret.encode())
        idp = MockIdP(clients={CLIENT: client_secret}, ttl=ttl, marker="demo", now=clock.now)
        await stack.enter_async_context(idp)
        echo = await stack.enter_async_context(Echo(is_valid=idp.is_valid, tls=tls))
        ports = free_ports(FORWARD, TELEMETRY, ADMIN, REVERSE)
        text = configuration(ports, token_url=idp.token_url, echo_port=echo.port, folder=folder)
        yield Stage(text, ports, idp.origin, echo)


def free_ports(*wanted: int) -> dict[int, int]:
    """Each wanted port of 127.0.0.1, or a free one in its place if another process has it."""
    with contextlib.ExitStack() as stack:
        found: dict[int, int] = {}
        for port in wanted:
            probe = stack.enter_context(socket.socket())  # kept open, so that no port is found twice
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                probe.bind(("127.0.0.1", 0))
            found[port] = probe.getsockname()[1]
        return found


def configuration(ports: dict[int, int], *, token_url: str, echo_port: int, folder: Path) -> str:
    """The sidecar's configuration, as one would write it."""
    # A JSON string is a YAML string, whatever characters the path of the temporary folder has.
    secret, ca_file = json.dumps(f"file:{folder}/client-secret"), json.dumps(f"{folder}/ca.pem")
    return f"""\
# What `sidecar demo` runs with. Its ports and files are new at each start and gone at its end.
listeners:
  - name: egress            # for HTTP_PROXY
    mode: forward
    bind: 127.0.0.1:{ports[FORWARD]}
  - name: orders            # a base URL
    mode: reverse
    bind: 127.0.0.1:{ports[REVERSE]}
    upstream: https://{HOST}:{echo_port}
telemetry:
  bind: 127.0.0.1:{ports[TELEMETRY]}
admin:                      # the status page; read-only, as there is no token
  bind: 127.0.0.1:{ports[ADMIN]}
credentials:
  orders:
    grant: client_credentials
    token_url: {token_url}
    client_id: {CLIENT}
    client_secret: {secret}
    scopes: [orders.read]
routes:
  - name: orders-api
    host: {HOST}
    port: {echo_port}
    credential: orders
    ca_file: {ca_file}
log:
  level: error
"""


async def lookup(host: str) -> list[str]:
    """The one name of the demo.

    Raises:
        OSError: any other name; the demo asks no DNS.
    """
    if host != HOST:
        raise OSError("the demo knows no other host")
    return ["127.0.0.1"]


# --- the show ------------------------------------------------------------------------------------------------------


async def _demo(arguments: argparse.Namespace) -> int:
    from sidecar.app import Sidecar

    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    clock = SystemClock()
    async with stage(arguments.ttl, clock) as set_up:
        if arguments.print_config:
            print(set_up.configuration, end="")
            return 0
        sidecar = Sidecar(load.parse(set_up.configuration, "demo.yaml"), clock=clock, lookup=lookup)
        await sidecar.start()
        try:
            introduce(set_up, arguments.ttl)
            if not await first_request(set_up):
                return 1
            if not arguments.once:
                _invite(set_up)
                await _tell_refreshes(sidecar, set_up.echo, clock, ended)
        finally:
            await sidecar.close()
    return 0


def introduce(set_up: Stage, ttl: float) -> None:
    for wanted, taken in set_up.ports.items():
        if wanted != taken:
            print(f"Port {wanted} is in use; {taken} takes its place.")
    print(
        f"Token Sidecar demo. Everything is on loopback and gone at the end.\n\n"
        f"  identity provider  {set_up.idp_url}, its tokens live {ttl:g} s\n"
        f"  API                https://{HOST}:{set_up.echo.port}, answers 401 to whoever has no valid token\n"
        f"  sidecar            {set_up.proxy} as HTTP_PROXY, {set_up.base_url} as base URL\n"
    )


async def first_request(set_up: Stage) -> bool:
    """One request by the proxy, without a token, as an app would make it; True if the API answered 200."""
    import aiohttp

    url = f"http://{HOST}/hello"
    print(f"A request without a token, through the proxy:\n\n  GET {url}")
    timeout = aiohttp.ClientTimeout(total=FIRST_REQUEST_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, proxy=set_up.proxy) as response:
            answer = f"{response.status} {response.reason}\n{await response.text()}"
    except (aiohttp.ClientError, TimeoutError) as exc:
        print(f"sidecar: the first request got no answer: {type(exc).__name__}", file=sys.stderr)
        return False
    print("".join(f"  {line}\n" for line in answer.splitlines()))
    if response.status != 200:
        print(f"sidecar: the first request was answered {response.status}, see above", file=sys.stderr)
        return False
    print("It left over TLS with a valid token. The app has seen neither a token nor a secret.")
    return True


def _invite(set_up: Stage) -> None:
    # curl asks a proxy of the environment for 127.0.0.1 too, and that one knows nothing of this machine.
    direct = " --noproxy '*'" if {"http", "all"} & getproxies_environment().keys() else ""
    code = f"import urllib.request as r; print(r.urlopen('http://{HOST}/hello').read().decode())"
    print(
        f"\nNow you, in another terminal (http://, not https://: the sidecar adds TLS and token):\n\n"
        f"  by proxy     curl -x {set_up.proxy} http://{HOST}/hello\n"
        f"  by base URL  curl{direct} {set_up.base_url}/hello\n"
        f'  in Python    http_proxy={set_up.proxy} python3 -c "{code}"\n'
        f"  metrics      curl -s{direct} {set_up.metrics} | grep tokensidecar_token\n"
        f"  status page  {set_up.status_page} in a browser\n\n"
        f"The life of the token, until Ctrl-C:\n"
    )


async def _tell_refreshes(sidecar: Sidecar, echo: Echo, clock: SystemClock, ended: asyncio.Event) -> None:
    """A line for each new token and each failed attempt, until ``ended``."""
    credential = sidecar.broker.credential("orders")
    told: tuple[int, int] | None = None
    while not ended.is_set():
        status = credential.status()
        news = (status.generation, status.consecutive_failures)
        if news != told:
            told = news
            _tell(credential, echo, clock.now())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await ended.wait()
    print(f"\nEnded. Requests at the API: {_counts(echo)}.")


def _tell(credential: Credential, echo: Echo, now: float) -> None:
    status, token = credential.status(), credential.published
    next_in = max(0.0, status.next_attempt_at - now)
    if status.consecutive_failures:
        left = max(0.0, token.usable_until - now) if token else 0.0
        what = f"refresh failed ({status.last_error}), token good for {left:.0f} s, next try in {next_in:.1f} s"
    elif token is not None:
        lifetime = token.expires_at - token.obtained_at
        what = f"generation {token.generation}, lives {lifetime:g} s, refresh in {next_in:.1f} s"
    else:
        what = "no token yet"
    print(f"  {time.strftime('%H:%M:%S')}  {status.name}  {what}  (requests: {_counts(echo)})")


def _counts(echo: Echo) -> str:
    return f"{echo.served} x 200, {echo.refused} x 401"
