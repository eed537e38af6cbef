"""Which route a request takes and what becomes of it, told beforehand: why each other route lost, or why it is denied.

Decides nothing itself. The request is written as the app would write it, and goes through the same head check,
entrances and table as every request; what those say is put into words. Nothing is sent, no name is resolved and no
secret read, so what only those can tell (an address that is never an upstream, a wrong password) is a condition.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sidecar.errors import AuthorizationRefused, BadRequest, SidecarError, TargetUnmatched, TunnelDenied
from sidecar.http.h1 import read_request_head
from sidecar.proxy.authority import DEFAULT_PORTS, Authority, parse_authority, split_absolute
from sidecar.proxy.connect import TUNNEL_PORTS
from sidecar.proxy.entrance import ForwardEntrance, TunnelEntrance, connect_authority, reverse_entrance
from sidecar.proxy.paths import path_forms
from sidecar.proxy.question import curl, curl_by
from sidecar.proxy.routing import Candidates, Route, RoutingTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.config import model
    from sidecar.config.model import Configuration
    from sidecar.http.message import RequestHead
    from sidecar.proxy.authority import Origin
    from sidecar.proxy.question import Asked

_NOBODY: Any = None
"""In the place of credential and meters: matching looks at neither."""


class Outcome(enum.Enum):
    """What becomes of a request."""

    TOKEN = "token"
    """It leaves on its route, with the credential's token."""
    UNTOUCHED = "untouched"
    """No route, and ``unmatched: forward``: it leaves as it is."""
    TUNNELLED = "tunnelled"
    """It passes as an encrypted tunnel that nobody can put a token into."""
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Judged:
    """A route of the configuration, and what was found about it.

    Args:
        label: its name.
        taken: it is the one.
        why: it is the one, or what it failed by.
        same_host: its host is that of the request, so that the answer is worth reading.
    """

    label: str
    taken: bool
    why: str
    same_host: bool


@dataclass(frozen=True, slots=True)
class Way:
    """How a request leaves.

    Args:
        url: where to.
        tls: how it is protected.
        authorization: what becomes of one that the app sends.
        added: fields that are set, with a placeholder for the token.
        removed: fields that do not go on.
        without_token: what happens while there is no valid token.
        limits: the deadlines that apply, in seconds.
    """

    url: str
    tls: str
    authorization: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    without_token: str
    limits: dict[str, float]
    curl: str
    """The same request without the sidecar, by somebody who holds the token; empty where a proof is needed, too."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything there is to say about one request.

    Args:
        listener: the one it goes to; empty if there is none that takes it.
        path: as it is sent on: byte for byte.
        read_as: what it is matched as, where that is more than the path itself.
        route: the label of the route it takes or goes round.
        status: of the answer, if it is denied.
        reason: likewise.
        detail: one sentence about the outcome.
        notes: what else to know of it.
    """

    method: str
    url: str
    listener: str
    mode: str
    outcome: Outcome
    detail: str
    path: str = ""
    read_as: tuple[str, ...] = ()
    route: str | None = None
    credential: str | None = None
    status: int | None = None
    reason: str | None = None
    routes: tuple[Judged, ...] = ()
    way: Way | None = None
    curl: str = ""
    """The request as the app may make it."""
    notes: tuple[str, ...] = ()


# --- the answer ------------------------------------------------------------------------------------------------------


def explain(configuration: Configuration, asked: Asked) -> Explanation:
    """What becomes of a request, without sending it."""
    return _Explaining(configuration, asked).explain()


def as_json(explanation: Explanation) -> dict[str, Any]:
    """For programs and pages: the fields as they are called, the outcome by its word."""
    return dataclasses.asdict(explanation) | {"outcome": explanation.outcome.value}


def route_of(config: model.Route) -> Route:
    """A route as a running sidecar has it, for matching alone."""
    return Route.of(config, credential=_NOBODY, meters=_NOBODY)


