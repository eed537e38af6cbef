"""A person's one-time consent: by authorization code with PKCE, or by a code typed on another device.

Decides what is asked, which answer of a browser belongs to a login, and when a device's code is asked for again. Sends
nothing, listens nowhere and sleeps never; the answer with the tokens in it is for ``token``.

Authorization code (RFC 6749 section 4.1): always with PKCE S256 (RFC 7636), a state that serves once, the redirect URI
byte for byte in both requests, and the issuer compared where it is told (RFC 9207). What does not hold the state is
none of ours, whoever sent it (``BadRequest``), and changes nothing; what holds it is the only answer there will be.

Device code (RFC 8628): codes and addresses are shown in a terminal, so they are visible ASCII or refused. Google calls
the address ``verification_url`` and says ``authorization_pending`` with 428; GitHub sends errors with 200.
"""

from __future__ import annotations

import hmac
import math
import re
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from sidecar.config.hosts import is_loopback
from sidecar.errors import (
    BadRequest,
    ConfigurationInvalid,
    InvalidScope,
    LoginNeeded,
    ServerError,
    TokenMalformed,
    TokenRefused,
    TokenRequestError,
    TransientTokenError,
    UnauthorizedClient,
)
from sidecar.oauth.answer import error_code, json_object, passing_status, retry_hint
from sidecar.oauth.grants import asked, scope_of
from sidecar.oauth.token import Expected, parse
from sidecar.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.config.model import Credential
    from sidecar.oauth.answer import Answer
    from sidecar.oauth.grants import Fields

RANDOM_BYTES: Final = 32
"""256 bit, which RFC 7636 section 7.1 wants of a verifier."""
MAX_CODE_CHARACTERS: Final = 4096
MAX_PARAMETERS: Final = 64
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
DEFAULT_INTERVAL_SECONDS: Final = 5.0  # RFC 8628 section 3.2
SLOW_DOWN_SECONDS: Final = 5.0  # RFC 8628 section 3.5
SLOWEST_SECONDS: Final = 60.0
"""Backing off goes no further: a code lives for a quarter of an hour, and a person is waiting."""
CODE_LIFETIME_SECONDS: Final = 900.0
"""Where the answer does not say how long its code lives, which it must: what most servers give."""

# RFC 6749 appendix A.11 would allow a space, too; one that arrives was a "+" that the server forgot to encode.
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_USER_CODE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,62}[\x21-\x7e])?")
_SET_BY_US: Final = frozenset(
    {
        *("response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method"),
        *("audience", "resource"),
    }
)
_CALLBACK_ERRORS: Final[Mapping[str, type[TokenRequestError]]] = {
    "invalid_scope": InvalidScope,
    "unauthorized_client": UnauthorizedClient,
    "server_error": ServerError,
    "temporarily_unavailable": ServerError,
}
_DECLINED: Final = frozenset({"access_denied", "authorization_declined"})  # the second is Entra's


# --- authorization code ----------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False, kw_only=True)
class Login:
    """One attempt to get a person's consent; it takes one answer.

    Args:
        redirect_uri: where the browser is sent back to, exactly as it is asked for.
        verifier: RFC 7636 section 4.1.
        state: tells the answer to this attempt from everything else (RFC 6749 section 10.12).
        answered: an answer with the state has come; there is no second one.
    """

    redirect_uri: str
    verifier: Secret
    state: Secret
    answered: bool = False

    @classmethod
    def begin(cls, redirect_uri: str) -> Login:
        """A new attempt, with a verifier and a state of its own."""
        verifier, state = (Secret(secrets.token_urlsafe(RANDOM_BYTES)) for _ in range(2))
        return cls(redirect_uri=redirect_uri, verifier=verifier, state=state)


def authorization_url(endpoint: str, login: Login, credential: Credential) -> str:
    """Where the person's browser is sent (RFC 6749 section 4.1.1, RFC 7636 section 4.3).

    Of ``token_params`` only ``resource`` (RFC 8707 section 2) goes there: others may not be for everybody's eyes.

    Args:
        endpoint: the authorization endpoint; its query is kept (RFC 6749 section 3.1), which is the place for what
            only one provider knows: ``access_type=offline``.

    Raises:
        ConfigurationInvalid: the endpoint's query holds a parameter that is set here.
    """
    for name, _ in parse_qsl(urlsplit(endpoint).query, keep_blank_values=True):
        if name in _SET_BY_US:
            raise ConfigurationInvalid(f"authorization_url sets '{name}', which the login sets itself: take it out")
    url: str = prepare_grant_uri(
        endpoint,
        credential.client_id or "",
        "code",
        redirect_uri=login.redirect_uri,
        scope=scope_of(credential),
        state=login.state.reveal(),
        code_challenge=create_s256_code_challenge(login.verifier.reveal()),
        code_challenge_method="S256",
        audience=credential.audience,
        resource=[value for name, value in asked(credential) if name == "resource"],
    )
    return url


