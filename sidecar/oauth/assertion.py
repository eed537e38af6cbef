"""The JWTs that a client signs itself (RFC 7523): to prove who it is, or to be granted a token for.

Decides the claims and the header. Keys and signatures are for ``jws``; where the JWT goes in the request is for
``client_auth`` and ``grants``.

``jti`` is fresh in every JWT, retries included: servers remember it (RFC 7523 section 3). Times are short and reach
back a little: servers whose clock is behind refuse an ``iat`` or ``nbf`` of their future, and GitHub, Salesforce and
others bound the lifetime: the shortest bound known is three minutes after ``iat``.
"""

from __future__ import annotations

import hashlib
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final

from sidecar.errors import TokenRefused
from sidecar.oauth import jws

if TYPE_CHECKING:
    from sidecar.config.model import Credential
    from sidecar.oauth.inputs import Inputs
    from sidecar.oauth.jws import SigningKey
    from sidecar.secrets import Secret

BACKDATED: Final = 30
LIFETIME: Final = 180
"""Seconds from ``iat`` to ``exp``; Salesforce accepts three minutes, FAPI 2.0 five."""

BEARER_BACKDATED: Final = 60
"""GitHub asks for a minute; its bound is ten after now."""


def client_assertion(credential: Credential, inputs: Inputs) -> str:
    """The JWT of ``private_key_jwt`` and ``client_secret_jwt`` (RFC 7523 section 2.2).

    Its audience is the issuer where one is known: a token endpoint's URL, taken from metadata, can be that of another
    server, which could use the assertion there (the reason for the audience rules of RFC 7523bis). Without an issuer it
    is the token endpoint, which most servers still document; ``assertion_audience`` says otherwise.

    Raises:
        TokenRefused: no key, no secret, or none that can be used.
    """
    key = _client_key(credential, inputs)
    claims = {
        "iss": credential.client_id,
        "sub": credential.client_id,
        "aud": credential.assertion_audience or inputs.issuer or inputs.token_url,
        **_stamps(inputs.wall, BACKDATED),
    }
    return _signed(claims, key, _thumbprint(credential, inputs, key))


def bearer_assertion(
    credential: Credential,
    inputs: Inputs,
    *,
    audience: str | None,
    scope: str | None = None,
    own_subject: bool = True,
) -> str:
    """The JWT that stands for a grant (RFC 7523 section 2.1), or is itself the token of an app (GitHub).

    Args:
        credential: whose ``assertion_claims`` are added; they change none of the claims below.
        inputs: the key and the time.
        audience: ``aud``; None leaves it out.
        scope: the ``scope`` claim, for servers that read it there (Google).
        own_subject: without an ``assertion_subject`` the client speaks for itself; False leaves ``sub`` out then.

    Raises:
        TokenRefused: no key that can be used.
    """
    key = _private_key(credential, inputs)
    subject = credential.assertion_subject or (credential.client_id if own_subject else None)
    optional = {"sub": subject, "aud": audience, "scope": scope}
    claims = {
        **credential.assertion_claims,
        "iss": credential.client_id,
        **{name: value for name, value in optional.items() if value is not None},
        **_stamps(inputs.wall, BEARER_BACKDATED),
    }
    return _signed(claims, key, _thumbprint(credential, inputs, key))


def _client_key(credential: Credential, inputs: Inputs) -> SigningKey:
    if credential.client_auth != "client_secret_jwt":
        return _private_key(credential, inputs)
    if inputs.secret is None:
        raise TokenRefused("client_auth client_secret_jwt needs the key 'client_secret'")
    return jws.secret_key(inputs.secret, key_id=credential.key_id, algorithm=credential.assertion_algorithm)


def _private_key(credential: Credential, inputs: Inputs) -> SigningKey:
    if inputs.private_key is None:
        raise TokenRefused("signing an assertion needs the key 'private_key'")
    return jws.signing_key(inputs.private_key, key_id=credential.key_id, algorithm=credential.assertion_algorithm)


def _stamps(wall: float, backdated: int) -> dict[str, Any]:
    begin = int(wall) - backdated
    return {"jti": token_urlsafe(24), "iat": begin, "nbf": begin, "exp": begin + LIFETIME}


def _signed(claims: dict[str, Any], key: SigningKey, thumbprint: str | None) -> str:
    optional = {"kid": key.key_id, "x5t#S256": thumbprint}
    header = {
        "typ": "JWT",
        "alg": key.algorithm,
        **{name: value for name, value in optional.items() if value is not None},
    }
    return jws.compact(jws.encoded(header), claims, key.sign)


def _thumbprint(credential: Credential, inputs: Inputs, key: SigningKey) -> str | None:
    """``x5t#S256`` (RFC 7515 section 4.1.8), by which Entra finds the key: of the key's own certificate and no other.

    A client may also have a certificate for TLS with a key of its own; that one is not named here.

    Raises:
        TokenRefused: the certificate is unreadable, or has no use but this and belongs to another key.
    """
    if inputs.certificate is None or not key.public_key:
        return None
    public_key, digest = _certificate(inputs.certificate)
    if public_key == key.public_key:
        return jws.base64url(digest)
    if credential.certificate_key is None:
        raise TokenRefused("certificate: it belongs to another key than private_key")
    return None


def _certificate(pem: Secret) -> tuple[bytes, bytes]:
    """Public key (DER) and SHA-256 of the first certificate, which is the client's own (RFC 8446 section 4.4.2)."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        certificate = x509.load_pem_x509_certificates(pem.reveal().encode())[0]
        public_key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        raise TokenRefused("certificate: it holds no certificate in PEM that can be read") from None
    return public_key, hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
