"""``sidecar exec``: one command with a sidecar of its own, for CI jobs and for Jobs without native sidecars.

Decides what of the configuration serves one command, what stands in the command's environment and what does not, which
signals reach it, and what the exit code is. The sidecar runs in this process, on ports that nobody else has, and ends
with the command. Standard input and output are the command's own; nothing is read or written in between.

The command is given no secret: variables that the configuration names by ``env:`` are taken out of its environment, and
this process's own cannot be read by it. What it may have is the use of the proxy, by a password for this run alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec
import uvloop

from sidecar.admin.client import may_pass, no_token
from sidecar.cli import client_settings, configuration_file
from sidecar.cli.arguments import add_config, waiting_time
from sidecar.cli.run import allow_descriptors, keep_from_processes
from sidecar.config import document, files, load
from sidecar.config.model import Bind, Configuration, Listener, ListenerAuth, Log, Telemetry
from sidecar.config.problems import Problems
from sidecar.errors import ConfigurationInvalid, SidecarError, TokenUnavailable, UsageError
from sidecar.runtime import Tasks
from sidecar.secrets import Secret, SecretReference
from sidecar.telemetry import log

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from sidecar.app import Sidecar
    from sidecar.broker.credential import Credential, Status
    from sidecar.config.model import Interception

HELP: Final = """Run a command with a sidecar of its own, which ends with it: for CI jobs and Kubernetes Jobs.
It begins when there is a token for every route, finds the proxy in HTTP_PROXY and base URLs in TOKEN_SIDECAR_NAME_URL,
and its exit code is that of this command (128 and the number for a signal)."""
EXAMPLE: Final = """example: sidecar exec -c config.yaml -- curl http://api.example.com/v1/orders
exit codes: those of CMD; before it begins: 2 usage, 3 configuration, 4 a secret is missing, 5 IdP unreachable,
  6 IdP refused, 8 an address cannot be bound, 126 CMD cannot be run, 127 there is no CMD"""

Level = Literal["debug", "info", "warning", "error"]
FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
FROM_TERMINALS: Final = frozenset((signal.SIGINT, signal.SIGQUIT))
LOOK_SECONDS: Final = 0.05
NOT_RUNNABLE, NOT_FOUND = 126, 127
"""What shells answer (POSIX.1-2017, Shell Command Language, section 2.8.2)."""
_ANYWHERE: Final = Bind(host="127.0.0.1", port=0)
_OF_THE_SYSTEM: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The configuration, how long tokens are waited for, and the log."""
    parser.usage = "sidecar exec [-c FILE] [--timeout TIME | --no-wait] [--log-level LEVEL] -- CMD [ARG ...]"
    add_config(parser)
    wait = parser.add_mutually_exclusive_group()
    wait.add_argument("--timeout", type=waiting_time, default=30.0, metavar="TIME", help="for tokens (default: 30s)")
    wait.add_argument("--no-wait", action="store_true", help="begin at once, token or not")
    parser.add_argument(
        "--log-level", choices=get_args(Level), default="warning", help="of the sidecar (default: warning)"
    )


def parse_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """What stands behind the first ``--`` is the command, and none of our business."""
    ours = list(arguments)
    cut = ours.index("--") if "--" in ours else len(ours)
    known, rest = parser.parse_known_args(ours[:cut])
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)} (the command stands behind --)")
    known.command = ours[cut + 1 :]
    if not known.command:
        parser.error("the command is missing: -- CMD [ARG ...]")
    return known


def execute(arguments: argparse.Namespace) -> int:
    """Run it, and return its exit code.

    Raises:
        ConfigurationInvalid, SecretMissing, CannotBind: it was not begun.
        SidecarError: why a credential has no token; it was not begun.
    """
    path = configuration_file(arguments.config)
    written = load.load(path)
    configuration = for_one_command(written, level=arguments.log_level, telemetry=_names(path, "telemetry"))
    load.missing_secrets(configuration)
    wait_seconds = 0.0 if arguments.no_wait else arguments.timeout
    with contextlib.ExitStack() as stack:
        environment = _without_secrets(os.environ, written)
        if configuration.interception is not None:
            environment |= _trust(configuration.interception, _folder(stack))
        log.configure(arguments.log_level)
        keep_from_processes()
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        return runner.run(_supervise(configuration, arguments.command, environment, wait_seconds))


def _folder(stack: contextlib.ExitStack) -> Path:
    """Raises: UsageError."""
    try:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidecar-exec-")))
    except OSError as exc:
        raise UsageError(
            "there is no folder to put the CA's files into: name one that can be written in TMPDIR"
        ) from exc


# --- the configuration of one command --------------------------------------------------------------------------------


