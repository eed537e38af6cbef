"""An authorization server for the tests of logins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.authorization_server import AuthorizationServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def server() -> AsyncIterator[AuthorizationServer]:
    async with AuthorizationServer() as server:
        yield server
