"""Every metric of the product, once: names, labels, buckets, and the bound on how many series there can be.

Decides what exists and which label values it may have: names from the configuration, or closed sets written down
here. Never a path, a Host as received, a client id, a scope or anything else that a request or an IdP can choose.
Leaves counting to those who hold the meters, and the form of the lines to ``cells``.

The budget is 100 series, 50 a route and 80 a credential. All of them exist from the start, so that rates begin at zero;
only the answers by method and code appear as they are seen, up to a bound, and then fold into ``method="other"`` with
the class of the code. Instants are Unix timestamps, never "seconds left": a gauge that a dead loop froze must not look
healthy. There are no ``_created`` series: they would double the count for nothing Prometheus uses by default.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from sidecar import __version__
from sidecar.errors import Denied, HandshakeFailed, Overloaded, TokenRequestError, UpstreamError, leaves
from sidecar.telemetry.abuse import Abuse
from sidecar.telemetry.abuse import Kind as AbuseKind
from sidecar.telemetry.cells import Buckets, Cell, Family, Kind, Labels

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.registry import Collector

__all__ = ["UNMATCHED", "Buckets", "Cell", "CredentialMeters", "ListenerMeters", "Metrics", "RouteMeters"]

PREFIX: Final = "tokensidecar_"
UNMATCHED: Final = "_unmatched"
"""The route label of everything that no route matches."""

# Ten buckets or fewer each, the infinite one included.
REQUEST_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
OVERHEAD_BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05)
TOKEN_REQUEST_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TOKEN_WAIT_BOUNDS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
LAG_BOUNDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

METHODS: Final = {
    method.encode(): method
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
}
"""The methods that are a label value (RFC 9110 section 9.3, RFC 5789); every other one is ``other``."""
ANSWERS_OF_A_ROUTE: Final = 17
ANSWERS_OF_UNMATCHED: Final = 10
"""How many pairs of method and code are shown apart; beyond them there are six folded ones (1xx to 5xx, other)."""

INJECTIONS: Final = ("injected", "already_present", "no_token", "stale_token", "bypassed_connect", "denied")
UNAUTHORIZED: Final = ("recovered", "rejected")
UPSTREAM_ERRORS: Final = tuple(leaf.reason for leaf in leaves(UpstreamError))
DENIED: Final = tuple(leaf.reason for leaf in leaves(Denied))
REJECTED_CONNECTIONS: Final = (Overloaded.reason, HandshakeFailed.reason)
RELOADS: Final = ("applied", "rejected")
TOKEN_RESULTS: Final = ("success", *(leaf.reason for leaf in leaves(TokenRequestError)))
TRIGGERS: Final = ("startup", "scheduled", "on_demand", "unauthorized", "manual")
STATES: Final = ("empty", "fresh", "due", "stale", "failing", "login_needed")
OAUTH_ERRORS: Final = (
    # RFC 6749 sections 5.2 and 4.1.2.1
    *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"),
    *("invalid_scope", "access_denied", "server_error", "temporarily_unavailable"),
    *("authorization_pending", "slow_down", "expired_token"),  # RFC 8628 section 3.5
    "invalid_target",  # RFC 8707 section 2
    *("invalid_dpop_proof", "use_dpop_nonce"),  # RFC 9449 sections 5 and 8
    *("interaction_required", "login_required", "consent_required"),  # OpenID Connect Core section 3.1.2.6
    "other",
)

_FAMILIES: Final = (
    ("http_requests_total", Kind.COUNTER, "Requests answered, by method and status code."),
    ("http_request_duration_seconds", Kind.HISTOGRAM, "From the first byte of a request to the last of its answer."),
    ("proxy_overhead_seconds", Kind.HISTOGRAM, "The sidecar's own part of a request, waiting for others left out."),
    ("http_requests_in_flight", Kind.GAUGE, "Requests that are being served now."),
    ("injections_total", Kind.COUNTER, "What became of the token of each request on a route."),
    ("upstream_errors_total", Kind.COUNTER, "Upstreams that could not be reached or broke."),
    ("upstream_unauthorized_total", Kind.COUNTER, "Answers 401 to a token: a newer token recovered it, or not."),
    ("denied_requests_total", Kind.COUNTER, "Requests that the configuration does not allow."),
    ("token_up", Kind.GAUGE, "1 while there is a usable token."),
    ("token_expiry_timestamp_seconds", Kind.GAUGE, "When the token expires; 0 without one, +Inf if it never does."),
    ("token_refreshed_timestamp_seconds", Kind.GAUGE, "When the token was obtained; 0 before the first."),
    ("token_next_refresh_timestamp_seconds", Kind.GAUGE, "When the next token request is due; 0 while none is."),
    ("token_lifetime_seconds", Kind.GAUGE, "The token's whole lifetime as it was granted."),
    ("token_requests_total", Kind.COUNTER, "Token requests by their result."),
    ("token_request_triggers_total", Kind.COUNTER, "Token requests by what caused them."),
    ("oauth_errors_total", Kind.COUNTER, "OAuth error codes the IdP answered with."),
    ("token_request_duration_seconds", Kind.HISTOGRAM, "How long the IdP took to answer a token request."),
    ("token_wait_seconds", Kind.HISTOGRAM, "How long requests waited for a token."),
    ("token_refresh_consecutive_failures", Kind.GAUGE, "Token requests failed since the last success."),
    ("refresh_loop_heartbeat_timestamp_seconds", Kind.GAUGE, "When the refresh loop last turned."),
    ("credential_state", Kind.GAUGE, "1 for the state the credential is in, 0 for the others."),
    ("token_rotations_total", Kind.COUNTER, "Refresh tokens replaced by the IdP."),
    ("refresh_token_expiry_timestamp_seconds", Kind.GAUGE, "When the refresh token expires; 0 if not known."),
    ("secret_last_change_timestamp_seconds", Kind.GAUGE, "When a secret of the credential last changed."),
    ("secret_read_errors_total", Kind.COUNTER, "Times a secret of the credential could not be read."),
    ("clock_skew_seconds", Kind.GAUGE, "The IdP's clock minus ours."),
    ("config_last_reload_successful", Kind.GAUGE, "1 if the newest configuration is the one that runs."),
    ("config_last_reload_success_timestamp_seconds", Kind.GAUGE, "When a configuration was last applied."),
    ("config_reloads_total", Kind.COUNTER, "Configurations applied or rejected while running."),
    ("event_loop_lag_seconds", Kind.HISTOGRAM, "How late the event loop runs what is due."),
    ("connections_open", Kind.GAUGE, "Connections that clients hold open."),
    ("connections_rejected_total", Kind.COUNTER, "Connections closed before their first request was read."),
    ("suspected_abuse_total", Kind.COUNTER, "Bursts of what nobody should ask for, by what is tried."),
    ("build_info", Kind.INFO, "The version that runs."),
)


class _Families:
    """Every family by its name without the prefix, in the order they are written."""

    __slots__ = ("_by_name",)

    def __init__(self) -> None:
        self._by_name = {name: Family(PREFIX + name, kind, text) for name, kind, text in _FAMILIES}

    def __getitem__(self, name: str) -> Family:
        return self._by_name[name]

    def write(self, *, openmetrics: bool) -> bytes:
        lines: list[str] = []
        for family in self._by_name.values():
            family.write(lines, openmetrics=openmetrics)
        return "".join(lines).encode()

    def __len__(self) -> int:
        return sum(len(family) for family in self._by_name.values())


class _Meters:
    """The series of one configured name; remembers them, so that a reload can take them away again."""

    __slots__ = ("_families", "_forgotten", "_labels", "_shown")

    def __init__(self, families: _Families, labels: Labels) -> None:
        self._families = families
        self._labels = labels
        self._shown: list[tuple[Family, Labels]] = []
        self._forgotten = False

    def _cell(self, name: str, *more: tuple[str, str]) -> Cell:
        if self._forgotten:
            return Cell()
        labels = self._labels + more
        family = self._families[name]
        self._shown.append((family, labels))
        return family.cell(labels)

    def _cells(self, name: str, label: str, values: tuple[str, ...]) -> dict[str, Cell]:
        return {value: self._cell(name, (label, value)) for value in values}

    def _buckets(self, name: str, bounds: tuple[float, ...]) -> Buckets:
        family = self._families[name]
        self._shown.append((family, self._labels))
        return family.buckets(bounds, self._labels)

    def forget(self) -> None:
        """Show these series no more. A request still on its way may go on counting, unseen."""
        self._forgotten = True
        self._hide(self._shown)

    def _hide(self, shown: list[tuple[Family, Labels]]) -> None:
        for family, labels in shown:
            family.remove(labels)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(value for _, value in self._labels)}>"


class ListenerMeters(_Meters):
    """What one listener counts."""

    __slots__ = ("connections_open",)

    def __init__(self, families: _Families, name: str) -> None:
        super().__init__(families, (("listener", name),))
        self.connections_open = self._cell("connections_open")


class RouteMeters(_Meters):
    """What one route counts. ``injections`` of a route without a credential are counted but not shown."""

    __slots__ = (
        *("_answers", "_answers_left", "_folded", "credential"),
        *("duration", "in_flight", "injections", "label", "unauthorized", "upstream_errors"),
    )

    def __init__(self, families: _Families, label: str, *, answers: int) -> None:
        super().__init__(families, (("route", label),))
        self.label = label
        self.in_flight = self._cell("http_requests_in_flight")
        self.duration = self._buckets("http_request_duration_seconds", REQUEST_BOUNDS)
        self.upstream_errors = self._cells("upstream_errors_total", "reason", UPSTREAM_ERRORS)
        self.unauthorized = self._cells("upstream_unauthorized_total", "outcome", UNAUTHORIZED)
        self.credential: str | None = None
        self.injections = {result: Cell() for result in INJECTIONS}
        self._answers: dict[tuple[bytes, int], Cell] = {}
        self._answers_left = answers
        self._folded: dict[str, Cell] = {}

    def answered(self, method: bytes, status: int) -> Cell:
        """The count of answers with this status to this method (as it stood in the request line)."""
        try:
            return self._answers[method, status]
        except KeyError:
            return self._answered_first(method, status)

    def _answered_first(self, method: bytes, status: int) -> Cell:
        if method not in METHODS:
            # All unknown methods share one key, so that a client that makes them up cannot grow the table.
            method = b"other"
            if (known := self._answers.get((method, status))) is not None:
                return known
        if self._answers_left == 0:
            return self._folded_answer(status)
        self._answers_left -= 1
        labels = (("method", METHODS.get(method, "other")), ("code", str(status)))
        cell = self._answers[method, status] = self._cell("http_requests_total", *labels)
        return cell

    def _folded_answer(self, status: int) -> Cell:
        code = f"{status // 100}xx" if 100 <= status <= 599 else "other"
        cell = self._folded.get(code)
        if cell is None:
            cell = self._folded[code] = self._cell("http_requests_total", ("method", "other"), ("code", code))
        return cell

    @property
    def answers(self) -> int:
        """How many requests were answered in all."""
        return int(sum(cell.value for cell in (*self._answers.values(), *self._folded.values())))

    def use(self, credential: str | None) -> None:
        """Count injections under this credential from now on; an earlier one's counts end here."""
        if credential == self.credential:
            return
        family = self._families["injections_total"]
        self._hide([shown for shown in self._shown if shown[0] is family])
        self._shown = [shown for shown in self._shown if shown[0] is not family]
        self.credential = credential
        self.injections = {result: self._injection(credential, result) for result in INJECTIONS}

    def _injection(self, credential: str | None, result: str) -> Cell:
        if credential is None:
            return Cell()
        return self._cell("injections_total", ("credential", credential), ("result", result))


