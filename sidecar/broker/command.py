"""Tokens from a command: whatever can print one can be a credential, without a plugin.

The command is run without a shell, with its standard input closed, and in a process group of its own, so that nothing
of it is left when it takes too long. What it prints is a token by itself, or JSON in one of the forms of an IdP's
answer, of ``kubectl``'s credential plugins (``status.token``), or of the Azure and AWS command lines. What it says on
standard error is dropped: it may hold what it was given.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sidecar.errors import ServerError, TokenMalformed, TokenRefused, TokenRequestError, TokenTimeout
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
        started_at = self._clock.now()
        self.requests_sent += 1
        try:
            token = self._token(await self._output(), started_at)
        except TokenRequestError as exc:
            self._meters.requests[exc.reason].value += 1
            raise
        else:
            self._meters.requests["success"].value += 1
            return token
        finally:
            self._meters.request_duration.observe(self._clock.now() - started_at)

    async def _output(self) -> bytes:
        command = self._config.command
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as exc:
            raise TokenRefused(f"the command cannot be run: {exc.strerror or 'unknown reason'}") from exc
        try:
            async with asyncio.timeout(self.limits.token_request):
                output = await _bounded(process)
                code = await process.wait()
        except BaseException as exc:
            await _kill(process)
            if isinstance(exc, TimeoutError):
                raise TokenTimeout("the command took longer than limits.token_request") from exc
            raise
        if code != 0:
            raise ServerError(f"the command exited with {code}")
        return output

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


async def _bounded(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    output = bytearray()
    while piece := await process.stdout.read(65536):
        output += piece
        if len(output) > MOST_OUTPUT:
            raise TokenMalformed(f"the command printed more than {MOST_OUTPUT // 1024} KiB")
    return bytes(output)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End it and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
