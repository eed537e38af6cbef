"""Routes that do not do what they look like: one hides another, or lets through what it seems to cover.

How a route is chosen is decided in ``proxy.routing``; what would make two of them equal is an error already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.preflight.findings import Finding
from sidecar.preflight.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.config.found import Path
    from sidecar.config.model import Route
    from sidecar.preflight.subject import Subject


def lint(subject: Subject) -> Iterator[Finding]:
    """Everything about routes among each other."""
    every = list(subject.configuration.routes)
    for path, route in subject.routes():
        yield from _shadowed(path, route, every)
        yield from _falls_through(path, route, every)
        yield from _covered(path, route)


def _shadowed(path: Path, route: Route, every: list[Route]) -> Iterator[Finding]:
    """http://host means the route's port under TLS, so of two ports the first in the table's order is meant."""
    if route.upstream_tls == "plain":
        return
    rivals = [each for each in every if each.host == route.host and each.upstream_tls == "required"]
    first = min(rivals, key=lambda each: each.upstream_port != 443)
    if first.upstream_port != route.upstream_port:
        message = (
            f"a URL without a port means port {first.upstream_port}; this route needs :{route.upstream_port} in it"
        )
        yield Finding(Kind.ROUTE_SHADOWED, (*path, "port"), message)


def _falls_through(path: Path, route: Route, every: list[Route]) -> Iterator[Finding]:
    """A less specific host is asked when no path and method of the more specific one fit."""
    same = [each for each in every if (each.host, each.upstream_port) == (route.host, route.upstream_port)]
    if same[0] is not route or any(_takes_all(each) for each in same):
        return
    for other in every:
        is_wider = other.host.startswith("*.") and other.host != route.host and _below(route.host, other.host)
        if is_wider and other.upstream_port == route.upstream_port and other.credential != route.credential:
            message = f"what its paths and methods leave out goes to {other.host}, with the token of {other.credential}"
            yield Finding(Kind.ROUTE_FALLS_THROUGH, (*path, "host"), message)
            return


def _takes_all(route: Route) -> bool:
    return route.paths == ("/",) and not route.methods


def _below(host: str, pattern: str) -> bool:
    return host.removeprefix("*").endswith(pattern[1:])


def _covered(path: Path, route: Route) -> Iterator[Finding]:
    for at, prefix in enumerate(route.paths):
        shorter = [other for other in route.paths if other != prefix and _covers(other, prefix)]
        if shorter:
            yield Finding(Kind.ROUTE_PATH_COVERED, (*path, "paths", at), f"{shorter[0]} covers {prefix} already")


def _covers(prefix: str, path: str) -> bool:
    """As ``proxy.routing`` has it: a prefix without a slash at its end covers itself and what is below."""
    return path.startswith(prefix if prefix.endswith("/") else f"{prefix}/")
