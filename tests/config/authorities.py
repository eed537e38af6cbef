"""CA files for tests: a CA as ``sidecar ca`` makes it, or with something wrong, written to a folder."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.cli import ca as command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

HOSTS: Final = ("api.example.com",)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def constrained(
    key: ec.EllipticCurvePrivateKey, hosts: Sequence[str] = HOSTS, *, days: float = 365.0, made_days_ago: float = 0.0
) -> tuple[x509.Certificate, x509.Certificate]:
    """What ``sidecar ca`` makes for these hosts: the root, and the CA that has this key."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - datetime.timedelta(days=made_days_ago)
    return command.make(hosts, key, now=now, lifetime=datetime.timedelta(days=days))


def bare(
    key: CertificateIssuerPrivateKeyTypes,
    *extensions: x509.ExtensionType,
    algorithm: hashes.SHA256 | None = None,
) -> x509.Certificate:
    """A self-signed certificate with these extensions and no others."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody's own")])
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, algorithm)


def write(folder: Path, key: CertificateIssuerPrivateKeyTypes, *chain: x509.Certificate) -> tuple[Path, Path]:
    """The certificates and the key as files; the key is for its owner alone."""
    certificate_file, key_file = folder / "ca.pem", folder / "ca-key.pem"
    certificate_file.write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain))
    key_file.touch(0o600)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
