"""What a listener takes: from a request head to the one authority it means, or a refusal. Pure decisions.

Three kinds of entrance, one method. A forward listener reads the authority from the absolute target; a reverse
listener's is fixed by the configuration, and it answers only to Host names it knows, so that DNS rebinding gets
nothing; inside a CONNECT that is read here the authority is the one that was connected to.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Final

from sidecar.errors import BadRequest, HostUnknown, OriginForeign
from sidecar.proxy.authority import DEFAULT_PORTS, Authority, parse_authority, split_absolute
from sidecar.proxy.routing import Candidates, RoutingTable

if TYPE_CHECKING:
    from sidecar.http.message import RequestHead

_CACHED_HOSTS: Final = 64
_OTHER_SITES: Final = frozenset((b"cross-site", b"same-site"))


Admitted = tuple[Candidates, bytes]
"""A request that may be looked at further: its candidates for a route, and path and query as sent."""


class ForwardEntrance:
    """``HTTP_PROXY``: absolute targets only (RFC 9112 section 3.2.2); CONNECT is looked at elsewhere."""

    __slots__ = ("_table",)

    takes_connect: Final = True

    def __init__(self, table: RoutingTable) -> None:
        self._table = table

    def admit(self, head: RequestHead) -> Admitted:
        """Raises: BadRequest."""
        target = head.target
        if target.startswith(b"/") or target == b"*":
            raise BadRequest("this is a forward proxy: set HTTP_PROXY to its address and call http://host/path")
        scheme, authority, path = split_absolute(target, head.method)
        candidates = self._table.find(scheme, authority)
        if head.host is not None and head.host != authority:
            # Replaced by the target's authority (RFC 9112 section 3.2.2), but an invalid one is refused (section 3.2).
            self._table.find(scheme, head.host)
        return candidates, path


class _PinnedEntrance(abc.ABC):
    """Shared by the entrances whose authority does not come from the request line."""

    __slots__ = ("_candidates", "_checked")

    takes_connect: Final = False

    def __init__(self, candidates: Candidates) -> None:
        self._candidates = candidates
        self._checked: set[bytes] = set()

    def admit(self, head: RequestHead) -> Admitted:
        """Raises: BadRequest, HostUnknown."""
        target = head.target
        if target.startswith(b"/") or (target == b"*" and head.method == b"OPTIONS"):
            path = target
        else:
            _, authority, path = split_absolute(target, head.method)
            self._check(authority)
        if head.host is not None and head.host not in self._checked:
            self._check(head.host)
            if len(self._checked) < _CACHED_HOSTS:
                self._checked.add(head.host)
        if head.browser:
            self._check_page(head)
        return self._candidates, path

    @abc.abstractmethod
    def _check_page(self, head: RequestHead) -> None:
        """Refuse a request that a web page of another site makes."""

    @abc.abstractmethod
    def _check(self, host: bytes) -> None:
        """Refuse an authority that is not the pinned one."""


class ReverseEntrance(_PinnedEntrance):
    """A base URL for one upstream.

    Args:
        candidates: the routes of the upstream.
        known_hosts: canonical names it answers to; the port does not matter.
    """

    __slots__ = ("_known_hosts",)

    def __init__(self, candidates: Candidates, known_hosts: frozenset[str]) -> None:
        super().__init__(candidates)
        self._known_hosts = known_hosts

    def _check(self, host: bytes) -> None:
        if parse_authority(host).host not in self._known_hosts:
            raise HostUnknown("this listener does not answer to that Host; name it under hosts: if it should")

    def _check_page(self, head: RequestHead) -> None:
        """Any page may send requests to loopback, with our Host on them and a token for its prize (Fetch standard,
        ``Origin`` and ``Sec-Fetch-Site``). Programs send neither field."""
        for name, value in head.browser:
            host = value.rpartition(b"://")[2]
            foreign = value == b"null" or not self._knows(host) if name == b"origin" else value in _OTHER_SITES
            if foreign:
                raise OriginForeign("a page of another site made this request; name its host under hosts: if it may")

    def _knows(self, host: bytes) -> bool:
        try:
            return parse_authority(host).host in self._known_hosts
        except BadRequest:
            return False


class TunnelEntrance(_PinnedEntrance):
    """HTTP inside a CONNECT that is read here: every request is for the host that was connected to."""

    __slots__ = ()

    def _check(self, host: bytes) -> None:
        inner = parse_authority(host)
        outer = self._candidates.authority
        default = DEFAULT_PORTS[self._candidates.scheme]
        if inner.host != outer.host or (inner.port or default) != (outer.port or default):
            raise BadRequest("the Host inside the tunnel is not the host of the tunnel")

    def _check_page(self, head: RequestHead) -> None:
        """Nothing: whoever opens a tunnel was told to use this proxy, and pages cannot tell a browser that."""


Entrance = ForwardEntrance | ReverseEntrance | TunnelEntrance


def reverse_entrance(table: RoutingTable, upstream: str, hosts: tuple[str, ...], bound_host: str) -> ReverseEntrance:
    """The entrance of a reverse listener.

    Args:
        table: the generation's routes.
        upstream: ``https://api.example.com``, checked by the configuration.
        hosts: further Host names.
        bound_host: the address it is bound to; empty for a Unix socket.
    """
    scheme, _, netloc = upstream.rstrip("/").partition("://")
    authority = parse_authority(netloc.encode())
    candidates = table.candidates(scheme, authority)
    known = {"localhost", "127.0.0.1", "::1", authority.host}
    known.update(parse_authority(host.encode()).host for host in hosts)
    if bound_host:
        known.add(canonical_host(bound_host))
    return ReverseEntrance(candidates, frozenset(known))


def canonical_host(host: str) -> str:
    """A bound address as ``parse_authority`` writes it."""
    return parse_authority(f"[{host}]".encode() if ":" in host else host.encode()).host


def connect_authority(head: RequestHead) -> Authority:
    """The target of a CONNECT: host and port, nothing else (RFC 9112 section 3.2.3).

    Raises:
        BadRequest: anything else.
    """
    authority = parse_authority(head.target)
    if authority.port is None:
        raise BadRequest("CONNECT needs host:port")
    if head.host is not None:
        parse_authority(head.host)  # replaced by the target's, but an invalid one is refused (section 3.2)
    return authority
