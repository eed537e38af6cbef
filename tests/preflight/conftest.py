"""A bench a test, and a provider on a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.simulation.idp import MockIdP
from tests.preflight.kit import Bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
async def idp() -> AsyncIterator[MockIdP]:
    async with MockIdP() as idp:
        yield idp
