"""Keys and certificates for the tests of what is signed, made once: RSA takes its time."""

from __future__ import annotations

import base64
import functools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


@functools.cache
def private(kind: str) -> Any:
    """A key by the name of its kind: ``RSA``, ``RSA 1024``, ``P-256``, …, ``Ed25519``."""
    if kind.startswith("RSA"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[4:] or 2048))
    return ed25519.Ed25519PrivateKey.generate() if kind == "Ed25519" else ec.generate_private_key(CURVES[kind])


def pem(
    key: Any,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> str:
    encoded: bytes = key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())
    return encoded.decode()


def public_pem(key: Any) -> str:
    encoded: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()


def jose(key: Any) -> RSAKey | ECKey | OKPKey:
    if isinstance(key, rsa.RSAPrivateKey):
        return RSAKey.import_key(key)
    return OKPKey.import_key(pem(key)) if isinstance(key, ed25519.Ed25519PrivateKey) else ECKey.import_key(key)


def jwk(key: Any, **members: Any) -> str:
    return json.dumps({**jose(key).as_dict(private=True), **members})


def certificate(key: Any) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin)
    return builder.not_valid_after(begin + timedelta(days=36500)).sign(key, hashes.SHA256())


def verifies(algorithm: str, message: bytes, signature: bytes, key: Any) -> bool:
    """By joserfc's algorithms themselves: its ``jwt.decode`` warns of EdDSA."""
    return JWSRegistry.algorithms[algorithm].verify(message, signature, jose(key))


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Header, claims, what was signed, and the signature."""
    header, claims, signature = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split("."))
    return json.loads(header), json.loads(claims), token.rpartition(".")[0].encode(), signature