class CredentialMeters(_Meters):
    """What one credential tells. Instants are Unix timestamps, 0 while there is none."""

    __slots__ = (
        *("_oauth_errors", "_states", "abuse", "clock_skew", "consecutive_failures", "expiry_timestamp"),
        "heartbeat_timestamp",
        *("lifetime", "next_refresh_timestamp", "refresh_token_expiry_timestamp", "refreshed_timestamp"),
        *("request_duration", "requests", "rotations", "secret_last_change_timestamp", "secret_read_errors"),
        *("triggers", "up", "wait"),
    )

    def __init__(self, families: _Families, name: str, abuse: Abuse) -> None:
        super().__init__(families, (("credential", name),))
        self.abuse = abuse
        self.up = self._cell("token_up")
        self.expiry_timestamp = self._cell("token_expiry_timestamp_seconds")
        self.refreshed_timestamp = self._cell("token_refreshed_timestamp_seconds")
        self.next_refresh_timestamp = self._cell("token_next_refresh_timestamp_seconds")
        self.lifetime = self._cell("token_lifetime_seconds")
        self.requests = self._cells("token_requests_total", "result", TOKEN_RESULTS)
        self.triggers = self._cells("token_request_triggers_total", "trigger", TRIGGERS)
        self._oauth_errors = self._cells("oauth_errors_total", "error", OAUTH_ERRORS)
        self.request_duration = self._buckets("token_request_duration_seconds", TOKEN_REQUEST_BOUNDS)
        self.wait = self._buckets("token_wait_seconds", TOKEN_WAIT_BOUNDS)
        self.consecutive_failures = self._cell("token_refresh_consecutive_failures")
        self.heartbeat_timestamp = self._cell("refresh_loop_heartbeat_timestamp_seconds")
        self._states = self._cells("credential_state", "state", STATES)
        self.rotations = self._cell("token_rotations_total")
        self.refresh_token_expiry_timestamp = self._cell("refresh_token_expiry_timestamp_seconds")
        self.secret_last_change_timestamp = self._cell("secret_last_change_timestamp_seconds")
        self.secret_read_errors = self._cell("secret_read_errors_total")
        self.clock_skew = self._cell("clock_skew_seconds")
        self.state("empty")

    def oauth_error(self, code: str) -> Cell:
        """The count of this OAuth ``error`` code; whatever is not in the closed set counts as ``other``."""
        return self._oauth_errors.get(code, self._oauth_errors["other"])

    def state(self, name: str) -> None:
        """Show ``name`` (one of ``STATES``) as the state the credential is in.

        Raises:
            KeyError: there is no such state.
        """
        current = self._states[name]
        for cell in self._states.values():
            cell.value = 0.0
        current.value = 1.0


