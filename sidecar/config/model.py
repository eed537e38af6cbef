"""The typed configuration: every key of the contract with its type, default and limits; nothing is read here.

``load`` turns YAML into these structs and reports every error with its position; field names are the keys of the file.
Durations are seconds (float), sizes are bytes (int). A key whose feature does not exist yet stands in ``NOT_YET``: it
is modelled, documented and refused by name, never ignored.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from sidecar.secrets import SecretReference

LONGEST_SECONDS: Final = 366 * 86400.0
"""No deadline is longer than a year: whoever writes more has mixed up the units."""

Duration = Annotated[float, msgspec.Meta(gt=0.0, le=LONGEST_SECONDS, extra={"scalar": "duration"})]
"""Seconds; written ``500ms``, ``30s``, ``5m``, ``1h``, ``7d``."""
Pause = Annotated[float, msgspec.Meta(ge=0.0, le=LONGEST_SECONDS, extra={"scalar": "duration"})]
"""A duration that may be nothing: ``0s``."""
Grace = Annotated[float, msgspec.Meta(ge=0.0, le=3600.0, extra={"scalar": "duration"})]
"""How long a token is used past its expiry. An hour is the bound: beyond it the answer is another token life."""
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 30, extra={"scalar": "size"})]
"""Bytes; written ``512B``, ``64KiB``, ``1MiB``, ``1GiB``."""
HeadSize = Annotated[int, msgspec.Meta(ge=1024, le=1 << 20, extra={"scalar": "size"})]
"""Bytes of a head or a part of one: RFC 9112 section 3 wants 8000 octets of request line, browsers send more."""
Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
UserId = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 2)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/*\[\]-]{0,127}$", extra={"scalar": "name"})]
"""What may become a metric label and a log field."""
FilePath = Annotated[str, msgspec.Meta(min_length=1, max_length=4096, extra={"scalar": "path"})]
URL = Annotated[str, msgspec.Meta(max_length=2048, extra={"scalar": "url"})]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096, extra={"scalar": "text"})]
"""One line of visible text, without control characters."""
FormField = Annotated[str, msgspec.Meta(max_length=4096, extra={"scalar": "form_field"})]
"""A value in a token request; may hold whatever the IdP asks for, so it is never shown."""
Scope = Annotated[str, msgspec.Meta(extra={"scalar": "scope"})]
"""One scope-token (RFC 6749 section 3.3)."""
HostPattern = Annotated[str, msgspec.Meta(extra={"scalar": "host_pattern"})]
"""``api.example.com``, ``*.example.com``, or an IP address without brackets; lower case."""
HostName = Annotated[str, msgspec.Meta(extra={"scalar": "host"})]
URLPath = Annotated[str, msgspec.Meta(extra={"scalar": "url_path"})]
"""A path in its normal form, so that comparing it as a prefix is exact."""
Target = Annotated[str, msgspec.Meta(extra={"scalar": "target"})]
"""A path with an optional query."""
Method = Annotated[str, msgspec.Meta(extra={"scalar": "method"})]
FieldName = Annotated[str, msgspec.Meta(extra={"scalar": "field_name"})]


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every mapping in the file: frozen, keyword-only, no unknown keys."""


