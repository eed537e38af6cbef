"""Certificate files: those of clients and of the local CA that are about to expire, and bundles that have."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.config.interception import intercepted_hosts
from sidecar.preflight.findings import Finding
from sidecar.preflight.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509

    from sidecar.config.found import Path as KeyPath
    from sidecar.preflight.subject import Subject

SOON_SECONDS: Final = 30 * 86400.0
"""Time to bring a new certificate to where it is needed."""


def lint(subject: Subject) -> Iterator[Finding]:
    """Everything about certificate files."""
    yield from local_ca(subject)
    for path, _, credential in subject.credentials():
        if credential.certificate is not None:
            yield from _client((*path, "certificate"), Path(credential.certificate), subject.machine.wall)
    for key, bundle in _bundles(subject):
        yield from _bundle(key, bundle, subject.machine.wall)


def local_ca(subject: Subject) -> Iterator[Finding]:
    """The CA of interception; one that cannot be used at all is an error of the configuration."""
    section = subject.configuration.interception
    if section is None or not subject.covers(("interception",)):
        return
    if not intercepted_hosts(subject.configuration):
        yield Finding(Kind.LOCAL_CA_UNUSED, ("interception",), "no route has intercept: true", at_key=True)
        return
    from sidecar.config import local_ca  # only where there is a CA: it costs more than all other lints

    place = ("interception", "certificate")
    try:
        certificates = local_ca.read_certificates(Path(section.certificate))
    except local_ca.UnusableCertificate:
        return
    if not local_ca.is_constrained(certificates):
        yield Finding(Kind.LOCAL_CA_UNCONSTRAINED, place, "this CA can sign for every host")
    end = min(certificate.not_valid_after_utc for certificate in certificates)
    if end.timestamp() - subject.machine.wall < SOON_SECONDS:
        yield Finding(Kind.LOCAL_CA_ENDS_SOON, place, f"the CA expires on {end:%Y-%m-%d}")


def _client(key: KeyPath, path: Path, wall: float) -> Iterator[Finding]:
    certificates = _read(path)
    if not certificates:
        yield Finding(Kind.CLIENT_CERTIFICATE_UNREADABLE, key, f"{path} cannot be read as a certificate in PEM form")
        return
    first = certificates[0]
    start, end = first.not_valid_before_utc, first.not_valid_after_utc
    now = datetime.datetime.fromtimestamp(wall, datetime.UTC)
    if not start <= now < end:
        word = "expired on" if now >= end else "is not valid before"
        message = f"the certificate {word} {end if now >= end else start:%Y-%m-%d}"
        yield Finding(Kind.CLIENT_CERTIFICATE_EXPIRED, key, message)
    elif (end - now).total_seconds() < SOON_SECONDS:
        yield Finding(Kind.CLIENT_CERTIFICATE_ENDS_SOON, key, f"the certificate expires on {end:%Y-%m-%d}")


def _bundles(subject: Subject) -> Iterator[tuple[KeyPath, Path]]:
    for path, _, credential in subject.credentials():
        if credential.ca_file is not None:
            yield (*path, "ca_file"), Path(credential.ca_file)
    for place, route in subject.routes():
        if route.ca_file is not None:
            yield (*place, "ca_file"), Path(route.ca_file)


def _bundle(key: KeyPath, path: Path, wall: float) -> Iterator[Finding]:
    certificates = _read(path)
    if certificates and all(each.not_valid_after_utc.timestamp() <= wall for each in certificates):
        last = max(each.not_valid_after_utc for each in certificates)
        yield Finding(Kind.CA_FILE_EXPIRED, key, f"the last certificate in it expired on {last:%Y-%m-%d}")


def _read(path: Path) -> list[x509.Certificate]:
    """The certificates of a file; none if it cannot be read."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return []
