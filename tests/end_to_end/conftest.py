"""What end-to-end tests share: one test CA for the run, and a started sidecar that never outlives its test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.origin import Authority
from tests.end_to_end.sidecar_process import Configuration, SidecarProcess

if TYPE_CHECKING:
    from pathlib import Path

StartSidecar = Callable[[Configuration], Awaitable[SidecarProcess]]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA of the test upstreams, and their certificate for localhost and 127.0.0.1."""
    return Authority.found(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def start_sidecar(tmp_path: Path) -> AsyncIterator[StartSidecar]:
    """Start ``sidecar run`` with a configuration and wait until its listeners are up."""
    async with AsyncExitStack() as stack:

        async def start(configuration: Configuration) -> SidecarProcess:
            return await stack.enter_async_context(SidecarProcess(tmp_path, configuration))

        yield start
