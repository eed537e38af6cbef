"""Which addresses are never upstreams: the last word after DNS, so that a name cannot lead where a URL may not.

A configured host may live anywhere private, but never on a link-local address (the clouds' metadata services), and
never be one of the sidecar's own sockets. What no route names is kept off loopback too. The addresses that were checked
are the ones that are dialled: nothing is resolved twice (Kubernetes CVE-2020-8562).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Final

from sidecar.config.hosts import METADATA_ADDRESSES

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
"""The well-known prefix and the one for local use (RFC 6052, RFC 8215); either way the address is at the end."""
_LAST_COMPATIBLE: Final = 0xFFFFFFFF
"""``::a.b.c.d``; ``::`` and ``::1`` are themselves."""
_6TO4: Final = ipaddress.ip_network("2002::/16")
_THIS_NETWORK: Final = ipaddress.ip_network("0.0.0.0/8")


def embedded(address: IPAddress) -> IPAddress:
    """The IPv4 address inside a mapped, compatible, NAT64, Teredo or 6to4 one, because that is where it leads
    (RFC 4291 section 2.5.5, RFC 6052, RFC 4380, RFC 3056)."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.teredo is not None:
            return address.teredo[1]
        if any(address in prefix for prefix in _NAT64) or 1 < int(address) <= _LAST_COMPATIBLE:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address in _6TO4:
            return ipaddress.IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    return address


def reason_to_refuse(address: IPAddress, *, routed: bool) -> str | None:
    """Why this address is not dialled; None if it may be.

    Args:
        address: as resolved.
        routed: a route names the host; otherwise it passes through by ``unmatched: forward``.
    """
    address = embedded(address)
    if address.is_link_local or address in METADATA_ADDRESSES:
        return "a link-local or metadata address"
    if address.is_unspecified or address.is_multicast or address in _THIS_NETWORK:
        return "not the address of a host"
    if not routed and address.is_loopback:
        return "a loopback address, and no route names the host"
    return None


@dataclass(slots=True)
class OwnSockets:
    """The addresses the sidecar itself listens on; what would connect to them is a loop or an attack on its pages."""

    _bound: set[tuple[IPAddress, int]] = field(default_factory=set)

    def replace(self, sockets: list[tuple[str, int]]) -> None:
        """Take the bound addresses of all TCP listeners, telemetry included."""
        self._bound = {(ipaddress.ip_address(host), port) for host, port in sockets}

    def include(self, address: IPAddress, port: int, *, is_local: bool) -> bool:
        """Whether dialling ``address`` and ``port`` would reach the sidecar.

        Args:
            address: what would be dialled.
            port: likewise.
            is_local: the address belongs to this machine, so that a wildcard listener answers on it.
        """
        address = embedded(address)
        for own, own_port in self._bound:
            if port == own_port and (address == own or (is_local and own.is_unspecified)):
                return True
        return False

    def has_port(self, port: int) -> bool:
        """Whether any own socket has this port: only then is it worth finding out whether an address is local."""
        return any(port == own_port for _, own_port in self._bound)
