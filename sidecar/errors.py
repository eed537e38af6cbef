"""Every error of the product: one tree, and each leaf answers the same five questions.

``reason``     one word of a closed set; the same word in the answer to the app, the log line and the metric label
``fault``      whose fault it is: who has to act
``retryable``  whether the same thing tried again may work
``status``     the HTTP status of the sidecar's own answer (RFC 9110 section 15); 0 where it never becomes an answer
``exit_code``  what ``sidecar`` exits with when the error ends the process; 0 where it never does

Foreign exceptions are translated into these at the seam where they appear, ``from exc``. ``detail`` goes to the app and
the log as it stands, so it never holds a secret, a token, or bytes an attacker chose without a bound.
"""

from __future__ import annotations

import enum
from typing import ClassVar


class Fault(enum.Enum):
    """Who has to act on an error."""

    CLIENT = "client"
    OPERATOR = "operator"
    IDP = "idp"
    UPSTREAM = "upstream"
    SIDECAR = "sidecar"


class SidecarError(Exception):
    """Root of the tree; only leaves are raised.

    Args:
        detail: one sentence for the person who reads it; never secret.
        retry_after_seconds: how long to wait before the same thing is worth trying again, if known.
    """

    reason: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    fault: ClassVar[Fault] = Fault.SIDECAR
    retryable: ClassVar[bool] = False
    status: ClassVar[int] = 0
    exit_code: ClassVar[int] = 0

    def __init__(self, detail: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


# --- the client's request cannot be served -------------------------------------------------------------------------


class ClientError(SidecarError):
    """The app, or whoever speaks to the listener, sent something that is refused."""

    fault = Fault.CLIENT


class BadRequest(ClientError):
    reason, title, status = "bad_request", "The request is not valid HTTP/1.1", 400


class HeadTimeout(ClientError):
    reason, title, status, retryable = "head_timeout", "The request head took too long", 408, True


class BodyTimeout(ClientError):
    reason, title, status, retryable = "body_timeout", "The request body stopped arriving", 408, True


class ContentTooLarge(ClientError):
    reason, title, status = "content_too_large", "The request body is over the limit", 413


class TargetTooLong(ClientError):
    reason, title, status = "target_too_long", "The request target is over the limit", 414


class ExpectationFailed(ClientError):
    reason, title, status = "expectation_failed", "Only Expect: 100-continue is known", 417


class HeadTooLarge(ClientError):
    reason, title, status = "head_too_large", "The request head is over the limit", 431


class MethodUnknown(ClientError):
    reason, title, status = "method_unknown", "The method is not known", 501


class CodingUnknown(ClientError):
    reason, title, status = "coding_unknown", "The transfer coding is not known", 501


class VersionUnsupported(ClientError):
    reason, title, status = "version_unsupported", "Only HTTP/1.0 and HTTP/1.1 are spoken here", 505


class HandshakeFailed(ClientError):
    """Inside an intercepted CONNECT: what stands for an answer is a TLS alert, so the status is only logged."""

    reason, title, status = "handshake", "The client and the sidecar did not agree on TLS", 400


# --- the configuration, not the syntax, says no ---------------------------------------------------------------------


class Denied(SidecarError):
    """A well-formed request that the configuration does not allow (the ``denied_requests_total`` family)."""

    fault = Fault.OPERATOR
    status = 403
    is_attempt = True
    """False: nothing was tried, a client only asked what it has to bring."""


class TargetUnmatched(Denied):
    reason, title = "target_unmatched", "No route matches this host and port"


class RouteMismatch(Denied):
    reason, title = "route_mismatch", "The host has a route, but not for this path or method"


class AuthorizationRefused(Denied):
    reason, title = "authorization_refused", "The route refuses requests that bring their own Authorization"
    fault = Fault.CLIENT


class HostUnknown(Denied):
    reason, title = "host_unknown", "The listener does not answer to this Host"
    fault = Fault.CLIENT


class OriginForeign(Denied):
    reason, title = "origin_foreign", "A web page of another site may not use the listener"
    fault = Fault.CLIENT


class ProxyAuthRequired(Denied):
    reason, title, status = "proxy_auth_required", "The proxy wants its password", 407
    fault = Fault.CLIENT

    def __init__(self, detail: str, *, is_attempt: bool = False) -> None:
        super().__init__(detail)
        self.is_attempt = is_attempt


class KeyRefused(Denied):
    reason, title = "key_refused", "The listener wants its key"
    fault = Fault.CLIENT


class PeerRefused(Denied):
    reason, title = "peer_refused", "Processes of this user may not use the socket"


class AddressDenied(Denied):
    reason, title = "address_denied", "The host resolves to an address that is never an upstream"


class TunnelDenied(Denied):
    reason, title = "tunnel_denied", "No tunnel may be opened to this host and port"


class SNIMismatch(Denied):
    """Inside an intercepted CONNECT: the answer is a TLS alert, so the status is only logged."""

    reason, title = "sni_mismatch", "The TLS handshake inside a CONNECT names another host"
    fault = Fault.CLIENT


class LoopDetected(Denied):
    reason, title, status = "loop_detected", "The request came through this sidecar before", 508


# --- the admin listener's own refusals: no app is answered with these ------------------------------------------------


class AdminError(SidecarError):
    """A request to the admin listener that is not served."""

    fault = Fault.CLIENT


class AdminTokenRefused(AdminError):
    reason, title, status = "admin_token_refused", "The admin API wants its token", 401


class AdminReadOnly(AdminError):
    reason, title, status = "admin_read_only", "The admin API has no token to check, so it is read-only", 403
    fault = Fault.OPERATOR


class TokenBound(AdminError):
    reason, title, status = "token_bound", "The token is of no use without a key that stays in the sidecar", 403
    fault = Fault.OPERATOR


class LoginFailed(AdminError):
    """The detail says what the provider, or the way to it, answered."""

    reason, title, status, retryable = "login_failed", "The login could not begin", 502, True
    fault = Fault.IDP


class NotFound(AdminError):
    reason, title, status = "not_found", "There is nothing at this address", 404


class MethodNotAllowed(AdminError):
    """Knows the right ones: a 405 has to say them (RFC 9110 section 15.5.6)."""

    reason, title, status = "method_not_allowed", "The method is not for this address", 405

    def __init__(self, *allowed: str) -> None:
        self.allowed = ", ".join(allowed)
        super().__init__(f"this address takes {self.allowed}")


# --- the sidecar cannot serve now ------------------------------------------------------------------------------------


class TokenUnavailable(SidecarError):
    """No usable token: fail closed with 503 and Retry-After, never 401 (that would start the app's own OAuth)."""

    reason, title, status, retryable = "token_unavailable", "No valid token is available now", 503, True
    fault = Fault.IDP


class Overloaded(SidecarError):
    reason, title, status, retryable = "overloaded", "A limit of the sidecar is reached", 503, True


class InternalError(SidecarError):
    reason, title, status = "internal", "Unexpected error in the sidecar", 500


# --- the upstream failed: the words of upstream_errors_total ---------------------------------------------------------


class UpstreamError(SidecarError):
    """The upstream could not be reached or broke; 502, or 504 where time ran out (RFC 9110 sections 15.6.3, 15.6.5)."""

    fault = Fault.UPSTREAM
    retryable = True
    status = 502


class UpstreamDNS(UpstreamError):
    reason, title = "dns", "The upstream's name does not resolve"


class UpstreamConnect(UpstreamError):
    reason, title = "connect", "The upstream refused the connection"


class UpstreamTLS(UpstreamError):
    reason, title, retryable = "tls", "The upstream's TLS could not be verified", False


class UpstreamTimeout(UpstreamError):
    reason, title, status = "timeout", "The upstream took too long", 504


class UpstreamReset(UpstreamError):
    reason, title = "reset", "The upstream closed the connection early"


class UpstreamProtocol(UpstreamError):
    reason, title, retryable = "protocol", "The upstream's answer is not valid HTTP/1.1", False


# --- a token request failed: the words of token_requests_total -------------------------------------------------------


class TokenRequestError(SidecarError):
    """A token request that gave no token.

    Args:
        detail: one sentence, without anything the IdP sent but its error code.
        retry_after_seconds: the IdP's own hint (Retry-After), in seconds.
        oauth_error: the ``error`` code as sent (RFC 6749 section 5.2), if one could be parsed.
        http_status: the IdP's HTTP status, if it answered.
        sent: False says that the token request never left, so that nothing it carries is spent.
    """

    fault = Fault.IDP
    terminal: ClassVar[bool] = False
    """True: only a change of configuration, secret or consent can help; probed slowly, never given up."""

    def __init__(
        self,
        detail: str,
        *,
        retry_after_seconds: float | None = None,
        oauth_error: str | None = None,
        http_status: int | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)
        self.oauth_error = oauth_error
        self.http_status = http_status
        self.sent = sent
        self.successor: object = None
        """What the answer brought all the same: an ``oauth.token.Successor``, or nothing."""


class TerminalTokenError(TokenRequestError):
    """The IdP said no in words that a retry will not change: an error code it put into a parsed OAuth answer."""

    fault = Fault.OPERATOR
    terminal = True
    exit_code = 6


class InvalidClient(TerminalTokenError):
    reason, title = "invalid_client", "The IdP does not accept the client's authentication"


class InvalidGrant(TerminalTokenError):
    reason, title = "invalid_grant", "The IdP does not accept the grant"


class InvalidScope(TerminalTokenError):
    reason, title = "invalid_scope", "The IdP did not grant the scopes that are needed"


class UnauthorizedClient(TerminalTokenError):
    reason, title = "unauthorized_client", "The IdP does not allow this client the grant"


class TokenRefused(TerminalTokenError):
    """Any other OAuth error code, or a local reason that no retry changes (a secret file that is gone is retried)."""

    reason, title = "refused", "The IdP refused the token request"


class TransientTokenError(TokenRequestError):
    """Worth trying again: the network, an overloaded IdP, a middlebox's page instead of an answer."""

    retryable = True
    exit_code = 5


class RateLimited(TransientTokenError):
    reason, title = "rate_limited", "The IdP asks to be called less often"


class ServerError(TransientTokenError):
    reason, title = "server_error", "The IdP failed"


class TokenTimeout(TransientTokenError):
    reason, title = "timeout", "The IdP took too long"


class TokenDNS(TransientTokenError):
    reason, title = "dns", "The IdP's name does not resolve"


class TokenConnect(TransientTokenError):
    reason, title = "connect", "The IdP could not be reached"


class TokenTLS(TransientTokenError):
    reason, title = "tls", "The IdP's TLS could not be verified"


class TokenMalformed(TransientTokenError):
    reason, title = "malformed", "The IdP's answer is not a token"


# --- the process cannot start or go on -------------------------------------------------------------------------------


class StartupError(SidecarError):
    """Ends a command with one clear message and the contract's exit code."""

    fault = Fault.OPERATOR


class UsageError(StartupError):
    reason, title, exit_code = "usage", "Wrong use of the command", 2


class ConfigurationInvalid(StartupError):
    reason, title, exit_code = "configuration_invalid", "The configuration is not valid", 3


class SecretMissing(StartupError):
    reason, title, exit_code = "secret_missing", "A secret cannot be read", 4


class StoreUnusable(StartupError):
    reason, title, exit_code = "store_unusable", "The store of refresh tokens cannot be used", 3


class StoreLocked(StartupError):
    """Another sidecar owns the grant: a refresh token has one owner."""

    reason, title, exit_code, retryable = "store_locked", "Another process owns the refresh token", 8, True


class LoginNeeded(StartupError):
    """No request was sent, or none that could help: the consent of a person is not there, or its last refresh token is
    spent."""

    reason, title, exit_code = "login_needed", "Somebody has to log in", 6


class CannotBind(StartupError):
    reason, title, exit_code = "cannot_bind", "A listener cannot be opened", 8


def leaves(root: type[SidecarError] = SidecarError) -> list[type[SidecarError]]:
    """Every leaf below ``root``, in the order of this file: the closed set of reasons, for tables and tests."""
    children = root.__subclasses__()
    if not children:
        return [root]
    return [leaf for child in children for leaf in leaves(child)]