class Bind(Model, frozen=True, kw_only=True):
    """An address to listen on: ``host`` and ``port``, or a Unix socket's ``path`` with its ``mode`` and ``group``.

    Written ``127.0.0.1:6180``, ``[::]:6181``, ``unix:/run/sidecar/proxy.sock``, or, to set the socket's permissions,
    ``{unix: /run/sidecar/proxy.sock, mode: "0660", group: app}``.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    mode: int = 0o600
    group: str = ""

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ListenerAuth(Model, frozen=True, kw_only=True):
    """Who may use a listener: one of three forms, proxy_password, header with value, or peer_uids."""

    proxy_password: SecretReference | None = None
    header: FieldName | None = None
    value: SecretReference | None = None
    peer_uids: tuple[UserId, ...] = ()


class Listener(Model, frozen=True, kw_only=True):
    """One socket the app talks to."""

    name: Name
    mode: Literal["forward", "reverse"] = "forward"
    bind: Bind
    auth: ListenerAuth | Literal["none"] = "none"
    beyond_loopback: bool = False
    upstream: URL | None = None
    hosts: tuple[HostName, ...] = ()
    trust_forwarded: bool = False


class Telemetry(Model, frozen=True, kw_only=True):
    """Where ``/metrics``, ``/livez``, ``/readyz`` and ``/startupz`` are answered."""

    bind: Bind = Bind(host="127.0.0.1", port=6181)


class Admin(Model, frozen=True, kw_only=True):
    """The admin API; without a token it is read-only."""

    bind: Bind = Bind(host="127.0.0.1", port=6182)
    token: SecretReference | None = None


class Refresh(Model, frozen=True, kw_only=True):
    """When a token is renewed, as a fraction of its lifetime: between ``at - jitter`` and ``at + jitter``."""

    at: Fraction = 0.75
    jitter: Fraction = 0.1


Grant = Literal[
    "client_credentials",
    "refresh_token",
    "authorization_code",
    "device_code",
    "jwt_bearer",
    "token_exchange",
    "workload",
    "exec",
    "static",
]
ClientAuth = Literal[
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
    "federated",
    "none",
]
NEEDS_LOGIN: Final = frozenset({"refresh_token", "authorization_code", "device_code"})
"""Grants that rest on a person's consent: what remains of it is kept in the store, and ``invalid_grant`` means that it
is gone."""
BY_CONSENT: Final = ("authorization_code", "device_code")
"""Those of them that ``sidecar login`` and the status page begin."""
CERTIFICATE_AUTHS: Final = frozenset({"tls_client_auth", "self_signed_tls_client_auth"})
"""Client authentications that the TLS handshake makes (RFC 8705 section 2)."""
Algorithm = Literal[
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "HS256",
    "HS384",
    "HS512",
]
Parameter = FormField | tuple[FormField, ...]
ErrorClass = Literal["invalid_client", "invalid_grant", "invalid_scope", "unauthorized_client", "refused", "transient"]


class Dialect(Model, frozen=True, kw_only=True):
    """Where a token endpoint departs from RFC 6749; a preset fills it in."""

    method: Literal["POST", "GET"] = "POST"
    body: Literal["form", "json"] = "form"
    headers: dict[FieldName, FormField] = {}
    integers: tuple[Text, ...] = ()
    subject_field: FieldName = "Authorization"
    scope_in: Literal["request", "assertion"] = "request"
    own_subject: bool = True
    first_scopes: tuple[Scope, ...] = ()
    refresh_with: tuple[Literal["scope", "audience", "redirect_uri"], ...] = ("scope", "audience")
    scope_separator: Literal["space", "comma"] = "space"
    token_field: Text = "access_token"
    token_types: tuple[Text, ...] = ()
    errors: dict[Text, ErrorClass] = {}
    rotation_grace: Pause = 30.0
    unauthorized: Literal["invalid_token", "any"] = "invalid_token"


class Credential(Model, frozen=True, kw_only=True):
    """One token and how it is come by."""

    provider: Text | None = None
    provider_params: dict[Text, Text] = {}
    grant: Grant | None = None
    token_url: URL | None = None
    issuer: URL | None = None
    client_id: Text | None = None
    client_secret: SecretReference | None = None
    client_auth: ClientAuth | None = None
    basic_encoding: Literal["rfc6749", "raw"] = "rfc6749"
    scopes: tuple[Scope, ...] = ()
    required_scopes: tuple[Scope, ...] = ()
    on_scope_missing: Literal["closed", "degraded"] = "closed"
    token_issuer: Text | None = None
    audience: Text | None = None
    token_params: dict[Text, Parameter] = {}
    ca_file: FilePath | None = None
    refresh: Refresh = Refresh()
    default_ttl: Duration = 300.0
    stale_for: Grace = 0.0
    required_for_ready: bool = False
    token_file: FilePath | None = None
    token: SecretReference | None = None
    private_key: SecretReference | None = None
    key_id: Text | None = None
    assertion_audience: Text | None = None
    assertion_algorithm: Algorithm | None = None
    assertion_subject: Text | None = None
    assertion_claims: dict[Text, Parameter] = {}
    certificate: FilePath | None = None
    certificate_key: SecretReference | None = None
    assertion_file: FilePath | None = None
    assertion: SecretReference | None = None
    subject_token: SecretReference | None = None
    subject_token_type: Text = "urn:ietf:params:oauth:token-type:jwt"
    actor_token: SecretReference | None = None
    actor_token_type: Text = "urn:ietf:params:oauth:token-type:jwt"
    impersonation_url: URL | None = None
    authorization_url: URL | None = None
    device_authorization_url: URL | None = None
    revocation_url: URL | None = None
    redirect_uri: URL | None = None
    refresh_token: SecretReference | None = None
    dpop: bool = False
    command: tuple[Text, ...] = ()
    secret_max_age: Duration | None = None
    dialect: Dialect = Dialect()


class Route(Model, frozen=True, kw_only=True):
    """Which requests get which credential, and how they leave."""

    name: Name | None = None
    host: HostPattern
    port: Port | None = None
    paths: tuple[URLPath, ...] = ("/",)
    methods: tuple[Method, ...] = ()
    credential: Name
    if_present: Literal["replace", "keep", "reject"] = "replace"
    upstream_tls: Literal["required", "plain"] = "required"
    ca_file: FilePath | None = None
    intercept: bool = False
    on_failure: Literal["closed", "open"] = "closed"
    probe: Target | None = None

    @property
    def upstream_port(self) -> int:
        """The port as configured, else 443, with ``upstream_tls: plain`` 80."""
        if self.port is not None:
            return self.port
        return 443 if self.upstream_tls == "required" else 80

    @property
    def label(self) -> str:
        """The metric label: the name, else ``host:port`` plus the first path."""
        if self.name is not None:
            return self.name
        path = self.paths[0]
        return f"{self.host}:{self.upstream_port}{'' if path == '/' else path}"


class Interception(Model, frozen=True, kw_only=True):
    """The local CA that opens the tunnels of routes with ``intercept: true``."""

    certificate: FilePath
    key: SecretReference


class Store(Model, frozen=True, kw_only=True):
    """Where refresh tokens survive a restart, encrypted."""

    path: FilePath
    key: SecretReference


class Simulation(Model, frozen=True, kw_only=True):
    """Tokens expired on command by the admin API; off in production."""

    enabled: bool = False


class Limits(Model, frozen=True, kw_only=True):
    """Every limit and deadline of the process."""

    head: HeadSize = 64 * 1024
    fields: Count = 128
    target: HeadSize = 8 * 1024
    head_timeout: Duration = 10.0
    body_idle: Duration = 60.0
    connect: Duration = 5.0
    first_byte: Duration = 60.0
    response_idle: Duration = 300.0
    client_idle: Duration = 60.0
    upstream_idle: Duration = 15.0
    tunnel_idle: Duration = 3600.0
    token_wait: Pause = 5.0
    token_request: Duration = 10.0
    replay_body: Size = 64 * 1024
    body: Size = 0
    connections: Count = 1024
    upstream_connections: Count = 256
    pending: Count = 1024
    dns_ttl: Pause = 5.0
    drain: Pause = 25.0


class Log(Model, frozen=True, kw_only=True):
    """What is written to standard error (events) and standard output (the access log)."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    access: bool = False


class Tracing(Model, frozen=True, kw_only=True):
    """Spans for OpenTelemetry; everything else about them is said by its own variables, ``OTEL_...``."""

    enabled: bool = False


class Configuration(Model, frozen=True, kw_only=True):
    """The whole file."""

    listeners: tuple[Listener, ...]
    telemetry: Telemetry = Telemetry()
    admin: Admin | None = None
    credentials: dict[Name, Credential] = {}
    routes: tuple[Route, ...] = ()
    unmatched: Literal["deny", "forward"] = "deny"
    interception: Interception | None = None
    store: Store | None = None
    environment: Text | None = None
    simulation: Simulation = Simulation()
    limits: Limits = Limits()
    log: Log = Log()
    tracing: Tracing = Tracing()
    allow_inline_secrets: bool = False


NOT_YET: Final[dict[str, tuple[str, ...]]] = {
    # Path of a key, "*" for any name or index -> the values refused; () refuses the key whatever its value.
}
"""Keys whose feature does not exist yet. A value equal to the default (``dpop: false``) asks for nothing: accepted."""
