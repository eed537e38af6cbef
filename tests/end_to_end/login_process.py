"""``sidecar login`` as a person runs it: what it shows on its terminal, and how it ends."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

from tests.end_to_end.programs import Program
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

_ADDRESS: Final = re.compile(r"https?://\S+[?&](?:response_type|user_code)=\S+")


class LoginProcess(Program):
    """``sidecar login --no-browser``, or with other arguments."""

    def __init__(self, configuration: Path, credential: str, *arguments: str, folder: Path) -> None:
        given = ["-c", str(configuration), "--no-browser", *arguments, credential]
        command = [sys.executable, "-W", "error", "-m", "sidecar", "login", *given]
        folder.mkdir(exist_ok=True)
        super().__init__("login", command, folder=folder)

    async def address(self) -> str:
        """What a browser has to open; a device's code stands in it already."""
        await until(lambda: not self.running or "Ctrl-C ends the login" in self.stderr, "the login shows an address")
        address = _ADDRESS.search(self.stderr)
        assert address, self.stderr
        return address[0]

    async def done(self) -> str:
        """What it says on standard output, having ended well."""
        code = await self.ended(seconds=30)
        assert code == 0, self.stderr
        return self.stdout