@dataclass(slots=True)
class _Explaining:
    """One question on its way to the answer."""

    configuration: Configuration
    asked: Asked
    routes: list[tuple[model.Route, Route]] = field(init=False)
    table: RoutingTable = field(init=False)
    path: bytes = b""
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.routes = [(config, route_of(config)) for config in self.configuration.routes]
        self.table = RoutingTable(route for _, route in self.routes)
        if self.asked.listener.auth != "none":
            self.notes.append(f"first, listener {self.asked.listener.name} {_wants(self.asked.listener.auth)}")

    def explain(self) -> Explanation:
        try:
            if self.asked.listener.mode == "reverse":
                return self._by_base_url()
            return self._by_tunnel() if self.asked.scheme == "https" else self._by_proxy()
        except SidecarError as error:
            return self._denied(error)

    # --- the three ways in ---

    def _by_proxy(self) -> Explanation:
        asked = self.asked
        head = self._head(asked.method, f"http://{asked.netloc}{asked.target}", asked.netloc)
        if head.method == b"CONNECT":
            raise BadRequest("CONNECT is what a client makes of an https:// URL: explain that one")
        candidates, self.path = ForwardEntrance(self.table).admit(head)
        return self._matched(candidates, head)

    def _by_base_url(self) -> Explanation:
        asked, listener = self.asked, self.asked.listener
        host = asked.netloc or "localhost"
        head = self._head(asked.method, asked.target, host)
        entrance = reverse_entrance(self.table, listener.upstream or "", listener.hosts, listener.bind.host)
        candidates, self.path = entrance.admit(head)
        return self._matched(candidates, head)

    def _by_tunnel(self) -> Explanation:
        """An https URL: a CONNECT first, and then what is inside, if anybody can read that."""
        asked = self.asked
        authority = parse_authority(asked.netloc.encode())
        port = authority.port or DEFAULT_PORTS["https"]
        named = f"[{authority.host}]:{port}" if ":" in authority.host else f"{authority.host}:{port}"
        authority = connect_authority(self._head("CONNECT", named, named))
        self.notes.append(f"through a proxy, clients make a tunnel of an https:// URL (CONNECT {named})")
        self.path = split_absolute(asked.url.partition("#")[0].encode(), b"GET").path
        plain = self.table.candidates("http", authority).routes
        if plain and (port == 80 or not plain[0].tls):
            raise BadRequest("this port is read as HTTP inside the tunnel, and TLS is none: call http://")
        bypassed = self.table.tunnelled(authority)
        if bypassed is not None and bypassed.intercept and self.configuration.interception is not None:
            self.notes.append("the tunnel is opened with the local CA, which the client has to trust")
            candidates = self.table.candidates("https", authority)
            head = self._head(asked.method, self.path.decode(), asked.netloc)
            _, self.path = TunnelEntrance(candidates).admit(head)
            return self._matched(candidates, head)
        return self._tunnelled(authority, bypassed)

    def _head(self, method: str, target: str, host: str) -> RequestHead:
        """Raises: ClientError."""
        limits = self.configuration.limits
        raw = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        return read_request_head(raw, max_fields=limits.fields, max_target=limits.target)

    # --- the outcomes ---

    def _matched(self, candidates: Candidates, head: RequestHead) -> Explanation:
        if not candidates.routes and self.configuration.unmatched == "forward":
            return self._untouched(candidates)
        route = candidates.match(head.method, self.path)
        config = next(config for config, each in self.routes if each is route)
        return Explanation(
            **self._common(),
            outcome=Outcome.TOKEN,
            detail=f"route {route.label} takes it, with the token of credential {config.credential}",
            read_as=self._read_as(),
            route=route.label,
            credential=config.credential,
            routes=tuple(self._judged(candidates, head.method, route)),
            way=self._way(candidates, route, config),
            notes=tuple(self.notes),
        )

    def _untouched(self, candidates: Candidates) -> Explanation:
        origin, _ = candidates.leg(None)
        limits = self.configuration.limits
        self.notes.append(
            "without a route it never goes to loopback, link-local or metadata addresses: 403 (address_denied)"
        )
        url = self._upstream(origin)
        way = Way(
            url=url,
            tls="over verified TLS" if origin.tls else "plain http, as it was asked for",
            authorization="passed on as it is",
            added=(f"Host: {origin.netloc.decode()}", _VIA),
            removed=_HOP_BY_HOP,
            without_token="",
            limits={"connect": limits.connect, "first_byte": limits.first_byte, "response_idle": limits.response_idle},
            curl=curl(self.asked.method, url),
        )
        return Explanation(
            **self._common(),
            outcome=Outcome.UNTOUCHED,
            detail="no route matches its host and port, and unmatched: forward passes it on without a token",
            routes=tuple(self._judged(candidates, self.asked.method.encode(), None)),
            way=way,
            notes=tuple(self.notes),
        )

    def _tunnelled(self, authority: Authority, bypassed: Route | None) -> Explanation:
        if bypassed is None and self.configuration.unmatched != "forward":
            raise TargetUnmatched("no route matches this host and port, so no tunnel is opened to it")
        if bypassed is None and authority.port not in TUNNEL_PORTS:
            raise TunnelDenied("tunnels to hosts without a route go to ports 443 and 80 only")
        candidates = self.table.candidates("https", authority)
        detail = "it passes as an encrypted tunnel, without a token"
        if bypassed is not None:
            detail += f", although route {bypassed.label} has one; it is counted as bypassed_connect"
            self.notes.append(
                "call http:// instead: the sidecar adds TLS and token; or set intercept: true on the route"
            )
        return Explanation(
            **self._common(),
            outcome=Outcome.TUNNELLED,
            detail=detail,
            route=bypassed.label if bypassed is not None else None,
            routes=tuple(self._judged(candidates, self.asked.method.encode(), None)),
            notes=tuple(self.notes),
        )

    def _denied(self, error: SidecarError) -> Explanation:
        return Explanation(
            **self._common(),
            outcome=Outcome.DENIED,
            detail=error.detail,
            read_as=self._read_as(),
            status=error.status,
            reason=error.reason,
            routes=tuple(self._judged_by_url()),
            notes=tuple(self.notes),
        )

    def _common(self) -> dict[str, Any]:
        asked = self.asked
        return {
            "method": asked.method,
            "url": asked.url,
            "listener": asked.listener.name,
            "mode": asked.listener.mode,
            "path": self.path.decode(),
            "curl": curl_by(self.asked, self.configuration),
        }

    def _read_as(self) -> tuple[str, ...]:
        try:
            forms = path_forms(self.path)
        except BadRequest:
            return ()
        return tuple(form.decode() for form in forms[1:])

    # --- why the others lost ---

    def _judged_by_url(self) -> Iterator[Judged]:
        """For what was denied: by what the URL says, if that can be read."""
        asked = self.asked
        try:
            if asked.listener.mode == "reverse":
                scheme, _, netloc = (asked.listener.upstream or "").partition("://")
            else:
                scheme, netloc = asked.scheme, asked.netloc
            candidates = self.table.candidates(scheme, parse_authority(netloc.rstrip("/").encode()))
        except BadRequest:
            return
        yield from self._judged(candidates, asked.method.encode(), None)

    def _judged(self, candidates: Candidates, method: bytes, taken: Route | None) -> Iterator[Judged]:
        """Every route in the order of the configuration."""
        for _, route in self.routes:
            same_host = route.covers_host(candidates.authority.host)
            why = "the most specific one" if route is taken else self._lost_by(route, candidates, method, taken)
            yield Judged(route.label, route is taken, why, same_host)

    def _lost_by(self, route: Route, candidates: Candidates, method: bytes, taken: Route | None) -> str:
        host, port = candidates.authority
        if not route.covers_host(host):
            return _other_host(route, host)
        if not route.covers_port(candidates.scheme, port):
            return _other_port(route, candidates.scheme, port)
        if route not in candidates.routes:
            return f"port: without one in the URL, {candidates.routes[0].port} comes before {route.port}"
        if (lost := self._lost_by_path(route)) is not None:
            return lost
        if not route.takes_method(method):
            if method == b"TRACE":
                return "method: TRACE is never sent with a token"
            return f"method: {method.decode()} is not among {' '.join(sorted(each.decode() for each in route.methods))}"
        return "" if taken is None else self._less_specific(route, taken)

    def _lost_by_path(self, route: Route) -> str | None:
        try:
            forms = path_forms(self.path)
        except BadRequest as error:
            return f"path: {error.detail}"
        if route.longest_prefix(forms) >= 0:
            return None
        prefixes = " ".join(prefix.decode() for prefix in route.paths)
        return f"path: {forms[-1].partition(b'?')[0].decode()} is not below {prefixes}"

    def _less_specific(self, route: Route, taken: Route) -> str:
        if route.suffix != taken.suffix:
            return f"less specific than {taken.label}: a pattern, and that one names the host"
        if len(route.host) != len(taken.host):
            return f"less specific than {taken.label}: its pattern is shorter"
        forms = path_forms(self.path)
        if route.longest_prefix(forms) != taken.longest_prefix(forms):
            return f"less specific than {taken.label}: its path is shorter"
        return f"less specific than {taken.label}: it takes every method"

    # --- how it leaves ---

    def _way(self, candidates: Candidates, route: Route, config: model.Route) -> Way:
        origin, _ = candidates.leg(route)
        limits = self.configuration.limits
        credential = self.configuration.credentials[config.credential]
        url, token = self._upstream(origin), _DPOP if credential.dpop else _BEARER
        trusted = ("--cacert", config.ca_file) if config.ca_file else ()
        return Way(
            url=url,
            tls=_tls(config, origin.host),
            authorization=_AUTHORIZATION[config.if_present],
            added=(f"Host: {origin.netloc.decode()}", _VIA, *token),
            removed=tuple(self._removed(route)),
            without_token=_without_token(config, credential, limits),
            limits={name: getattr(limits, name) for name in ("token_wait", "connect", "first_byte", "response_idle")},
            curl="" if credential.dpop else curl(self.asked.method, url, *trusted, fields=token),
        )

    def _upstream(self, origin: Origin) -> str:
        return f"{'https' if origin.tls else 'http'}://{origin.netloc.decode()}{self.path.decode()}"

    def _removed(self, route: Route) -> Iterator[str]:
        listener = self.asked.listener
        yield from _HOP_BY_HOP
        if not listener.trust_forwarded:
            yield "Forwarded and X-Forwarded-* (trust_forwarded: true passes them on)"
        if not route.takes_all:
            yield "X-Original-URL, X-HTTP-Method-Override and their like: the route does not take every path and method"
        if listener.auth != "none" and listener.auth.header is not None:
            yield f"{listener.auth.header}: the listener's key"


