"""A request at the door: whether it has been here before, whether who sent it may, and which entrance it takes.

Most requests come to a listener that asks nothing of them, and never come here. Inside a tunnel that is read here the
CONNECT was asked; what a reload has changed since counts for the next request inside, too: a listener that is gone, a
user who may no longer, a password that is another one now.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sidecar.proxy.entrance import Entrance, TunnelEntrance
from sidecar.proxy.exchange import refuse_loop

if TYPE_CHECKING:
    import asyncio

    from sidecar.http.message import RequestHead
    from sidecar.proxy.connect import Inside
    from sidecar.proxy.gateway import Gateway
    from sidecar.proxy.parties import Listening
    from sidecar.proxy.routing import Route


_END_OF_AUTHORITY: Final = re.compile(rb"[/?#]")


def receive(
    head: RequestHead,
    raw: bytes,
    *,
    listener: Listening,
    inside: Inside | None,
    transport: asyncio.Transport,
    gateway: Gateway,
) -> Entrance:
    """The entrance for a request.

    Args:
        head: checked; what is meant for the listener alone is taken out of it.
        raw: the same as it was received.
        inside: the tunnel that it came out of, if any.
        transport: what it came by.

    Raises:
        LoopDetected, ProxyAuthRequired, KeyRefused, PeerRefused
    """
    if head.via:
        refuse_loop(head, gateway.pseudonym)
    admission = listener.admission
    if inside is None:
        if admission is not None:
            admission.check(head, raw, transport)
        return listener.entrance
    if admission is not None and admission is not inside.admission:
        head.close = True  # there is nothing that a client could do about it in here
        admission.check_tunnel(transport)
    if listener.retired:
        return listener.entrance  # which admits nothing any more
    return TunnelEntrance(gateway.generation.table.candidates(inside.scheme, inside.authority))


def named_host(head: RequestHead | None) -> bytes:
    """The host that a request is for, as it was sent and before anything is checked; empty if it names none."""
    if head is None:
        return b""
    if head.method == b"CONNECT":
        return head.target
    if head.target.startswith(b"/"):
        return head.host or b""
    authority = _END_OF_AUTHORITY.split(head.target.partition(b"://")[2], 1)[0]
    return authority.rpartition(b"@")[2] or head.host or b""


def pass_on(head: RequestHead, route: Route | None, *, trusts_forwarded: bool) -> None:
    """Put fields that may mislead an upstream back among those that go on, where they cannot.

    What gets no token goes on untouched. With a token, upstreams trust what a request says of earlier hops (Forwarded,
    X-Forwarded-*), so an app may say that only on a listener that trusts it; and some let a field override the path or
    the method that the route was chosen by, which matters where the route does not take them all.
    """
    if route is None or trusts_forwarded:
        head.lines += head.forwarded
    if route is None or route.takes_all:
        head.lines += head.overrides
