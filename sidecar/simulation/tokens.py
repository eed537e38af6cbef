"""The tokens the provider has issued: which live, which belong together, and what becomes of a spent refresh token.

A family is what descends from one login (RFC 9700 section 4.14.2): revoked together. Who may ask for tokens is for the
grants.
"""

from __future__ import annotations

import dataclasses
import math
import secrets
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sidecar.simulation.exchange import Refused
from sidecar.simulation.signing import Signer

if TYPE_CHECKING:
    from sidecar.simulation.provider import Provider
    from sidecar.simulation.registration import Refreshing

REMEMBERED: Final = 10_000
KEPT_SECONDS: Final = 60.0
"""After its end an access token is still known: resource servers may have a leeway for clocks."""
Binding = Mapping[str, str]
"""The key a token is bound to, as ``cnf`` writes it: ``jkt`` (RFC 9449) or ``x5t#S256`` (RFC 8705); empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a token is asked for: by whom, and what it shall be.

    Args:
        binding: the key that the access token is bound to.
        refresh_binding: the key that a refresh token is bound to (RFC 9449 section 5: those of public clients).
        subject: whom it is for, if not the client itself.
    """

    client_id: str
    scope: str = ""
    binding: Binding = field(default_factory=dict)
    refresh_binding: Binding = field(default_factory=dict)
    subject: str | None = None
    audience: str | None = None


@dataclass(slots=True, eq=False)
class Family:
    """What one login allowed, and the tokens that descend from it."""

    client_id: str
    scope: str
    binding: Binding
    access: set[str] = field(default_factory=set)
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class AccessToken:
    """One access token; the instants are on the provider's clock."""

    client_id: str
    scope: str
    binding: Binding
    expires_at: float


@dataclass(slots=True)
class RefreshToken:
    """One refresh token; ``spent_at`` is when it was first rotated away."""

    family: Family
    expires_at: float
    spent_at: float | None = None


