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

ODD_ID: Final = "orders worker: 1/2 + 3% = 0?"
ODD_SECRET: Final = "s3cret/with:odd chars&+%=~!\"'()*;,@"
SECRET: Final = "an ordinary secret of more than thirty-two characters"
"""RFC 7518 section 3.2: HS256 needs 256 bits."""
CERTIFIED_NAME: Final = "worker.clients.example"
SCOPE: Final = "orders.read"
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"


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
    asks = {"client_auth": "none"}
    native = {"application_type": "native", "token_endpoint_auth_method": "none"}
    browser = native | {
        "redirect_uris": ["http://127.0.0.1/callback"],
        "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token"],
    }
    device = native | {"redirect_uris": [], "response_types": [], "grant_types": [DEVICE_GRANT, "refresh_token"]}
    return {
        "browser": Registration({"client_id": "browser"} | browser, _by_person("browser", "authorization_code", asks)),
        "bound": Registration(
            {"client_id": "bound"} | browser, _by_person("bound", "authorization_code", asks | {"dpop": True})
        ),
        "device": Registration({"client_id": "device"} | device, _by_person("device", "device_code", asks)),
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


def _by_person(client_id: str, grant: str, credential: dict[str, Any]) -> dict[str, Any]:
    return {"grant": grant, "client_id": client_id} | credential
