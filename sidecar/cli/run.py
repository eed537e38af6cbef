"""``sidecar run``: the proxy itself, from start to the end of its drain.

What can fail for good fails before anything is served, with one message and the contract's exit code. SIGTERM and
SIGINT drain; a second one ends at once. SIGHUP reloads.
"""

from __future__ import annotations

import asyncio
import ctypes
import resource
import signal
from typing import TYPE_CHECKING, Final

import uvloop

from sidecar.cli import configuration_file
from sidecar.cli.arguments import add_config
from sidecar.config import files, load, reload
from sidecar.telemetry import log

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from sidecar.app import Sidecar
    from sidecar.config.model import Configuration

HELP: Final = """Serve the configuration until SIGTERM (drains) or SIGINT.
SIGHUP, or a change of the file, reloads it; a file with errors leaves the running configuration in place."""
EXAMPLE: Final = """example: sidecar run -c config.yaml
exit codes: 0 drained, 2 usage, 3 configuration, 4 a secret is missing, 8 an address cannot be bound"""
PR_SET_DUMPABLE: Final = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``-c FILE``."""
    add_config(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run until a signal.

    Raises:
        ConfigurationInvalid, SecretMissing, CannotBind: before anything is served.
    """
    path = configuration_file(arguments.config)
    watched = reload.Watched((path,))
    configuration = load.load(path)
    watched.take_in(files.read_once(configuration))
    load.missing_secrets(configuration)
    log.configure(configuration.log.level)
    keep_memory_private()
    allow_descriptors()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(path, configuration, watched))


def keep_memory_private() -> None:
    """No core dump and no ptrace by the same user: either would hold every token (facts of life on shared nodes)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    keep_from_processes()


def keep_from_processes() -> None:
    """The same without a limit that children inherit: memory and environment are not for other processes of the user,
    and a process like that is not dumped either (prctl(2), PR_SET_DUMPABLE)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def allow_descriptors() -> None:
    """As many open files as the system lets us have: the soft limit is 1024 for the sake of select(2), which nobody
    calls here, and a connection of an app takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(path: Path, configuration: Configuration, watched: reload.Watched) -> int:
    from sidecar.app import Sidecar  # here, so that a configuration error is told without waiting for aiohttp

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log.handle_loop_error)
    sidecar = Sidecar(configuration)
    asked_to_end = asyncio.Event()
    asked_to_reload = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_end.set)
    loop.add_signal_handler(signal.SIGHUP, asked_to_reload.set)
    await sidecar.start()
    try:
        sidecar.watch(path, watched, asked_to_reload)
        await asked_to_end.wait()
        await _drain(sidecar, asked_to_end)
    finally:
        await sidecar.close()
    return 0


async def _drain(sidecar: Sidecar, asked_to_end: asyncio.Event) -> None:
    """Drain, unless a second signal says that there is no time for it."""
    asked_to_end.clear()
    draining = asyncio.Task(sidecar.drain(), name="drain")
    impatient = asyncio.Task(asked_to_end.wait(), name="second signal")
    _, pending = await asyncio.wait((draining, impatient), return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
