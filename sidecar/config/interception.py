"""Rules of TLS interception: which routes may ask for it, and that there is a CA which can serve them.

A CONNECT names host and port alone, so both, and nothing finer, decide whether its tunnel is opened. The rules look at
what is written; ``refuse_unusable`` looks at the CA's files, which ``sidecar ca`` has yet to make when it reads the
same configuration. What makes a CA usable is decided in ``local_ca``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.config.model import Interception, Route
from sidecar.errors import SecretMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509

    from sidecar.config.found import Found
    from sidecar.config.found import Path as KeyPath
    from sidecar.config.model import Configuration

_SECTION: Final[KeyPath] = ("interception",)
_KEY: Final[KeyPath] = (*_SECTION, "key")
_CERTIFICATE: Final[KeyPath] = (*_SECTION, "certificate")


def intercepted_hosts(configuration: Configuration) -> list[str]:
    """Host patterns of the routes with ``intercept: true``, each once."""
    return list(dict.fromkeys(route.host for route in configuration.routes if route.intercept))


def check(found: Found) -> None:
    """Apply the rules that need no file."""
    for path, route in _intercepting(found):
        place = (*path, "intercept")
        if not found.given(_SECTION):
            found.note(place, "'intercept: true' needs the section 'interception' with the files of a local CA")
        if route.upstream_tls == "plain" and found.is_sound((*path, "upstream_tls")):
            found.note(place, "'intercept: true' has no use with upstream_tls: plain: no TLS leaves here")
    _agreement(found)
    for _, section in found.each(Interception):
        if section.key.kind not in ("file", "cred") and found.is_sound(_KEY):
            found.note(_KEY, "'key': the permissions of a CA's key are checked, so it is file:PATH or cred:NAME")


def _intercepting(found: Found) -> Iterator[tuple[KeyPath, Route]]:
    for path, route in found.each(Route):
        if route.intercept and found.is_sound((*path, "intercept")):
            yield path, route


def _agreement(found: Found) -> None:
    first: dict[tuple[str, int], tuple[KeyPath, Route]] = {}
    for path, route in found.each(Route):
        if not found.is_sound(path):
            continue
        other_path, other = first.setdefault((route.host, route.upstream_port), (path, route))
        if other.intercept != route.intercept:
            line = found.line((*other_path, "host"))
            message = f"the route in line {line} has the same host and port, so both have the same 'intercept'"
            found.note((*path, "intercept" if (*path, "intercept") in found.written else "host"), message)


def refuse_unusable(found: Found) -> None:
    """Note what is wrong with the CA's files, where the configuration names them, and hosts that it does not cover.

    A key that is missing is left to ``missing_secrets``, like every other secret.
    """
    for _, section in found.each(Interception):
        if found.is_sound(_SECTION) and section.key.path is not None:
            _refuse_unusable(found, section)


def _refuse_unusable(found: Found, section: Interception) -> None:
    from sidecar.config import local_ca  # only where there is a CA: both cost more than all the rest here
    from sidecar.runtime import SystemClock

    certificates: tuple[x509.Certificate, ...] = ()
    key = None
    try:
        certificates = local_ca.read_certificates(Path(section.certificate))
    except local_ca.UnusableCertificate as exc:
        found.note(_CERTIFICATE, f"'certificate': {exc}")
    try:
        key = local_ca.read_key(section.key)
    except local_ca.UnusableKey as exc:
        found.note(_KEY, f"'key': {exc}")
    except SecretMissing:
        pass  # told with all others that are missing
    if not certificates:
        return
    if key is not None and local_ca.signer_of(certificates, key) is None:
        found.note(_KEY, "'key': it belongs to another certificate than 'certificate'")
    if reason := local_ca.out_of_time(certificates, SystemClock().wall()):
        found.note(_CERTIFICATE, f"'certificate': {reason}")
    for path, route in _intercepting(found):
        if found.is_sound((*path, "host")) and not local_ca.covers(certificates, route.host):
            message = f"the local CA does not cover {route.host}: renew it with 'sidecar ca --force'"
            found.note((*path, "host"), message)
