"""A secret that platforms rotate under us: read again each time, its age known, its last good value kept.

Which of the two values a request presents, and when the new one has proved good, is for ``idp`` to say.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from sidecar.broker.source import read_counted, stamp_or_none
from sidecar.errors import SecretMissing
from sidecar.telemetry.log import get_logger

if TYPE_CHECKING:
    from sidecar.runtime import Clock
    from sidecar.secrets import Secret, SecretReference
    from sidecar.telemetry.metrics import CredentialMeters

log = get_logger("broker")

WARN_EVERY_SECONDS: Final = 86400.0


class RotatingSecret:
    """One secret and its last value that worked.

    Args:
        max_age: seconds after which a secret that did not change is warned of.
    """

    __slots__ = ("_clock", "_max_age", "_meters", "_name", "_reference", "_seen", "_warned_at", "working")

    def __init__(
        self,
        reference: SecretReference,
        *,
        name: str,
        clock: Clock,
        meters: CredentialMeters,
        max_age: float | None = None,
    ) -> None:
        self._reference = reference
        self._max_age = max_age
        self._warned_at = -math.inf
        self._name = name
        self._clock = clock
        self._meters = meters
        self._seen: Secret | None = None
        self.working: Secret | None = None

    def read(self) -> Secret:
        """The secret as it stands now; the last one seen, if it cannot be read.

        Raises:
            SecretMissing: it cannot be read and never could be.
        """
        try:
            secret = read_counted(self._reference, self._meters)
        except SecretMissing as exc:
            if self._seen is None:
                raise
            log.warning("secret_unreadable", credential=self._name, detail=exc.detail, next="using its last value")
            return self.working or self._seen
        if self._seen is None or secret != self._seen:
            self._note_change(secret)
        self._warn_of_age()
        return secret

    def _warn_of_age(self) -> None:
        """Once a day, if the secret is older than ``secret_max_age``."""
        age = self._clock.wall() - self._meters.secret_last_change_timestamp.value
        now = self._clock.now()
        if self._max_age is None or age <= self._max_age or now < self._warned_at + WARN_EVERY_SECONDS:
            return
        self._warned_at = now
        log.warning(
            "secret_old",
            credential=self._name,
            age_seconds=round(age),
            max_age_seconds=round(self._max_age),
            next="put a new secret at the IdP and into its file; it is taken up without a restart",
        )

    def _note_change(self, secret: Secret) -> None:
        if self._seen is not None:
            log.info("secret_changed", credential=self._name, reference=str(self._reference))
        self._seen = secret
        self._meters.secret_last_change_timestamp.value = self._changed_at()

    def _changed_at(self) -> float:
        path = self._reference.path
        stamp = stamp_or_none(str(path)) if path else None
        return stamp[0] / 1e9 if stamp else self._clock.wall()
