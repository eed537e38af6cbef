"""Names to addresses that may be dialled: getaddrinfo in a thread, a small cache, and the address rules.

One look-up per name at a time; its answer serves everybody who waits and, for ``limits.dns_ttl`` seconds, everybody who
comes after. getaddrinfo does not tell a record's own TTL, so the time is short. Failures are not remembered.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Final

from sidecar.errors import AddressDenied, Overloaded, UpstreamDNS
from sidecar.proxy.addresses import IPAddress, OwnSockets, reason_to_refuse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecar.runtime import Tasks

    Lookup = Callable[[str], Awaitable[list[str]]]

_MAX_NAMES: Final = 256
_MAX_ADDRESSES: Final = 8
_MAX_LOOKUPS_OF_STRANGERS: Final = 2
"""Look-ups under way before a name without a route has to wait its turn elsewhere. They share a few threads with the
names of routes and of IdPs (libuv has four), and a zone that does not answer holds a thread for many seconds."""


async def system_lookup(host: str) -> list[str]:
    """The addresses of ``host`` in the order the system prefers (RFC 6724).

    Raises:
        OSError: the name does not resolve.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Resolver:
    """Resolves once, filters every address, and hands out only what may be dialled.

    Args:
        tasks: owner of the look-ups, which no single request may cancel.
        own_sockets: what the sidecar listens on.
        lookup: the system's, or a test's.
    """

    def __init__(self, *, tasks: Tasks, own_sockets: OwnSockets, lookup: Lookup = system_lookup) -> None:
        self._tasks = tasks
        self._own = own_sockets
        self._lookup = lookup
        self._cache: dict[str, tuple[float, list[IPAddress]]] = {}
        self._pending: dict[str, asyncio.Task[list[IPAddress] | Exception]] = {}

    async def resolve(self, host: str, port: int, *, routed: bool, ttl: float) -> list[str]:
        """Addresses to dial for a canonical host, at least one.

        Args:
            host: canonical name or address.
            port: what will be dialled.
            routed: a route names the host.
            ttl: seconds for which an answer is remembered.

        Raises:
            UpstreamDNS: the name does not resolve.
            AddressDenied: it resolves only to addresses that are never upstreams.
        """
        addresses = await self._addresses(host, ttl, routed=routed)
        allowed = [str(address) for address in addresses if self._may_dial(address, port, routed=routed)]
        if not allowed:
            raise AddressDenied("the host resolves only to addresses that are never upstreams")
        return allowed

    def _may_dial(self, address: IPAddress, port: int, *, routed: bool) -> bool:
        if reason_to_refuse(address, routed=routed) is not None:
            return False
        return not (
            self._own.has_port(port) and self._own.include(address, port, is_local=_belongs_to_this_machine(address))
        )

    async def _addresses(self, host: str, ttl: float, *, routed: bool) -> list[IPAddress]:
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            pass
        now = asyncio.get_running_loop().time()
        known = self._cache.get(host)
        if known is not None and now < known[0]:
            return known[1]
        pending = self._pending.get(host)
        if pending is None and not routed and len(self._pending) >= _MAX_LOOKUPS_OF_STRANGERS:
            raise Overloaded("too many names are being looked up")
        if pending is None:
            pending = self._pending[host] = self._tasks.spawn(f"resolve {host}", self._look_up(host, ttl))
        found = await asyncio.shield(pending)
        if isinstance(found, Exception):
            raise UpstreamDNS("the upstream's name does not resolve") from found
        return found

    async def _look_up(self, host: str, ttl: float) -> list[IPAddress] | Exception:
        """The failure is a result: several may wait for it, and the task itself did not crash."""
        try:
            # A scope ("%eth0") only comes with link-local addresses, which are never dialled.
            found = [ipaddress.ip_address(text.partition("%")[0]) for text in await self._lookup(host)]
            if not found:
                return OSError("no address")
            if len(self._cache) >= _MAX_NAMES:
                self._cache.pop(next(iter(self._cache)))
            self._cache[host] = (asyncio.get_running_loop().time() + ttl, found[:_MAX_ADDRESSES])
            return found[:_MAX_ADDRESSES]
        except (OSError, ValueError) as exc:  # a UnicodeError of a name that no resolver takes is a ValueError
            return exc
        finally:
            del self._pending[host]


def _belongs_to_this_machine(address: IPAddress) -> bool:
    """Only an address of this machine can be bound."""
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
