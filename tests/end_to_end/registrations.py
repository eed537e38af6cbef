"""The clients that the OpenID provider knows, and for each the credential by which the sidecar is that client.

One for every way in which a client proves itself there, in each kind of key; the ids and secrets of two are made of the
characters that RFC 6749 section 2.3.1 is about. Those of the people's grants prove themselves by PKCE, or by a key.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from tests.oauth import keys

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.origin import Authority

ODD_ID: Final = "orders worker, 1/2 + 3% = 0?"
ODD_SECRET: Final = "s3cret/with:odd chars&+%=~!\"'()*;,@"
SECRET: Final = "an ordinary secret of more than thirty-two characters"
"""RFC 7518 section 3.2: HS256 needs 256 bits."""
CERTIFIED_NAME: Final = "worker.clients.example"
SCOPE: Final = "orders.read"
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
DEVICE: Final = {"redirect_uris": [], "response_types": [], "grant_types": [DEVICE_GRANT, "refresh_token"]}


@dataclass(frozen=True, slots=True)
class Registration:
    """A client on both sides.

    Args:
        metadata: what the provider knows (RFC 7591 section 2).
        credential: what the sidecar is given, apart from what all have in common.
    """

    metadata: dict[str, Any]
    credential: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Registrar:
    """Makes clients with their keys and files.

    Args:
        folder: for private keys and certificates.
        authority: certifies the client of ``tls_client_auth``.
    """

    folder: Path
    authority: Authority

    def workers(self) -> dict[str, Registration]:
        """The clients of the client credentials grant."""
        return {
            "basic": self.by_secret("basic", "client_secret_basic"),
            "basic-odd": self.by_secret(ODD_ID, "client_secret_basic", ODD_SECRET),
            "post-odd": self.by_secret(f"{ODD_ID}!", "client_secret_post", ODD_SECRET),
            "secret-jwt": self.by_secret("secret-jwt", "client_secret_jwt"),
            "key-rsa": self.by_key("key-rsa", "RSA", "RS256"),
            "key-pss": self.by_key("key-pss", "RSA", "PS256", assertion_algorithm="PS256"),
            "key-ec": self.by_key("key-ec", "P-256", "ES256"),
            "key-ed": self.by_key("key-ed", "Ed25519", "EdDSA"),
            "tls": self.by_certificate("tls"),
            "self-signed": self.by_own_certificate("self-signed"),
            "dpop": self.by_secret("dpop", "client_secret_basic", dpop=True),
            "dpop-nonce": self.by_key("dpop-nonce", "P-256", "ES256", dpop=True),
            "dpop-tls": self.by_certificate("dpop-tls", dpop=True),
        }

    def by_secret(self, client_id: str, method: str, secret: str = SECRET, **credential: Any) -> Registration:
        metadata = _worker(client_id, method) | {"client_secret": secret}
        return Registration(metadata, _proves(client_id, method, client_secret=secret) | credential)

    def by_key(self, client_id: str, kind: str, algorithm: str, **credential: Any) -> Registration:
        """By a signed JWT (OpenID Connect Core section 9)."""
        metadata = _worker(client_id, "private_key_jwt") | {
            "jwks": {"keys": [public_jwk(kind)]},
            "token_endpoint_auth_signing_alg": algorithm,
        }
        file = self._write(f"{client_id}-key.pem", keys.pem(keys.private(kind)))
        return Registration(metadata, _proves(client_id, "private_key_jwt", private_key=f"file:{file}") | credential)

    def by_certificate(self, client_id: str, **credential: Any) -> Registration:
        """By a certificate of a CA that the provider trusts (RFC 8705 section 2.1)."""
        certificate, key = self.authority.files_for(CERTIFIED_NAME, folder=self.folder)
        metadata = _worker(client_id, "tls_client_auth") | {"tls_client_auth_san_dns": CERTIFIED_NAME}
        files = {"certificate": str(certificate), "certificate_key": f"file:{key}"}
        return Registration(metadata, _proves(client_id, "tls_client_auth", **files) | credential)

    def by_own_certificate(self, client_id: str) -> Registration:
        """By a certificate that only the client's registration vouches for (RFC 8705 section 2.2)."""
        certificate = keys.certificate(keys.private("P-256"))
        der = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
        metadata = _worker(client_id, "self_signed_tls_client_auth") | {
            "jwks": {"keys": [public_jwk("P-256") | {"x5c": [der]}]}
        }
        files = {
            "certificate": str(self._write("own.pem", certificate.public_bytes(Encoding.PEM).decode())),
            "certificate_key": f"file:{self._write('own-key.pem', keys.pem(keys.private('P-256')))}",
        }
        return Registration(metadata, _proves(client_id, "self_signed_tls_client_auth", **files))

    def certified_people(self) -> dict[str, Registration]:
        """The same for clients that prove themselves, by a key and by a certificate."""
        by_key, by_certificate = self.by_key("key", "P-256", "ES256"), self.by_certificate("tls")
        return {
            "key": _of_person(by_key.metadata | _native("key", "private_key_jwt"), by_key.credential),
            "tls": _of_person(by_certificate.metadata | _native("tls", "tls_client_auth"), by_certificate.credential),
            "tls-device": _of_person(
                by_certificate.metadata | _native("tls-device", "tls_client_auth") | DEVICE, by_certificate.credential
            ),
        }

    def _write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.write_text(text)
        file.chmod(0o600)
        return file


def public_jwk(kind: str) -> dict[str, Any]:
    """The public key of ``keys.private(kind)``, as a client registers it."""
    return dict(keys.jose(keys.private(kind)).as_dict(private=False))


def people() -> dict[str, Registration]:
    """The clients of the grants that people give: no secret, and so PKCE or a code on another device."""
    return {
        "browser": _of_person(_native("browser", "none"), {"client_auth": "none"}),
        "bound": _of_person(_native("bound", "none"), {"client_auth": "none", "dpop": True}),
        "device": _of_person(_native("device", "none") | DEVICE, {"client_auth": "none"}),
    }


def _of_person(metadata: dict[str, Any], proof: dict[str, Any]) -> Registration:
    """With what the client proves itself by besides."""
    grant = "device_code" if DEVICE_GRANT in metadata["grant_types"] else "authorization_code"
    return Registration(metadata, proof | {"grant": grant, "client_id": metadata["client_id"]})


def _native(client_id: str, method: str) -> dict[str, Any]:
    return {
        "client_id": client_id,
        "application_type": "native",
        "token_endpoint_auth_method": method,
        "redirect_uris": ["http://127.0.0.1/callback"],
        "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token"],
    }


def _worker(client_id: str, method: str) -> dict[str, Any]:
    return {
        "client_id": client_id,
        "token_endpoint_auth_method": method,
        "grant_types": ["client_credentials"],
        "redirect_uris": [],
        "response_types": [],
    }


def _proves(client_id: str, method: str, **credential: Any) -> dict[str, Any]:
    return {"grant": "client_credentials", "client_id": client_id, "client_auth": method} | credential
