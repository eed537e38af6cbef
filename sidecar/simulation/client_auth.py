"""Whether a client is who it says: exactly one way of authentication, and one that it is registered for.

As strict as RFC 6749 section 2.3 reads. What the client may then ask for is for the grants.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from sidecar.simulation.assertions import check_client_claims, check_trusted, peek, secret_key, signed_by
from sidecar.simulation.exchange import Refused
from sidecar.simulation.registration import CERTIFICATE_METHODS, FEDERATED

if TYPE_CHECKING:
    from sidecar.simulation.exchange import Received
    from sidecar.simulation.provider import Provider
    from sidecar.simulation.registration import Client

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
NOBODY: Final = "clientless"
MEDIA_TYPES: Final = {"form": "application/x-www-form-urlencoded", "json": "application/json"}
REPEATABLE: Final = frozenset({"resource", "audience"})
"""Fields that may stand more than once (RFC 8707 section 2, RFC 8693 section 2.1); no others (RFC 6749 section 3.2)."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A client that is who it says; ``x5t`` is the certificate that its tokens are bound to (RFC 8705 section 3)."""

    client_id: str
    method: str
    x5t: str | None = None


def clientless(provider: Provider, received: Received) -> Proven | None:
    """Nobody, if nothing in the request says which client it comes from.

    Raises:
        Refused: it is no request for an endpoint of this kind at all.
    """
    fields = ("client_id", "client_secret", "client_assertion")
    if "authorization" in received.headers or any(received.field(name) is not None for name in fields):
        return None
    _check_fields(received)
    _check_media_type(provider, received)
    return Proven(NOBODY, "none")


def authenticated(provider: Provider, received: Received) -> Proven:
    """The client, if it proved who it is in exactly one way (RFC 6749 section 2.3).

    Raises:
        Refused: with the error that section 5.2 names.
    """
    _check_fields(received)
    header, in_body = received.headers.get("authorization"), received.field("client_secret")
    assertion = received.field("client_assertion")
    if [header, in_body, assertion].count(None) < 2:
        raise Refused("invalid_request", why="more than one way of authentication")
    if header is not None:
        client_id, secret = _basic(header, raw=provider.basic_encoding == "raw")
        if received.field("client_id") not in (None, client_id):
            raise Refused("invalid_request", why="two clients are named")
        method = _check_secret(provider, client_id, secret, method="client_secret_basic")
    elif in_body is not None:
        client_id = received.field("client_id") or ""
        method = _check_secret(provider, client_id, in_body, method="client_secret_post")
    elif assertion is not None:
        client_id, method = _check_assertion(provider, received, assertion)
    else:
        client_id = received.field("client_id") or ""
        method = _check_certificate(provider, received, client_id) or _check_public(provider, client_id)
    _check_media_type(provider, received)
    return Proven(client_id, method, _binding(provider.client(client_id), received, method))


def thumbprint(certificate: bytes) -> str:
    """``x5t#S256`` of a certificate in DER (RFC 8705 section 3.1)."""
    return base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).decode().rstrip("=")


def invalid_client(method: str, why: str = "") -> Refused:
    """The refusal; who used the Authorization header gets a challenge for it (RFC 6749 section 5.2)."""
    headers = {"WWW-Authenticate": 'Basic realm="token"'} if method == "client_secret_basic" else {}
    return Refused("invalid_client", 401, why=why, headers=headers)


def _check_fields(received: Received) -> None:
    """RFC 6749 section 3.2."""
    counted = Counter(name for name, _ in received.form)
    if received.method != "POST" or any(count > 1 for name, count in counted.items() if name not in REPEATABLE):
        raise Refused("invalid_request", why="not a POST, or a field is repeated")


def _check_media_type(provider: Provider, received: Received) -> None:
    if received.media_type != MEDIA_TYPES[provider.body]:
        raise Refused("invalid_request", why=f"the body is not {MEDIA_TYPES[provider.body]}")