def for_one_command(written: Configuration, *, level: Level, telemetry: bool) -> Configuration:
    """The configuration on ports of its own, with nothing in it that one command has no use for.

    Args:
        written: the file.
        level: of the log.
        telemetry: the file names an address for it.
    """
    used = {route.credential for route in written.routes}
    forward = next((each for each in written.listeners if each.mode == "forward"), None)
    reverse = tuple(_on_a_free_port(each) for each in written.listeners if each.mode == "reverse")
    changes: dict[str, Any] = {
        "listeners": (_egress(forward, reverse), *reverse),
        "telemetry": written.telemetry if telemetry else Telemetry(bind=_ANYWHERE),
        "admin": None,
        "credentials": {name: each for name, each in written.credentials.items() if name in used},
        "log": Log(level=level, access=False),  # standard output is the command's
    }
    return msgspec.structs.replace(written, **changes)


def _on_a_free_port(listener: Listener) -> Listener:
    """A Unix socket stays where it is: who may use it is said by its place."""
    return listener if listener.bind.is_unix else msgspec.structs.replace(listener, bind=_ANYWHERE)


def _egress(forward: Listener | None, others: Iterable[Listener]) -> Listener:
    """The forward listener as it is written, or one like it where there is none, but for this run alone."""
    if forward is None:
        name = "exec"
        while name in {each.name for each in others}:
            name += "-"
        forward = Listener(name=name, bind=_ANYWHERE)
    password = SecretReference("inline", "", Secret(secrets.token_urlsafe(24)))
    return msgspec.structs.replace(forward, bind=_ANYWHERE, auth=ListenerAuth(proxy_password=password))


def _names(path: Path, key: str) -> bool:
    """Whether the file, which was read before, has this section."""
    root = document.read(path.read_text("utf-8"), Problems(str(path))).root
    return isinstance(root, document.MappingNode) and any(name.text == key for name, _ in root.entries)


# --- the environment of the command ----------------------------------------------------------------------------------


def _without_secrets(environment: Mapping[str, str], written: Configuration) -> dict[str, str]:
    named = {reference.name for _, reference in files.references(written) if reference.kind == "env"}
    return {name: value for name, value in environment.items() if name not in named}


def _trust(section: Interception, folder: Path) -> dict[str, str]:
    """The variables by which clients accept the CA of intercepted hosts, beside all others."""
    from cryptography.hazmat.primitives.serialization import Encoding  # only where there is a CA

    from sidecar.config import local_ca

    certificates = local_ca.read_certificates(Path(section.certificate))
    roots = [each for each in certificates if each.issuer == each.subject] or list(certificates)
    ours = b"".join(each.public_bytes(Encoding.PEM) for each in roots)
    trusted = {name: _read_first(os.environ.get(name), *_system()) for name in client_settings.BUNDLES}
    trusted |= {name: _read_first(os.environ.get(name)) for name in client_settings.ADDED}
    found = {}
    for name, before in trusted.items():
        bundle = folder / f"{name.lower()}.pem"
        bundle.write_bytes(before + b"\n" + ours)
        found[name] = str(bundle)
    folder.chmod(0o755)  # certificates are no secret, and the command may change its user
    return found


def _system() -> list[str | None]:
    """Where the CAs of the system may stand."""
    return [os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *_OF_THE_SYSTEM]


def _read_first(*paths: str | None) -> bytes:
    """The first of the files that can be read; nothing, if none can."""
    for path in paths:
        with contextlib.suppress(OSError):
            if path:
                return Path(path).read_bytes()
    return b""


