"""Routes and what a request finds of them, for tests about decisions."""

from __future__ import annotations

from typing import Any, cast

from sidecar.errors import SidecarError
from sidecar.proxy.authority import split_absolute
from sidecar.proxy.routing import Route, RoutingTable


def route(
    label: str = "r",
    host: str = "api.example.com",
    *,
    port: int = 443,
    tls: bool = True,
    paths: tuple[bytes, ...] = (b"/",),
    methods: tuple[bytes, ...] = (),
) -> Route:
    """A route as the composition root builds it; what it counts and injects does not matter here."""
    nothing = cast("Any", None)
    return Route(
        label=label,
        host=host.removeprefix("*."),
        suffix=host.startswith("*."),
        port=port,
        tls=tls,
        paths=paths,
        methods=frozenset(methods),
        credential=nothing,
        meters=nothing,
    )


def found(table: RoutingTable, url: bytes, method: bytes = b"GET") -> str:
    """The label of the route that a forward request takes, or the reason why none."""
    try:
        target = split_absolute(url, method)
        return table.find(target.scheme, target.authority).match(method, target.path).label
    except SidecarError as error:
        return error.reason
