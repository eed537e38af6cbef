"""Whether a host can be reached: its name, a connection, TLS; each with its deadline, and each failure as its kind.

Decides nothing about what is asked there. Connections are made as the sidecar makes them: verified TLS, no proxy of the
environment, and to an upstream only at addresses that may be one.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp.abc import AbstractResolver

from sidecar.preflight.kinds import Kind
from sidecar.proxy.addresses import reason_to_refuse
from sidecar.proxy.tls import client_context

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult

    from sidecar.proxy.resolver import Lookup

_MOST_ADDRESSES: Final = 3
_EXPIRED, _NAMES = frozenset({9, 10}), frozenset({62, 64})
"""OpenSSL's X509_V_ERR codes: not valid yet and no longer; another host name, another address."""


class Party(enum.Enum):
    """Who is called."""

    IDP = "IDP"
    UPSTREAM = "UPSTREAM"

    def kind(self, failure: str) -> Kind:
        """The kind of a failure: ``DNS`` of an IdP is ``IDP_DNS``."""
        return Kind[f"{self.value}_{failure}"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a connection leads.

    Args:
        certificate: the client's own and its key, as files.
    """

    party: Party
    host: str
    port: int
    tls: bool = True
    ca_file: str | None = None
    certificate: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Unreachable(Exception):
    """Why a target cannot be reached."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


@dataclass(frozen=True, slots=True)
class Reached:
    """A target that answers.

    Args:
        address: where it was found.
        certificate_ends_at: Unix time; None without TLS.
    """

    address: str
    certificate_ends_at: float | None


async def thread_lookup(host: str) -> list[str]:
    """The addresses of a host by the system's resolver; the process does not wait for one that never answers.

    Raises:
        OSError: the name does not resolve.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def ask() -> None:
        found: list[str] | OSError
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
        except (OSError, UnicodeError) as exc:
            found = exc if isinstance(exc, OSError) else OSError("not a host name")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, answer, found)

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    return await answer


def _settle(answer: asyncio.Future[list[str]], found: list[str] | OSError) -> None:
    if answer.done():
        return
    if isinstance(found, OSError):
        answer.set_exception(found)
    else:
        answer.set_result(found)


class Resolving(AbstractResolver):
    """The same look-up for aiohttp.

    Args:
        lookup: the one to ask; or one that gives the addresses which were looked at already.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        found = [each.partition("%")[0] for each in await self._lookup(host)]
        return [
            {
                "hostname": host,
                "host": each,
                "port": port,
                "family": socket.AF_INET6 if ":" in each else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for each in found
        ]

    async def close(self) -> None:
        pass


async def addresses(target: Target, *, lookup: Lookup, seconds: float) -> list[str]:
    """Where a target may be dialled, at least one address.

    Raises:
        Unreachable: its name does not resolve, or only to addresses that are never dialled.
    """
    found = await _resolved(target, lookup, seconds)
    if target.party is Party.IDP:
        return found
    allowed = [each for each in found if reason_to_refuse(ipaddress.ip_address(each), routed=True) is None]
    if not allowed:
        raise Unreachable(Kind.UPSTREAM_ADDRESS, f"{target.host} resolves only to addresses that are never upstreams")
    return allowed


async def _resolved(target: Target, lookup: Lookup, seconds: float) -> list[str]:
    host = target.host
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        async with asyncio.timeout(seconds):
            found = [each.partition("%")[0] for each in await lookup(host)]
    except TimeoutError:
        raise Unreachable(target.party.kind("TIMEOUT"), f"no answer about {host} in {seconds:g} s") from None
    except (OSError, ValueError):
        found = []
    if not found:
        raise Unreachable(target.party.kind("DNS"), f"the name {host} does not resolve")
    return found


async def reach(target: Target, *, lookup: Lookup, seconds: float) -> Reached:
    """Connect to a target, speak TLS if it is to be spoken, and close.

    Args:
        seconds: for the name, and again for each connection.

    Raises:
        Unreachable
    """
    context = _context(target)
    failed: Unreachable | None = None
    for address in (await addresses(target, lookup=lookup, seconds=seconds))[:_MOST_ADDRESSES]:
        try:
            return await _connect(target, address, context, seconds)
        except Unreachable as exc:
            failed = failed or exc
    assert failed is not None  # noqa: S101 - there is at least one address
    raise failed


def _context(target: Target) -> ssl.SSLContext | None:
    if not target.tls:
        return None
    try:
        context = client_context(target.ca_file)
        if target.certificate is not None:
            context.load_cert_chain(*target.certificate, password=lambda: "")
    except (OSError, ssl.SSLError, ValueError):
        raise Unreachable(target.party.kind("TLS"), "ca_file, or certificate and its key, cannot be used") from None
    return context


async def _connect(target: Target, address: str, context: ssl.SSLContext | None, seconds: float) -> Reached:
    name = target.host if context is not None else None
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(address, target.port, ssl=context, server_hostname=name)
    except TimeoutError:
        raise Unreachable(target.party.kind("TIMEOUT"), f"no connection to {target} in {seconds:g} s") from None
    except ssl.SSLCertVerificationError as exc:
        failure, message = _verification(exc, target)
        raise Unreachable(target.party.kind(failure), message) from None
    except ssl.SSLError:
        raise Unreachable(target.party.kind("TLS"), f"the TLS handshake with {target} failed") from None
    except OSError as exc:
        failure = "TLS" if context is not None and isinstance(exc, ConnectionResetError) else "CONNECT"
        why = exc.strerror if exc.errno else "it failed"
        raise Unreachable(target.party.kind(failure), f"no connection to {target}: {why or 'it failed'}") from None
    certificate = writer.get_extra_info("peercert") or {}
    writer.transport.abort()
    ends = certificate.get("notAfter")
    return Reached(address, None if ends is None else float(ssl.cert_time_to_seconds(ends)))


def _verification(exc: ssl.SSLCertVerificationError, target: Target) -> tuple[str, str]:
    if exc.verify_code in _EXPIRED:
        return "CERTIFICATE_EXPIRED", f"the certificate of {target}: {exc.verify_message}"
    if exc.verify_code in _NAMES:
        return "CERTIFICATE_NAME", f"the certificate of {target} is for another name"
    return "CERTIFICATE_UNTRUSTED", f"the certificate of {target}: {exc.verify_message}"
