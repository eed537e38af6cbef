"""The sidecar with everything that it talks to, in this process: a provider, origins, and clients by hand.

All sockets are real ones on loopback. Names are resolved by a table of the test, so that origins have the host names
that a configuration would have.
"""

from __future__ import annotations

import asyncio
import copy
import json
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import trustme

from sidecar.app import Sidecar
from sidecar.config import load
from sidecar.proxy.connection import ClientConnection
from sidecar.runtime import SystemClock
from sidecar.telemetry import log
from tests.config import authorities
from tests.end_to_end.sidecar_process import Readings
from tests.end_to_end.waiting import free_port, until
from tests.proxy.raw_client import RawClient

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.broker.credential import Credential
    from sidecar.simulation.idp import MockIdP
    from tests.proxy.raw_origin import Origin

SLICE_SECONDS: Final = 0.05
"""How soon a sleeper notices that time was moved on."""
API: Final = "api.example.test"
"""The host of the routes that tests use unless they say otherwise."""


class Shifted:
    """The machine's clocks, and so many seconds more as the test says: tokens age at once, sockets do not."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._machine = SystemClock()

    def now(self) -> float:
        return self._machine.now() + self.ahead

    def wall(self) -> float:
        return self._machine.wall() + self.ahead

    async def sleep_until(self, at: float) -> None:
        while (left := at - self.now()) > 0:
            await asyncio.sleep(min(left, SLICE_SECONDS))


@dataclass(frozen=True, slots=True)
class Trust:
    """A test CA and where its certificate lies."""

    ca: trustme.CA
    ca_file: Path

    @classmethod
    def found(cls, folder: Path, name: str = "ca") -> Trust:
        ca = trustme.CA()
        ca_file = folder / f"{name}.pem"
        ca.cert_pem.write_to_path(str(ca_file))
        return cls(ca, ca_file)

    def server(self, *names: str, **issue: Any) -> ssl.SSLContext:
        """The TLS of a server with a certificate for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names, **issue).configure_cert(context)
        return context


