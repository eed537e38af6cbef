"""Which route a request belongs to: by its canonical authority, its path in every form, and its method.

Hosts are compared whole, never as substrings or patterns. A path whose forms do not all stay below the route's prefix
matches nothing. What matches a host, but no path or method of its, is refused and never passed through.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Self

from sidecar.errors import RouteMismatch, TargetUnmatched
from sidecar.proxy.authority import DEFAULT_PORTS, Authority, Origin, parse_authority
from sidecar.proxy.paths import path_forms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.broker.credential import Credential
    from sidecar.config import model
    from sidecar.telemetry.metrics import RouteMeters

_CACHED_AUTHORITIES: Final = 512


@dataclass(slots=True, eq=False)
class Route:
    """A route at work: what the configuration says, the credential it names, and what it has counted and learnt.

    Attributes:
        label: the metric label.
        host: canonical; with ``suffix`` set, what must follow after at least one further label.
        suffix: the route was written ``*.example.com``.
        port: the upstream's port.
        tls: the upstream is spoken to over TLS; False only by the explicit ``upstream_tls: plain``.
        paths: prefixes; one that ends in ``/`` covers what is below it, another the path itself and what is below.
        methods: empty for all.
        intercept: a CONNECT to it is opened, to put the token on the requests inside.
        accepted_generation: the last generation of the token that the upstream took.
    """

    label: str
    host: str
    suffix: bool
    port: int
    tls: bool
    paths: tuple[bytes, ...]
    methods: frozenset[bytes]
    credential: Credential
    meters: RouteMeters
    if_present: Literal["replace", "keep", "reject"] = "replace"
    fail_open: bool = False
    ca_file: str | None = None
    intercept: bool = False
    accepted_generation: int = field(default=0)
    takes_all: bool = field(init=False)
    """Every path and every method but TRACE: nothing about the request needs to be looked at."""

    @classmethod
    def of(cls, config: model.Route, *, credential: Credential, meters: RouteMeters) -> Self:
        """A route of the configuration, at work."""
        return cls(
            label=config.label,
            host=config.host.removeprefix("*."),
            suffix=config.host.startswith("*."),
            port=config.upstream_port,
            tls=config.upstream_tls == "required",
            paths=tuple(path.encode() for path in config.paths),
            methods=frozenset(method.encode() for method in config.methods),
            credential=credential,
            meters=meters,
            if_present=config.if_present,
            fail_open=config.on_failure == "open",
            ca_file=config.ca_file,
            intercept=config.intercept,
        )

    def __post_init__(self) -> None:
        self.takes_all = not self.methods and self.paths == (b"/",)

    def covers_host(self, host: str) -> bool:
        return host.endswith("." + self.host) if self.suffix else host == self.host

    def covers_port(self, scheme: str, port: int | None) -> bool:
        """Whether a target with this scheme and port means this route.

        Over TLS an http target without a port, or with :80, takes the route's port; https never leaves as http.
        """
        if self.tls:
            if scheme == "http" and port in (None, 80):
                return True
            return (DEFAULT_PORTS[scheme] if port is None else port) == self.port
        return scheme == "http" and (80 if port is None else port) == self.port

    def longest_prefix(self, forms: tuple[bytes, ...]) -> int:
        """Length of the longest prefix that holds for every form of the path; -1 if none does."""
        longest = -1
        for prefix in self.paths:
            if len(prefix) > longest and all(_below(form, prefix) for form in forms):
                longest = len(prefix)
        return longest

    def takes_method(self, method: bytes) -> bool:
        # TRACE would send the token back to the app in the answer's body.
        return (not self.methods or method in self.methods) and method != b"TRACE"

    def __repr__(self) -> str:
        return f"<Route {self.label}>"


def _below(path: bytes, prefix: bytes) -> bool:
    if prefix.endswith(b"/"):
        return path.startswith(prefix)
    return path == prefix or path.startswith(prefix + b"/")


@dataclass(frozen=True, slots=True)
class Candidates:
    """The routes of one authority, best first, and the authority they were found for."""

    scheme: str
    authority: Authority
    routes: tuple[Route, ...]
    _legs: dict[Route | None, tuple[Origin, bytes]] = field(default_factory=dict, compare=False, repr=False)

    def leg(self, route: Route | None) -> tuple[Origin, bytes]:
        """Origin and Host of the way out: by a route, or without one straight to what was asked for."""
        known = self._legs.get(route)
        if known is None:
            host, port = self.authority
            if route is None:
                origin = Origin(self.scheme == "https", host, port or DEFAULT_PORTS[self.scheme], None, False)
            else:
                origin = Origin(route.tls, host, route.port, route.ca_file, True)
            known = self._legs[route] = (origin, origin.netloc)
        return known

    def match(self, method: bytes, path: bytes) -> Route:
        """The most specific route for this method and path.

        Raises:
            TargetUnmatched: the authority has no route at all.
            RouteMismatch: it has, but none for this path and method; never falls back to passing through.
        """
        routes = self.routes
        if not routes:
            raise TargetUnmatched("no route matches this host and port")
        if len(routes) == 1 and routes[0].takes_all and method != b"TRACE":
            return routes[0]
        forms = path_forms(b"/" if path == b"*" else path)
        best: Route | None = None
        best_rank: tuple[int, int] = (-1, -1)
        best_host: tuple[bool, int] | None = None
        for route in routes:
            host_rank = (not route.suffix, len(route.host))
            if best is not None and host_rank != best_host:
                break  # the routes are sorted by host: what follows is less specific
            length = route.longest_prefix(forms)
            rank = (length, bool(route.methods))
            if length >= 0 and rank > best_rank and route.takes_method(method):
                best, best_rank, best_host = route, rank, host_rank
        if best is None:
            raise RouteMismatch("the host has a route, but none for this path and method")
        return best


class RoutingTable:
    """All routes of a generation, found by canonical authority."""

    def __init__(self, routes: Iterable[Route]) -> None:
        # Exact hosts first, then longer suffixes; among equals TLS on its default port answers a target without port.
        self.routes: tuple[Route, ...] = tuple(
            sorted(routes, key=lambda route: (route.suffix, -len(route.host), not route.tls, route.port != 443))
        )
        self._cache: OrderedDict[tuple[str, bytes], Candidates] = OrderedDict()

    def find(self, scheme: str, raw_authority: bytes) -> Candidates:
        """Candidates for an authority as sent; remembered, because an app calls the same few hosts again and again.

        Raises:
            BadRequest: the authority is not valid.
        """
        key = (scheme, raw_authority)
        found = self._cache.get(key)
        if found is None:
            authority = parse_authority(raw_authority)
            found = self._cache[key] = self.candidates(scheme, authority)
            if len(self._cache) > _CACHED_AUTHORITIES:
                self._cache.popitem(last=False)
        return found

    def candidates(self, scheme: str, authority: Authority) -> Candidates:
        """The routes whose host and port match; where portless targets could mean two ports, the first in order."""
        host, port = authority
        matching = [route for route in self.routes if route.covers_host(host) and route.covers_port(scheme, port)]
        if matching:
            port_of_best = matching[0].port
            matching = [route for route in matching if route.port == port_of_best]
        return Candidates(scheme, authority, tuple(matching))

    def tunnelled(self, authority: Authority) -> Route | None:
        """The route that a CONNECT to this authority bypasses: same host, and the port is the upstream's own."""
        for route in self.routes:
            if route.covers_host(authority.host) and route.port == authority.port:
                return route
        return None
