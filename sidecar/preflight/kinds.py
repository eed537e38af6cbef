"""Every kind of finding that ``sidecar check`` can make: its id, how grave it is, what it means and what to do.

A closed set: ids are part of what pipelines rely on, and ``docs/reference/checks.md`` is written from this table. What
is found, and where, is decided by the lints and the other stages.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class Severity(enum.Enum):
    """How grave a finding is: an error makes the check fail, a warning does with ``--strict``, a note never does."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def counts(self) -> bool:
        """Whether it can make a check fail."""
        return self is not Severity.NOTE


class Stage(enum.Enum):
    """The stages in their order; each includes those before it."""

    OFFLINE = "offline"
    NETWORK = "network"
    LIVE = "live"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a kind.

    Args:
        stage: the one that finds it first.
        meaning: one clause, for the reference.
        remedy: what to do, unless the finding itself knows better.
        exit_code: of the command, for an error.
    """

    severity: Severity
    stage: Stage
    meaning: str
    remedy: str
    exit_code: int = 0


def _error(stage: Stage, exit_code: int, meaning: str, remedy: str) -> Facts:
    return Facts(Severity.ERROR, stage, meaning, remedy, exit_code)


def _warning(stage: Stage, meaning: str, remedy: str) -> Facts:
    return Facts(Severity.WARNING, stage, meaning, remedy)


def _note(stage: Stage, meaning: str, remedy: str) -> Facts:
    return Facts(Severity.NOTE, stage, meaning, remedy)


_OFF, _NET, _LIVE, _PROBE = Stage
_CONFIGURATION, _SECRET, _UNREACHABLE, _REFUSED, _UPSTREAM = 3, 4, 5, 6, 7
_WAY: Final = "check the way there: firewall, egress policy, proxy"
_TRUST: Final = "check ca_file, and whether something intercepts TLS on the way"
_CLOCK: Final = "have it renewed there; check this machine's clock"


class Kind(enum.Enum):
    """The kinds of findings, by stage."""

    # --- offline: what is written ---
    CONFIGURATION_INVALID = _error(
        _OFF, _CONFIGURATION, "the configuration cannot be used as it is", "correct what the message says"
    )
    ENVIRONMENT_MISMATCH = _warning(
        _OFF,
        "a host, a path or an audience names another environment than `environment`",
        "use the address of this environment, or correct `environment`",
    )
    ENVIRONMENT_UNKNOWN = _note(
        _OFF,
        "`environment` names none that is known, so nothing is held against it",
        "use a word such as production, staging, uat, development, test or sandbox in it",
    )
    ENVIRONMENTS_MIXED = _note(
        _OFF,
        "there is no `environment`, and addresses name different ones",
        "set `environment`: then every address that names another one is a warning",
    )
    REDIRECT_WILDCARD = _warning(
        _OFF,
        "redirect_uri has a wildcard; providers compare it character by character",
        "write the address as it is registered with the provider",
    )
    REDIRECT_TRAILING_SLASH = _note(
        _OFF, "redirect_uri ends in a slash, which counts when it is compared", "see that it is registered with it"
    )
    REDIRECT_UPPER_CASE = _note(
        _OFF,
        "redirect_uri has upper-case letters, which count when it is compared",
        "see that it is registered with the same letters",
    )
    REDIRECT_LOCALHOST = _warning(
        _OFF,
        "redirect_uri says localhost, to a provider another address than 127.0.0.1",
        "write 127.0.0.1 here and in the registration (RFC 8252 section 8.3)",
    )
    REDIRECT_DEFAULT_PORT = _note(
        _OFF,
        "redirect_uri names the default port of its scheme, which counts when it is compared",
        "leave the port out, unless it is registered with it",
    )
    REDIRECT_WITHOUT_PORT = _note(
        _OFF,
        "redirect_uri has no port, so `sidecar login` takes a free one, another each time",
        "give it a port that is registered, unless the provider takes any port of a loopback address",
    )
    REQUIRED_SCOPE_NOT_REQUESTED = _warning(
        _OFF,
        "a required scope is not among those that are asked for",
        "add it to `scopes`, or take it out of `required_scopes`",
    )
    SCOPE_DEFAULT_MIXED = _warning(
        _OFF,
        "a `.default` scope stands beside others, which Entra ID refuses",
        "leave the others out: `.default` stands for all that the application was granted",
    )
    SCOPE_TOO_BROAD = _warning(
        _OFF, "a scope allows far more than one workload needs", "ask for the scopes that the routes need"
    )
    UNUSED_CREDENTIAL = _warning(
        _OFF, "no route uses a credential", "take it out, or name it in a route: it asks for tokens that nobody uses"
    )
    UNUSED_GRANT = _note(
        _OFF,
        "the store has a refresh token, and the configuration no credential for it",
        "revoke it at the provider and delete the file, unless another configuration uses the store",
    )
    IDP_OVER_PLAIN_HTTP = _note(
        _OFF,
        "an IdP is spoken to over http, on this machine",
        "if it is a left-over of a trial, write the IdP's https address",
    )
    TOKEN_OVER_PLAIN_HTTP = _warning(
        _OFF,
        "the token travels to an upstream over http, readable by everybody on the way",
        "use upstream_tls: required, or keep the way within the machine",
    )
    KEY_OVER_PLAIN_HTTP = _warning(
        _OFF,
        "a listener's key, or the admin's, crosses the network over http",
        "bind loopback or a Unix socket",
    )
    LISTENER_BEYOND_LOOPBACK = _warning(
        _OFF,
        "a listener without `auth` is open to the network: whoever reaches it uses the tokens",
        "bind 127.0.0.1 or a Unix socket, or set `auth`",
    )
    ROUTE_FAILS_OPEN = _warning(
        _OFF,
        "requests go out without a token when there is none",
        "use on_failure: closed, unless the upstream is meant to answer them",
    )
    INLINE_SECRETS = _warning(
        _OFF,
        "secrets may be written into the configuration",
        "name secrets by file:, env: or cred:, and take allow_inline_secrets out",
    )
    SIMULATION_ENABLED = _warning(
        _OFF,
        "tokens can be expired on command",
        "take simulation.enabled out, but on a system that is made for rehearsals",
    )
    ROUTE_SHADOWED = _warning(
        _OFF,
        "a URL without a port never reaches a route, because another one of the same host comes first",
        "name the port in the app's URLs, or use a reverse listener",
    )
    ROUTE_FALLS_THROUGH = _warning(
        _OFF,
        "what a route leaves out goes to a wildcard route, and gets another credential",
        "cover the host's other paths and methods as well, or narrow the wildcard",
    )
    ROUTE_PATH_COVERED = _note(_OFF, "a path is covered by another one of the same route", "leave the longer one out")

    # --- offline: files ---
    SECRET_MISSING = _error(
        _OFF,
        _SECRET,
        "a secret cannot be read",
        "put it where the configuration says, readable for the sidecar's user",
    )
    SECRET_OPEN_TO_OTHERS = _warning(
        _OFF, "a secret file can be read or changed by every user of the machine", "chmod 600, or 640 with a group"
    )
    SECRET_BYTE_ORDER_MARK = _error(
        _OFF, _SECRET, "a secret begins with a byte order mark, which is sent along", "save it as UTF-8 without BOM"
    )
    SECRET_TRAILING_BLANK = _warning(
        _OFF,
        "a secret begins or ends with blanks or empty lines, which are sent along",
        "write it again without them: printf '%s' instead of echo",
    )
    SECRET_WINDOWS_LINE_ENDS = _note(
        _OFF,
        "a secret file has Windows line ends; the last one is taken off here, but perhaps not elsewhere",
        "save it with Unix line ends",
    )
    SECRET_SEVERAL_LINES = _warning(
        _OFF, "a secret that should be one word has several lines", "put the secret alone into the file"
    )
    SECRET_SHELL_SYNTAX = _error(
        _OFF,
        _SECRET,
        "in place of a secret there is a shell's assignment (export NAME=...)",
        "put the value alone there",
    )
    SECRET_IN_QUOTES = _warning(
        _OFF, "a secret stands in quotes, which are sent along", "take the quotes off, unless they belong to it"
    )
    MOUNTED_ALONE = _warning(
        _OFF,
        "a file is a mount of its own (subPath): its content never updates",
        "mount the volume as a folder, without subPath",
    )
    STORE_UNUSABLE = _error(
        _OFF,
        _CONFIGURATION,
        "the store of refresh tokens, or a grant in it, cannot be read",
        "correct the store's path, key or permissions, as the message says",
    )
    SECRET_TOO_OLD = _warning(
        _OFF,
        "a secret is older than secret_max_age",
        "put a new secret at the IdP and into its file; it is taken up without a restart",
    )
    CLIENT_CERTIFICATE_UNREADABLE = _error(
        _OFF, _CONFIGURATION, "a client certificate cannot be read", "put it there, in PEM form"
    )
    CLIENT_CERTIFICATE_EXPIRED = _error(
        _OFF, _CONFIGURATION, "a client certificate is not valid now", "put a new one there; check this machine's clock"
    )
    CLIENT_CERTIFICATE_ENDS_SOON = _warning(
        _OFF, "a client certificate expires within 30 days", "put a new one there; it is taken up without a restart"
    )
    CA_FILE_EXPIRED = _error(
        _OFF, _CONFIGURATION, "every certificate of a ca_file has expired", "put the CA's present certificates there"
    )
    LOCAL_CA_UNUSED = _warning(
        _OFF, "there is a local CA, and no route that uses it", "take the section `interception` out"
    )
    LOCAL_CA_UNCONSTRAINED = _warning(
        _OFF, "the local CA can sign for every host", "make one that cannot with `sidecar ca`"
    )
    LOCAL_CA_ENDS_SOON = _warning(
        _OFF,
        "the local CA expires within 30 days",
        "make one with `sidecar ca --force`, and bring it to the apps",
    )

    # --- network ---
    IDP_DNS = _error(
        _NET, _UNREACHABLE, "an IdP's name does not resolve", "check the host in token_url or issuer, and the resolver"
    )
    IDP_CONNECT = _error(_NET, _UNREACHABLE, "no connection to an IdP", f"check that it is up; {_WAY}")
    IDP_TIMEOUT = _error(_NET, _UNREACHABLE, "an IdP does not answer in time", _WAY)
    IDP_TLS = _error(_NET, _UNREACHABLE, "the TLS handshake with an IdP fails", _TRUST)
    IDP_CERTIFICATE_EXPIRED = _error(_NET, _UNREACHABLE, "an IdP's certificate has expired", _CLOCK)
    IDP_CERTIFICATE_NAME = _error(
        _NET, _UNREACHABLE, "an IdP's certificate is for another name", "check the host in the URL"
    )
    IDP_CERTIFICATE_UNTRUSTED = _error(_NET, _UNREACHABLE, "the CA of an IdP's certificate is not known", _TRUST)
    PLATFORM_UNREACHABLE = _warning(
        _NET,
        "a metadata address does not answer; only the platform itself has it",
        "run the check where the sidecar runs, or let it be",
    )
    UPSTREAM_DNS = _error(
        _NET, _UPSTREAM, "an upstream's name does not resolve", "check the route's host, and the resolver"
    )
    UPSTREAM_ADDRESS = _error(
        _NET,
        _UPSTREAM,
        "an upstream resolves only to addresses that are never upstreams",
        "check what the name resolves to: link-local and metadata addresses are refused",
    )
    UPSTREAM_CONNECT = _error(_NET, _UPSTREAM, "no connection to an upstream", f"check that it is up; {_WAY}")
    UPSTREAM_TIMEOUT = _error(_NET, _UPSTREAM, "an upstream does not answer in time", _WAY)
    UPSTREAM_TLS = _error(_NET, _UPSTREAM, "the TLS handshake with an upstream fails", _TRUST)
    UPSTREAM_CERTIFICATE_EXPIRED = _error(_NET, _UPSTREAM, "an upstream's certificate has expired", _CLOCK)
    UPSTREAM_CERTIFICATE_NAME = _error(
        _NET, _UPSTREAM, "an upstream's certificate is for another name", "check the route's host"
    )
    UPSTREAM_CERTIFICATE_UNTRUSTED = _error(_NET, _UPSTREAM, "the CA of an upstream's certificate is not known", _TRUST)
    SERVER_CERTIFICATE_ENDS_SOON = _warning(
        _NET, "the certificate of an IdP or an upstream expires within 7 days", "see that it is renewed there"
    )
    DISCOVERY_FAILED = _error(
        _NET, _UNREACHABLE, "an issuer's metadata cannot be had", "check `issuer`, or use token_url instead"
    )
    ISSUER_MISMATCH = _error(
        _NET,
        _CONFIGURATION,
        "the metadata names another issuer than the configuration",
        "write `issuer` exactly as the metadata does, with or without the slash at its end (RFC 8414 section 3.3)",
    )
    ENDPOINT_INSECURE = _error(
        _NET,
        _CONFIGURATION,
        "the metadata names an endpoint that is not https",
        "have it corrected at the IdP, or write the endpoint's https address into the configuration",
    )
    ENDPOINT_MISSING = _error(
        _NET,
        _CONFIGURATION,
        "the metadata does not name an endpoint that the grant needs",
        "write its address into the configuration, or use another grant",
    )
    GRANT_NOT_ADVERTISED = _note(
        _NET, "the metadata does not list the grant", "see whether the IdP allows it to this client"
    )
    CLIENT_AUTH_NOT_ADVERTISED = _note(
        _NET, "the metadata does not list the client authentication", "see which one the client is registered with"
    )
    CLOCK_SKEW = _warning(
        _NET, "the clocks of this machine and of an IdP differ by more than 60 s", "see to time synchronisation"
    )
    CLOCK_SKEW_LARGE = _error(
        _NET,
        _CONFIGURATION,
        "the clocks of this machine and of an IdP differ by more than 300 s: what is signed here is refused there",
        "see to time synchronisation",
    )
    OUT_OF_TIME = _error(
        _NET, _UNREACHABLE, "the time for the whole check was over before something was looked at", "raise --timeout"
    )

    # --- live ---
    INVALID_CLIENT = _error(
        _LIVE,
        _REFUSED,
        "the IdP does not accept the client's authentication",
        "check client_id, client_secret, client_auth and basic_encoding",
    )
    INVALID_GRANT = _error(
        _LIVE, _REFUSED, "the IdP does not accept the grant", "check the grant with the IdP; it may have been revoked"
    )
    INVALID_SCOPE = _error(
        _LIVE,
        _REFUSED,
        "the IdP did not grant the scopes that are needed",
        "check scopes and required_scopes against what the IdP grants this client",
    )
    UNAUTHORIZED_CLIENT = _error(
        _LIVE, _REFUSED, "the IdP does not allow this client the grant", "allow this client the grant at the IdP"
    )
    TOKEN_REFUSED = _error(
        _LIVE, _REFUSED, "the IdP refused the token request", "look the error code up in the IdP's documentation"
    )
    TOKEN_MALFORMED = _error(
        _LIVE,
        _UNREACHABLE,
        "what came is not a token that can be used",
        "check that token_url or issuer is right, and for a page that a middlebox puts in the way",
    )
    IDP_RATE_LIMITED = _error(
        _LIVE, _UNREACHABLE, "the IdP asks to be called less often", "wait; look for other clients of the same id"
    )
    IDP_SERVER_ERROR = _error(_LIVE, _UNREACHABLE, "the IdP failed", "see the IdP's status page")
    LOGIN_NEEDED = _error(
        _LIVE,
        _REFUSED,
        "the store has no grant for a credential, or one of another client or provider",
        "run `sidecar login`",
    )
    REFRESH_TOKEN_EXPIRED = _error(_LIVE, _REFUSED, "the stored refresh token has expired", "run `sidecar login`")
    REFRESH_TOKEN_ENDS_SOON = _warning(
        _LIVE,
        "the stored refresh token expires within 7 days",
        "let a sidecar use it, if it rotates, or run `sidecar login`",
    )
    REFRESH_TOKEN_IN_DOUBT = _warning(
        _LIVE,
        "the stored refresh token was sent, and no answer is known to have come",
        "start a sidecar, which tries it once more, or run `sidecar login`",
    )
    GRANT_OWNED = _note(
        _LIVE, "a process owns the stored grant, a running sidecar as a rule", "nothing: the check leaves it alone"
    )
    SCOPE_MISSING = _warning(
        _LIVE,
        "the token lacks required scopes, and is used all the same (on_scope_missing: degraded)",
        "have the IdP grant them to this client",
    )
    SCOPE_NOT_GRANTED = _note(
        _LIVE, "the IdP granted less than was asked for", "take the others out of `scopes`, or have them granted"
    )
    TOKEN_SHORT_LIVED = _warning(
        _LIVE,
        "the token lives for less than a minute, which leaves little time to renew it",
        "have the IdP issue longer ones to this client",
    )
    TOKEN_WITHOUT_EXPIRY = _warning(
        _LIVE, "the answer names no expiry, so default_ttl stands in", "set default_ttl to what the IdP documents"
    )
    STALE_LONGER_THAN_LIFE = _warning(
        _LIVE, "stale_for is longer than the token's life", "shorten stale_for: it is a grace, not a second life"
    )
    TOKEN_TYPE_MISSING = _note(
        _LIVE,
        "the answer names no token_type, so it is taken for Bearer",
        "nothing, if the upstream takes it; RFC 6749 section 5.1 wants it to be there",
    )
    AUDIENCE_DIFFERS = _note(
        _LIVE, "the token's `aud` is not the configured audience", "check `audience` against what the upstream expects"
    )
    ISSUER_DIFFERS = _note(
        _LIVE, "the token's `iss` is not the configured issuer", "check which issuer the upstream trusts"
    )

    # --- probe ---
    PROBE_REFUSED = _error(
        _PROBE,
        _UPSTREAM,
        "an upstream answers the probe with 401 or 403",
        "check audience and scopes against what the upstream expects",
    )
    PROBE_SERVER_ERROR = _error(_PROBE, _UPSTREAM, "an upstream answers the probe with 5xx", "look at the upstream")
    PROBE_FAILED = _error(_PROBE, _UPSTREAM, "an upstream does not answer the probe", _WAY)
    PROBE_NOT_FOUND = _note(
        _PROBE, "an upstream has nothing at the probe's path, which proves little", "probe what needs the token"
    )

    @property
    def id(self) -> str:
        """How it is called in every output: ``environment-mismatch``."""
        return self.name.lower().replace("_", "-")

    @property
    def facts(self) -> Facts:
        value: Facts = self.value
        return value
