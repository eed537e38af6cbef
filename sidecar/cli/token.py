"""``sidecar token``: one credential's token, for a person, a script, git or kubectl.

Decides where the token comes from (a running sidecar, which is asked over its admin API, or the IdP itself), in which
form it is printed, and that it is not printed by accident: into a pipe or a file only with ``--print``, and to git only
for the hosts it is meant for.

A grant that rests on a stored refresh token has one owner, so beside a running sidecar only that one may use it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.admin.client import AdminClient, GivenToken, bound, may_pass, no_token
from sidecar.cli import configuration_file
from sidecar.cli.arguments import add_config, waiting_time
from sidecar.cli.run import keep_memory_private
from sidecar.config import hosts, load, scalars
from sidecar.config.model import NEEDS_LOGIN
from sidecar.config.problems import did_you_mean, nearest
from sidecar.errors import ConfigurationInvalid, StoreLocked, TokenConnect, UsageError
from sidecar.runtime import SystemClock, Tasks, uniform
from sidecar.telemetry import log

if TYPE_CHECKING:
    from sidecar.broker.credential import Credential as BrokerCredential
    from sidecar.broker.credential import PublishedToken
    from sidecar.config.model import Configuration, Credential, Route

HELP: Final = """Print the token of a credential: that of the running sidecar, if the configuration has `admin` with a
token and it listens there, else one that is asked for now."""
EXAMPLE: Final = """example: sidecar token orders
         sidecar token orders --print --format header | curl -H @- https://api.example.com/v1/orders
for git, as a helper in .gitconfig (and with exec-credential for kubectl; docs/token.md has both):
  helper = "!sidecar token -c /etc/sidecar/config.yaml --print --format git-credential --host git.example.com git"
exit codes: 0 printed, 2 usage, 3 configuration, 4 a secret is missing, 5 IdP or sidecar unreachable, 6 IdP refused,
  8 another process owns the refresh token"""

FORMATS: Final = ("raw", "json", "header", "exec-credential", "git-credential")
LOOK_SECONDS: Final = 0.05
GIT_USER: Final = "x-access-token"
"""What GitHub wants beside a token, and others do not look at."""
EXEC_GROUP: Final = "client.authentication.k8s.io"
_LONGEST_LINE, _MOST_LINES = 8192, 64

parse_arguments = argparse.ArgumentParser.parse_intermixed_args
"""git puts what it wants behind everything else."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The credential, where its token comes from, and how it is printed."""
    parser.add_argument("credential", metavar="CREDENTIAL", help="its name in the configuration")
    parser.add_argument("operation", metavar="OPERATION", nargs="?", help="git's own: get, store or erase")
    add_config(parser)
    parser.add_argument("--format", choices=FORMATS, default="raw", help="default: raw, the token alone on a line")
    parser.add_argument("--print", action="store_true", help="also where standard output is no terminal")
    parser.add_argument("--force", action="store_true", help="a fresh one, also where there is a good one")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from-running", action="store_true", help="of the running sidecar, or none")
    source.add_argument("--from-idp", action="store_true", help="from the IdP, whether a sidecar runs or not")
    parser.add_argument("--timeout", type=waiting_time, default=30.0, metavar="TIME", help="default: 30s")
    parser.add_argument("--host", action="append", default=[], type=_host, help="for git-credential: its host alone")
    parser.add_argument("--username", default=None, type=_username, help=f"for git-credential (default: {GIT_USER})")


def _host(text: str) -> hosts.URLParts:
    try:
        return _origin("https", text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"not HOST or HOST:PORT: {exc}") from exc


def _origin(scheme: str, host: str) -> hosts.URLParts:
    """Raises: ValueError."""
    parts = hosts.url_parts(f"{scheme}://{host}")
    if parts.path or parts.query:
        raise ValueError("there is more than a host and a port")
    return parts


