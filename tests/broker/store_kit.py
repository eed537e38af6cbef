"""A store with a key, and other processes that use it too."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from sidecar.broker.store import Grant, TokenStore
from sidecar.secrets import Secret, SecretReference

if TYPE_CHECKING:
    from pathlib import Path

OPENS_IT: Final = """
import sys
from pathlib import Path
from sidecar.broker.store import Grant, TokenStore
from sidecar.errors import SidecarError
from sidecar.secrets import Secret, SecretReference
store = TokenStore(Path(sys.argv[1]), SecretReference("file", sys.argv[2]))
"""


def new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def key_file(folder: Path, *keys: str) -> Path:
    path = folder / "store-key"
    path.write_text("".join(f"{key}\n" for key in keys or (new_key(),)))
    path.chmod(0o600)
    return path


def open_store(folder: Path) -> TokenStore:
    """A store in this folder; the key beside it is made if it is not there."""
    path = folder / "store-key"
    return TokenStore(folder / "tokens", SecretReference("file", str(path if path.exists() else key_file(folder))))


def grant(token: str = "canary-refresh", **changes: Any) -> Grant:
    plain: dict[str, Any] = {"refresh_token": Secret(token), "lineage": "l1", "obtained_at": 1_800_000_000.0}
    return Grant(**(plain | changes))


def other_process(folder: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    """Python of its own that has ``store`` open on the same folder and runs this code."""
    return subprocess.Popen(
        [sys.executable, "-c", OPENS_IT + code, str(folder / "tokens"), str(folder / "store-key"), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said_by(process: subprocess.Popen[str]) -> str:
    """What it printed until its end, which has to be a good one."""
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return said.strip()