def check_callback(query: str, login: Login, *, issuer: str | None, iss_required: bool) -> Secret:
    """The code in what a browser brought back (RFC 6749 section 4.1.2).

    Args:
        query: of the request's target, as it came.
        issuer: the authorization server's, if it is known.
        iss_required: its metadata say ``authorization_response_iss_parameter_supported`` (RFC 9207 section 3).

    Raises:
        BadRequest: it does not belong to this login, which goes on.
        TokenRequestError: it does, and there is no code in it, for the leaf's reason: the login has ended.
    """
    parameters = _parameters(query)
    _claim(parameters, login)
    if any(len(values) > 1 for values in parameters.values()):  # RFC 6749 section 3.1
        raise TokenRefused("the authorization server's answer repeats a parameter")
    said = {name: values[0] for name, values in parameters.items()}
    _check_issuer(said.get("iss"), issuer, required=iss_required)
    if "error" in said:
        raise _callback_error(said["error"])
    code = said.get("code", "")
    if not _is_visible(code):
        raise TokenRefused("the authorization server's answer holds no code that can be used")
    return Secret(code)


def _parameters(query: str) -> dict[str, list[str]]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise BadRequest("too many parameters") from None
    parameters: dict[str, list[str]] = {}
    for name, value in pairs:
        parameters.setdefault(name, []).append(value)
    return parameters


def _claim(parameters: Mapping[str, list[str]], login: Login) -> None:
    """See that this is the answer that was waited for, the first with its state."""
    states = parameters.get("state", [])
    if len(states) != 1 or not hmac.compare_digest(states[0].encode(), login.state.reveal().encode()):
        raise BadRequest("this is not the answer to the login that is under way")
    if login.answered:
        raise BadRequest("this login has had its answer already")
    login.answered = True


def _check_issuer(iss: str | None, issuer: str | None, *, required: bool) -> None:
    # RFC 9207 section 2.4: compared as strings, without any normalisation; otherwise one server's code could be sent
    # to another one's token endpoint.
    if iss is None and required:
        raise TokenRefused("the answer does not say which issuer it is from, although the issuer's answers do")
    if iss is not None and issuer is not None and iss != issuer:
        raise TokenRefused("the answer is from another issuer than the configured one")


def _callback_error(said: str) -> TokenRequestError:
    code = error_code({"error": said})
    if code is None:
        return TokenRefused("the authorization server answered with an error")
    if code in _DECLINED:
        return TokenRefused(f"consent was not given ({code})", oauth_error=code)
    kind = _CALLBACK_ERRORS.get(code, TokenRefused)
    return kind(f"the authorization server answered {code}", oauth_error=code)


def code_fields(login: Login, code: Secret, credential: Credential) -> Fields:
    """The grant's part of the token request (RFC 6749 section 4.1.3, RFC 7636 section 4.5)."""
    return [
        ("grant_type", "authorization_code"),
        ("code", code.reveal()),
        ("redirect_uri", login.redirect_uri),
        ("code_verifier", login.verifier.reveal()),
        *asked(credential, with_scope=False, with_audience=False),
    ]


# --- device code -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode:
    """What a person is shown, and what the token is asked for with (RFC 8628 section 3.2).

    Args:
        complete_uri: the address with the user code in it already, if there is one.
        expires_in: seconds from the request.
        interval: seconds between two polls.
    """

    device_code: Secret
    user_code: str
    verification_uri: str
    complete_uri: str | None
    expires_in: float
    interval: float


def device_fields(credential: Credential) -> Fields:
    """The device authorization request (RFC 8628 section 3.1), the client's part aside."""
    return asked(credential)


def parse_device_answer(answer: Answer) -> DeviceCode:
    """The codes in an answer of a device authorization endpoint.

    Raises:
        TokenRequestError: there are none, for the leaf's reason.
    """
    if (error := _failure(answer)) is not None:
        raise error
    fields = json_object(answer.body) or {}
    device_code, user_code = fields.get("device_code"), fields.get("user_code")
    if not isinstance(device_code, str) or not _is_visible(device_code):
        raise _malformed(answer, "device_code")
    if not isinstance(user_code, str) or not _USER_CODE.fullmatch(user_code):
        raise _malformed(answer, "user_code")
    uri = _shown_url(fields.get("verification_uri") or fields.get("verification_url"))
    if uri is None:
        raise _malformed(answer, "verification_uri")
    return DeviceCode(
        device_code=Secret(device_code),
        user_code=user_code,
        verification_uri=uri,
        complete_uri=_shown_url(fields.get("verification_uri_complete")),
        expires_in=_seconds(fields.get("expires_in")) or CODE_LIFETIME_SECONDS,
        interval=_seconds(fields.get("interval")) or DEFAULT_INTERVAL_SECONDS,
    )


