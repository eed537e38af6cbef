"""A configuration of the user's on a stage: its credentials, routes and limits, between sockets of this process alone.

Decides what is kept and what is replaced. Kept is what the rehearsal is about: which route takes which credential, all
limits, how failures are answered. Replaced is every address: the proxy is one forward listener on a free port, every
upstream is an echo on loopback, and no name is looked up anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.config import hosts
from sidecar.config.model import NEEDS_LOGIN, Bind, Listener, Log, Simulation, Store, Telemetry
from sidecar.rehearsal.credentials import rehearsed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.config.model import Configuration, Credential, Route
    from sidecar.rehearsal.made_up import MadeUp
    from sidecar.simulation.idp import MockIdP

LISTENER: Final = "rehearsal"
_ANYWHERE: Final = Bind(host="127.0.0.1", port=0)


@dataclass(frozen=True, slots=True)
class Call:
    """How a route is called."""

    route: str
    method: str
    url: str


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The configuration as it is rehearsed, how its routes are called, and what is different about it."""

    configuration: Configuration
    calls: tuple[Call, ...]
    notes: tuple[str, ...]


def upstream_ports(configuration: Configuration) -> list[int]:
    """The ports that routes lead to: each gets an echo of its own, so that no two routes become one."""
    return list(dict.fromkeys(route.upstream_port for route in configuration.routes))


def arranged(
    original: Configuration, *, idps: Mapping[str, MockIdP], echoes: Mapping[int, int], made_up: MadeUp
) -> Arrangement:
    """Put it on the stage.

    Args:
        original: the user's.
        idps: the provider of each credential.
        echoes: for each port that routes lead to, the one that it leads to here.
        made_up: makes secrets.
    """
    credentials: dict[str, Credential] = {}
    notes: list[str] = []
    for name, credential in original.credentials.items():
        result = rehearsed(name, credential, idp=idps[name], made_up=made_up)
        credentials[name] = result.credential
        notes += [f"credential {name}: {note}" for note in result.notes]
    routes = tuple(_route(number, route, echoes) for number, route in enumerate(original.routes, 1))
    configuration = msgspec.structs.replace(
        original,
        listeners=(Listener(name=LISTENER, bind=_ANYWHERE),),
        telemetry=Telemetry(bind=_ANYWHERE),
        admin=None,
        credentials=credentials,
        routes=routes,
        unmatched="deny",
        interception=None,
        store=_store(original, made_up),
        simulation=Simulation(),
        log=Log(level="error"),
    )
    return Arrangement(configuration, tuple(_call(route) for route in routes), tuple(notes))


def _route(number: int, route: Route, echoes: Mapping[int, int]) -> Route:
    """Its host is kept, for it is only a name here; an address would lead to somebody."""
    host = route.host
    return msgspec.structs.replace(
        route,
        name=route.label,
        host=f"address-{number}.rehearsal.test" if hosts.is_address(host) else host,
        port=echoes[route.upstream_port],
        upstream_tls="plain",
        ca_file=None,
        intercept=False,
    )


def _call(route: Route) -> Call:
    host = f"any{route.host[1:]}" if route.host.startswith("*.") else route.host
    method = "GET" if not route.methods or "GET" in route.methods else route.methods[0]
    return Call(route.label, method, f"http://{host}:{route.upstream_port}{route.paths[0]}")


def _store(original: Configuration, made_up: MadeUp) -> Store | None:
    if not any(credential.grant in NEEDS_LOGIN for credential in original.credentials.values()):
        return None
    folder = made_up.folder / "store"
    folder.mkdir(mode=0o700)
    return Store(path=str(folder), key=made_up.store_key())