def _username(text: str) -> str:
    try:
        return scalars.line(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def execute(arguments: argparse.Namespace) -> int:
    """Print it.

    Raises:
        UsageError, ConfigurationInvalid, SecretMissing: nothing was asked for.
        SidecarError: why there is no token.
    """
    is_git = arguments.format == "git-credential"
    _check_use(arguments, is_git=is_git)
    if is_git and arguments.operation != "get":
        return 0  # it stores nothing, and what it does not know it has to ignore (gitcredentials(7))
    api_version = _exec_version() if arguments.format == "exec-credential" else ""
    wanted = _read_attributes() if is_git else {}
    configuration = load.load(configuration_file(arguments.config))
    credential = _credential(configuration, arguments.credential)
    if is_git and not _is_meant(wanted, arguments, configuration):
        return 0
    if credential.dpop:
        raise bound(arguments.credential)
    log.configure("critical")  # one message at the end says it all
    keep_memory_private()
    given = asyncio.run(_obtain(arguments, configuration, credential))
    match arguments.format:
        case "raw":
            print(given.secret.reveal())
        case "json":
            print(_as_json(given))
        case "header":
            print(f"Authorization: Bearer {given.secret.reveal()}")
        case "exec-credential":
            print(_as_exec_credential(given, api_version))
        case _:
            print(_as_git_credential(given, arguments.username or wanted.get("username") or GIT_USER), end="")
    return 0


def _check_use(arguments: argparse.Namespace, *, is_git: bool) -> None:
    if not is_git:
        for given, flag in (
            (arguments.operation, f"'{arguments.operation}'"),
            (arguments.host, "--host"),
            (arguments.username, "--username"),
        ):
            if given:
                raise UsageError(f"{flag} belongs to --format git-credential")
    elif arguments.operation is None:
        raise UsageError("git puts an operation behind the helper's line: get, store or erase")
    if not arguments.print and not sys.stdout.isatty():
        raise UsageError(
            "standard output is no terminal, and a token in a file, a pipe or a log is a token that leaks: "
            "add --print if that is what you want"
        )


def _credential(configuration: Configuration, name: str) -> Credential:
    try:
        return configuration.credentials[name]
    except KeyError:
        near = did_you_mean(nearest(name, configuration.credentials))
        raise UsageError(f"the configuration has no credential of that name{near}") from None


# --- where it comes from ---------------------------------------------------------------------------------------------


async def _obtain(arguments: argparse.Namespace, configuration: Configuration, credential: Credential) -> GivenToken:
    admin, name = configuration.admin, arguments.credential
    if not arguments.from_idp and admin is not None and admin.token is not None:
        client = AdminClient(admin.bind, admin.token)
        given = await client.token(name, fresh=arguments.force, timeout=arguments.timeout)
        if given is not None:
            return given
    if arguments.from_running:
        if admin is None or admin.token is None:
            raise ConfigurationInvalid("a running sidecar gives tokens by its admin API: set admin.token")
        raise TokenConnect(f"nobody listens at {admin.bind}: the sidecar does not run here, or without its admin API")
    return await _from_idp(name, credential, configuration, arguments.timeout)


async def _from_idp(name: str, credential: Credential, configuration: Configuration, timeout: float) -> GivenToken:
    from sidecar.broker.broker import Broker  # here: it brings what speaks to an IdP with it
    from sidecar.telemetry.metrics import Metrics

    alone = msgspec.structs.replace(configuration, **_nothing_but(name, credential))
    load.missing_secrets(alone)
    limits = msgspec.structs.replace(configuration.limits, token_wait=timeout)
    clock, tasks = SystemClock(), Tasks(lambda _task, _error: None)  # how it ended is looked at below
    broker = Broker(clock=clock, uniform=uniform, metrics=Metrics(), tasks=tasks)
    try:
        await broker.apply(alone.credentials, limits, alone.store)
        token = await _first_token(broker.credential(name), tasks)
    finally:
        await broker.close()
        await tasks.close()
    expires_at = clock.wall() + (token.expires_at - clock.now())
    return GivenToken(token.secret, expires_at if math.isfinite(expires_at) else None, scope=token.scope)


async def _first_token(credential: BrokerCredential, tasks: Tasks) -> PublishedToken:
    """What its first attempts bring; what will not pass by itself is not waited for."""
    waiting = tasks.spawn("token", credential.wait())
    while not waiting.done() and may_pass(credential.status().last_error):
        await asyncio.wait({waiting}, timeout=LOOK_SECONDS)
    if waiting.done() and waiting.exception() is None:
        token: PublishedToken = waiting.result()
        return token
    status = credential.status()
    if status.last_error == StoreLocked.reason:
        raise _owned(credential.name)
    raise no_token(credential.name, status.last_error, status.last_detail)


def _nothing_but(name: str, credential: Credential) -> dict[str, object]:
    """What of the configuration a fetch of this credential has no part in, taken out: its secrets may be elsewhere."""
    rest: dict[str, object] = {"credentials": {name: credential}, "listeners": (), "admin": None, "interception": None}
    return rest if credential.grant in NEEDS_LOGIN else rest | {"store": None}


def _owned(name: str) -> StoreLocked:
    return StoreLocked(
        f"a running sidecar owns the refresh token of credential {name}, and two owners would lose it: "
        "set admin with a token and leave --from-idp out, so that the running one is asked"
    )


# --- how it is printed -----------------------------------------------------------------------------------------------


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(math.floor(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _as_json(given: GivenToken) -> str:
    expiry = given.expires_at
    answer: dict[str, object] = {
        "access_token": given.secret.reveal(),
        "token_type": "Bearer",
        "expires_in": None if expiry is None else max(0, math.floor(expiry - time.time())),
        "expires_at": None if expiry is None else _instant(expiry),
    }
    if given.generation is not None:
        answer["generation"] = given.generation
    if given.scope is not None:
        answer["scope"] = given.scope
    return json.dumps(answer)


def _exec_version() -> str:
    """The version of ExecCredential that kubectl wants: it does not take another.

    Raises:
        UsageError
    """
    text = os.environ.get("KUBERNETES_EXEC_INFO")
    if not text:
        return f"{EXEC_GROUP}/v1"
    try:
        version = json.loads(text)["apiVersion"]
    except (ValueError, TypeError, KeyError):
        raise UsageError("KUBERNETES_EXEC_INFO holds no ExecCredential with an apiVersion") from None
    if version not in (f"{EXEC_GROUP}/v1", f"{EXEC_GROUP}/v1beta1"):
        raise UsageError(f"KUBERNETES_EXEC_INFO wants another apiVersion than {EXEC_GROUP}/v1 or {EXEC_GROUP}/v1beta1")
    return str(version)


def _as_exec_credential(given: GivenToken, api_version: str) -> str:
    """As client-go reads it (client-go credential plugins, input and output formats)."""
    status = {"token": given.secret.reveal()}
    if given.expires_at is not None:
        status["expirationTimestamp"] = _instant(given.expires_at)
    return json.dumps({"apiVersion": api_version, "kind": "ExecCredential", "status": status})


def _as_git_credential(given: GivenToken, username: str) -> str:
    """As git-credential(1) reads it; versions before 2.40 pass over the expiry."""
    lines = [f"username={username}", f"password={given.secret.reveal()}"]
    if given.expires_at is not None:
        lines.append(f"password_expiry_utc={math.floor(given.expires_at)}")
    return "\n".join([*lines, "", ""])


# --- whom git wants it for -------------------------------------------------------------------------------------------


def _read_attributes() -> dict[str, str]:
    """git's description of what it wants: ``key=value`` lines up to an empty one or the end."""
    attributes: dict[str, str] = {}
    for _ in range(_MOST_LINES):
        line = sys.stdin.buffer.readline(_LONGEST_LINE)
        if not line.strip():
            break
        name, _, value = line.decode("utf-8", "replace").removesuffix("\n").partition("=")
        attributes[name] = value
    return attributes


def _is_meant(wanted: dict[str, str], arguments: argparse.Namespace, configuration: Configuration) -> bool:
    """Whether the token may go to the host git talks to: one of ``--host``, else one of the credential's routes.

    Raises:
        UsageError: there is neither.
    """
    routes = [route for route in configuration.routes if route.credential == arguments.credential]
    if not arguments.host and not routes:
        raise UsageError("no route says where this token may go: name git's host with --host")
    try:
        parts = _origin(wanted.get("protocol", ""), wanted.get("host", ""))
    except ValueError:
        return False
    if not parts.keeps_secrets:
        return False
    if arguments.host:
        return any((parts.host, parts.port) == (each.host, each.port) for each in arguments.host)
    return any(_covers(route, parts) for route in routes)


def _covers(route: Route, parts: hosts.URLParts) -> bool:
    is_host = parts.host.endswith(route.host[1:]) if route.host.startswith("*.") else parts.host == route.host
    return is_host and parts.port == route.upstream_port
