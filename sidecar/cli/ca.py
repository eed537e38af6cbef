"""``sidecar ca``: makes the local certificate authority for interception, limited to the hosts that need it.

Decides what stands in its certificates and how both files are written: whole or not at all, the key for its owner alone
from its first byte, nothing overwritten unasked. The configuration is read without its CA files, which are made here.

There are two certificates. What signs for hosts is a CA with name constraints; clients trust the root above it, whose
key is gone before the command ends. Some clients, Java's among them, hold no constraints of what they trust itself
against what is signed (RFC 5280 section 6.1.1), but all of them those of a CA in between.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sidecar.cli import default_config
from sidecar.config import hosts, load, local_ca
from sidecar.config.interception import intercepted_hosts
from sidecar.errors import UsageError
from sidecar.runtime import SystemClock

if TYPE_CHECKING:
    from collections.abc import Sequence

HELP: Final = """Make the local certificate authority for routes with 'intercept: true'.
Clients that trust it accept the sidecar as those hosts, and it can sign for no others (name constraints).
Hosts and files come from the configuration, or from the command line."""
EXAMPLE: Final = """example: sidecar ca -c config.yaml
         sidecar ca --host api.example.com --host '*.example.org' --certificate ca.pem --key ca-key.pem
exit codes: 0 made, 2 usage or a file cannot be written, 3 configuration"""

CLOCKS_MAY_DIFFER: Final = datetime.timedelta(hours=1)
LONGEST_DAYS: Final = 3650


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make: for which host patterns, and into which files."""

    hosts: Sequence[str]
    certificate: Path
    key: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``-c FILE`` or ``--host``, and the files."""
    add = parser.add_argument
    add("-c", "--config", metavar="FILE", help="default: $SIDECAR_CONFIG, then config.yaml")
    add("--host", metavar="HOST", action="append", help="instead of the configuration's; can be repeated")
    add("--certificate", metavar="FILE", help="where the certificate goes; default: interception.certificate")
    add("--key", metavar="FILE", help="where the key goes; default: interception.key")
    add("--days", metavar="N", type=_days, default=365, help="how long it is valid; default: 365")
    add("--force", action="store_true", help="overwrite files that exist")


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= LONGEST_DAYS:
        raise argparse.ArgumentTypeError(f"a number from 1 to {LONGEST_DAYS} is wanted")
    return int(text)


def execute(arguments: argparse.Namespace) -> int:
    """Make the CA.

    Raises:
        ConfigurationInvalid: the configuration has errors, the CA's files aside.
        UsageError: nothing to make, a file exists, or one cannot be written.
    """
    wanted = _from_command_line(arguments) if arguments.host else _from_configuration(arguments)
    if wanted.certificate.absolute() == wanted.key.absolute():
        raise UsageError("certificate and key are two files: others may read the certificate")
    now = datetime.datetime.fromtimestamp(int(SystemClock().wall()), datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    chain = make(wanted.hosts, key, now=now, lifetime=datetime.timedelta(days=arguments.days))
    _write(wanted, b"".join(map(_pem, chain)), _key_pem(key), overwrite=arguments.force)
    print(_report(wanted, chain[0]))
    return 0


# --- what to make ----------------------------------------------------------------------------------------------------


def _from_command_line(arguments: argparse.Namespace) -> Wanted:
    if arguments.config is not None:
        raise UsageError("hosts come from --host or from a configuration, not from both")
    if arguments.certificate is None or arguments.key is None:
        raise UsageError("--host needs --certificate FILE and --key FILE")
    patterns = list(dict.fromkeys(_pattern(text) for text in arguments.host))
    return Wanted(patterns, Path(arguments.certificate), Path(arguments.key))


def _pattern(text: str) -> str:
    try:
        return hosts.host_pattern(text)
    except ValueError as exc:
        raise UsageError(f"--host {text!r}: {exc}") from exc


def _from_configuration(arguments: argparse.Namespace) -> Wanted:
    path = Path(arguments.config or default_config())
    if arguments.config is None and not path.exists():
        raise UsageError(f"there is no {path}: name hosts with --host HOST, or a configuration with -c FILE")
    configuration = load.load(path, check_files=False)
    section, patterns = configuration.interception, intercepted_hosts(configuration)
    if section is None or not patterns:
        raise UsageError(f"{path}: no route has 'intercept: true', so there is no host to make a CA for")
    named = Path(arguments.key) if arguments.key else section.key.path
    if named is None or (section.key.kind == "cred" and not arguments.key):
        raise UsageError(f"{path}: the key is {section.key}, which systemd provides: name a file with --key FILE")
    return Wanted(patterns, Path(arguments.certificate or section.certificate), named)


# --- making it -------------------------------------------------------------------------------------------------------


def make(
    patterns: Sequence[str], key: ec.EllipticCurvePrivateKey, *, now: datetime.datetime, lifetime: datetime.timedelta
) -> tuple[x509.Certificate, x509.Certificate]:
    """A root that clients trust, and below it the CA that this key signs for the host patterns with.

    The root comes first, because some clients take the first certificate of a file and no others.
    """
    root_key = ec.generate_private_key(ec.SECP256R1())
    root_name, name = (_subject(f"Token Sidecar interception {kind}, made {now:%Y-%m-%d}") for kind in ("root", "CA"))
    base = (
        x509.CertificateBuilder()
        .issuer_name(root_name)
        .not_valid_before(now - CLOCKS_MAY_DIFFER)
        .not_valid_after(now + lifetime)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(local_ca.constraints_for(patterns), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
    )
    root = _for(base, root_name, root_key.public_key(), below=1)
    signer = _for(base, name, key.public_key(), below=0)
    return root.sign(root_key, hashes.SHA256()), signer.sign(root_key, hashes.SHA256())


def _for(
    base: x509.CertificateBuilder, name: x509.Name, public: ec.EllipticCurvePublicKey, *, below: int
) -> x509.CertificateBuilder:
    """What tells the two apart; so many CAs may stand below this one."""
    return (
        base.subject_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _subject(common_name: str) -> x509.Name:
    """Says what it is to whoever finds it in a trust store; the day tells an old one from its successor."""
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Token Sidecar")
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


# --- writing it ------------------------------------------------------------------------------------------------------


def _write(wanted: Wanted, certificate: bytes, key: bytes, *, overwrite: bool) -> None:
    """Both are complete on disk before the first takes its place: no full disk leaves half a CA."""
    for path in (wanted.certificate, wanted.key):
        if not overwrite and os.path.lexists(path):
            raise UsageError(f"{path} exists: --force overwrites it, and clients then have to trust the new CA")
    with contextlib.ExitStack() as stack:
        staged_key = _staged(stack, wanted.key, key, mode=0o600)
        staged_certificate = _staged(stack, wanted.certificate, certificate, mode=0o644)
        _publish(staged_key, wanted.key, overwrite=overwrite)
        _publish(staged_certificate, wanted.certificate, overwrite=overwrite)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _staged(stack: contextlib.ExitStack, path: Path, content: bytes, *, mode: int) -> Path:
    """The content on disk beside its place, under a name of its own; gone when the stack is left."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        # Never more permissions than wanted, and never a file that somebody else has put there or holds open.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        stack.callback(temporary.unlink, missing_ok=True)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask took away
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError as exc:
        raise _cannot_write(path, exc) from exc
    return temporary


