"""Tokens from a command: whatever can print one can be a credential, without a plugin.

The command is run without a shell, with its standard input closed, and in a process group of its own, so that nothing
of it is left when it takes too long. It is over when its process is, whoever else still holds its standard output: what
runs on in the background (an agent, a sender of telemetry) is not waited for. What it prints is a token by itself, or
JSON in one of the forms of an IdP's answer, of ``kubectl``'s credential plugins (``status.token``), or of the Azure and
AWS command lines. What it says on standard error is dropped: it may hold what it was given.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sidecar.broker.source import counted, timed
from sidecar.errors import ServerError, TokenMalformed, TokenRefused, TokenTimeout
from sidecar.oauth import grants
from sidecar.oauth.answer import Answer, json_object
from sidecar.oauth.token import Token, bare, parse
from sidecar.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.config.model import Credential as CredentialConfig
    from sidecar.config.model import Limits
    from sidecar.runtime import Clock
    from sidecar.telemetry.metrics import CredentialMeters

MOST_OUTPUT: Final = 256 * 1024
PIECE: Final = 64 * 1024
COLLECTED_FOR: Final = 100
"""Hundredths of a second; what was killed ends within one, if it is not waiting for a disk."""
PASSING: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})
"""Why a process cannot be made now and can in a moment: the machine is full, or the command is being installed."""
FIELDS: Final = ("access_token", "status.token", "accessToken", "token")
"""Where the token stands if ``dialect.token_field`` does not say: OAuth, kubectl, ``az account get-access-token``."""


class Command:
    """Tokens that a command prints."""

    watches = False

    def __init__(self, config: CredentialConfig, *, clock: Clock, meters: CredentialMeters, limits: Limits) -> None:
        self._config = config
        self._clock = clock
        self._meters = meters
        self.limits = limits
        self.requests_sent = 0

    def inputs_changed(self) -> bool:
        return False

    def close(self) -> None:
        pass

    async def fetch(self) -> Token:
        self.requests_sent += 1
        with timed(self._meters, self._clock) as started_at, counted(self._meters):
            return self._token(await self._output(), started_at)

    async def _output(self) -> bytes:
        try:
            with closing(_Pipe()) as pipe:
                process = await self._started(pipe)
                try:
                    async with asyncio.timeout(self.limits.token_request):
                        code = await pipe.read_until_end_of(process)
                except BaseException as exc:
                    await _kill(process)
                    if isinstance(exc, TimeoutError):
                        raise TokenTimeout("the command took longer than limits.token_request") from exc
                    raise
        except OSError as exc:
            kind = ServerError if exc.errno in PASSING else TokenRefused
            raise kind(
                f"the command {self._config.command[0]} cannot be run: {exc.strerror or 'unknown reason'}"
            ) from exc
        if code != 0:
            raise ServerError(f"the command {self._config.command[0]} exited with {code}")
        return bytes(pipe.taken)

    async def _started(self, pipe: _Pipe) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *self._config.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe.inlet,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        pipe.close_inlet()
        return process

    def _token(self, output: bytes, started_at: float) -> Token:
        wall = self._clock.wall()
        fields = json_object(output)
        if fields is None:
            text = output.decode("ascii", "replace").strip()
            return bare(Secret(text), sent_at=started_at, wall=wall, default_ttl=self._config.default_ttl)
        expected = grants.expected(self._config)
        if self._config.dialect.token_field == "access_token":
            expected = replace(
                expected, token_field=next((path for path in FIELDS if _stands_in(fields, path)), FIELDS[0])
            )
        return parse(Answer(200, {}, output, started_at, wall), expected)


def _stands_in(fields: Mapping[str, object], path: str) -> bool:
    """Whether a dotted path leads to something."""
    place: object = fields
    for part in path.split("."):
        place = place.get(part) if isinstance(place, dict) else None
    return place is not None


class _Pipe:
    """A command's standard output: what comes out of it up to a bound, as long as the command runs.

    A pipe of our own, because asyncio waits for the end of its pipes before it says that a process has ended.
    """

    def __init__(self) -> None:
        self._outlet, self.inlet = os.pipe()
        os.set_blocking(self._outlet, False)
        self.taken = bytearray()

    def close_inlet(self) -> None:
        os.close(self.inlet)
        self.inlet = -1

    def close(self) -> None:
        os.close(self._outlet)
        if self.inlet >= 0:
            self.close_inlet()

    async def read_until_end_of(self, process: asyncio.subprocess.Process) -> int:
        """The exit code of the process, when all that it printed is taken.

        Raises:
            TokenMalformed: it printed too much, and was ended.
        """
        loop = asyncio.get_running_loop()
        loop.add_reader(self._outlet, self._fill, loop, process)
        try:
            code = await process.wait()
        finally:
            loop.remove_reader(self._outlet)
        self._take()
        if len(self.taken) > MOST_OUTPUT:
            raise TokenMalformed(f"the command printed more than {MOST_OUTPUT // 1024} KiB")
        return code

    def _fill(self, loop: asyncio.AbstractEventLoop, process: asyncio.subprocess.Process) -> None:
        if self._take():
            return
        loop.remove_reader(self._outlet)
        if len(self.taken) > MOST_OUTPUT:
            _kill_group(process)

    def _take(self) -> bool:
        """Take what is there; False if there is no more to be taken."""
        while len(self.taken) <= MOST_OUTPUT:
            try:
                piece = os.read(self._outlet, PIECE)
            except BlockingIOError:
                return True
            if not piece:
                return False
            self.taken += piece
        return False


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End it and whatever it started."""
    _kill_group(process)
    await process.wait()
    await _collect(process.pid)


async def _collect(group: int) -> None:
    """Take note that the others of the group have ended. They are ours where we are the first process of a container,
    and nobody else does it: each would keep its place in a table that gets full."""
    for _ in range(COLLECTED_FOR):
        if not _still_ends(group):
            return
        await asyncio.sleep(0.01)


def _still_ends(group: int) -> bool:
    """Collect one of the group; False if no other is ours."""
    try:
        os.waitpid(-group, os.WNOHANG)
    except ChildProcessError:
        return False
    return True