class Tokens:
    """All tokens of one provider."""

    def __init__(self, provider: Provider) -> None:
        self.issued: deque[str] = deque(maxlen=REMEMBERED)
        """Access tokens, in the order they were issued."""
        self._provider = provider
        self._access: dict[str, AccessToken] = {}
        self._refresh: dict[str, RefreshToken] = {}
        self._count: Counter[str] = Counter()
        self._signers: dict[str, Signer] = {}

    # --- access tokens ----------------------------------------------------------------------------------------------

    def is_valid(self, token: str, now: float | None = None) -> bool:
        known = self._access.get(token)
        return known is not None and (self._provider.now() if now is None else now) < known.expires_at

    def issue(self, ask: Ask, *, family: Family | None = None) -> dict[str, Any]:
        """A new access token, as the fields of an answer (RFC 6749 section 5.1)."""
        now, ttl = self._provider.now(), self._provider.ttl
        self._count[ask.client_id] += 1
        token = self._jwt(ask) if self._provider.jwt else self._opaque(ask.client_id)
        self._access = {each: known for each, known in self._access.items() if known.expires_at > now - KEPT_SECONDS}
        self._access[token] = AccessToken(ask.client_id, ask.scope, ask.binding, now + ttl)
        self.issued.append(token)
        if family is not None:
            family.access.add(token)
        return _fields(token, ttl, ask.binding)

    def issue_or_repeat(self, ask: Ask) -> dict[str, Any]:
        """The last token as long as the provider does not renew it yet, else a new one."""
        within = self._provider.renews_within
        if within is not None and self.issued:
            known = self._access.get(self.issued[-1])
            left = known.expires_at - self._provider.now() if known else -math.inf
            if left > within:
                return _fields(self.issued[-1], left, ask.binding)
        return self.issue(ask)

    def bound_to(self, token: str) -> Binding | None:
        """What an access token is bound to; None when there is no such token."""
        return known.binding if (known := self._access.get(token)) else None

    def jwks(self) -> dict[str, Any]:
        """The keys that verify JWTs of this provider (RFC 7517 section 5)."""
        return {"keys": [self._signer.public] if self._provider.jwt else []}

    def _opaque(self, client_id: str) -> str:
        return f"{self._provider.marker}-{client_id}-{self._count[client_id]}-{secrets.token_hex(16)}"

    def _jwt(self, ask: Ask) -> str:
        wall = int(self._provider.wall())
        claims = {
            "iss": self._provider.issuer,
            "sub": ask.subject or ask.client_id,
            "client_id": ask.client_id,
            "aud": ask.audience or self._provider.issuer,
            "scope": ask.scope,
            "jti": secrets.token_hex(16),
            "iat": wall,
            "exp": wall + _plain(self._provider.ttl),
        }
        return self._signer.sign(claims | ({"cnf": dict(ask.binding)} if ask.binding else {}))

    @property
    def _signer(self) -> Signer:
        algorithm = self._provider.jwt or "ES256"
        if algorithm not in self._signers:
            self._signers[algorithm] = Signer(algorithm)
        return self._signers[algorithm]

    # --- refresh tokens ---------------------------------------------------------------------------------------------

    def login(self, ask: Ask, refreshing: Refreshing) -> str:
        """The refresh token of a new family."""
        return self._new_refresh(Family(ask.client_id, ask.scope, ask.refresh_binding), refreshing)

    def begin(self, ask: Ask, refreshing: Refreshing | None) -> tuple[Family, dict[str, Any]]:
        """A new family with its first tokens: what somebody's consent brings."""
        family = Family(ask.client_id, ask.scope, ask.refresh_binding)
        fields = self.issue(ask, family=family)
        if refreshing is not None:
            fields |= self._told(self._new_refresh(family, refreshing), refreshing)
        return family, fields

    def refresh(self, token: str, ask: Ask, refreshing: Refreshing) -> dict[str, Any]:
        """Spend a refresh token; the fields of the answer (RFC 6749 section 6).

        Raises:
            Refused: it is not the client's or bound to another key, has expired or was revoked, or was spent before
                and the grace is over.
        """
        known = self._spendable(token, ask, refreshing)
        family = known.family
        if not set(ask.scope.split()) <= set(family.scope.split()):
            raise Refused("invalid_scope")
        if refreshing.kills_access:
            self._kill_access(family)
        granted = ask.scope or family.scope
        fields = self.issue(dataclasses.replace(ask, scope=granted), family=family)
        if refreshing.rotates:
            known.spent_at = self._provider.now() if known.spent_at is None else known.spent_at
            fields |= self._told(self._new_refresh(family, refreshing), refreshing)
        elif refreshing.lifetime is not None:
            fields["refresh_token_expires_in"] = _plain(known.expires_at - self._provider.now())
        return fields | ({"scope": granted} if granted else {})

    def _told(self, token: str, refreshing: Refreshing) -> dict[str, Any]:
        lifetime = refreshing.lifetime
        told = {} if lifetime is None else {"refresh_token_expires_in": _plain(lifetime)}
        return {"refresh_token": token, **told}

    def _spendable(self, token: str, ask: Ask, refreshing: Refreshing) -> RefreshToken:
        known, now = self._refresh.get(token), self._provider.now()
        if known is None or known.family.client_id != ask.client_id or known.family.revoked:
            raise Refused("invalid_grant", why="no refresh token of this client")
        if known.expires_at <= now:
            raise Refused("invalid_grant", why="the refresh token has expired")
        if known.spent_at is not None and now - known.spent_at >= refreshing.grace:
            self.end(known.family)
            raise Refused("invalid_grant", why="the refresh token was spent before")
        if known.family.binding and known.family.binding != ask.binding:
            raise Refused("invalid_grant", why="the refresh token is bound to another key")
        return known

    def _new_refresh(self, family: Family, refreshing: Refreshing) -> str:
        token = f"{self._provider.marker}-refresh-{family.client_id}-{secrets.token_hex(16)}"
        lifetime = math.inf if refreshing.lifetime is None else refreshing.lifetime
        self._refresh[token] = RefreshToken(family, self._provider.now() + lifetime)
        return token

    # --- the end of tokens ------------------------------------------------------------------------------------------

    def revoke(self, token: str) -> None:
        """Make a token invalid before its time; a refresh token takes its family along (RFC 7009 section 2.1)."""
        self._access.pop(token, None)
        if (known := self._refresh.get(token)) is not None:
            self.end(known.family)

    def end(self, family: Family) -> None:
        """Revoke all that descends from one consent."""
        family.revoked = True
        self._kill_access(family)

    def end_all(self) -> None:
        """Revoke every login."""
        for known in self._refresh.values():
            self.end(known.family)

    def owner(self, token: str) -> str | None:
        """The client that an access or a refresh token was issued to."""
        if (refresh := self._refresh.get(token)) is not None:
            return refresh.family.client_id
        return known.client_id if (known := self._access.get(token)) else None

    def _kill_access(self, family: Family) -> None:
        for token in family.access:
            self._access.pop(token, None)
        family.access.clear()


def _fields(token: str, expires_in: float, binding: Binding) -> dict[str, Any]:
    token_type = "DPoP" if "jkt" in binding else "Bearer"
    return {"access_token": token, "token_type": token_type, "expires_in": _plain(expires_in)}


def _plain(seconds: float) -> float:
    return int(seconds) if float(seconds).is_integer() else seconds
