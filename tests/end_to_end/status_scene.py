"""A sidecar with a credential in every state and some traffic, for whoever looks at its status page."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from sidecar.app import Sidecar
from sidecar.config import load
from sidecar.simulation.idp import Client, MockIdP, Refreshing, Step
from tests.broker.store_kit import key_file
from tests.end_to_end.waiting import free_port, until
from tests.proxy.raw_client import get
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.rig import Rig

ADMIN: Final = "cn4ry-admin-token-of-the-page"
AHEAD: Final = 3000.0
"""Seconds that pass once every credential has its first token."""
FAILURE: Final = Step(status=503, body=b"<html>maintenance</html>", headers={"Content-Type": "text/html"})
STATES: Final = {
    "orders": "fresh",
    "catalog": "fresh",
    "billing": "due",
    "search": "failing",
    "ledger": "stale",
    "repository": "login_needed",
}
LIFETIMES: Final = {"orders": 7200.0, "catalog": 14400.0, "billing": 3400.0, "search": 3400.0, "ledger": 1800.0}


@dataclass
class Scene:
    """What a test of the page holds in its hands."""

    rig: Rig
    providers: dict[str, MockIdP] = field(default_factory=dict)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    admin_port: int = field(default_factory=free_port)
    grant: str = "device_code"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    async def __aenter__(self) -> Self:
        for name in STATES:
            provider = MockIdP(ttl=LIFETIMES.get(name, 3600.0), scopes=frozenset({f"{name}.read"}), jwt="ES256")
            self.providers[name] = await self.stack.enter_async_context(provider)
        app = Client(
            auth=frozenset({"none"}),
            redirect_uris=("http://127.0.0.1/callback",),
            any_loopback_port=True,
            refreshing=Refreshing(),
        )
        self.providers["repository"].register("app", app)
        self.providers["repository"].device_interval = 0.05
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.hold.set()
        await self.stack.aclose()

    def log_in_by_link(self) -> None:
        """Let the credential that needs a login be one that a browser comes back for."""
        self.grant = "authorization_code"

    def configuration(self, **changes: Any) -> dict[str, Any]:
        (self.rig.folder / "admin").write_text(ADMIN + "\n")
        key_file(self.rig.folder)
        credentials = {name: self._credential(name) for name in STATES}
        credentials["repository"] = {
            "grant": self.grant,
            "client_auth": "none",
            "client_id": "app",
            "issuer": self.providers["repository"].issuer,
        }
        routes = [self.rig.route(name="orders-api", paths=["/v1/"], methods=["GET", "POST"])]
        routes += [
            self.rig.route(name=f"{name}-api", credential=name, paths=[f"/{name}/"])
            for name in STATES
            if name != "orders"
        ]
        return self.rig.configuration(
            credentials=credentials,
            routes=routes,
            admin={"bind": f"127.0.0.1:{self.admin_port}", "token": f"file:{self.rig.folder / 'admin'}"},
            store={"path": str(self.rig.folder / "tokens"), "key": f"file:{self.rig.folder / 'store-key'}"},
            limits={"token_wait": "50ms", "token_request": "2m"},
            **changes,
        )

    def _credential(self, name: str) -> dict[str, Any]:
        secret = self.rig.folder / f"{name}-secret"
        secret.write_text("client-secret\n")
        where = self.providers[name].token_url
        return self.rig.credential(token_url=where, client_secret=f"file:{secret}", scopes=[f"{name}.read"])

    async def start(self, **changes: Any) -> Sidecar:
        """Start it; every renewal comes as late as it may."""
        rig = self.rig
        rig.file.write_text(rig.text(self.configuration(**changes)))
        asyncio.get_running_loop().set_exception_handler(lambda _, context: rig.loop_errors.append(context))
        sidecar = Sidecar(load.load(rig.file), clock=rig.clock, draw=lambda _, high: high, lookup=rig._look_up)
        await sidecar.start()
        rig._sidecar = sidecar
        rig.stack.push_async_callback(rig.stop)
        rig.clock.ahead += 4  # the spread of a start
        return sidecar

    def state(self, name: str) -> str:
        return self.rig.sidecar.broker.credential(name).status().state.value

    async def age(self) -> None:
        """Let time go on until every credential is in the state that it stands for."""
        await until(lambda: all(self.state(name) == "fresh" for name in LIFETIMES), "the first tokens are there")
        self.providers["billing"].always(Step(hold=self.hold))
        for name in ("search", "ledger"):
            self.providers[name].always(FAILURE)
        self.rig.clock.ahead += AHEAD
        await until(
            lambda: all(self.state(name) == state for name, state in STATES.items()), "every state is there", seconds=30
        )

    async def traffic(self) -> None:
        """A few requests of every kind."""
        client = await self.rig.client()
        for target in ("/v1/orders?page=2", "/v1/orders/4711", "/v1/customers", "/ledger/accounts", "/nowhere"):
            await client.ask(get(f"http://{API}{target}"))
        await client.ask(get("http://elsewhere.example.test/"))

    async def reload(self) -> None:
        """Take over another configuration."""
        changed = self.configuration(log={"level": "warning"}, unmatched="deny")
        changed["routes"][0]["methods"] = ["GET", "POST", "PUT"]
        changed["credentials"]["orders"]["stale_for"] = "30s"
        self.rig.file.write_text(self.rig.text(changed))
        assert await self.rig.sidecar.reload(self.rig.file)