def device_token_fields(device: DeviceCode, credential: Credential) -> Fields:
    """The grant's part of the token request (RFC 8628 section 3.4)."""
    return [
        ("grant_type", DEVICE_GRANT),
        ("device_code", device.device_code.reveal()),
        *asked(credential, with_scope=False, with_audience=False),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Polling:
    """When the token is asked for; instants on ``Clock.now()``.

    Args:
        interval: seconds between the end of one poll and the next one; it never gets shorter.
        next_at: the next poll.
        ends_at: the code's end, or the person's patience: no poll is made then.
    """

    interval: float
    next_at: float
    ends_at: float

    @classmethod
    def begin(cls, device: DeviceCode, *, now: float, patience: float = math.inf) -> Polling:
        """Before the first poll of a code that has just come in; ``patience`` in seconds is the person's."""
        first = cls(interval=device.interval, next_at=now, ends_at=now + min(patience, device.expires_in))
        return _again(first, now=now)


def after_poll(polling: Polling, outcome: Answer | TransientTokenError, *, now: float) -> Polling | None:
    """What follows a poll (RFC 8628 section 3.5): the next one, or None if the answer is the last one, for ``token``.

    Raises:
        LoginNeeded: there is no time left for another poll.
        TokenRefused: the person said no.
    """
    if isinstance(outcome, TransientTokenError):
        return _backed_off(polling, outcome.retry_after_seconds, now=now)
    fields = json_object(outcome.body) or {}
    match error_code(fields):
        case "authorization_pending":
            return _again(polling, now=now)
        case "slow_down":
            told = _seconds(fields.get("interval"))
            longer = max(told, polling.interval) if told else polling.interval + SLOW_DOWN_SECONDS
            return _again(replace(polling, interval=longer), now=now)
        case "expired_token":
            raise _too_late()
        case str(code) if code in _DECLINED:
            raise TokenRefused(f"consent was not given ({code})", oauth_error=code, http_status=outcome.status)
        case _ if passing_status(outcome.status) is not None:
            return _backed_off(polling, retry_hint(outcome), now=now)
        case _:
            return None


def _again(polling: Polling, *, now: float, wait: float = 0.0) -> Polling:
    next_at = now + max(polling.interval, wait)
    if next_at >= polling.ends_at:
        raise _too_late()
    return replace(polling, next_at=next_at)


def _backed_off(polling: Polling, hint: float | None, *, now: float) -> Polling:
    # RFC 8628 section 3.5: after a connection timeout the frequency must be reduced, doubling is what it suggests.
    longer = max(polling.interval, min(2 * polling.interval, SLOWEST_SECONDS))
    return _again(replace(polling, interval=longer), now=now, wait=min(hint or 0.0, SLOWEST_SECONDS))


def _too_late() -> LoginNeeded:
    return LoginNeeded("consent was not given in time: start the login again")


# --- revocation ------------------------------------------------------------------------------------------------------


def revocation_fields(refresh_token: Secret) -> Fields:
    """RFC 7009 section 2.1, the client's part aside."""
    return [("token", refresh_token.reveal()), ("token_type_hint", "refresh_token")]


def check_revoked(answer: Answer) -> None:
    """See that the token is of no use any more; one that the server does not know is none either (section 2.2).

    Raises:
        TokenRequestError: the server did not revoke it, for the leaf's reason.
    """
    if (error := _failure(answer)) is not None:
        raise error


# --- what requests and answers have in common ------------------------------------------------------------------------


def _failure(answer: Answer) -> TokenRequestError | None:
    """The error in an answer that would not hold an access token if all were well; None if there is none."""
    if 200 <= answer.status <= 299 and "error" not in (json_object(answer.body) or {}):
        return None
    try:
        parse(answer, Expected())
    except TokenRequestError as exc:
        return exc
    return TokenMalformed(f"HTTP {answer.status} with an error that is none", http_status=answer.status)


def _malformed(answer: Answer, name: str) -> TokenMalformed:
    return TokenMalformed(f"HTTP {answer.status} without a usable {name}", http_status=answer.status)


def _is_visible(text: str) -> bool:
    return len(text) <= MAX_CODE_CHARACTERS and _VISIBLE.fullmatch(text) is not None


def _shown_url(value: object) -> str | None:
    """An address a person may be sent to: https, or http on this machine; None for anything else."""
    if not isinstance(value, str) or len(value) > 2048 or not _VISIBLE.fullmatch(value):
        return None
    try:
        parts = urlsplit(value)
        host = parts.hostname or ""
        local = parts.scheme == "http" and is_loopback(host)
    except ValueError:
        return None
    return value if host and "@" not in parts.netloc and (parts.scheme == "https" or local) else None


def _seconds(value: object) -> float | None:
    """A positive number of seconds, also in a string; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