def _publish(temporary: Path, path: Path, *, overwrite: bool) -> None:
    try:
        if overwrite:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)  # unlike a rename it fails if the file has appeared meanwhile
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as exc:
        raise _cannot_write(path, exc) from exc


def _cannot_write(path: Path, exc: OSError) -> UsageError:
    return UsageError(f"cannot write {path}: {exc.strerror or 'unknown reason'}")


# --- telling of it ---------------------------------------------------------------------------------------------------


def _report(wanted: Wanted, certificate: x509.Certificate) -> str:
    pem = wanted.certificate
    return "\n".join(
        (
            f"A CA for interception, valid until {certificate.not_valid_after_utc:%Y-%m-%d}:",
            f"  certificate  {pem}",
            f"  key          {wanted.key} (for the sidecar alone)",
            "It can sign for these hosts, for names below them, and for nothing else:",
            *(f"  {pattern}" for pattern in wanted.hosts),
            "Clients have to be told to trust it:",
            f"  curl     --cacert {pem}, or CURL_CA_BUNDLE",
            "  Python   REQUESTS_CA_BUNDLE for requests, SSL_CERT_FILE for others",
            f"  Node.js  NODE_EXTRA_CA_CERTS={pem}",
            f"  Java     keytool -importcert -cacerts -storepass changeit -alias token-sidecar -file {pem}",
            "--cacert, SSL_CERT_FILE and the variables with BUNDLE in their name replace the system's CAs. A client",
            f"that calls other hosts, too, needs both: cat /etc/ssl/certs/ca-certificates.crt {pem} > all-cas.pem",
        )
    )
