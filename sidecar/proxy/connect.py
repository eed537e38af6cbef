"""CONNECT: where a tunnel may lead, whether there is HTTP to be read inside, and how its far end is opened.

Four kinds. To a route's plain port (undici sends its http URLs this way): the tunnel is answered, and what is inside
is read as requests and gets its token. To the port of a route with ``intercept: true``: the same, inside TLS that ends
here. To any other route's port: an opaque tunnel, counted and told, because nothing inside can get a token. To anywhere
else: only where the configuration passes strangers through, and only to the web's own ports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.errors import BadRequest, Denied, SidecarError, TargetUnmatched, TunnelDenied, UpstreamError
from sidecar.proxy.authority import Origin
from sidecar.proxy.entrance import connect_authority

if TYPE_CHECKING:
    import asyncio
    import ssl

    from sidecar.config.model import Limits
    from sidecar.http.message import RequestHead
    from sidecar.proxy.admission import Admission
    from sidecar.proxy.authority import Authority
    from sidecar.proxy.entrance import Entrance
    from sidecar.proxy.gateway import Gateway, Generation
    from sidecar.proxy.minting import LocalCA
    from sidecar.proxy.parties import Client
    from sidecar.proxy.routing import Route
    from sidecar.telemetry.metrics import RouteMeters

TUNNEL_PORTS: Final = frozenset((443, 80))
"""Where unrouted tunnels may lead: a CONNECT to port 25 or 22 makes a proxy a stepping stone (RFC 9110 9.3.6)."""
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Inside(NamedTuple):
    """Requests inside the tunnel are read here, and all of them are for this authority, by this scheme.

    ``admission`` is what the CONNECT was let in by.
    """

    scheme: str
    authority: Authority
    meters: RouteMeters
    admission: Admission | None


class Intercepted(NamedTuple):
    """TLS inside the tunnel ends here, with this context, and then it is as ``inside`` says."""

    inside: Inside
    ca: LocalCA
    context: ssl.SSLContext


class Opaque(NamedTuple):
    """Bytes are passed on unread; ``route`` is the one that is bypassed by it."""

    authority: Authority
    route: Route | None
    meters: RouteMeters


def plan(
    head: RequestHead, entrance: Entrance, generation: Generation, admission: Admission | None
) -> Inside | Intercepted | Opaque:
    """Which kind of tunnel a CONNECT asks for.

    Raises:
        BadRequest, TargetUnmatched, TunnelDenied: none that is opened.
        InternalError: the certificate for an intercepted host cannot be used.
    """
    if not entrance.takes_connect:
        raise BadRequest("CONNECT goes to a forward listener")
    authority = connect_authority(head)
    routes = generation.table.candidates("http", authority).routes
    if routes and (authority.port == 80 or not routes[0].tls):
        return Inside("http", authority, routes[0].meters, admission)
    route = generation.table.tunnelled(authority)
    if route is not None and route.intercept and generation.local_ca is not None:
        ca = generation.local_ca
        inside = Inside("https", authority, route.meters, admission)
        return Intercepted(inside, ca, ca.context_for(authority.host))
    if route is not None:
        return Opaque(authority, route, route.meters)
    if not generation.forwards_unmatched:
        raise TargetUnmatched("no route matches this host and port, so no tunnel is opened to it")
    if authority.port not in TUNNEL_PORTS:
        raise TunnelDenied("tunnels to hosts without a route go to ports 443 and 80 only")
    return Opaque(authority, None, generation.unmatched_meters)


def count(meters: RouteMeters, status: int) -> None:
    """Count the answer to a CONNECT."""
    meters.answered(b"CONNECT", status).value += 1


def interception_failed(way: Intercepted, gateway: Gateway, error: SidecarError) -> None:
    """Count and tell why nothing could be read inside an intercepted tunnel."""
    if isinstance(error, Denied):
        gateway.count_denied(error)
    else:
        gateway.metrics.connections_rejected[error.reason].value += 1
    gateway.complain(way.inside.meters, error)


async def dial(end: asyncio.Protocol, way: Opaque, client: Client, limits: Limits) -> None:
    """Open the far end of an opaque tunnel, counted and told; ``end`` is its protocol.

    Raises:
        UpstreamError, AddressDenied: counted and told as well.
    """
    gateway = client.gateway
    host, port = way.authority
    origin = Origin(False, host, port or 443, None, way.route is not None)
    try:
        await gateway.pool.open_tunnel(origin, limits, end)
    except SidecarError as error:
        if isinstance(error, UpstreamError):
            way.meters.upstream_errors[error.reason].value += 1
        elif isinstance(error, Denied):
            client.denied(error, host.encode())
        gateway.complain(way.meters, error)
        count(way.meters, error.status)
        raise
    count(way.meters, 200)
    if way.route is not None:
        gateway.note_bypass(way.route, way.authority)
