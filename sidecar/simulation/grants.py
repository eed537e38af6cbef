"""The token endpoint: what each grant wants to see, and what it gives for it; and the end of tokens, revocation.

Clients are authenticated by ``client_auth``; tokens are kept by ``tokens``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from sidecar.simulation.assertions import check_trusted
from sidecar.simulation.client_auth import Proven, authenticated, clientless
from sidecar.simulation.exchange import Refused, Reply
from sidecar.simulation.registration import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    DEVICE_CODE,
    GRANTS,
    JWT_BEARER,
    REFRESH_TOKEN,
    TOKEN_EXCHANGE,
    Client,
)
from sidecar.simulation.tokens import Ask

if TYPE_CHECKING:
    from sidecar.simulation.authorization import Authorization
    from sidecar.simulation.device import Devices
    from sidecar.simulation.dpop import Proofs
    from sidecar.simulation.exchange import Received
    from sidecar.simulation.provider import Provider
    from sidecar.simulation.tokens import Tokens

ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"
TOKEN_TYPES: Final = frozenset(
    f"urn:ietf:params:oauth:token-type:{name}" for name in ("access_token", "refresh_token", "id_token", "jwt")
)


@dataclasses.dataclass(frozen=True, slots=True)
class Sources:
    """Where the grants find what was agreed before."""

    tokens: Tokens
    authorization: Authorization
    devices: Devices
    proofs: Proofs


class Grants:
    """The token endpoint of one provider, and its revocation endpoint."""

    def __init__(self, provider: Provider, sources: Sources) -> None:
        self._provider = provider
        self._tokens = sources.tokens
        self._proofs = sources.proofs
        self._by_type = {
            CLIENT_CREDENTIALS: self._client_credentials,
            REFRESH_TOKEN: self._refresh_token,
            AUTHORIZATION_CODE: sources.authorization.redeem,
            DEVICE_CODE: sources.devices.redeem,
            JWT_BEARER: self._jwt_bearer,
            TOKEN_EXCHANGE: self._token_exchange,
        }

    def answer(self, received: Received) -> Reply:
        """The answer to a token request.

        Raises:
            Refused: the request is wrong, the client is not who it says, or may not have what it asks for.
        """
        grant = received.field("grant_type") or ""
        proven = self._proven(received, grant)
        if grant not in GRANTS:
            raise Refused("unsupported_grant_type")
        client = self._provider.known(proven.client_id) or Client()
        if grant not in client.grants:
            raise Refused("unauthorized_client")
        ask = self._ask(received, proven, client)
        headers = {"DPoP-Nonce": self._proofs.nonce()} if self._provider.needs_nonce and "jkt" in ask.binding else {}
        return Reply(self._by_type[grant](received, ask), headers=headers)

    def revoke(self, received: Received) -> Reply:
        """The revocation endpoint: unknown tokens are as good as revoked (RFC 7009 section 2.2)."""
        client_id, token = authenticated(self._provider, received).client_id, received.required("token")
        if self._tokens.owner(token) not in (None, client_id):
            raise Refused("invalid_grant", why="the token is another client's")
        self._tokens.revoke(token)
        return Reply()

    def _proven(self, received: Received, grant: str) -> Proven:
        nobody = clientless(self._provider, received) if grant in self._provider.clientless else None
        return nobody or authenticated(self._provider, received)

    def _ask(self, received: Received, proven: Proven, client: Client) -> Ask:
        binding = {} if proven.x5t is None else {"x5t#S256": proven.x5t}
        if (proof := received.headers.get("dpop")) is not None:
            binding["jkt"] = self._proofs.check_request(proof, method=received.method, url=received.url)
        elif client.needs_dpop:
            raise Refused("invalid_dpop_proof", why="a proof is needed")
        audience = received.field("audience") or received.field("resource")
        # RFC 9449 section 5, RFC 8705 section 4: the refresh tokens of others are bound by how they authenticate.
        return Ask(
            client_id=proven.client_id,
            scope=self._provider.granted(received.field("scope")) or "",
            binding=binding,
            refresh_binding=binding if client.is_public else {},
            audience=audience,
        )

    # --- grants -----------------------------------------------------------------------------------------------------

    def _client_credentials(self, received: Received, ask: Ask) -> dict[str, Any]:
        if self._provider.client(ask.client_id).is_public:  # RFC 6749 section 4.4
            raise Refused("unauthorized_client")
        return self._tokens.issue_or_repeat(ask) | _scope(received, ask)

    def _refresh_token(self, received: Received, ask: Ask) -> dict[str, Any]:
        client, token = self._provider.client(ask.client_id), received.required("refresh_token")
        if client.refreshing is None:
            raise Refused("unauthorized_client")
        if client.refreshing.needs_redirect_uri and not client.may_return_to(received.field("redirect_uri") or ""):
            raise Refused("invalid_grant", why="redirect_uri is missing or another")
        asked = dataclasses.replace(ask, scope=received.field("scope") or "")
        return self._tokens.refresh(token, asked, client.refreshing)

    def _jwt_bearer(self, received: Received, ask: Ask) -> dict[str, Any]:
        """RFC 7523 section 2.1."""
        assertion, error = received.required("assertion"), Refused("invalid_grant")
        claims = check_trusted(self._provider, assertion, self._provider.trusted, error=error, once=True)
        asked = dataclasses.replace(ask, subject=claims["sub"])
        return self._tokens.issue(asked) | _scope(received, ask)

    def _token_exchange(self, received: Received, ask: Ask) -> dict[str, Any]:
        """RFC 8693 section 2."""
        if received.required("subject_token_type") not in TOKEN_TYPES:
            raise Refused("invalid_request", why="subject_token_type is unknown")
        if (received.field("actor_token") is None) != (received.field("actor_token_type") is None):
            raise Refused("invalid_request", why="actor_token and actor_token_type go together")
        if received.field("requested_token_type") not in (None, ACCESS_TOKEN):
            raise Refused("invalid_request", why="requested_token_type is not supported")
        subject = self._subject(received.required("subject_token"))
        if (actor := received.field("actor_token")) is not None:
            self._subject(actor)
        asked = dataclasses.replace(ask, subject=subject)
        return self._tokens.issue(asked) | _scope(received, ask) | {"issued_token_type": ACCESS_TOKEN}

    def _subject(self, token: str) -> str | None:
        """Whom a subject or actor token speaks of; an invalid one is an invalid request (section 2.2.2)."""
        if token in self._provider.subject_tokens or self._tokens.is_valid(token):
            return None
        error = Refused("invalid_request")
        claims = check_trusted(self._provider, token, self._provider.trusted, error=error, once=False)
        return str(claims["sub"])


def _scope(received: Received, ask: Ask) -> dict[str, str]:
    """What was granted, if anything was asked for."""
    return {"scope": ask.scope} if (received.field("scope") or "").split() else {}
