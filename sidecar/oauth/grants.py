"""Builds the token request of each grant from a complete configuration; presets and defaults are filled in before.

Decides the form fields. Leaves the client's proof of identity to ``client_auth`` and sending to ``endpoint``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from authlib.oauth2.rfc6749.parameters import prepare_token_request

from sidecar.errors import TokenRefused
from sidecar.oauth.client_auth import TokenRequest, proof
from sidecar.oauth.inputs import Inputs
from sidecar.oauth.token import Expected

if TYPE_CHECKING:
    from sidecar.config.model import Credential
    from sidecar.secrets import Secret

HEADERS: Final = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}

NEEDS_LOGIN: Final = frozenset({"refresh_token", "authorization_code", "device_code"})
"""Grants that rest on a person's consent: ``invalid_grant`` means that it is gone."""


def token_request(credential: Credential, *, token_url: str, secret: Secret) -> TokenRequest:
    """The request for a token of this credential, as RFC 6749 section 4.4.2 has it for ``client_credentials``.

    Raises:
        TokenRefused: a grant or a client authentication this version has not; the configuration refuses it before.
    """
    match credential.grant:
        case "client_credentials":
            return _client_credentials(credential, Inputs(token_url=token_url, wall=0.0, secret=secret))
        case grant:
            raise TokenRefused(f"grant {grant} is not supported by this version")


def _client_credentials(credential: Credential, inputs: Inputs) -> TokenRequest:
    body = prepare_token_request(
        "client_credentials",
        body=_extra_fields(credential),
        scope=list(credential.scopes),
        audience=credential.audience,
    )
    proved = proof(credential, inputs)
    body = "&".join((body, urlencode(proved.fields))) if proved.fields else body
    return TokenRequest(inputs.token_url, {**HEADERS, **proved.headers}, body.encode())


def _extra_fields(credential: Credential) -> str:
    # Handed over as a body and not as keywords: Authlib drops empty values and fails on lists, which repeat a field
    # (RFC 8707 section 2).
    pairs = []
    for name, value in credential.token_params.items():
        pairs += [(name, one) for one in ((value,) if isinstance(value, str) else value)]
    return urlencode(pairs)


def expected(credential: Credential) -> Expected:
    """What the answer has to hold."""
    return Expected(
        default_ttl=credential.default_ttl,
        scopes=credential.scopes,
        required_scopes=credential.required_scopes,
        degraded=credential.on_scope_missing == "degraded",
    )
