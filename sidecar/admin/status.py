"""What the status page shows: one snapshot of everything, made of what is in memory, without a secret in it.

Decides what is said of a credential, a route, a request and a reload. Instants are Unix seconds: the page counts down
by itself, so a snapshot differs from the one before only where something happened. Leaves the page to ``page.html``,
and which claims of a token are harmless to ``claims``.
"""

from __future__ import annotations

import math
import platform
from typing import TYPE_CHECKING, Any, Final

from sidecar import __version__
from sidecar.admin.claims import fingerprint, shown_claims
from sidecar.admin.rates import Window
from sidecar.broker import policy
from sidecar.broker.report import NEXT_STEPS
from sidecar.config.model import BY_CONSENT
from sidecar.proxy.authority import DEFAULT_PORTS
from sidecar.telemetry.metrics import UNMATCHED
from sidecar.telemetry.redaction import Redactor, escape

if TYPE_CHECKING:
    from sidecar.admin.facts import Facts
    from sidecar.broker.broker import Broker
    from sidecar.broker.credential import Credential, PublishedToken, Status
    from sidecar.config import model
    from sidecar.proxy.routing import Route
    from sidecar.runtime import Clock
    from sidecar.telemetry.metrics import CredentialMeters, Metrics, RouteMeters

"""Grants that somebody logs in for here."""
LONGEST_DETAIL: Final = 2000

Json = dict[str, Any]


