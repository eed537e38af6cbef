"""Whether what others wrote for Node.js can run here, and the mark of the tests that need it.

In CI only a machine without Node is excused: what an install step forgot is a failure there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).parent / "node"
NODE: Final = shutil.which("node")
CURL: Final = shutil.which("curl")
IN_CI: Final = bool(os.environ.get("CI"))


def missing(*, curl: bool = False) -> str | None:
    """The reason for which a test with these programs cannot run; None when it can."""
    if NODE is None:
        return "Node.js is not installed"
    if not (FOLDER / "node_modules" / "oidc-provider").exists():
        return "the npm packages are not installed (npm ci in tests/end_to_end/node)"
    return "curl is not installed" if curl and CURL is None else None


def needs_node(*, curl: bool = False) -> list[pytest.MarkDecorator]:
    """The marks of a test that needs Node.js, its npm packages, and perhaps curl."""
    reason = missing(curl=curl)
    excused = reason is not None and (NODE is None or not IN_CI)
    return [pytest.mark.node, pytest.mark.skipif(excused, reason=reason or "")]
