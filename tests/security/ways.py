"""The ways into the sidecar, each an object that opens a client's connection and words its requests.

One upstream, ``api.example.test``, over plain TCP or TLS, and one route to it, whose name is ``api``. Inside a CONNECT
the sidecar reads requests in two ways: in plain text where the upstream is plain, else through its own TLS.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sidecar.config.model import Limits
from sidecar.proxy.gateway import Generation
from tests.proxy.raw_client import path
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.raw_client import RawClient
    from tests.proxy.rig import Rig


@dataclass(slots=True)
class Site:
    """A sidecar before one upstream, and how it is asked."""

    rig: Rig
    port: int
    tls: bool
    limits: dict[str, str] = field(default_factory=dict)
    cold: bool = False
    """No token is waited for."""

    @property
    def route(self) -> dict[str, Any]:
        """The one route."""
        route = {"name": "api", "host": API, "port": self.port, "credential": "orders"}
        return route | ({"ca_file": str(self.rig.trust.ca_file)} if self.tls else {"upstream_tls": "plain"})

    async def start(self, **changes: Any) -> None:
        """Start the sidecar, a token in hand unless it is ``cold``."""
        start = self.rig.start_cold if self.cold else self.rig.start
        await start(**({"routes": [self.route], "limits": self.limits} | changes))

    def unhurried(self) -> None:
        """Back to the default limits: the short ones are for the fault, not for what comes after it."""
        gateway = self.rig.sidecar.gateway
        now = gateway.generation
        gateway.generation = Generation(
            now.table,
            Limits(),
            forwards_unmatched=now.forwards_unmatched,
            unmatched_meters=now.unmatched_meters,
            local_ca=now.local_ca,
        )


class Way(abc.ABC):
    """A way in."""

    name: str

    @abc.abstractmethod
    async def start(self, site: Site) -> None:
        """Start the sidecar so that it can be come in by."""

    @abc.abstractmethod
    async def open(self, site: Site) -> RawClient:
        """A new connection, ready for a request."""

    def request(self, site: Site, target: str, *fields: str, method: str = "GET") -> bytes:
        """A request's head for ``target``, path and query."""
        return path(target, *fields, host=f"{API}:{site.port}", method=method)

    async def ask(self, site: Site, target: str, *fields: str, method: str = "GET") -> RawClient:
        """Open a connection and send a request on it."""
        client = await self.open(site)
        await client.send(self.request(site, target, *fields, method=method))
        return client

    def __repr__(self) -> str:
        return self.name


class Forward(Way):
    """``HTTP_PROXY``."""

    name = "forward"

    async def start(self, site: Site) -> None:
        await site.start()

    async def open(self, site: Site) -> RawClient:
        return await site.rig.client()

    def request(self, site: Site, target: str, *fields: str, method: str = "GET") -> bytes:
        host = f"{API}:{site.port}"
        return path(f"http://{host}{target}", *fields, host=host, method=method)


class Reverse(Way):
    """A base URL."""

    name = "reverse"

    async def start(self, site: Site) -> None:
        upstream = f"{'https' if site.tls else 'http'}://{API}:{site.port}"
        await site.start(listeners=[{"name": "orders", "mode": "reverse", "upstream": upstream}])

    async def open(self, site: Site) -> RawClient:
        return await site.rig.client("orders")


class Intercepted(Way):
    """A CONNECT whose inside the sidecar reads."""

    name = "intercepted"

    async def start(self, site: Site) -> None:
        if not site.tls:
            await site.start()
            return
        await site.start(interception=site.rig.interception(), routes=[site.route | {"intercept": True}])

    async def open(self, site: Site) -> RawClient:
        if site.tls:
            return await site.rig.intercepted(f"{API}:{site.port}")
        client = await site.rig.client()
        assert (await client.tunnel(f"{API}:{site.port}")).startswith(b"HTTP/1.1 200 ")
        return client


WAYS: Final[tuple[Way, ...]] = (Forward(), Reverse(), Intercepted())