_HOP_BY_HOP: Final = (
    "Connection and what it names, Keep-Alive, Proxy-*, TE, Trailer, and any Upgrade but WebSocket's",
)
_VIA: Final = "Via: 1.1 token-sidecar-..."
_BEARER: Final = ("Authorization: Bearer $TOKEN",)
_DPOP: Final = ("Authorization: DPoP $TOKEN", "DPoP: a proof for this very request")
_AUTHORIZATION: Final = {
    "replace": "replaced by the token",
    "keep": "kept, and then no token is added",
    "reject": f"refused: {AuthorizationRefused.status} ({AuthorizationRefused.reason})",
}


def _wants(auth: model.ListenerAuth) -> str:
    if auth.proxy_password is not None:
        return "wants its password: 407 (proxy_auth_required) without it"
    if auth.header is not None:
        return f"wants its key in {auth.header}: 403 (key_refused) without it"
    return "wants a process of its peer_uids: 403 (peer_refused) for others"


def _tls(config: model.Route, host: str) -> str:
    if config.upstream_tls == "plain":
        return "plain http: whoever is on the way can read the token (upstream_tls: plain)"
    return f"over TLS, with a certificate for {host} from {config.ca_file or 'a CA that the system trusts'}"


def _without_token(config: model.Route, credential: model.Credential, limits: model.Limits) -> str:
    stale = f"for {credential.stale_for:g} s past its end the old one is used; then " if credential.stale_for else ""
    if config.on_failure == "open":
        return f"{stale}after {limits.token_wait:g} s at most it goes on without a token (on_failure: open)"
    return f"{stale}after {limits.token_wait:g} s at most the answer is 503 (token_unavailable) with Retry-After"


def _other_host(route: Route, host: str) -> str:
    if not route.suffix:
        return f"host: {host} is not {route.host}"
    if host == route.host:
        return f"host: *.{route.host} means names below {route.host}, not {host} itself"
    return f"host: {host} is not below {route.host}"


def _other_port(route: Route, scheme: str, port: int | None) -> str:
    if not route.tls and scheme == "https":
        return "port: the route is for plain http (upstream_tls: plain)"
    wanted = f"{DEFAULT_PORTS[scheme]}, which {scheme}:// means" if port is None else str(port)
    return f"port: the route has {route.port}, the URL {wanted}"
