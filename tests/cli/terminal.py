"""A command on a terminal of its own: what it draws, and what is typed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import subprocess
import sys
from typing import Final, Self

from tests.end_to_end.programs import clean_environment

_CONTROLLED: Final = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes its terminal the one whose Ctrl-C reaches it; a process of its own, because a fork here would copy threads."""


class Terminal:
    """The command runs from the beginning; ``async with`` ends it."""

    def __init__(self, words: list[str], **environment: str) -> None:
        self._drawn = ""
        self._end, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CONTROLLED, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"TERM": "xterm", **clean_environment(**environment)},
        )
        os.close(theirs)
        os.set_blocking(self._end, False)

    def shows(self, pattern: str) -> bool:
        """Whether it has drawn this since the last time that something was asked for and found."""
        with contextlib.suppress(OSError):
            self._drawn += os.read(self._end, 65536).decode(errors="replace")
        if not (found := re.search(pattern, self._drawn, re.DOTALL)):
            return False
        self._drawn = self._drawn[found.end() :]
        return True

    def type(self, text: bytes) -> None:
        """Type it."""
        os.write(self._end, text)

    async def exit_code(self, *, seconds: float) -> int:
        """Of the command, once it has ended."""
        return await asyncio.to_thread(self._process.wait, seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._end)
