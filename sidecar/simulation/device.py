"""The device authorization endpoint, its page, and the answers to a device that keeps asking (RFC 8628).

The tokens that it gets in the end are kept by ``tokens``.
"""

from __future__ import annotations

import dataclasses
import secrets
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from sidecar.simulation import pages
from sidecar.simulation.client_auth import authenticated
from sidecar.simulation.exchange import Refused, Reply
from sidecar.simulation.registration import DEVICE_CODE

if TYPE_CHECKING:
    from sidecar.simulation.exchange import Received
    from sidecar.simulation.provider import Provider
    from sidecar.simulation.tokens import Ask, Tokens

USER_CODE_CHARACTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so that no words come out (RFC 8628 section 6.1)."""
SLOWER: Final = 5.0


class Decision(Enum):
    """What the person said."""

    PENDING = "authorization_pending"
    APPROVED = "approved"
    DENIED = "access_denied"
    REDEEMED = "invalid_grant"


@dataclass(slots=True)
class Device:
    """One device that waits for its person."""

    client_id: str
    scope: str
    interval: float
    expires_at: float
    asked_at: float | None = None
    decision: Decision = Decision.PENDING


class Devices:
    """All devices that wait."""

    def __init__(self, provider: Provider, tokens: Tokens) -> None:
        self._provider = provider
        self._tokens = tokens
        self._by_device_code: dict[str, Device] = {}
        self._by_user_code: dict[str, Device] = {}

    def begin(self, received: Received) -> Reply:
        """The answer of the device authorization endpoint (section 3.2)."""
        client_id = authenticated(self._provider, received).client_id
        if DEVICE_CODE not in self._provider.client(client_id).grants:
            raise Refused("unauthorized_client")
        scope, ttl = self._provider.granted(received.field("scope")) or "", self._provider.device_ttl
        device = Device(client_id, scope, self._provider.device_interval, self._provider.now() + ttl)
        device_code, user_code = secrets.token_urlsafe(32), _new_user_code()
        self._by_device_code[device_code] = self._by_user_code[_canonical(user_code)] = device
        uri = f"{self._provider.issuer}/device"
        return Reply(
            {
                "device_code": device_code,
                "user_code": user_code,
                "verification_uri": uri,
                "verification_uri_complete": f"{uri}?user_code={user_code}",
                "expires_in": int(ttl),
                "interval": int(device.interval),
            }
        )

    def page(self, received: Received) -> Reply:
        """The page where the person types the code in, and what it says afterwards."""
        user_code = received.field("user_code") or ""
        if received.method != "POST":
            return pages.device(user_code)
        decision = Decision.APPROVED if received.field("decision") == "approve" else Decision.DENIED
        try:
            self.decide(user_code, decision)
        except LookupError:
            return pages.message("No device waits with this code", 400)
        return pages.message(f"The device is {decision.name.lower()}; you can close this page")

    def decide(self, user_code: str, decision: Decision) -> None:
        """Say for the person what they would say on the page.

        Raises:
            LookupError: no device waits with this code.
        """
        device = self._by_user_code.get(_canonical(user_code))
        if device is None or device.decision is not Decision.PENDING or device.expires_at <= self._provider.now():
            raise LookupError(user_code)
        device.decision = decision

    def redeem(self, received: Received, ask: Ask) -> dict[str, Any]:
        """The tokens for a device code, or why there are none yet (section 3.5).

        Raises:
            Refused: as that section has it.
        """
        device, now = self._by_device_code.get(received.required("device_code")), self._provider.now()
        if device is None or device.client_id != ask.client_id:
            raise Refused("invalid_grant", why="no device code of this client")
        if device.expires_at <= now:
            raise Refused("expired_token")
        hasty = device.asked_at is not None and now - device.asked_at < device.interval
        device.asked_at = now
        if hasty:
            device.interval += SLOWER
            raise Refused("slow_down")
        if device.decision is not Decision.APPROVED:
            raise Refused(device.decision.value)
        device.decision = Decision.REDEEMED
        asked = dataclasses.replace(ask, scope=device.scope)
        _, fields = self._tokens.begin(asked, self._provider.client(ask.client_id).refreshing)
        return fields | ({"scope": device.scope} if device.scope else {})


def _new_user_code() -> str:
    characters = "".join(secrets.choice(USER_CODE_CHARACTERS) for _ in range(8))
    return f"{characters[:4]}-{characters[4:]}"


def _canonical(user_code: str) -> str:
    """As people type it: in any case, with or without the dash."""
    return "".join(character for character in user_code.upper() if character in USER_CODE_CHARACTERS)
