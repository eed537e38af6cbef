"""The tokens the provider has issued: which live, which belong together, and what becomes of a spent refresh token.

A family is what descends from one login (RFC 9700 section 4.14.2): revoked together. Who may ask for tokens is for the
grants.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sidecar.simulation.exchange import Refused

if TYPE_CHECKING:
    from sidecar.simulation.provider import Provider
    from sidecar.simulation.registration import Refreshing

REMEMBERED: Final = 10_000


@dataclass(slots=True, eq=False)
class Family:
    """What one login allowed, and the tokens that descend from it."""

    client_id: str
    scope: str
    access: set[str] = field(default_factory=set)
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class AccessToken:
    """One access token; the instants are on the provider's clock."""

    client_id: str
    scope: str
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

    # --- access tokens ----------------------------------------------------------------------------------------------

    def is_valid(self, token: str, now: float | None = None) -> bool:
        known = self._access.get(token)
        return known is not None and (self._provider.now() if now is None else now) < known.expires_at

    def issue(self, client_id: str, *, scope: str = "", family: Family | None = None) -> dict[str, Any]:
        """A new access token, as the fields of an answer (RFC 6749 section 5.1)."""
        now, ttl = self._provider.now(), self._provider.ttl
        self._count[client_id] += 1
        token = f"{self._provider.marker}-{client_id}-{self._count[client_id]}-{secrets.token_hex(16)}"
        self._access = {each: known for each, known in self._access.items() if known.expires_at > now}
        self._access[token] = AccessToken(client_id, scope, now + ttl)
        self.issued.append(token)
        if family is not None:
            family.access.add(token)
        return _fields(token, ttl)

    def issue_or_repeat(self, client_id: str, *, scope: str = "") -> dict[str, Any]:
        """The last token as long as the provider does not renew it yet, else a new one."""
        within = self._provider.renews_within
        if within is not None and self.issued:
            known = self._access.get(self.issued[-1])
            left = known.expires_at - self._provider.now() if known else -math.inf
            if left > within:
                return _fields(self.issued[-1], left)
        return self.issue(client_id, scope=scope)

    # --- refresh tokens ---------------------------------------------------------------------------------------------

    def login(self, client_id: str, *, scope: str, refreshing: Refreshing) -> str:
        """The refresh token of a new family."""
        return self._new_refresh(Family(client_id, scope), refreshing)

    def refresh(self, token: str, client_id: str, *, scope: str | None, refreshing: Refreshing) -> dict[str, Any]:
        """Spend a refresh token; the fields of the answer (RFC 6749 section 6).

        Raises:
            Refused: it is not the client's, has expired or was revoked, or was spent before and the grace is over.
        """
        known = self._spendable(token, client_id, refreshing)
        family = known.family
        if scope is not None and not set(scope.split()) <= set(family.scope.split()):
            raise Refused("invalid_scope")
        if refreshing.kills_access:
            self._kill_access(family)
        granted = family.scope if scope is None else scope
        fields = self.issue(client_id, scope=granted, family=family)
        if refreshing.rotates:
            known.spent_at = self._provider.now() if known.spent_at is None else known.spent_at
            token = fields["refresh_token"] = self._new_refresh(family, refreshing)
        if refreshing.lifetime is not None:
            fields["refresh_token_expires_in"] = _plain(self._refresh[token].expires_at - self._provider.now())
        return fields | ({"scope": granted} if granted else {})

    def _spendable(self, token: str, client_id: str, refreshing: Refreshing) -> RefreshToken:
        known, now = self._refresh.get(token), self._provider.now()
        if known is None or known.family.client_id != client_id or known.family.revoked or known.expires_at <= now:
            raise Refused("invalid_grant")
        if known.spent_at is not None and now - known.spent_at >= refreshing.grace:
            self._revoke_family(known.family)
            raise Refused("invalid_grant")
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
            self._revoke_family(known.family)

    def _revoke_family(self, family: Family) -> None:
        family.revoked = True
        self._kill_access(family)

    def _kill_access(self, family: Family) -> None:
        for token in family.access:
            self._access.pop(token, None)
        family.access.clear()


def _fields(token: str, expires_in: float) -> dict[str, Any]:
    return {"access_token": token, "token_type": "Bearer", "expires_in": _plain(expires_in)}


def _plain(seconds: float) -> float:
    return int(seconds) if float(seconds).is_integer() else seconds
