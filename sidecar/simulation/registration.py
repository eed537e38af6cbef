"""What the provider knows of its clients beforehand (RFC 7591 section 2), and how it treats their refresh tokens.

Only facts: who checks them are the authentication of clients and the grants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CLIENT_CREDENTIALS: Final = "client_credentials"
REFRESH_TOKEN: Final = "refresh_token"
GRANTS: Final = frozenset({CLIENT_CREDENTIALS, REFRESH_TOKEN})

SECRET_METHODS: Final = frozenset({"client_secret_basic", "client_secret_post"})
METHODS: Final = SECRET_METHODS | {"none"}


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
class Client:
    """One client; its secrets are in ``MockIdP.secrets``, where they can be changed.

    Args:
        auth: the ways to authenticate that it may use.
        grants: the grants that it may use.
        refreshing: how its refresh tokens live; None issues none.
        redirect_uris: those that it may be sent back to.
    """

    auth: frozenset[str] = SECRET_METHODS
    grants: frozenset[str] = GRANTS
    refreshing: Refreshing | None = None
    redirect_uris: tuple[str, ...] = ()

    @property
    def is_public(self) -> bool:
        return self.auth == {"none"}
