"""The authorization endpoint: consent, a code for it, and what the code is exchanged for, once (RFC 6749 section 4.1).

PKCE with S256 is not optional (RFC 9700 section 2.1.1), redirect URIs are exact, every answer names its issuer (RFC
9207).
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import re
import secrets
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sidecar.simulation import pages
from sidecar.simulation.exchange import Refused, Reply
from sidecar.simulation.registration import AUTHORIZATION_CODE

if TYPE_CHECKING:
    from sidecar.simulation.exchange import Received
    from sidecar.simulation.provider import Provider
    from sidecar.simulation.tokens import Ask, Family, Tokens

CODE_SECONDS: Final = 60.0
VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
CARRIED: Final = (
    *("response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method"),
    "dpop_jkt",
)


@dataclass(slots=True)
class Code:
    """A code and what it stands for; ``family`` is what it was exchanged for."""

    client_id: str
    redirect_uri: str
    scope: str
    challenge: str
    dpop_jkt: str | None
    expires_at: float
    family: Family | None = None


class Authorization:
    """The authorization endpoint of one provider."""

    def __init__(self, provider: Provider, tokens: Tokens) -> None:
        self._provider = provider
        self._tokens = tokens
        self._codes: dict[str, Code] = {}

    def ask(self, received: Received) -> Reply:
        """The page that asks for consent, or the way back with an error."""
        if (refusal := self._refusal(received)) is not None:
            return refusal
        carried = [(name, value) for name in CARRIED if (value := received.field(name)) is not None]
        return pages.consent(received.field("client_id") or "", received.field("scope") or "", carried)

    def decide(self, received: Received) -> Reply:
        """The way back, with a code or with the error access_denied."""
        if (refusal := self._refusal(received)) is not None:
            return refusal
        if received.field("decision") != "approve":
            return self._back(received, error="access_denied")
        code = secrets.token_urlsafe(32)
        self._codes[code] = Code(
            client_id=received.required("client_id"),
            redirect_uri=received.required("redirect_uri"),
            scope=self._provider.granted(received.field("scope")) or "",
            challenge=received.required("code_challenge"),
            dpop_jkt=received.field("dpop_jkt"),
            expires_at=self._provider.now() + CODE_SECONDS,
        )
        return self._back(received, code=code)

    def redeem(self, received: Received, ask: Ask) -> dict[str, Any]:
        """The tokens for a code (RFC 6749 section 4.1.3, RFC 7636 section 4.6).

        Raises:
            Refused: invalid_grant.
        """
        code = self._codes.get(received.required("code"))
        if code is None or code.client_id != ask.client_id:
            raise Refused("invalid_grant", why="no code of this client")
        if code.family is not None:  # RFC 6749 section 4.1.2: what it was exchanged for is revoked
            self._tokens.end(code.family)
            raise Refused("invalid_grant", why="the code was used before")
        if code.expires_at <= self._provider.now():
            raise Refused("invalid_grant", why="the code has expired")
        if received.required("redirect_uri") != code.redirect_uri:
            raise Refused("invalid_grant", why="redirect_uri is another")
        _check_verifier(received.required("code_verifier"), code.challenge)
        if code.dpop_jkt not in (None, ask.binding.get("jkt")):  # RFC 9449 section 10
            raise Refused("invalid_grant", why="the code is bound to another key")
        client = self._provider.client(ask.client_id)
        asked = dataclasses.replace(ask, scope=code.scope)
        code.family, fields = self._tokens.begin(asked, client.refreshing)
        return fields | ({"scope": code.scope} if code.scope else {})

    def _refusal(self, received: Received) -> Reply | None:
        client = self._provider.known(received.field("client_id") or "")
        repeated = max(Counter(name for name, _ in received.form).values(), default=0) > 1
        if client is None or repeated or not client.may_return_to(received.field("redirect_uri") or ""):
            return pages.message("This request is not from a client known here", 400)  # never redirect (4.1.2.1)
        if received.field("response_type") != "code":
            return self._back(received, error="unsupported_response_type")
        if AUTHORIZATION_CODE not in client.grants:
            return self._back(received, error="unauthorized_client")
        challenge = received.field("code_challenge") or ""
        if received.field("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(challenge):
            return self._back(received, error="invalid_request")
        return None

    def _back(self, received: Received, **fields: str) -> Reply:
        state = {} if (value := received.field("state")) is None else {"state": value}
        told = {**fields, **state, "iss": self._provider.issuer}
        return Reply(told, 303, location=received.required("redirect_uri"))  # 303: RFC 9700 section 4.12


def _check_verifier(verifier: str, challenge: str) -> None:
    if not VERIFIER.fullmatch(verifier):
        raise Refused("invalid_request", why="code_verifier is not one")
    computed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    if not hmac.compare_digest(computed, challenge):
        raise Refused("invalid_grant", why="code_verifier is another")
