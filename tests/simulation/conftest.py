"""A provider on a clock that stands still, and somebody to ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from sidecar.simulation.idp import MockIdP
from tests.fake_clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def idp(clock: FakeClock) -> AsyncIterator[MockIdP]:
    async with MockIdP(now=clock.now, wall=clock.wall, ttl=60) as idp:
        yield idp