class StatusReport:
    """Makes snapshots.

    Args:
        clock: the broker's.
    """

    def __init__(self, *, broker: Broker, metrics: Metrics, clock: Clock, facts: Facts) -> None:
        self._broker = broker
        self._metrics = metrics
        self._clock = clock
        self._facts = facts
        self._redactor = Redactor()
        self._windows: dict[str, Window] = {}
        self._tokens: dict[str, tuple[PublishedToken, Json]] = {}

    def snapshot(self) -> Json:
        """Everything, as it stands now."""
        return {
            "about": self._about(),
            "credentials": [self.credential(each) for each in self._broker.credentials()],
            "routes": self._routes(),
            "requests": self.requests(),
            "reload": self._reload(),
        }

    def requests(self) -> list[Json]:
        """The last requests, the newest first."""
        return self._facts.recent.entries(wall=self._clock.wall())

    def _about(self) -> Json:
        configuration = self._facts.configuration
        return {
            "version": __version__,
            "python": platform.python_version(),
            "started_at": round(self._facts.started_at, 1),
            "environment": configuration.environment,
            "listeners": [f"{each.name} {each.bind}" for each in configuration.listeners],
            "unmatched": configuration.unmatched,
        }

    # --- credentials ------------------------------------------------------------------------------------------------

    def credential(self, credential: Credential) -> Json:
        """One card."""
        status, config = credential.status(), self._broker.config(credential.name)
        token = credential.published
        return {
            "name": status.name,
            "provider": config.provider,
            "grant": config.grant,
            "from": _source(config),
            "state": status.state.value,
            "usable": status.usable,
            "generation": status.generation,
            "refreshing": status.fetching,
            "next_attempt_at": self._wall(status.next_attempt_at),
            "asked_scopes": list(config.scopes),
            "token": None if token is None else self._timeline(status, token, config) | self._said(status.name, token),
            "trouble": self._trouble(status),
            "login": config.grant in BY_CONSENT,
            **_gauges(credential.meters),
        }

    def _timeline(self, status: Status, token: PublishedToken, config: model.Credential) -> Json:
        issued, ends, lifetime = token.obtained_at, token.expires_at, token.expires_at - token.obtained_at
        window: list[float | None] = [None, None]
        refresh_at = status.refresh_at if status.refresh_at is not None else math.inf
        if math.isfinite(lifetime):
            usual = policy.Window(config.refresh.at, config.refresh.jitter)
            low, high = usual.bounds(first=refresh_at < issued + usual.bounds(first=False)[0] * lifetime)
            window = [self._wall(issued + part * lifetime) for part in (low, high)]
        return {
            "issued_at": self._wall(issued),
            "window": window,
            "refresh_at": self._wall(refresh_at),
            "expires_at": self._wall(ends),
            "usable_until": self._wall(token.usable_until),
        }

    def _said(self, name: str, token: PublishedToken) -> Json:
        """What the token says of itself: read once."""
        known = self._tokens.get(name)
        if known is None or known[0].secret is not token.secret:
            value = token.secret.reveal()
            known = self._tokens[name] = token, {"fingerprint": fingerprint(value), "claims": shown_claims(value)}
        return known[1] | {"scope": token.scope, "bound": token.dpop is not None}

    def _trouble(self, status: Status) -> Json | None:
        if status.last_error is None:
            return None
        return {
            "reason": status.last_error,
            "detail": self._clean(status.last_detail or ""),
            "next": NEXT_STEPS.get(status.last_error),
            "failures": status.consecutive_failures,
            "since": self._wall(status.failing_since),
        }

    # --- routes -----------------------------------------------------------------------------------------------------

    def _routes(self) -> list[Json]:
        routes = self._facts.table.routes
        labels = {route.label for route in routes} | {UNMATCHED}
        self._windows = {label: window for label, window in self._windows.items() if label in labels}
        rows = [_place(route) | self._counts(route.meters) for route in routes]
        nowhere: Json = {"name": UNMATCHED, "to": "", "paths": [], "methods": [], "credential": None, "flags": []}
        return [*rows, nowhere | self._counts(self._metrics.unmatched)]

    def _counts(self, meters: RouteMeters) -> Json:
        window = self._windows.setdefault(meters.label, Window())
        lately = window.look(meters.duration, self._clock.now())
        return {
            "requests": meters.answers,
            "in_flight": int(meters.in_flight.value),
            "per_second": _rounded(lately.per_second, 2),
            "p50_ms": _rounded(lately.p50, 4, 1000),
            "p99_ms": _rounded(lately.p99, 4, 1000),
            "since_start": lately.since_start,
            "unauthorized": {name: int(cell.value) for name, cell in meters.unauthorized.items()},
            "errors": int(sum(cell.value for cell in meters.upstream_errors.values())),
            "no_token": int(meters.injections["no_token"].value),
        }

    # --- the rest ---------------------------------------------------------------------------------------------------

    def _reload(self) -> Json | None:
        reload = self._facts.reload
        if reload is None:
            return None
        return {
            "at": round(reload.at, 1),
            "applied": reload.problem is None,
            "problem": None if reload.problem is None else self._clean(reload.problem),
            "changes": [change._asdict() for change in reload.changes],
        }

    def _clean(self, text: str) -> str:
        return "\n".join(escape(line) for line in self._redactor.redact(text).splitlines())[:LONGEST_DETAIL]

    def _wall(self, at: float | None) -> float | None:
        """An instant of the clock in Unix seconds; None for never."""
        if at is None or not math.isfinite(at):
            return None
        return round(self._clock.wall() + (at - self._clock.now()), 1)


def _source(config: model.Credential) -> str:
    """Where its tokens come from; an address without its query, which may hold a key."""
    where = config.token_url or config.issuer or config.token_file
    return where.partition("?")[0] if where else " ".join(config.command[:1])


def _gauges(meters: CredentialMeters) -> Json:
    return {
        "secret_changed_at": _rounded(meters.secret_last_change_timestamp.value or None, 1),
        "refresh_token_expires_at": _rounded(meters.refresh_token_expiry_timestamp.value or None, 1),
        "clock_skew": _rounded(meters.clock_skew.value, 1),
    }


def _place(route: Route) -> Json:
    scheme = "https" if route.tls else "http"
    port = "" if route.port == DEFAULT_PORTS[scheme] else f":{route.port}"
    flags = {"intercept": route.intercept, "plain upstream": not route.tls, "fails open": route.fail_open}
    return {
        "name": route.label,
        "to": f"{scheme}://{'*.' if route.suffix else ''}{route.host}{port}",
        "paths": [path.decode("latin-1") for path in route.paths],
        "methods": sorted(method.decode("latin-1") for method in route.methods),
        "credential": route.credential.name,
        "flags": [name for name, is_set in flags.items() if is_set],
    }


def _rounded(value: float | None, digits: int, factor: float = 1.0) -> float | None:
    return None if value is None else round(value * factor, digits)
