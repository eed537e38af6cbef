"""The token endpoint: what each grant wants to see, and what it gives for it.

Clients are authenticated by ``client_auth``; tokens are kept by ``tokens``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.simulation.client_auth import authenticated
from sidecar.simulation.exchange import Refused, Reply
from sidecar.simulation.registration import CLIENT_CREDENTIALS, GRANTS, REFRESH_TOKEN

if TYPE_CHECKING:
    from sidecar.simulation.exchange import Received
    from sidecar.simulation.provider import Provider
    from sidecar.simulation.tokens import Tokens


class Grants:
    """The token endpoint of one provider."""

    def __init__(self, provider: Provider, tokens: Tokens) -> None:
        self._provider = provider
        self._tokens = tokens
        self._by_type = {CLIENT_CREDENTIALS: self._client_credentials, REFRESH_TOKEN: self._refresh_token}

    def answer(self, received: Received) -> Reply:
        """The answer to a token request.

        Raises:
            Refused: the request is wrong, the client is not who it says, or may not have what it asks for.
        """
        client_id = authenticated(self._provider, received)
        grant = received.field("grant_type") or ""
        if grant not in GRANTS:
            raise Refused("unsupported_grant_type")
        if grant not in self._provider.client(client_id).grants:
            raise Refused("unauthorized_client")
        return self._by_type[grant](client_id, received)

    def _client_credentials(self, client_id: str, received: Received) -> Reply:
        if self._provider.client(client_id).is_public:  # RFC 6749 section 4.4
            raise Refused("unauthorized_client")
        granted = self._granted(received)
        fields = self._tokens.issue_or_repeat(client_id, scope=granted or "")
        return Reply(fields if granted is None else fields | {"scope": granted})

    def _refresh_token(self, client_id: str, received: Received) -> Reply:
        client, token = self._provider.client(client_id), received.required("refresh_token")
        if client.refreshing is None:
            raise Refused("unauthorized_client")
        if client.refreshing.needs_redirect_uri and received.field("redirect_uri") not in client.redirect_uris:
            raise Refused("invalid_grant")
        scope = received.field("scope") or None
        return Reply(self._tokens.refresh(token, client_id, scope=scope, refreshing=client.refreshing))

    def _granted(self, received: Received) -> str | None:
        """Of the scopes that were asked for those that the provider grants; None when none was asked for."""
        asked, known = (received.field("scope") or "").split(), self._provider.scopes
        return " ".join(scope for scope in asked if known is None or scope in known) if asked else None
