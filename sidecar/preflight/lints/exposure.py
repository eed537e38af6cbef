"""Who can reach the tokens and the keys: listeners open to the network, plain http, routes that fail open,
tokens that end on command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.config import hosts
from sidecar.preflight.findings import Finding
from sidecar.preflight.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.config.model import Bind
    from sidecar.preflight.subject import Subject

_URLS = ("token_url", "issuer", "impersonation_url", "device_authorization_url", "revocation_url")


def lint(subject: Subject) -> Iterator[Finding]:
    """Everything about exposure."""
    yield from _listeners(subject)
    yield from _idps(subject)
    yield from _routes(subject)
    if subject.configuration.allow_inline_secrets:
        message = "whoever reads the configuration reads its secrets"
        yield Finding(Kind.INLINE_SECRETS, ("allow_inline_secrets",), message)
    if subject.configuration.simulation.enabled:
        admin = subject.configuration.admin
        usable = admin is not None and admin.token is not None
        message = (
            "whoever has the admin token can expire tokens at will" if usable else "without admin.token it is of no use"
        )
        yield Finding(Kind.SIMULATION_ENABLED, ("simulation", "enabled"), message)


def _listeners(subject: Subject) -> Iterator[Finding]:
    for at, listener in enumerate(subject.configuration.listeners):
        path = ("listeners", at)
        if not _is_exposed(listener.bind):
            continue
        if listener.auth == "none":
            message = f"whoever reaches {listener.bind} can use the tokens"
            yield Finding(Kind.LISTENER_BEYOND_LOOPBACK, (*path, "bind"), message)
        else:
            message = "beyond loopback it travels over http, readable by all on the way"
            yield Finding(Kind.KEY_OVER_PLAIN_HTTP, (*path, "auth"), message)
    admin = subject.configuration.admin
    if admin is not None and _is_exposed(admin.bind):
        message = "beyond loopback it and the tokens travel over http, readable by all on the way"
        yield Finding(Kind.KEY_OVER_PLAIN_HTTP, ("admin", "token"), message)


def _is_exposed(bind: Bind) -> bool:
    return not bind.is_unix and not hosts.is_loopback(bind.host)


def _idps(subject: Subject) -> Iterator[Finding]:
    """Plain http beyond this machine is an error of the configuration; what a platform gives a workload speaks nothing
    else, be it at a metadata address or on loopback."""
    for path, _, credential in subject.credentials():
        if credential.grant == "workload":
            continue
        for key in _URLS:
            url = getattr(credential, key)
            parts = hosts.url_parts(url) if url is not None else None
            if parts is not None and parts.scheme == "http" and hosts.is_loopback(parts.host):
                yield Finding(Kind.IDP_OVER_PLAIN_HTTP, (*path, key), "the IdP is asked over http, on this machine")


def _routes(subject: Subject) -> Iterator[Finding]:
    for path, route in subject.routes():
        if route.upstream_tls == "plain" and not hosts.is_loopback(route.host):
            message = f"the token travels to {route.host} over http, readable by everybody on the way"
            yield Finding(Kind.TOKEN_OVER_PLAIN_HTTP, (*path, "upstream_tls"), message)
        if route.on_failure == "open":
            message = f"{route.label} forwards requests without a token when there is none"
            yield Finding(Kind.ROUTE_FAILS_OPEN, (*path, "on_failure"), message)