@dataclass
class Rig:
    """What a test holds in its hands.

    Attributes:
        names: what the resolver answers; a list of addresses, or None for a name that does not exist.
        loop_errors: what the event loop's exception handler was told; nothing ever should.
    """

    trust: Trust
    folder: Path
    idp: MockIdP
    secure: Origin
    """Over TLS, as ``api.example.test``."""
    plain: Origin
    names: dict[str, list[str] | None] = field(default_factory=lambda: {API: ["127.0.0.1"]})
    loop_errors: list[dict[str, Any]] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    clock: Shifted = field(default_factory=Shifted)
    _sidecar: Sidecar | None = None

    # --- the configuration ---

    def route(self, **changes: Any) -> dict[str, Any]:
        """A route to the origin over TLS."""
        route = {
            "name": "api",
            "host": API,
            "port": self.secure.port,
            "credential": "orders",
            "ca_file": str(self.trust.ca_file),
        }
        return route | changes

    def plain_route(self, **changes: Any) -> dict[str, Any]:
        """A route to the plain origin."""
        route = {"name": "plain", "host": "localhost", "port": self.plain.port, "upstream_tls": "plain"}
        return route | {"credential": "orders"} | changes

    def credential(self, **changes: Any) -> dict[str, Any]:
        """A credential of the provider's client."""
        credential = {
            "grant": "client_credentials",
            "token_url": self.idp.token_url,
            "client_id": "client",
            "client_secret": "client-secret",
        }
        return credential | changes

    def configuration(self, **changes: Any) -> dict[str, Any]:
        """A forward listener, both routes, one credential; ``changes`` replace whole keys of the file."""
        configuration: dict[str, Any] = {
            "listeners": [{"name": "egress", "mode": "forward"}],
            "credentials": {"orders": self.credential()},
            "routes": [self.route(), self.plain_route()],
            "allow_inline_secrets": True,
        }
        configuration |= changes
        return configuration

    def text(self, configuration: dict[str, Any]) -> str:
        """The file, with a port for every listener that has none; names keep their ports."""
        complete = copy.deepcopy(configuration)
        complete.setdefault("telemetry", {}).setdefault("bind", f"127.0.0.1:{self.port('telemetry')}")
        for listener in complete["listeners"]:
            listener.setdefault("bind", f"127.0.0.1:{self.port(listener['name'])}")
        return json.dumps(complete)

    def port(self, listener: str) -> int:
        """The port of a listener, or of ``telemetry``."""
        return self.ports.setdefault(listener, free_port())

    def interception(self, *hosts: str) -> dict[str, Any]:
        """A local CA for these hosts: the section of the configuration. Clients trust it by ``inside``."""
        key = authorities.new_key()
        chain = authorities.constrained(key, hosts or (API,))
        file, key_file = authorities.write(self.folder, key, *chain)
        return {"certificate": str(file), "key": f"file:{key_file}"}

    def inside(self) -> ssl.SSLContext:
        """The TLS of a client that trusts the local CA and nobody else."""
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))

    # --- the sidecar ---

    async def start(self, **changes: Any) -> Sidecar:
        """Start it with a changed configuration, and wait for the first token where the provider gives one."""
        sidecar = await self.start_cold(**changes)
        await self.has_tokens()
        return sidecar

    async def has_tokens(self) -> None:
        """Wait until every credential has a token."""

        def all_have() -> bool:
            return all(credential.usable(self.clock.now()) for credential in self.sidecar.broker.credentials())

        await until(all_have, "every credential has a token")

    async def start_cold(self, **changes: Any) -> Sidecar:
        """Start it, token or not."""
        self.file.write_text(self.text(self.configuration(**changes)))
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.loop_errors.append(context))
        sidecar = Sidecar(load.load(self.file), clock=self.clock, lookup=self._look_up)
        await sidecar.start()
        self._sidecar = sidecar
        self.stack.push_async_callback(self.stop)
        return sidecar

    async def stop(self) -> None:
        """End it, if it runs."""
        if self._sidecar is not None:
            sidecar, self._sidecar = self._sidecar, None
            await sidecar.close()

    @property
    def file(self) -> Path:
        return self.folder / "sidecar.yaml"

    @property
    def sidecar(self) -> Sidecar:
        assert self._sidecar is not None, "it was not started"
        return self._sidecar

    @property
    def orders(self) -> Credential:
        return self.sidecar.broker.credential("orders")

    async def _look_up(self, host: str) -> list[str]:
        if host == "localhost":
            return ["127.0.0.1"]
        addresses = self.names.get(host)
        if addresses is None:
            raise OSError(f"no address for {host}")
        return addresses

    # --- looking ---

    async def client(self, listener: str = "egress", **how: Any) -> RawClient:
        """A new connection to a listener; closed with the test."""
        return await self.stack.enter_async_context(await RawClient.to(self.port(listener), **how))

    async def intercepted(self, authority: str = "", *, name: str | None = API) -> RawClient:
        """A new connection to the forward listener, and TLS inside a CONNECT on it."""
        client = await self.client()
        head = await client.tunnel(authority or f"{API}:{self.secure.port}")
        assert head.startswith(b"HTTP/1.1 200 "), head
        await client.start_tls(self.inside(), name)
        return client

    def metrics(self) -> Readings:
        """One reading of all metrics."""
        return Readings(self.sidecar.metrics.render()[0].decode())

    def value(self, name: str, **labels: str) -> float:
        """The one sample of this name with these labels."""
        return self.metrics().value(name, **labels)

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name with these labels."""
        return self.metrics().total(name, **labels)

    def connections(self) -> list[ClientConnection]:
        """The clients' connections that requests are read from, of the first listener."""
        return [each for each in self.sidecar.listeners[0].holders if isinstance(each, ClientConnection)]

    async def at_rest(self) -> None:
        """Wait until no request is in work and no task of one is left."""

        def rests() -> bool:
            return not self.total("http_requests_in_flight") and not self.busy_tasks()

        try:
            await until(rests, "nothing is in work any more", seconds=5)
        except AssertionError as error:
            error.add_note(f"still there: {self.busy_tasks()}, {self.total('http_requests_in_flight')} in flight")
            raise

    def busy_tasks(self) -> list[str]:
        """Names of the tasks that belong to requests."""
        kept = ("refresh:", "sleep:", "fetch:", "telemetry", "watch", "sweep", "event loop lag", "reload")
        names = [task.get_name() for task in self.sidecar._tasks._running]
        return [name for name in names if not name.startswith(kept)]

    async def __aenter__(self) -> Self:
        log.configure("info")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stack.aclose()
