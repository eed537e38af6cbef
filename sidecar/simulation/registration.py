"""What the provider knows beforehand: its clients (RFC 7591 section 2), the issuers it believes, and how refresh tokens
live.

Only facts: who checks them are the authentication of clients and the grants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

Jwk = Mapping[str, Any]
"""A public key as RFC 7517 writes it."""

CLIENT_CREDENTIALS: Final = "client_credentials"
REFRESH_TOKEN: Final = "refresh_token"
AUTHORIZATION_CODE: Final = "authorization_code"
DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
GRANTS: Final = frozenset(
    {CLIENT_CREDENTIALS, REFRESH_TOKEN, AUTHORIZATION_CODE, DEVICE_CODE, JWT_BEARER, TOKEN_EXCHANGE}
)

SECRET_METHODS: Final = frozenset({"client_secret_basic", "client_secret_post"})
CERTIFICATE_METHODS: Final = frozenset({"tls_client_auth", "self_signed_tls_client_auth"})
FEDERATED: Final = "federated"
"""The assertion of somebody else's issuer; in metadata it is ``private_key_jwt`` like any other (RFC 7523)."""
METHODS: Final = SECRET_METHODS | CERTIFICATE_METHODS | {"client_secret_jwt", "private_key_jwt", "none"}

LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshing:
    """How refresh tokens live; providers differ in each of these.

    Args:
        rotates: every refresh brings a new refresh token and spends the old one.
        grace: seconds in which a spent one may be used again. Later use revokes the whole family (RFC 9700 section
            4.14.2).
        lifetime: seconds that each refresh token lives, told as ``refresh_token_expires_in``; None for ever.
        kills_access: a refresh makes the family's earlier access tokens invalid at once, as GitHub and GitLab do.
        needs_redirect_uri: a refresh names a registered redirect_uri, as GitLab wants it.
    """

    rotates: bool = True
    grace: float = 0.0
    lifetime: float | None = None
    kills_access: bool = False
    needs_redirect_uri: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """An issuer whose JWTs are believed: a platform, another provider, a service account that signs for itself.

    Args:
        subject: the only ``sub`` that is accepted; None accepts any.
        audience: the ``aud`` that is expected; None expects the provider's issuer or token URL.
    """

    issuer: str
    keys: tuple[Jwk, ...]
    subject: str | None = None
    audience: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client; its secrets are in ``MockIdP.secrets``, where they can be changed.

    Args:
        auth: the ways to authenticate that it may use.
        grants: the grants that it may use.
        refreshing: how its refresh tokens live; None issues none.
        redirect_uris: those that it may be sent back to.
        any_loopback_port: a redirect_uri with a loopback address stands for every port (RFC 8252 section 7.3).
        keys: for ``private_key_jwt``.
        federated: the issuer whose assertions stand for this client.
        certificate_subject: the subject for ``tls_client_auth``, as RFC 4514 writes it.
        certificate_thumbprint: ``x5t#S256`` of the certificate for ``self_signed_tls_client_auth``.
        binds_certificate: tokens are bound to the certificate of the connection, however the client authenticates
            (RFC 8705 section 3). Those of the two methods above always are.
        needs_dpop: it gets no token without a proof (RFC 9449 section 5.2).
    """

    auth: frozenset[str] = SECRET_METHODS
    grants: frozenset[str] = GRANTS
    refreshing: Refreshing | None = None
    redirect_uris: tuple[str, ...] = ()
    any_loopback_port: bool = False
    keys: tuple[Jwk, ...] = ()
    federated: Trusted | None = None
    certificate_subject: str | None = None
    certificate_thumbprint: str | None = None
    binds_certificate: bool = False
    needs_dpop: bool = False

    @property
    def is_public(self) -> bool:
        return self.auth == {"none"}

    def may_return_to(self, uri: str) -> bool:
        """Whether this redirect_uri is registered: character for character (RFC 9700 section 2.1), but for the port."""
        if uri in self.redirect_uris:
            return True
        return self.any_loopback_port and any(_without_port(uri) == _without_port(each) for each in self.redirect_uris)


def _without_port(uri: str) -> tuple[str, str]:
    """The host of a loopback URI and all that follows the port; every other URI as it is."""
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return (uri, "")
    literal = parts.netloc in (host, f"[{host}]", f"{host}:{parts.port}", f"[{host}]:{parts.port}")
    if parts.scheme != "http" or host not in LOOPBACK or not literal:
        return (uri, "")
    return (host, uri.removeprefix(f"http://{parts.netloc}"))
