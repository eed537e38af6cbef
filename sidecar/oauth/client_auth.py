"""A token request as data, and how the client proves in it who it is (RFC 6749 section 2.3, OpenID Connect Core section
9, RFC 8705 section 2).

Decides which fields prove it, in the form and in the head; ``grants`` puts them into form, JSON or query. Nothing is
sent and no secret is read here. A certificate is shown by the connection, not by the request.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from sidecar.errors import TokenRefused
from sidecar.oauth.assertion import client_assertion

if TYPE_CHECKING:
    from sidecar.config.model import Credential
    from sidecar.oauth.inputs import Inputs
    from sidecar.secrets import Secret

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request to a token endpoint; its ``repr`` shows neither fields nor body."""

    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Proof:
    """What proves the client: fields of the request's parameters and of its head."""

    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)


def proof(credential: Credential, inputs: Inputs) -> Proof:
    """The fields that prove the client, as ``client_auth`` says.

    Raises:
        TokenRefused: something that the method needs is not there or cannot be used.
    """
    match credential.client_auth:
        case "client_secret_basic":
            return Proof(headers={"Authorization": _basic(credential, _secret(credential, inputs))})
        case "client_secret_post":
            return Proof((_client_id(credential), ("client_secret", _secret(credential, inputs).reveal())))
        case "client_secret_jwt" | "private_key_jwt":
            return _asserted(_client_id(credential), client_assertion(credential, inputs))
        case "federated":
            return _asserted(_client_id(credential), _foreign(inputs))
        case "tls_client_auth" | "self_signed_tls_client_auth":
            return Proof((_client_id(credential),))  # RFC 8705 section 2: by it the server finds the certificate
        case "none" | None:
            return Proof(_named(credential))


def _named(credential: Credential) -> tuple[tuple[str, str], ...]:
    # A client that proves nothing says its name (RFC 6749 section 3.2.1), unless its grant is an assertion that does:
    # Google takes the address of a service account, sent as client_id, for a client it has never heard of.
    if credential.client_id is None or credential.grant == "jwt_bearer":
        return ()
    return (_client_id(credential),)


def _asserted(client_id: tuple[str, str], assertion: str) -> Proof:
    # RFC 7521 section 4.2 leaves client_id out where the assertion names it; Entra wants it there nevertheless.
    return Proof((client_id, ("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)))


def _foreign(inputs: Inputs) -> str:
    """The JWT of a platform, as it is: whether it is true and still valid is for the IdP."""
    if inputs.assertion is None:
        raise TokenRefused("client_auth federated needs one of the keys 'assertion_file' and 'assertion'")
    assertion = inputs.assertion.reveal()
    if not _JWT.fullmatch(assertion):
        raise TokenRefused("the assertion for client_auth federated is not a signed JWT")
    return assertion


def _basic(credential: Credential, secret: Secret) -> str:
    """RFC 6749 section 2.3.1 form-encodes id and secret first; ``raw`` is for servers that have never heard of it, in
    UTF-8 (RFC 7617).

    A space is written ``%20`` and not ``+``: every form decoder reads both, and servers that only undo percent signs
    (those built on Authlib) read this one.
    """
    _, client_id = _client_id(credential)
    value = secret.reveal()
    if credential.basic_encoding == "rfc6749":
        client_id, value = quote(client_id, safe=""), quote(value, safe="")
    return f"Basic {base64.b64encode(f'{client_id}:{value}'.encode()).decode()}"


def _client_id(credential: Credential) -> tuple[str, str]:
    if credential.client_id is None:
        raise TokenRefused(f"client_auth {credential.client_auth} needs the key 'client_id'")
    return "client_id", credential.client_id


def _secret(credential: Credential, inputs: Inputs) -> Secret:
    if inputs.secret is None:
        raise TokenRefused(f"client_auth {credential.client_auth} needs the key 'client_secret'")
    return inputs.secret
