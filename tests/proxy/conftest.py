"""Fixtures of the data path's tests: a rig a test, on the event loop that production runs on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from sidecar.simulation.idp import MockIdP
from tests.proxy.raw_origin import Origin
from tests.proxy.rig import API, Rig, Trust

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Mapping


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Transports differ between loops in what they do at the ends of a connection: use the one that is shipped."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    """The CA that the routes trust."""
    return Trust.found(tmp_path_factory.mktemp("trust"))


@pytest.fixture
async def rig(trust: Trust, tmp_path: Any) -> AsyncIterator[Rig]:
    """A provider, two origins, and a sidecar that the test starts; nothing of it may reach the loop's handler."""
    async with (
        MockIdP() as idp,
        Origin(trust.server(API, "localhost", "127.0.0.1")) as secure,
        Origin() as plain,
        Rig(trust, tmp_path, idp, secure, plain) as rig,
    ):
        yield rig
    assert rig.loop_errors == []


Logs = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def logs(capsys: pytest.CaptureFixture[str]) -> Logs:
    """The log lines of an event since the test began."""
    seen: list[dict[str, Any]] = []

    def read(event: str) -> list[dict[str, Any]]:
        for line in capsys.readouterr().err.splitlines():
            with contextlib.suppress(ValueError):
                seen.append(json.loads(line))
        return [line for line in seen if line.get("event") == event]

    return read
