"""What is allowed and yet worth a line at start: the warnings of ``check`` and of the log.

Nothing here stops a start. A secret file that others may read is one of these warnings and not an error: the volumes of
Kubernetes and Docker are readable inside their container by default, and there the container is the boundary.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.config import hosts
from sidecar.config.files import references
from sidecar.config.interception import intercepted_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.config.model import Configuration

_CONTAINER_MOUNTS: Final = ("/run/secrets/", "/var/run/secrets/", "/run/credentials/")
"""Where container engines, Kubernetes and systemd put secrets for one process alone."""
_CA_ENDS_SOON_SECONDS: Final = 30 * 86400.0
"""Time to bring a new CA to every client."""


def warnings(configuration: Configuration) -> list[str]:
    """Every warning about a configuration, each one sentence that begins with the key it is about."""
    return [
        *_readable_keys(configuration),
        *_unused_credentials(configuration),
        *_scopes_not_asked_for(configuration),
        *_open_routes(configuration),
        *_inline_secrets(configuration),
        *_interception(configuration),
        *_simulation(configuration),
        *secret_warnings(configuration),
    ]


def _readable_keys(configuration: Configuration) -> Iterator[str]:
    for listener in configuration.listeners:
        bind = listener.bind
        if listener.auth != "none" and not bind.is_unix and not hosts.is_loopback(bind.host):
            yield f"listeners.{listener.name}.auth: beyond loopback it travels over http, readable by all on the way"
    admin = configuration.admin
    if admin is not None and not admin.bind.is_unix and not hosts.is_loopback(admin.bind.host):
        yield "admin.token: beyond loopback it and the tokens travel over http, readable by all on the way"


def _unused_credentials(configuration: Configuration) -> Iterator[str]:
    used = {route.credential for route in configuration.routes}
    for name in configuration.credentials:
        if name not in used:
            yield f"credentials.{name}: no route uses it"


def _scopes_not_asked_for(configuration: Configuration) -> Iterator[str]:
    """An IdP may grant more than was asked (Entra's ``/.default``), but one that does not say is taken at its word."""
    for name, credential in configuration.credentials.items():
        absent = [scope for scope in credential.required_scopes if scope not in credential.scopes]
        if absent:
            yield f"credentials.{name}.required_scopes: not in scopes: {' '.join(absent)}"


def _open_routes(configuration: Configuration) -> Iterator[str]:
    for route in configuration.routes:
        if route.on_failure == "open":
            yield f"routes: {route.label} forwards requests without a token when there is none (on_failure: open)"


def _inline_secrets(configuration: Configuration) -> Iterator[str]:
    if configuration.allow_inline_secrets:
        yield "allow_inline_secrets: whoever reads the configuration reads its secrets"


def _interception(configuration: Configuration) -> Iterator[str]:
    section = configuration.interception
    if section is None:
        return
    if not intercepted_hosts(configuration):
        yield "interception: no route has intercept: true"
        return
    from sidecar.config import local_ca  # only where there is a CA: both cost more than all the rest here
    from sidecar.runtime import SystemClock

    try:
        certificates = local_ca.read_certificates(Path(section.certificate))
    except local_ca.UnusableCertificate:
        return  # an error, told elsewhere
    if not local_ca.is_constrained(certificates):
        yield "interception.certificate: this CA can sign for every host; 'sidecar ca' makes one that cannot"
    end = min(certificate.not_valid_after_utc for certificate in certificates)
    if end.timestamp() - SystemClock().wall() < _CA_ENDS_SOON_SECONDS:
        yield f"interception.certificate: the CA expires on {end:%Y-%m-%d}: make a new one with 'sidecar ca --force'"


def _simulation(configuration: Configuration) -> Iterator[str]:
    if not configuration.simulation.enabled:
        return
    if configuration.admin is None or configuration.admin.token is None:
        yield "simulation.enabled: without admin.token nobody can use it: leave it out"
    else:
        yield "simulation.enabled: whoever has the admin token can expire tokens at will; not for production"


def secret_warnings(configuration: Configuration) -> list[str]:
    """Secret files that other users of the machine may read or write, outside the mounts made for one container."""
    found = []
    for key, reference in references(configuration):
        path = reference.path
        if path is not None and (danger := _danger(path)):
            found.append(f"{key}: {reference} can be {danger} by every user of this machine")
    return found


def _danger(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return None  # a missing secret is reported elsewhere
    if mode & 0o002:
        return "changed"
    return "read" if mode & 0o004 and not _is_container_mount(path) else None


def _is_container_mount(path: Path) -> bool:
    # Kubernetes writes volumes behind a link called "..data", wherever they are mounted.
    return os.path.lexists(path.parent / "..data") or str(path.absolute()).startswith(_CONTAINER_MOUNTS)
