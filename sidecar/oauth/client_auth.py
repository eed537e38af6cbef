"""A token request as data, and how the client proves in it who it is (RFC 6749 section 2.3.1).

Decides headers and body; nothing is sent and no secret is read here. Authlib writes the forms. Two of its habits are
not ours: it does not form-encode id and secret for Basic, which strict servers require, and it encodes them as Latin-1,
which fails for "€". Hence the encoding is done before Authlib sees them, and raw Basic is written in UTF-8 (RFC 7617).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from authlib.oauth2.auth import ClientAuth

from sidecar.errors import TokenRefused

if TYPE_CHECKING:
    from sidecar.config.model import Credential
    from sidecar.secrets import Secret


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A POST to a token endpoint; its ``repr`` shows neither fields nor body."""

    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def authenticate(request: TokenRequest, credential: Credential, secret: Secret) -> TokenRequest:
    """The request with the client's id and secret in it, where ``client_auth`` says.

    Raises:
        TokenRefused: a method this version has not; the configuration refuses it before.
    """
    auth = _client_auth(credential, secret.reveal())
    url, headers, body = auth.prepare("POST", request.url, dict(request.headers), request.body.decode())
    return TokenRequest(url, headers, body.encode())


def _client_auth(credential: Credential, secret: str) -> ClientAuth:
    client_id = credential.client_id or ""
    match credential.client_auth, credential.basic_encoding:
        case "client_secret_basic", "rfc6749":
            return ClientAuth(quote_plus(client_id), quote_plus(secret), "client_secret_basic")
        case "client_secret_basic", "raw":
            return ClientAuth(client_id, secret, _raw_basic)
        case "client_secret_post", _:
            return ClientAuth(client_id, secret, "client_secret_post")
        case method, _:
            raise TokenRefused(f"client_auth {method} is not supported by this version")


def _raw_basic(
    client: ClientAuth, _method: str, url: str, headers: dict[str, str], body: str
) -> tuple[str, dict[str, str], str]:
    pair = f"{client.client_id}:{client.client_secret}".encode()
    headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return url, headers, body
