"""The second stage: IdPs and upstreams can be reached, and issuers say of themselves what the configuration says.

Decides what is called and what an issuer's metadata has to hold for the grants that rest on it. Leaves connections to
``dialling``; nothing that is secret is sent here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sidecar.config import hosts
from sidecar.config.found import dotted
from sidecar.config.model import CERTIFICATE_AUTHS
from sidecar.errors import TokenMalformed, TokenRequestError
from sidecar.oauth.answer import json_object
from sidecar.oauth.client_auth import TokenRequest
from sidecar.oauth.discovery import ENDPOINTS, may_get_secrets, metadata_urls
from sidecar.oauth.endpoint import Endpoint, Wire
from sidecar.oauth.grants import JWT_BEARER, TOKEN_EXCHANGE
from sidecar.preflight.dialling import Party, Target, Unreachable, reach
from sidecar.preflight.findings import Finding
from sidecar.preflight.jobs import Job, Outcome
from sidecar.preflight.kinds import Kind, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.config.found import Path
    from sidecar.config.model import Credential
    from sidecar.oauth.answer import Answer
    from sidecar.preflight.subject import Subject
    from sidecar.proxy.resolver import Lookup

ENDS_SOON_SECONDS: Final = 7 * 86400.0
"""Certificates that renew themselves do so weeks before."""
PLATFORM_SECONDS: Final = 2.0
"""A metadata service is on the same host; where there is none, nothing answers at all."""
SKEW_SECONDS, LARGE_SKEW_SECONDS = 60.0, 300.0
"""From the second on, IdPs refuse assertions (RFC 7523 section 3 allows a few minutes)."""
_URLS: Final = (*("token_url", "impersonation_url", "authorization_url", "device_authorization_url", "revocation_url"),)
_GRANT_TYPES: Final = {
    "client_credentials": "client_credentials",
    "refresh_token": "refresh_token",
    "authorization_code": "authorization_code",
    "device_code": "urn:ietf:params:oauth:grant-type:device_code",
    "jwt_bearer": JWT_BEARER,
    "token_exchange": TOKEN_EXCHANGE,
}
"""What the grants are called in metadata (RFC 8414 section 2)."""
_NEEDED: Final = {
    "authorization_code": ("authorization_url", "authorization_endpoint"),
    "device_code": ("device_authorization_url", "device_authorization_endpoint"),
}
Document = tuple["Answer", "Mapping[str, object]"]


class Network:
    """The jobs of this stage.

    Args:
        endpoint: asks for metadata.
        lookup: how names become addresses.
    """

    def __init__(self, subject: Subject, *, endpoint: Endpoint, lookup: Lookup) -> None:
        self._subject = subject
        self._endpoint = endpoint
        self._lookup = lookup
        self._limits = subject.configuration.limits
        self._documents: dict[tuple[str, str | None], asyncio.Lock] = {}
        self._known: dict[tuple[str, str | None], Document] = {}

    def jobs(self) -> list[Job]:
        """One for each host, and one for each issuer of a credential."""
        found: dict[Target, list[Path]] = {}
        for path, target in targets(self._subject):
            found.setdefault(target, []).append(path)
        reaching = [self._reaching(target, paths) for target, paths in found.items()]
        return reaching + [self._discovering(*each) for each in self._subject.credentials() if each[2].issuer]

    # --- reaching ---------------------------------------------------------------------------------------------------

    def _reaching(self, target: Target, paths: list[Path]) -> Job:
        async def work() -> Outcome:
            kinds, said = await self._reach(target)
            found = [Finding(kind, path, message) for path in paths for kind, message in kinds]
            return Outcome(tuple(found), said)

        return Job(Stage.NETWORK, f"{target} ({', '.join(map(dotted, paths))})", paths[0], work)

    async def _reach(self, target: Target) -> tuple[list[tuple[Kind, str]], str]:
        is_platform = target.party is Party.IDP and hosts.is_metadata(target.host)
        seconds = min(self._limits.connect, PLATFORM_SECONDS) if is_platform else self._limits.connect
        try:
            reached = await reach(target, lookup=self._lookup, seconds=seconds)
        except Unreachable as exc:
            return [(Kind.PLATFORM_UNREACHABLE if is_platform else exc.kind, exc.message)], ""
        ends_at = reached.certificate_ends_at
        if ends_at is not None and ends_at - self._subject.machine.wall < ENDS_SOON_SECONDS:
            days = max(0.0, (ends_at - self._subject.machine.wall) / 86400)
            return [(Kind.SERVER_CERTIFICATE_ENDS_SOON, f"the certificate of {target} expires in {days:.0f} days")], ""
        return [], "reachable, TLS verified" if target.tls else "reachable"

    # --- discovery --------------------------------------------------------------------------------------------------

    def _discovering(self, path: Path, name: str, credential: Credential) -> Job:
        async def work() -> Outcome:
            found = await self._discover(path, credential)
            return Outcome(tuple(found), said="" if found else "the metadata is this issuer's")

        return Job(Stage.NETWORK, f"metadata of the issuer of {name}", (*path, "issuer"), work)

    async def _discover(self, path: Path, credential: Credential) -> list[Finding]:
        place = (*path, "issuer")
        found, _ = await self._reach(_target(credential.issuer or "", credential))
        told = [Finding(kind, place, message) for kind, message in found]
        if any(kind.facts.exit_code for kind, _ in found):
            return told
        return told + await self._metadata(place, credential)

    async def _metadata(self, place: Path, credential: Credential) -> list[Finding]:
        try:
            answer, fields = await self._document(credential)
        except TokenRequestError as exc:
            return [Finding(_DISCOVERY.get(exc.reason, Kind.DISCOVERY_FAILED), place, exc.detail)]
        found = list(skewed(place, answer.clock_skew))
        if fields.get("issuer") != credential.issuer:
            return [*found, Finding(Kind.ISSUER_MISMATCH, place, f"the metadata names {_named(fields.get('issuer'))}")]
        found += _endpoints(place, fields, credential)
        found += _advertised(place, fields, credential)
        return found + await self._discovered_host(place, fields, credential)

    async def _document(self, credential: Credential) -> Document:
        """The metadata of an issuer, asked for once for all its credentials."""
        assert credential.issuer is not None  # noqa: S101 - the caller looked
        key = (credential.issuer, credential.ca_file)
        async with self._documents.setdefault(key, asyncio.Lock()):
            if key not in self._known:
                self._known[key] = await self._fetch(credential.issuer, self._wire(credential))
            return self._known[key]

    async def _fetch(self, issuer: str, wire: Wire) -> Document:
        statuses = []
        for url in metadata_urls(issuer):
            answer = await self._endpoint.send(TokenRequest(url, {"Accept": "application/json"}, b"", "GET"), wire)
            fields = json_object(answer.body) if answer.status == 200 else None
            if fields is not None:
                return answer, fields
            statuses.append(str(answer.status))
        raise TokenMalformed(f"there is no metadata: HTTP {' and '.join(statuses)}, no document")

    def _wire(self, credential: Credential) -> Wire:
        limits = self._limits
        return Wire(credential.ca_file, limits.connect, limits.token_request, lambda: None, client_files(credential))

    async def _discovered_host(
        self, place: Path, fields: Mapping[str, object], credential: Credential
    ) -> list[Finding]:
        """The token endpoint that was discovered stands on another host than the issuer, as often as not."""
        url, issuer_url = fields.get("token_endpoint"), credential.issuer or ""
        if credential.token_url is not None or not isinstance(url, str) or not may_get_secrets(url, issuer_url):
            return []
        target, issuer = _target(url, credential), _target(issuer_url, credential)
        if (target.host, target.port) == (issuer.host, issuer.port):
            return []
        kinds, _ = await self._reach(target)
        return [Finding(kind, place, f"token_endpoint: {message}") for kind, message in kinds]


_DISCOVERY: Final = {
    "dns": Kind.IDP_DNS,
    "connect": Kind.IDP_CONNECT,
    "timeout": Kind.IDP_TIMEOUT,
    "tls": Kind.IDP_TLS,
}


def _endpoints(place: Path, fields: Mapping[str, object], credential: Credential) -> Iterator[Finding]:
    for name in ENDPOINTS:
        url = fields.get(name)
        if isinstance(url, str) and not may_get_secrets(url, credential.issuer or ""):
            yield Finding(Kind.ENDPOINT_INSECURE, place, f"{name} is {_named(url)}: no secret is ever sent there")
    for key, name in (("token_url", "token_endpoint"), _NEEDED.get(credential.grant or "", ("", ""))):
        if key and getattr(credential, key) is None and not isinstance(fields.get(name), str):
            yield Finding(Kind.ENDPOINT_MISSING, place, f"the metadata names no {name}, and there is no {key}")


def _advertised(place: Path, fields: Mapping[str, object], credential: Credential) -> Iterator[Finding]:
    grant = _GRANT_TYPES.get(credential.grant or "")
    grants = fields.get("grant_types_supported")
    if grant and isinstance(grants, list) and grant not in grants:
        yield Finding(Kind.GRANT_NOT_ADVERTISED, place, f"grant_types_supported does not name {grant}")
    methods = fields.get("token_endpoint_auth_methods_supported")
    # A federated assertion is private_key_jwt to whoever reads it (RFC 7523 section 2.2).
    method = "private_key_jwt" if credential.client_auth == "federated" else credential.client_auth
    if method and isinstance(methods, list) and method not in methods:
        message = f"token_endpoint_auth_methods_supported does not name {method}"
        yield Finding(Kind.CLIENT_AUTH_NOT_ADVERTISED, place, message)


def _named(url: object) -> str:
    """What a document says, if it is a URL; anything else is not repeated."""
    try:
        return hosts.url(url) if isinstance(url, str) and len(url) <= 512 else "something that is no URL"
    except ValueError:
        return "something that is no URL"


def skewed(path: Path, seconds: float | None) -> Iterator[Finding]:
    """What a difference of clocks means; None is one that nobody knows."""
    if seconds is None or abs(seconds) <= SKEW_SECONDS:
        return
    kind = Kind.CLOCK_SKEW if abs(seconds) <= LARGE_SKEW_SECONDS else Kind.CLOCK_SKEW_LARGE
    word = "ahead of" if seconds > 0 else "behind"
    yield Finding(kind, path, f"the IdP's clock is {abs(seconds):.0f} s {word} this machine's")


# --- what is called --------------------------------------------------------------------------------------------------


def targets(subject: Subject) -> Iterator[tuple[Path, Target]]:
    """Every host that the configuration names, with the key that does; wildcards name none, and an issuer's comes with
    its metadata."""
    for path, _, credential in subject.credentials():
        for key in _URLS:
            if url := getattr(credential, key):
                yield (*path, key), _target(url, credential)
    for path, route in subject.routes():
        if not route.host.startswith("*."):
            tls = route.upstream_tls == "required"
            yield (*path, "host"), Target(Party.UPSTREAM, route.host, route.upstream_port, tls, route.ca_file)
    for at, listener in enumerate(subject.configuration.listeners):
        if listener.upstream is not None and subject.covers(("listeners", at)):
            yield from _of_listener(("listeners", at, "upstream"), listener.upstream, subject)


def _of_listener(path: Path, upstream: str, subject: Subject) -> Iterator[tuple[Path, Target]]:
    """The upstream of a reverse listener, unless a route names its host; a wildcard may say which CA it has."""
    parts = hosts.url_parts(upstream)
    routes = [route for route in subject.configuration.routes if route.upstream_port == parts.port]
    if any(route.host == parts.host for route in routes):
        return
    wide = [route for route in routes if route.host.startswith("*.") and parts.host.endswith(route.host[1:])]
    nearest = max(wide, key=lambda route: len(route.host), default=None)
    ca_file = None if nearest is None else nearest.ca_file
    yield path, Target(Party.UPSTREAM, parts.host, parts.port, parts.scheme == "https", ca_file)


def _target(url: str, credential: Credential) -> Target:
    parts = hosts.url_parts(url)
    is_tls = parts.scheme == "https"
    certificate = client_files(credential) if is_tls else None
    return Target(Party.IDP, parts.host, parts.port, is_tls, credential.ca_file if is_tls else None, certificate)


def client_files(credential: Credential) -> tuple[str, str] | None:
    """The files by which the client proves itself in TLS (RFC 8705)."""
    key = credential.certificate_key.path if credential.certificate_key is not None else None
    if credential.client_auth not in CERTIFICATE_AUTHS or credential.certificate is None or key is None:
        return None
    return credential.certificate, str(key)
