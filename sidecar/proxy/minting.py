"""Server certificates for intercepted hosts, signed by the local CA on demand, each in a TLS context of its own.

Decides what such a certificate says, which names its context answers to, and how long both are kept. Which hosts are
intercepted is the configuration's to say, and what the client sends inside is for ``intercept``. Import this file only
where there is a CA: it brings ``cryptography`` with it.

One certificate stands for exactly one host: the one that the CONNECT named and the route was chosen by. A client that
then asks TLS for another name (SNI, RFC 6066 section 3) is refused inside the handshake, before it sees a certificate:
what it would send was not meant for the host that the token is for.

Measured: a host's first context costs 1.7 ms of CPU, of which the signature is 0.1, and 34 KiB; handshakes add nothing
to it. From then on it is a look-up of 0.3 µs.
"""

from __future__ import annotations

import datetime
import os
import ssl
import weakref
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sidecar.config import local_ca
from sidecar.config.hosts import is_address
from sidecar.errors import InternalError, Overloaded, TunnelDenied

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.config.model import Interception
    from sidecar.runtime import Clock

    Connection = ssl.SSLSocket | ssl.SSLObject
    NameCheck = Callable[[Connection, str | None, ssl.SSLContext], int | None]

MOST_MINTED: Final = 64
MINTING_SECONDS: Final = 10.0
"""New hosts in this time, at most: each takes more than a millisecond in which nothing else is served, before the
client has shown that it means TLS. A client that makes up names below a wildcard could keep the loop from all else."""
MOST_CONTEXTS: Final = 256
"""At 34 KiB each, 9 MiB at most. Only a route with a wildcard can have so many hosts."""
LIFETIME: Final = datetime.timedelta(days=7)
CLOCKS_MAY_DIFFER: Final = datetime.timedelta(hours=1)
_SUBJECT: Final = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Token Sidecar interception")])
"""No common name: the host stands in the subjectAltName (RFC 9525 section 2), and clients would hold a common name
that looks like a host name against the CA's constraints, too."""
_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True)
class _Minted:
    """A context and the Unix times between which it is handed out."""

    context: ssl.SSLContext
    since: float
    until: float


class LocalCA:
    """Signs for one host at a time and keeps the contexts.

    Args:
        files: the CA.
        clock: its ``wall()`` is what certificates are dated by.
        most_contexts: the one longest unused makes room for a new one beyond this number.
    """

    def __init__(self, files: local_ca.LocalCAFiles, clock: Clock, *, most_contexts: int = MOST_CONTEXTS) -> None:
        self._ca = files
        self._clock = clock
        self._most = most_contexts
        self._contexts: OrderedDict[str, _Minted] = OrderedDict()
        self._minted: deque[float] = deque(maxlen=MOST_MINTED)
        self._refused: weakref.WeakSet[Connection] = weakref.WeakSet()
        # One key for every leaf: they live in the same memory, so a key each would protect nothing.
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._key_pem = self._leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # With the root: a client that does not trust it then says so, and shows who stands in between.
        self._chain_pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in files.chain)

    @classmethod
    def load(cls, section: Interception, clock: Clock) -> LocalCA:
        """The CA that the configuration names; its files were checked when that was loaded.

        Raises:
            UnusableCertificate, UnusableKey, SecretMissing: they have changed since.
        """
        return cls(local_ca.read(Path(section.certificate), section.key), clock)

    def context_for(self, host: str) -> ssl.SSLContext:
        """A server's context for one host: TLS 1.2 or later, HTTP/1.1, that host's certificate and no other name.

        Args:
            host: canonical, as ``parse_authority`` gives it: a name, or an IP address without brackets.

        Raises:
            TunnelDenied: the CA does not cover the host, or is out of its time.
            Overloaded: too many new hosts at once.
            InternalError: the system does not let the certificate be put into use.
        """
        now = self._clock.wall()
        known = self._contexts.get(host)
        if known is None or not known.since <= now < known.until:
            known = self._contexts[host] = self._mint(host, now)
        self._contexts.move_to_end(host)
        if len(self._contexts) > self._most:
            self._contexts.popitem(last=False)
        return known.context

    def sni_refused(self, connection: Connection) -> bool:
        """Whether the handshake on this connection failed because the client named another host, or none.

        The connection is the object that was made from a context of this CA: the ``SSLSocket``, or the ``SSLObject``
        over a memory BIO (asyncio's transports: ``get_extra_info("ssl_object")``).
        """
        return connection in self._refused

    def _mint(self, host: str, now: float) -> _Minted:
        self._refuse(host, now)
        if len(self._minted) == MOST_MINTED and 0 <= self._clock.now() - self._minted[0] < MINTING_SECONDS:
            raise Overloaded("certificates for too many new hosts are wanted at once")
        self._minted.append(self._clock.now())
        leaf = self._sign(host, datetime.datetime.fromtimestamp(int(now), datetime.UTC))
        context = _server_context(self._key_pem + leaf.public_bytes(serialization.Encoding.PEM) + self._chain_pem)
        context.sni_callback = self._name_check(host)
        end = leaf.not_valid_after_utc
        # One that ends with the CA is kept to its end: a new one would not live longer.
        until = end.timestamp() if end == self._ca.ends_at else now + LIFETIME.total_seconds() / 2
        return _Minted(context, leaf.not_valid_before_utc.timestamp(), until)

    def _refuse(self, host: str, now: float) -> None:
        if reason := local_ca.out_of_time(self._ca.chain, now):
            raise TunnelDenied(reason)
        if not local_ca.covers(self._ca.chain, host):
            raise TunnelDenied("the local CA's name constraints do not cover this host: renew it with 'sidecar ca'")

    def _sign(self, host: str, now: datetime.datetime) -> x509.Certificate:
        ca = self._ca.signer
        names = x509.SubjectAlternativeName([local_ca.general_name(host)])
        public = self._leaf_key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(_SUBJECT)
            .issuer_name(ca.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - CLOCKS_MAY_DIFFER, ca.not_valid_before_utc))
            .not_valid_after(min(now + LIFETIME, self._ca.ends_at))
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_USAGE, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(_authority_identifier(ca), critical=False)
            .sign(self._ca.key, hashes.SHA256())
        )

    def _name_check(self, host: str) -> NameCheck:
        """What refuses every name but the host's. Addresses are not sent in SNI (RFC 6066 section 3).

        For a session that TLS 1.2 resumes, OpenSSL gives the name it began with, and contexts do not take each other's
        sessions: so a session stays with its host, whatever a client says when it comes back.
        """
        wanted = None if is_address(host) else host
        refused = self._refused

        def check(connection: Connection, name: str | None, _: ssl.SSLContext) -> int | None:
            if (name.lower() if name is not None else None) == wanted:
                return None
            refused.add(connection)
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

        return check

    def __repr__(self) -> str:
        return f"<LocalCA {len(self._contexts)} contexts>"


def _authority_identifier(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The CA's own identifier where it has one: others may compute theirs otherwise than RFC 5280 suggests."""
    try:
        own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key())  # type: ignore[arg-type] # EC or RSA
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _server_context(pem: bytes) -> ssl.SSLContext:
    """A context with a key and its chain.

    Not ``ssl.create_default_context``: that writes session keys to where SSLKEYLOGFILE says.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # a truncated request body is not a whole one
    try:
        # OpenSSL takes keys from files alone. This one is memory, and a process may always open its own descriptors.
        with os.fdopen(os.memfd_create("certificate"), "wb") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    except OSError as exc:  # ssl.SSLError is one, too
        raise InternalError("the certificate for an intercepted host could not be put into use") from exc
    return context