def _ways(sidecar: Sidecar) -> dict[str, str]:
    """The variables that lead to the sidecar."""
    egress, *reverse = sidecar.listeners
    configuration = sidecar.configuration
    auth = configuration.listeners[0].auth
    assert isinstance(auth, ListenerAuth)  # noqa: S101 - made above
    assert auth.proxy_password is not None  # noqa: S101 - made above
    proxy = f"http://sidecar:{auth.proxy_password.read().reveal()}@127.0.0.1:{egress.port}"
    around = client_settings.no_proxy(configuration, os.environ)
    found = {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": around, "no_proxy": around}
    found["NODE_USE_ENV_PROXY"] = "1"
    if configuration.interception is not None:
        found |= {"HTTPS_PROXY": proxy, "https_proxy": proxy}
    for listener in reverse:
        name = client_settings.listener_variable(listener.name)
        way = (
            {f"{name}_SOCKET": listener.bind.path}
            if listener.bind.is_unix
            else {f"{name}_URL": f"http://127.0.0.1:{listener.port}"}
        )
        if way.keys() & found.keys():
            raise ConfigurationInvalid(f"listeners.{listener.name}: another listener has the same {name} variable")
        found |= way
    return found


# --- the command -----------------------------------------------------------------------------------------------------


class _Signals:
    """Signals that are meant for the command; the first one that comes before it begins, ends everything.

    A signal that is ignored here stays so, for the command as well (nohup(1), background jobs).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.early: asyncio.Future[int] = loop.create_future()
        self.process: subprocess.Popen[bytes] | None = None
        for number in FORWARDED:
            if signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, self._came, number)

    def _came(self, number: signal.Signals) -> None:
        if self.process is not None:
            if not (number in FROM_TERMINALS and _has_the_terminal()):
                self.process.send_signal(number)
        elif not self.early.done():
            self.early.set_result(number)


def _has_the_terminal() -> bool:
    """Whether what is typed there reaches the command by itself: Ctrl-C goes to the whole foreground group, and a
    second one makes many programs give up their clean end."""
    try:
        with open("/dev/tty", "rb") as terminal:  # noqa: PTH123 - no path of ours
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


async def _supervise(
    configuration: Configuration, command: Sequence[str], environment: dict[str, str], wait_seconds: float
) -> int:
    from sidecar.app import Sidecar  # here, so that a configuration error is told without waiting for aiohttp

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log.handle_loop_error)
    signals = _Signals(loop)
    sidecar = Sidecar(configuration)
    await sidecar.start()
    try:
        await _first_tokens(sidecar, wait_seconds, signals.early)
        if signals.early.done():
            return 128 + signals.early.result()
        return await _run(command, environment | _ways(sidecar), signals)
    finally:
        await sidecar.close()


async def _run(command: Sequence[str], environment: dict[str, str], signals: _Signals) -> int:
    """From its start to its end.

    Popen starts it before it returns, so no signal is lost in between, and in this thread, so the limit of open files,
    which the command inherits, is raised for the sidecar only afterwards.
    """
    try:
        process = subprocess.Popen(command, env=environment)  # noqa: ASYNC220, S603 - see above; it is what was asked for
    except FileNotFoundError:
        return _not_run(command[0], "there is no such command", NOT_FOUND)
    except (OSError, ValueError) as exc:
        return _not_run(command[0], getattr(exc, "strerror", None) or str(exc), NOT_RUNNABLE)
    signals.process = process
    allow_descriptors()
    tasks = Tasks(lambda _task, _error: None)
    if os.getpid() == 1:
        tasks.spawn("reap orphans", reap_orphans(process.pid))
    try:
        code = await asyncio.to_thread(process.wait)
    except BaseException:
        process.terminate()  # without a sidecar it would only fail
        raise
    finally:
        await tasks.close()
    return code if code >= 0 else 128 - code


async def reap_orphans(command: int, *, every_seconds: float = 1.0) -> None:
    """As the first process of a container, bury whom the command leaves behind: they become children of ours, and stay
    in the table of processes otherwise (wait(2)). What is waited for elsewhere is gone at the second look."""
    seen = 0
    while True:
        await asyncio.sleep(every_seconds)
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # noqa: ASYNC222 - WNOHANG
        except ChildProcessError:
            continue
        pid = found.si_pid if found is not None else 0
        if pid and pid == seen and pid != command:
            os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - WNOHANG
        seen = pid


def _not_run(command: str, why: str, code: int) -> int:
    print(f"sidecar: {command}: {why}", file=sys.stderr)
    return code


# --- the tokens it begins with ---------------------------------------------------------------------------------------


async def _first_tokens(sidecar: Sidecar, seconds: float, early: asyncio.Future[int]) -> None:
    """Wait until every credential has a token, or a signal comes; not at all for no time.

    Raises:
        SidecarError: one has none in time, or for a reason that time does not mend; the message names all of these.
    """
    if not seconds:
        return
    loop, credentials = asyncio.get_running_loop(), sidecar.broker.credentials()
    deadline = loop.time() + seconds
    tasks = Tasks(lambda _task, _error: None)  # what becomes of them is seen at the credential
    for credential in credentials:
        tasks.spawn(f"first token of {credential.name}", _ask_for_one(credential))
    try:
        while missing := [each.status() for each in credentials if not each.status().usable]:
            if early.done():
                return
            hopeless = [each for each in missing if not may_pass(each.last_error)]
            if hopeless or loop.time() >= deadline:
                raise _no_tokens(hopeless or missing)
            await asyncio.wait({early}, timeout=LOOK_SECONDS)
    finally:
        await tasks.close()


async def _ask_for_one(credential: Credential) -> None:
    with contextlib.suppress(TokenUnavailable):
        await credential.wait()


def _no_tokens(missing: Sequence[Status]) -> SidecarError:
    """One error for all of them: the worst one's, with everybody's reason and next step."""
    errors = [no_token(each.name, each.last_error, each.last_detail) for each in missing]
    worst = max(errors, key=lambda error: error.exit_code)
    if len(errors) == 1:
        return worst
    details = [error.detail.replace("\n", "\n  ") for error in errors]
    return type(worst)("\n  ".join((f"{len(errors)} credentials have no token:", *details)))
