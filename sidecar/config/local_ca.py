"""The local certificate authority as files: what makes a pair of them usable, and which hosts it may sign for.

Read at load, when an unusable CA is an error of the configuration, and again by ``proxy/minting``, which signs with it.
Whether there is a CA at all is decided in ``interception``, and so is the place of an error in the file. Of this
package, this file alone imports ``cryptography``, and it is imported only where a CA is configured: the library costs
30 ms and 9 MiB, which nobody pays who does not intercept.

A CA in a client's trust store can pose as every server there is, unless its name constraints (RFC 5280 section
4.2.1.10) say otherwise. They do: ``sidecar ca`` writes exactly the intercepted hosts into them, clients check them, and
so a stolen key is worth no more than what the sidecar sees anyway. Java takes a name and a key from what it trusts and
no constraints (section 6.1.1 allows it), so what clients trust is a root without a key, and what signs stands below it.
One file holds both; which of its certificates signs is told by the key.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sidecar.config.hosts import is_address

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from sidecar.secrets import SecretReference

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_LARGEST: Final = 256 << 10
_EVERY_ADDRESS: Final = ("0.0.0.0/0", "::/0")
_EVERY_NAME: Final = ""
"""A dNSName constraint without labels: every name can be made from it by adding labels on its left side."""


class UnusableCertificate(ValueError):
    """The certificate is no CA to sign with now; ``str()`` says why."""


class UnusableKey(ValueError):
    """The key cannot be used, or must not be; ``str()`` says why and holds nothing of it."""


@dataclass(frozen=True, slots=True, repr=False)
class LocalCAFiles:
    """The certificate that signs, what stands above it, and the key: the chain is what clients are sent."""

    chain: tuple[x509.Certificate, ...]
    key: SigningKey

    @property
    def signer(self) -> x509.Certificate:
        return self.chain[0]

    @property
    def ends_at(self) -> datetime.datetime:
        """When the first certificate of the chain expires."""
        return min(certificate.not_valid_after_utc for certificate in self.chain)


# --- reading -----------------------------------------------------------------------------------------------------


def read(certificate: Path, key: SecretReference) -> LocalCAFiles:
    """Read a CA.

    Raises:
        UnusableCertificate: the certificate cannot be read or is not one of a CA.
        UnusableKey: the key is readable for others, is not one, or belongs to another certificate.
        SecretMissing: the key cannot be read.
    """
    certificates = read_certificates(certificate)
    private = read_key(key)
    signer = signer_of(certificates, private)
    if signer is None:
        raise UnusableKey("the key belongs to another certificate")
    return LocalCAFiles(_chain(signer, certificates), private)


def signer_of(certificates: Iterable[x509.Certificate], key: SigningKey) -> x509.Certificate | None:
    """The certificate that the key belongs to."""
    public = key.public_key()
    return next((each for each in certificates if each.public_key() == public), None)


def _chain(signer: x509.Certificate, certificates: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """From the signer up to its root, as far as the file goes (RFC 8446 section 4.4.2)."""
    chain = [signer]
    issuers = {each.subject: each for each in certificates}
    while (above := issuers.get(chain[-1].issuer)) is not None and above not in chain:
        chain.append(above)
    return tuple(chain)


def read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates of a CA: its own, and what may stand above it.

    Raises:
        UnusableCertificate: the file cannot be read, is not PEM, or holds a certificate that is not one of a CA.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST)
    except OSError as exc:
        hint = " ('sidecar ca' makes it)" if isinstance(exc, FileNotFoundError) else ""
        raise UnusableCertificate(f"the file cannot be read: {exc.strerror or 'unknown reason'}{hint}") from exc
    try:
        certificates = tuple(x509.load_pem_x509_certificates(raw))
        sign = all(map(_signs_certificates, certificates))
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise UnusableCertificate("the file holds no certificate in PEM form that can be read") from exc
    if not sign:
        raise UnusableCertificate("the certificate is not one of a CA: make one with 'sidecar ca'")
    return certificates


def _signs_certificates(certificate: x509.Certificate) -> bool:
    """RFC 5280 sections 4.2.1.9 and 4.2.1.3: what is missing says no, but a missing key usage says nothing."""
    try:
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as exc:
        return exc.oid == x509.KeyUsage.oid


def read_key(reference: SecretReference) -> SigningKey:
    """The CA's key, from a file that is for its owner alone.

    Raises:
        UnusableKey: others may read or write the file, or it holds no key to sign with.
        SecretMissing: it cannot be read.
    """
    pem = reference.read()  # first, because a file that is absent has no mode
    if (mode := reference.loose_mode()) is not None:
        path = reference.path
        raise UnusableKey(f"{path} has mode {mode:04o}, but a CA's key is for its owner alone: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(pem.reveal().encode(), password=None)
    except TypeError:
        raise UnusableKey("the key is encrypted: the sidecar has no password for it") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKey("the file holds no private key in PEM form") from None  # the cause might quote it
    if not isinstance(key, SigningKey):
        raise UnusableKey("the key is neither an EC nor an RSA key")
    return key


# --- validity ----------------------------------------------------------------------------------------------------


def out_of_time(certificates: Iterable[x509.Certificate], now: float) -> str | None:
    """Why a CA does not sign at this Unix time; None while it does."""
    for each in certificates:
        if now >= each.not_valid_after_utc.timestamp():
            return f"the CA expired on {each.not_valid_after_utc:%Y-%m-%d}: make a new one with 'sidecar ca --force'"
        if now < each.not_valid_before_utc.timestamp():
            return f"the CA is not valid before {each.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: check the clock"
    return None


# --- name constraints --------------------------------------------------------------------------------------------


def general_name(host: str) -> x509.GeneralName:
    """A canonical host as it stands in a certificate (RFC 5280 section 4.2.1.6)."""
    return x509.IPAddress(ipaddress.ip_address(host)) if is_address(host) else x509.DNSName(host)


def constraints_for(patterns: Iterable[str]) -> x509.NameConstraints:
    """Constraints that permit these hosts (``api.example.com``, ``*.example.com``, ``192.0.2.1``) and no others.

    A name in a constraint covers itself and everything below it; there is no way to permit one name alone. A kind of
    name of which none is permitted would be free of constraints, so the other kind is excluded as a whole.
    """
    wanted = list(dict.fromkeys(pattern.removeprefix("*.") for pattern in patterns))
    addresses = [ipaddress.ip_network(host) for host in wanted if is_address(host)]
    names = [host for host in wanted if not is_address(host)]
    excluded: list[x509.GeneralName] = []
    if not names:
        excluded.append(x509.DNSName(_EVERY_NAME))
    if not addresses:
        excluded += (x509.IPAddress(ipaddress.ip_network(every)) for every in _EVERY_ADDRESS)
    permitted = [*map(x509.DNSName, names), *map(x509.IPAddress, addresses)]
    return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=excluded or None)


def is_constrained(certificates: Iterable[x509.Certificate]) -> bool:
    """Whether the CA is limited to some hosts."""
    return any(_constraints(each) is not None for each in certificates)


def covers(certificates: Iterable[x509.Certificate], pattern: str) -> bool:
    """Whether clients accept what this CA signs for a canonical host, or for the names of ``*.example.com``."""
    return all(_permits(constraints, pattern) for each in certificates if (constraints := _constraints(each)))


def _permits(constraints: x509.NameConstraints, pattern: str) -> bool:
    """Exclusions come first. Of a pattern they count only if they take all of it: each name is looked at later."""
    host = pattern.removeprefix("*.")
    if _any_within(host, constraints.excluded_subtrees or ()):
        return False
    permitted = _same_kind(host, constraints.permitted_subtrees or ())
    return not permitted or _any_within(host, permitted)


def _constraints(certificate: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def _same_kind(host: str, subtrees: Iterable[x509.GeneralName]) -> list[x509.GeneralName]:
    kind = x509.IPAddress if is_address(host) else x509.DNSName
    return [tree for tree in subtrees if isinstance(tree, kind)]


def _any_within(host: str, subtrees: Sequence[x509.GeneralName]) -> bool:
    return any(_within(host, tree) for tree in _same_kind(host, subtrees))


def _within(host: str, tree: x509.GeneralName) -> bool:
    if isinstance(tree, x509.IPAddress):
        return _address_within(host, tree)
    base = str(tree.value).lower()
    return not base or host == base or host.endswith(base if base.startswith(".") else f".{base}")


def _address_within(host: str, tree: x509.IPAddress) -> bool:
    network, address = tree.value, ipaddress.ip_address(host)
    return isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network) and address in network