class Metrics:
    """All metrics of the process. Made once; meters come and go with the names of the configuration."""

    def __init__(self) -> None:
        self._families = families = _Families()
        self._listeners: dict[str, ListenerMeters] = {}
        self._routes: dict[str, RouteMeters] = {}
        self._credentials: dict[str, CredentialMeters] = {}
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        build = (("version", __version__), ("python", platform.python_version()))
        families["build_info"].cell(build, 1.0)
        self.overhead = families["proxy_overhead_seconds"].buckets(OVERHEAD_BOUNDS)
        self.event_loop_lag = families["event_loop_lag_seconds"].buckets(LAG_BOUNDS)
        self.denied = self._cells("denied_requests_total", "reason", DENIED)
        self.connections_rejected = self._cells("connections_rejected_total", "reason", REJECTED_CONNECTIONS)
        self.abuse = Abuse(self._cells("suspected_abuse_total", "kind", tuple(kind.value for kind in AbuseKind)))
        self.config_reloads = self._cells("config_reloads_total", "result", RELOADS)
        self.config_last_reload_successful = families["config_last_reload_successful"].cell()
        self.config_last_reload_success_timestamp = families["config_last_reload_success_timestamp_seconds"].cell()
        self.unmatched = RouteMeters(families, UNMATCHED, answers=ANSWERS_OF_UNMATCHED)
        self._routes[UNMATCHED] = self.unmatched

    def _cells(self, name: str, label: str, values: tuple[str, ...]) -> dict[str, Cell]:
        family = self._families[name]
        return {value: family.cell(((label, value),)) for value in values}

    def listener(self, name: str) -> ListenerMeters:
        """The meters of the listener called ``name``; the same ones each time until it is forgotten."""
        meters = self._listeners.get(name)
        if meters is None:
            meters = self._listeners[name] = ListenerMeters(self._families, name)
        return meters

    def route(self, label: str, credential: str | None) -> RouteMeters:
        """The meters of the route with this label; the same ones each time until it is forgotten.

        A label that comes back with another credential keeps its meters and counts, injections aside: those begin
        again under the new credential.
        """
        meters = self._routes.get(label)
        if meters is None:
            meters = self._routes[label] = RouteMeters(self._families, label, answers=ANSWERS_OF_A_ROUTE)
        meters.use(credential)
        return meters

    def credential(self, name: str) -> CredentialMeters:
        """The meters of the credential called ``name``; the same ones each time until it is forgotten."""
        meters = self._credentials.get(name)
        if meters is None:
            meters = self._credentials[name] = CredentialMeters(self._families, name, self.abuse)
        return meters

    def forget_listener(self, name: str) -> None:
        """Show this listener's series no more."""
        if meters := self._listeners.pop(name, None):
            meters.forget()

    def forget_route(self, label: str) -> None:
        """Show this route's series no more."""
        if label != UNMATCHED and (meters := self._routes.pop(label, None)):
            meters.forget()

    def forget_credential(self, name: str) -> None:
        """Show this credential's series no more."""
        if meters := self._credentials.pop(name, None):
            meters.forget()

    def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """Everything as text, and its content type, by the ``Accept`` field of the scrape.

        OpenMetrics where it is asked for, else the Prometheus text format that every scraper reads.
        """
        encode, content_type = _negotiate(accept or "")
        body = self._families.write(openmetrics=content_type.startswith(_OPENMETRICS))
        # The process's own figures come last: their encoder also writes the end mark that OpenMetrics wants.
        return body + encode(self._process), content_type

    def __len__(self) -> int:
        """How many series there are, the process's own aside."""
        return len(self._families)


_OPENMETRICS: Final = "application/openmetrics-text"


def _negotiate(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    try:
        chosen = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        chosen = choose_encoder("")
    if chosen[1].startswith(_OPENMETRICS):
        # It would repeat any newer version it is asked for; what is written here is 1.0.0.
        chosen = choose_encoder(f"{_OPENMETRICS}; version=1.0.0")
    return chosen
