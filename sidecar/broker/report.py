"""What a credential tells about itself: its gauges, a log line for each thing that happens, a span for each attempt.

Decides names, numbers and the hint at what to do next. Instants become Unix time here. Nothing that an IdP wrote is
shown but a well-formed error code.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from sidecar.errors import SidecarError, TerminalTokenError
from sidecar.telemetry.abuse import Kind, Source
from sidecar.telemetry.log import get_logger

if TYPE_CHECKING:
    from sidecar.broker.policy import State, Trigger, Trouble
    from sidecar.oauth.token import Token
    from sidecar.runtime import Clock
    from sidecar.telemetry.metrics import CredentialMeters
    from sidecar.telemetry.spans import FetchSpan, Link
    from sidecar.telemetry.tracing import Tracing

log = get_logger("broker")

NEXT_STEPS: Final = {
    "invalid_client": "check client_id and client_auth, and that the IdP knows the client_secret (then "
    "basic_encoding), the key (then key_id, assertion_audience) or the certificate",
    "invalid_grant": "log in again (`sidecar login`), or renew what refresh_token or subject_token names; of a signed "
    "assertion, check subject, audience and clock",
    "invalid_scope": "check scopes and required_scopes against what the IdP grants this client",
    "unauthorized_client": "allow this client the grant at the IdP",
    "refused": "correct what the detail says; a code of the IdP's own is explained in its documentation",
    "rate_limited": "nothing: it is asked again when the IdP said; look for other clients of the same id if it stays",
    "server_error": "nothing, if it passes; else see the IdP's status page, or run the credential's command by hand",
    "timeout": "check the way to the IdP: firewall, egress policy, proxy",
    "dns": "check the host in token_url or issuer, and the resolver",
    "connect": "check that the IdP is up, and the way to it: firewall, egress policy",
    "tls": "check ca_file, and whether something intercepts TLS on the way",
    "malformed": "check that token_url or issuer is right, and for a page that a middlebox puts in the way; of a "
    "command, what it prints",
    "secret_missing": "put the secret where the configuration says",
    "login_needed": "run `sidecar login` for the credential; with grant: refresh_token, put a new one where it says",
    "store_unusable": "correct the store's path or key: a folder that the sidecar's user may write to, a key file with "
    "chmod 600",
    "store_locked": "nothing, if the other process is about to end; else give each sidecar a login of its own",
    "internal": "report this as a bug, with the task_crashed line before it",
}


class Report:
    """The telling side of one credential.

    Attributes:
        fetched: the span of the last attempt that ended, for links; None if it has none.
    """

    __slots__ = ("_clock", "_name", "_span", "_tracing", "fetched", "meters")

    def __init__(self, name: str, *, clock: Clock, meters: CredentialMeters, tracing: Tracing) -> None:
        self._name = name
        self._clock = clock
        self._tracing = tracing
        self._span: FetchSpan | None = None
        self.fetched: Link | None = None
        self.meters = meters

    def _wall_at(self, at: float) -> float:
        return self._clock.wall() + (at - self._clock.now())

    def beat(self, *, usable: bool) -> None:
        """The loop turned."""
        self.meters.heartbeat_timestamp.value = self._clock.wall()
        self.meters.up.value = float(usable)

    def state(self, state: State) -> None:
        """The credential is in this state now."""
        self.meters.state(state.value)

    def next_attempt(self, at: float) -> None:
        """When the next request is due; infinite: none is."""
        self.meters.next_refresh_timestamp.value = 0.0 if math.isinf(at) else self._wall_at(at)

    def attempt(self, trigger: Trigger) -> None:
        """An attempt begins."""
        self.meters.triggers[trigger.value].value += 1
        spans = self._tracing.spans
        self._span = None if spans is None else spans.fetch(self._name, trigger.value)

    def obtained(
        self, token: Token, *, generation: int, same: bool, refresh_at: float, trigger: Trigger, trouble: Trouble | None
    ) -> None:
        """An attempt brought a token, the ``same`` as before or a new one; ``trouble`` is what that ended."""
        now, meters = self._clock.now(), self.meters
        self._end_span("success")
        meters.up.value = 1.0
        meters.consecutive_failures.value = 0.0
        meters.lifetime.value = token.lifetime
        meters.refreshed_timestamp.value = self._wall_at(token.sent_at)
        meters.expiry_timestamp.value = self._wall_at(token.sent_at + token.lifetime)
        log.info(
            "token_unchanged" if same else "token_refreshed",
            credential=self._name,
            generation=generation,
            lifetime_seconds=_seconds(token.lifetime),
            next_refresh_in_seconds=_seconds(refresh_at - now),
            trigger=trigger.value,
        )
        if trouble is not None:
            outage = _seconds(now - trouble.since)
            log.info("token_recovered", credential=self._name, outage_seconds=outage, failures=trouble.failures)
        if token.missing_scopes:
            missing = " ".join(token.missing_scopes)
            log.error("scope_missing", credential=self._name, missing=missing, next=NEXT_STEPS["invalid_scope"])

    def failed(self, error: SidecarError, *, trouble: Trouble, retry_at: float, usable_until: float) -> None:
        """An attempt failed; an error where somebody has to act or nothing is usable, else a warning."""
        now = self._clock.now()
        self.meters.consecutive_failures.value = trouble.failures
        self._end_span(error.reason, getattr(error, "http_status", None))
        terminal = isinstance(error, TerminalTokenError)
        if terminal:
            self.meters.abuse.note(Kind.TOKEN_REQUESTS, Source(self._name), now)
        tell = log.error if terminal or usable_until <= now else log.warning
        tell(
            "token_refresh_failed",
            credential=self._name,
            reason=error.reason,
            fault=error.fault.value,
            detail=error.detail,
            http_status=getattr(error, "http_status", None),
            oauth_error=getattr(error, "oauth_error", None),
            attempt=trouble.failures,
            retry_in_seconds=_seconds(retry_at - now),
            usable_for_seconds=_seconds(usable_until - now),
            next=NEXT_STEPS.get(error.reason),
        )

    def _end_span(self, result: str, http_status: int | None = None) -> None:
        span, self._span = self._span, None
        self.fetched = None if span is None else span.end(result=result, http_status=http_status)

    def expired(self, generation: int, *, usable_until: float) -> None:
        """The token reached its end without a successor."""
        log.warning(
            "token_expired",
            credential=self._name,
            generation=generation,
            usable_for_seconds=_seconds(usable_until - self._clock.now()),
        )


def _seconds(value: float) -> float | None:
    """For a log line: rounded, never negative, None for "never"."""
    return None if value == math.inf else round(max(value, 0.0), 1)
