"""Which route a request belongs to: one canonical authority, the normalised path, the method. Pure decisions.

One canonical value drives everything that follows: the route, the DNS name, SNI, the certificate check and the token.
Whatever two readers could take for different hosts is refused: userinfo, percent-encoding, numeric spellings of IPv4
that are not four decimal numbers, empty labels. Hosts are compared whole, never as substrings or patterns.

Paths are forwarded byte for byte and matched as an upstream might resolve them, whichever way it does: a path that
some reader could take out of the route's prefix, were it only on its way, is not below that prefix.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from sidecar.errors import BadRequest, RouteMismatch, TargetUnmatched

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.broker.credential import Credential
    from sidecar.telemetry.metrics import RouteMeters

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
UNMATCHED: Final = "_unmatched"
_HOST_BYTES: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-._"
_MAX_HOST: Final = 253
_MAX_LABEL: Final = 63
_CACHED_AUTHORITIES: Final = 512


class Authority(NamedTuple):
    """Host and port in canonical form: lower case, no trailing dot, addresses as ``ipaddress`` writes them."""

    host: str
    port: int | None

    def netloc(self, default_port: int) -> str:
        """As it stands in a Host field: brackets around IPv6, no port where it is the default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (None, default_port) else f"{host}:{self.port}"


def parse_authority(raw: bytes) -> Authority:
    """Read ``host``, ``host:port``, ``[v6]`` or ``[v6]:port`` (RFC 3986 section 3.2) in one way only.

    Raises:
        BadRequest: anything that another reader might take for another host.
    """
    text = raw.lower()
    if text.startswith(b"["):
        literal, bracket, tail = text[1:].partition(b"]")
        if not bracket:
            raise BadRequest("the host is not valid")
        host = _ipv6(literal)
    else:
        name, colon, port = text.partition(b":")
        host, tail = _name_or_ipv4(name), colon + port
    if not tail:
        return Authority(host, None)
    digits = tail[1:]
    if tail[:1] != b":" or not digits.isdigit() or len(digits) > 5 or not 0 < int(digits) < 65536:
        raise BadRequest("the port is not a number from 1 to 65535")
    return Authority(host, int(digits))


def _ipv6(literal: bytes) -> str:
    try:
        address = ipaddress.IPv6Address(literal.decode("ascii"))
    except (ValueError, UnicodeDecodeError) as exc:
        raise BadRequest("the host is not a valid IPv6 address") from exc
    if address.scope_id is not None:
        raise BadRequest("an IPv6 zone has no meaning for an upstream")
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _name_or_ipv4(name: bytes) -> str:
    name = name.removesuffix(b".")
    if not name or len(name) > _MAX_HOST or name.translate(None, _HOST_BYTES):
        raise BadRequest("the host is not valid")
    labels = name.split(b".")
    if not all(0 < len(label) <= _MAX_LABEL for label in labels):
        raise BadRequest("the host has an empty or over-long label")
    last = labels[-1]
    if last.isdigit() or last.startswith(b"0x"):
        # Ends in a number, so some readers take it for IPv4 in hex, octal or short form: only one spelling is taken.
        try:
            return str(ipaddress.IPv4Address(name.decode()))
        except ValueError as exc:
            raise BadRequest("the host is a number, but not an IPv4 address in four decimal parts") from exc
    return name.decode()


class Origin(NamedTuple):
    """Where a request goes, and what makes two connections interchangeable.

    ``routed`` (a route names the host) is part of it, because the address rules differ.
    """

    tls: bool
    host: str
    port: int
    ca_file: str | None
    routed: bool

    @property
    def netloc(self) -> bytes:
        """The Host field's value."""
        return Authority(self.host, self.port).netloc(443 if self.tls else 80).encode()


class Target(NamedTuple):
    """A request target in absolute form, taken apart."""

    scheme: str
    authority: bytes
    path: bytes
    """Origin-form: path and query as sent; ``/`` for none (RFC 9112 section 3.2.1)."""


def split_absolute(target: bytes, method: bytes) -> Target:
    """Take an absolute-form target apart (RFC 9112 section 3.2.2).

    Raises:
        BadRequest: not http or https, or no host.
    """
    scheme, separator, rest = target.partition(b"://")
    name = scheme.lower().decode("ascii", "replace")
    if not separator or name not in DEFAULT_PORTS:
        raise BadRequest("a forward proxy takes absolute targets: http://host/path")
    cut = len(rest)
    for mark in (b"/", b"?"):
        if 0 <= (at := rest.find(mark)) < cut:
            cut = at
    authority, path = rest[:cut], rest[cut:]
    if not path:
        path = b"*" if method == b"OPTIONS" else b"/"
    elif path.startswith(b"?"):
        path = b"/" + path
    return Target(name, authority, path)


_MOST_DECODINGS: Final = 2
_NO_NAMES: Final = frozenset((b"", b"."))
_NO_CONTROLS: Final = bytes(byte for byte in range(0x20, 0x100) if byte != 0x7F)


def path_forms(path: bytes) -> tuple[bytes, ...]:
    """What has to be below a prefix for the path to be below it, whoever reads it: the path as sent, and, where it
    climbs, the highest folder that it may reach on its way.

    Readers differ in what they decode, whether slashes in a row are one, a backslash is a slash, and what follows ``;``
    belongs to the name; and these mix freely (WHATWG URLs climb by ``%2e%2e`` but do not split at ``%2f``). So a step
    up counts where any reader may see it, a step down only where all do. The query is not part of the path.

    Raises:
        BadRequest: it is still encoded after two decodings, or a decoded form holds a control character.
    """
    path = path.partition(b"?")[0]
    if not (b"%" in path or b"/." in path or b"//" in path or b";" in path or b"\\" in path):
        return (path,)
    segments = path.split(b"/")[1:]
    depth, highest = 0, len(segments)
    for segment in segments:
        names = _names(segment)
        if climbs := names.count(b".."):
            depth = max(depth - climbs, 0)
            highest = min(highest, depth)
        elif _NO_NAMES.isdisjoint(names):
            depth += 1
    if highest == len(segments):
        return (path,)
    return (path, b"/" + b"".join(segment + b"/" for segment in segments[:highest]))


def _names(segment: bytes) -> list[bytes]:
    """The names into which a reader may take a segment apart: decoded, split at every slash, without parameters."""
    decoded = segment
    if b"%" in segment:
        for _ in range(_MOST_DECODINGS):
            decoded = unquote_to_bytes(decoded)
        if unquote_to_bytes(decoded) != decoded:
            raise BadRequest("the path is encoded more than twice over")
        if decoded.translate(None, _NO_CONTROLS):
            raise BadRequest("the path holds an encoded control character")
    return [name.partition(b";")[0] for name in decoded.replace(b"\\", b"/").split(b"/")]


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
    accepted_generation: int = field(default=0)

    @property
    def takes_all(self) -> bool:
        """Every path and every method but TRACE: nothing about the request needs to be looked at."""
        return not self.methods and self.paths == (b"/",)

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