def _registered(provider: Provider, client_id: str, method: str) -> Client:
    client = provider.known(client_id)
    if client is None or method not in client.auth:
        raise invalid_client(method)
    return client


def _check_public(provider: Provider, client_id: str) -> str:
    _registered(provider, client_id, "none")
    return "none"


# --- secrets ---------------------------------------------------------------------------------------------------------


def _check_secret(provider: Provider, client_id: str, secret: str, *, method: str) -> str:
    _registered(provider, client_id, method)
    known = provider.secrets.get(client_id, ())
    if not [one for one in known if hmac.compare_digest(one.encode(), secret.encode())]:
        raise invalid_client(method)
    return method


def _basic(header: str, *, raw: bool) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        client, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        raise Refused("invalid_request") from None
    if scheme.lower() != "basic" or not colon:
        raise Refused("invalid_request")
    return (client, secret) if raw else (unquote_plus(client), unquote_plus(secret))


# --- assertions ------------------------------------------------------------------------------------------------------


def _check_assertion(provider: Provider, received: Received, assertion: str) -> tuple[str, str]:
    """The client and the method of an assertion (RFC 7523 section 2.2)."""
    if received.field("client_assertion_type") != ASSERTION_TYPE:
        raise Refused("invalid_request", why="client_assertion_type is not jwt-bearer")
    try:
        algorithm, claims = str(peek(assertion, 0).get("alg")), peek(assertion, 1)
    except ValueError:
        raise invalid_client("private_key_jwt", "not a JWT") from None
    if claims.get("iss") != claims.get("sub"):
        return _check_federated(provider, received, assertion), FEDERATED
    client_id, method = str(claims.get("sub")), "client_secret_jwt" if algorithm.startswith("HS") else "private_key_jwt"
    if received.field("client_id") not in (None, client_id):  # RFC 7521 section 4.2
        raise invalid_client(method, "client_id is not the subject")
    client, error = _registered(provider, client_id, method), invalid_client(method)
    if method == "client_secret_jwt":
        keys = tuple(secret_key(secret) for secret in provider.secrets.get(client_id, ()))
        verified = signed_by(assertion, keys, ("HS256", "HS384", "HS512"))
    else:
        verified = signed_by(assertion, client.keys)
    if verified is None:
        raise error.because("not signed with a key of the client")
    check_client_claims(provider, verified, client_id=client_id, error=error)
    return client_id, method


def _check_federated(provider: Provider, received: Received, assertion: str) -> str:
    client_id = received.field("client_id") or ""
    client, error = _registered(provider, client_id, FEDERATED), invalid_client(FEDERATED)
    trusted = (client.federated,) if client.federated else ()
    check_trusted(provider, assertion, trusted, error=error, once=False)
    return client_id


# --- certificates ----------------------------------------------------------------------------------------------------


def _check_certificate(provider: Provider, received: Received, client_id: str) -> str | None:
    """The method, if the client is registered for one of RFC 8705; then its certificate is the right one."""
    client = provider.known(client_id)
    methods = sorted(client.auth & CERTIFICATE_METHODS) if client else []
    if client is None or not methods:
        return None
    if received.certificate is None:
        raise invalid_client(methods[0], "no certificate came along")
    if client.certificate_thumbprint == thumbprint(received.certificate):
        matching = "self_signed_tls_client_auth"
    elif client.certificate_subject == _subject(received.certificate):
        matching = "tls_client_auth"
    else:
        raise invalid_client(methods[0], "the certificate is another")
    if matching not in methods:
        raise invalid_client(methods[0], "registered for another method")
    return matching


def _subject(certificate: bytes) -> str:
    from cryptography import x509  # heavy

    return x509.load_der_x509_certificate(certificate).subject.rfc4514_string()


def _binding(client: Client, received: Received, method: str) -> str | None:
    if method not in CERTIFICATE_METHODS and not client.binds_certificate:
        return None
    if received.certificate is None:
        raise Refused("invalid_request", why="no certificate came along to bind the token to")
    return thumbprint(received.certificate)
