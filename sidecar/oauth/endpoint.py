"""The only I/O of the token side: sends a request to an IdP, bounded in time and size, and finds endpoints by issuer.

Decides how the wire is used. Leaves to ``token`` what an answer means; foreign exceptions end here, translated.

Every request has a connection of its own. Token requests are minutes apart, so a kept connection is one that the IdP
or a load balancer has usually dropped in the meantime: the first request on it fails, and a POST may not be repeated
blindly. One handshake a refresh buys that whole class of failures away, and no TLS state stays in memory.

Redirects are never followed: aiohttp would send the body, with the client's secret in it, to wherever a 307 points.
There are no cookies, no proxy from the environment, and no compressed answers.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from sidecar import __version__
from sidecar.errors import (
    ConfigurationInvalid,
    TokenConnect,
    TokenDNS,
    TokenMalformed,
    TokenRequestError,
    TokenTimeout,
    TokenTLS,
)
from sidecar.oauth.answer import Answer
from sidecar.oauth.discovery import Metadata, metadata, metadata_urls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.abc import AbstractResolver

    from sidecar.oauth.client_auth import TokenRequest
    from sidecar.runtime import Clock

MAX_BODY_BYTES: Final = 256 * 1024
DISCOVERY_TTL_SECONDS: Final = 3600.0
MAX_DISCOVERED: Final = 256
USER_AGENT: Final = f"token-sidecar/{__version__}"
INSECURE_SWITCH: Final = "AUTHLIB_INSECURE_TRANSPORT"

FileStamp = tuple[int, int, int]
"""Modification time in nanoseconds, inode and size: what tells that a file is another one."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How to reach an IdP.

    Args:
        ca_file: its CA bundle; None: the system's.
        on_send: counts the requests sent.
        certificate: the client's certificate and its key, as files (RFC 8705); None presents none.
    """

    ca_file: str | None
    connect_seconds: float
    total_seconds: float
    on_send: Callable[[], None]
    certificate: tuple[str, str] | None = None


class Endpoint:
    """Sends token requests and reads discovery documents.

    Args:
        resolver: how names become addresses; None: as the system has it.

    Raises:
        ConfigurationInvalid: the environment switches Authlib's https checks off.
    """

    def __init__(self, clock: Clock, *, resolver: AbstractResolver | None = None) -> None:
        if os.environ.get(INSECURE_SWITCH):
            raise ConfigurationInvalid(f"{INSECURE_SWITCH} is set; it switches off checks that protect secrets")
        self._clock = clock
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[tuple[str, ...], tuple[list[FileStamp], ssl.SSLContext]] = {}
        self._discovered: dict[tuple[str, str | None], tuple[float, Metadata]] = {}

    async def send(self, request: TokenRequest, wire: Wire) -> Answer:
        """Send a token request and read its answer, whatever its status.

        Raises:
            TokenRequestError: the network's leaves, or TokenMalformed if the answer is too large or is not HTTP.
        """
        return await self._exchange(request.method, request.url, request.headers, request.body or None, wire)

    async def discover(self, issuer: str, wire: Wire) -> Metadata:
        """The metadata of an issuer; remembered for an hour, and longer if asking fails.

        Raises:
            TokenRequestError: no document could be had, or it is not this issuer's.
        """
        key = (issuer, wire.ca_file)
        known = self._discovered.get(key)
        if known is not None and self._clock.now() < known[0] + DISCOVERY_TTL_SECONDS:
            return known[1]
        try:
            found = await self._discover(issuer, wire)
        except TokenRequestError:
            if known is None:
                raise
            return known[1]
        if len(self._discovered) >= MAX_DISCOVERED:
            self._discovered.clear()
        self._discovered[key] = (self._clock.now(), found)
        return found

    def forget_discovered(self, issuer: str, ca_file: str | None) -> None:
        """Ask for the metadata again the next time: the endpoint it named does not work."""
        self._discovered.pop((issuer, ca_file), None)

    async def _discover(self, issuer: str, wire: Wire) -> Metadata:
        problem: TokenMalformed | None = None
        for url in metadata_urls(issuer):
            answer = await self._exchange("GET", url, {"Accept": "application/json"}, None, wire)
            try:
                return metadata(answer, issuer)
            except TokenMalformed as exc:
                # Not here; the other form of the address may have it. A document that is wrong tells more than a 404.
                problem = exc if problem is None or answer.status == 200 else problem
        assert problem is not None  # noqa: S101 - there is at least one address
        raise problem

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, wire: Wire
    ) -> Answer:
        context = self._context(wire)
        timeout = aiohttp.ClientTimeout(total=wire.total_seconds, connect=wire.connect_seconds)
        sent_at = self._clock.now()
        wire.on_send()
        try:
            async with self._open_session().request(
                method, url, headers=headers, data=body, ssl=context, timeout=timeout, allow_redirects=False
            ) as response:
                wall = self._clock.wall()
                fields = _first_fields(response.headers)
                return Answer(response.status, fields, await _bounded(response), sent_at, wall)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise _translated(exc) from exc

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # No limit: each credential has one request under way, and an IdP that hangs stops nobody else's.
                connector=aiohttp.TCPConnector(force_close=True, use_dns_cache=False, limit=0, resolver=self._resolver),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            )
        return self._session

    def _context(self, wire: Wire) -> ssl.SSLContext | bool:
        """The TLS context for these files, made anew when one has changed; True is aiohttp's own, verifying."""
        files = tuple(file for file in (wire.ca_file, *(wire.certificate or ())) if file is not None)
        if not files:
            return True
        try:
            stamps = [stamp_of(file) for file in files]
        except OSError as exc:
            raise TokenTLS(f"{exc.filename}: {exc.strerror}", sent=False) from exc
        cached = self._contexts.get(files)
        if cached is None or cached[0] != stamps:
            if len(self._contexts) >= MAX_DISCOVERED:
                self._contexts.clear()
            cached = self._contexts[files] = stamps, _context(wire)
        return cached[1]

    async def close(self) -> None:
        """End what is under way and close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _context(wire: Wire) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=wire.ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise TokenTLS(f"ca_file {wire.ca_file}: {exc.strerror or 'holds no certificates'}", sent=False) from exc
    if wire.certificate is None:
        return context
    try:
        # A password would be asked for on the terminal: an encrypted key is refused instead.
        context.load_cert_chain(*wire.certificate, password=lambda: "")
    except (OSError, ssl.SSLError, ValueError) as exc:
        why = "it and its key cannot be used together"
        raise TokenTLS(f"certificate {wire.certificate[0]}: {why}", sent=False) from exc
    return context


def stamp_of(path: str) -> FileStamp:
    """What tells one version of a file from the next; follows symlinks, as Kubernetes swaps mounted secrets.

    Raises:
        OSError: the file is not there.
    """
    stat = Path(path).stat()
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _first_fields(headers: Mapping[str, str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in headers.items():
        fields.setdefault(name.lower(), value)
    return fields


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise TokenMalformed(f"the answer is larger than {MAX_BODY_BYTES // 1024} KiB", http_status=response.status)
    return bytes(body)


def _translated(exc: Exception) -> TokenRequestError:
    """Our leaf for what aiohttp and the system raise. Their texts stay out: they may quote the answer."""
    match exc:
        case aiohttp.ConnectionTimeoutError():
            return TokenTimeout("connecting to the IdP took too long", sent=False)
        case TimeoutError():
            return TokenTimeout("the IdP did not answer in time")
        case aiohttp.ClientConnectorCertificateError():
            why = _verify_message(exc.certificate_error)
            return TokenTLS(f"the IdP's certificate is not trusted: {why}", sent=False)
        case aiohttp.ClientConnectorSSLError():
            return TokenTLS("the TLS handshake with the IdP failed", sent=False)
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return TokenTLS("the TLS connection to the IdP failed")
        case aiohttp.ClientConnectorDNSError():
            return TokenDNS(f"the IdP's name {exc.host} does not resolve", sent=False)
        case aiohttp.ClientConnectorError():
            why = os.strerror(exc.os_error.errno) if exc.os_error.errno else "failed"  # asyncio writes words of its own
            return TokenConnect(f"no connection to {exc.host}:{exc.port}: {why}", sent=False)
        case aiohttp.ServerDisconnectedError() | OSError():
            return TokenConnect("the IdP closed the connection before it answered")
        case aiohttp.ClientPayloadError():
            return TokenMalformed("the IdP's answer ended early")
        case _:
            return TokenMalformed(f"the IdP's answer is not valid HTTP ({type(exc).__name__})")


def _verify_message(exc: Exception) -> str:
    return str(getattr(exc, "verify_message", "")) or "verification failed"
