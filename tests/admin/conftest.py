"""The admin API, served before a broker and a provider of the test's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from yarl import URL

from sidecar.admin.admin_server import AdminServer
from sidecar.admin.facts import Facts
from sidecar.broker.broker import Broker
from sidecar.config import model
from sidecar.config.model import Bind
from sidecar.runtime import SystemClock, Tasks
from sidecar.secrets import SecretReference
from sidecar.simulation.idp import MockIdP, Step
from sidecar.telemetry import log
from sidecar.telemetry.metrics import Metrics
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

ADMIN: Final = "cn4ry-admin-token-of-the-test"
ORDERS: Final = "/v1/credentials/orders"
INVALID: Final = Step(status=401, body=b'{"error": "invalid_client"}', headers={"Content-Type": "application/json"})


class Ahead(SystemClock):
    """The machine's clocks, and so many seconds more as the test says."""

    def __init__(self) -> None:
        super().__init__()
        machine = self.now
        self.ahead = 0.0
        self.now = lambda: machine() + self.ahead  # type: ignore[assignment]

    def wall(self) -> float:
        return super().wall() + self.ahead


@dataclass
class Said:
    """An answer."""

    status: int
    body: Any
    headers: Any


@dataclass
class Stage:
    """A served API, and what stands behind it."""

    idp: MockIdP
    secret_file: Path
    admin_file: Path
    clock: Ahead = field(default_factory=Ahead)
    metrics: Metrics = field(default_factory=Metrics)
    facts: Facts = field(default_factory=Facts)
    crashes: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tasks = Tasks(lambda _, error: self.crashes.append(error))
        self.broker = Broker(clock=self.clock, uniform=lambda low, _: low, metrics=self.metrics, tasks=self.tasks)
        token = SecretReference.parse(f"file:{self.admin_file}")
        self.server = self.serving(Bind(host="127.0.0.1", port=0), token)

    def serving(self, bind: Bind, token: SecretReference | None) -> AdminServer:
        return AdminServer(
            bind,
            token=token,
            broker=self.broker,
            metrics=self.metrics,
            facts=self.facts,
            clock=self.clock,
            tasks=self.tasks,
        )

    async def run(self, *names: str, token_wait: float = 5.0) -> None:
        credential = model.Credential(
            grant="client_credentials",
            client_auth="client_secret_basic",
            token_url=self.idp.token_url,
            client_id="client",
            client_secret=SecretReference.parse(f"file:{self.secret_file}"),
        )
        await self.broker.apply(dict.fromkeys(names or ("orders",), credential), model.Limits(token_wait=token_wait))

    async def has_token(self) -> None:
        await until(lambda: self.broker.credential("orders").published is not None, "there is a token")

    @property
    def failed(self) -> bool:
        return self.broker.credential("orders").status().last_error is not None

    async def ask(self, method: str, path: str, *, token: str | None = ADMIN, **fields: str) -> Said:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        url = f"http://127.0.0.1:{self.server.port}{path}"
        async with (
            aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session,
            session.request(method, URL(url, encoded=True), headers=headers) as response,
        ):
            raw = await response.read()
            is_json = "json" in response.headers["Content-Type"]
            return Said(response.status, (json.loads(raw) if is_json else raw) if raw else None, response.headers)

    async def get(self) -> list[dict[str, Any]]:
        said = await self.ask("GET", "/v1/credentials", token=None)
        assert said.status == 200
        return list(said.body["credentials"])


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    log.configure("info")
    (tmp_path / "secret").write_text("client-secret\n")
    (tmp_path / "admin").write_text(ADMIN + "\n")
    async with MockIdP() as idp:
        stage = Stage(idp, tmp_path / "secret", tmp_path / "admin")
        await stage.server.serve()
        yield stage
        await stage.server.close()
        await stage.broker.close()
        await stage.tasks.close()
    assert stage.crashes == []


@pytest.fixture
def logs(capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []

    def read(event: str) -> list[dict[str, Any]]:
        lines = capsys.readouterr().err.splitlines()
        assert not any(ADMIN in line for line in lines)
        seen.extend(json.loads(line) for line in lines)
        return [line for line in seen if line["event"] == event]

    return read


def problem(said: Said) -> str:
    """The reason of a problem; checks its form."""
    assert said.headers["Content-Type"] == "application/problem+json"
    assert said.headers["Cache-Control"] == "no-store"
    assert said.body["status"] == said.status
    assert said.body["type"] == f"urn:token-sidecar:reason:{said.body['reason']}"
    assert {"title", "detail", "retryable"} <= said.body.keys()
    return str(said.body["reason"])
