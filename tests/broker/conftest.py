"""A broker on a fake clock beside an identity provider on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from sidecar.broker.broker import Broker
from sidecar.config import model
from sidecar.runtime import Tasks
from sidecar.secrets import SecretReference
from sidecar.simulation.idp import MockIdP, Step
from sidecar.telemetry.metrics import CredentialMeters, Metrics
from tests.broker.renewal_kit import Rig
from tests.fake_clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sidecar.broker.credential import Credential, PublishedToken

LIMITS = model.Limits(token_request=2.0, connect=1.0)
DOWN = Step(status=503)
LogLines = Callable[[str], list[dict[str, Any]]]


class Chance:
    """Randomness under control: draws this fraction of every interval."""

    def __init__(self) -> None:
        self.at = 0.5

    def __call__(self, low: float, high: float) -> float:
        return low + (high - low) * self.at


@dataclass
class House:
    """Everything that a credential lives among."""

    clock: FakeClock
    idp: MockIdP
    secret_file: Path
    chance: Chance = field(default_factory=Chance)
    metrics: Metrics = field(default_factory=Metrics)
    crashes: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tasks = Tasks(lambda name, error: self.crashes.append(error))
        self.broker = Broker(clock=self.clock, uniform=self.chance, metrics=self.metrics, tasks=self.tasks)
        self.clock.idle = lambda: not any(one.status().fetching for one in self.broker.credentials())

    def config(self, **changes: Any) -> model.Credential:
        """A client_credentials credential of the provider's client."""
        plain = model.Credential(
            grant="client_credentials",
            client_auth="client_secret_basic",
            token_url=self.idp.token_url,
            client_id="client",
            client_secret=SecretReference.parse(f"file:{self.secret_file}"),
        )
        return msgspec.structs.replace(plain, **changes)

    async def run(self, credentials: dict[str, model.Credential], limits: model.Limits = LIMITS) -> None:
        """Make these the credentials, and let their first requests end."""
        await self.broker.apply(credentials, limits)
        await self.clock.settle()

    async def run_one(self, **changes: Any) -> Credential:
        """One credential called ``orders``, after its first request."""
        await self.run({"orders": self.config(**changes)})
        return self.broker.credential("orders")

    async def received(self, count: int) -> None:
        """Return when the provider has received so many requests."""
        async with asyncio.timeout(5):
            while len(self.idp.received) < count:
                await asyncio.sleep(0)

    def meters(self, name: str = "orders") -> CredentialMeters:
        return self.metrics.credential(name)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def idp(clock: FakeClock) -> AsyncIterator[MockIdP]:
    async with MockIdP(now=clock.now, wall=clock.wall, marker="canary-token") as idp:
        yield idp


@pytest.fixture
async def house(clock: FakeClock, idp: MockIdP, tmp_path: Path) -> AsyncIterator[House]:
    secret_file = tmp_path / "client-secret"
    secret_file.write_text("client-secret\n")
    house = House(clock, idp, secret_file)
    yield house
    await house.broker.close()
    await house.tasks.close()
    assert house.crashes == []


@pytest.fixture
async def rig(clock: FakeClock, idp: MockIdP, tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(clock, idp, tmp_path)
    yield rig
    await rig.close()


def token_of(credential: Credential) -> PublishedToken:
    """The token that is published now; there has to be one."""
    assert credential.published is not None
    return credential.published


@pytest.fixture
async def held(house: House) -> AsyncIterator[asyncio.Event]:
    """The provider holds its next answer back until this is set; time moves on meanwhile."""
    release = asyncio.Event()
    house.idp.script(Step(hold=release))
    house.clock.idle = lambda: True
    yield release
    release.set()


@pytest.fixture
def log_lines(capsys: pytest.CaptureFixture[str]) -> LogLines:
    """The log lines of an event since the last call, as they were written."""
    seen: list[dict[str, Any]] = []

    def lines(event: str) -> list[dict[str, Any]]:
        seen.extend(json.loads(line) for line in capsys.readouterr().err.splitlines())
        return [line for line in seen if line["event"] == event]

    return lines
