"""Rules of one credential: what its grant and its authentication need, which keys they use, where secrets travel.

A key that nothing uses is an error: who wrote it expects something that would not happen. Keys that a preset gave count
like written ones where something is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.config import hosts
from sidecar.config.model import NEEDS_LOGIN, Credential
from sidecar.config.problems import listed
from sidecar.config.shapes import struct_shape

if TYPE_CHECKING:
    from sidecar.config.found import Found, Path


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a grant or an authentication: all of ``needed``, of each group in ``one_of`` one, any of ``used``."""

    needed: tuple[str, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()
    used: tuple[str, ...] = ()

    @property
    def all(self) -> frozenset[str]:
        return frozenset((*self.needed, *self.used, *(key for group in self.one_of for key in group)))


_TOKEN_REQUEST: Final = (
    *("client_auth", "scopes", "required_scopes", "on_scope_missing", "audience", "token_params", "ca_file", "dpop"),
    *("default_ttl", "dialect", "secret_max_age", "impersonation_url", "token_issuer"),
)
"""What every request to a token endpoint may have."""
_SIGNED: Final = ("key_id", "assertion_algorithm", "assertion_audience", "assertion_subject", "assertion_claims")
_CONSENT: Final = (*_TOKEN_REQUEST, "issuer", "revocation_url", "redirect_uri")
_ENDPOINT: Final = ("token_url", "issuer")

GRANTS: Final[dict[str, Keys]] = {
    "client_credentials": Keys(needed=("client_id",), one_of=(_ENDPOINT,), used=_TOKEN_REQUEST),
    "refresh_token": Keys(needed=("client_id", "refresh_token"), one_of=(_ENDPOINT,), used=_CONSENT),
    "authorization_code": Keys(
        needed=("client_id",), one_of=(("authorization_url", "issuer"), _ENDPOINT), used=_CONSENT
    ),
    "device_code": Keys(
        needed=("client_id",), one_of=(("device_authorization_url", "issuer"), _ENDPOINT), used=_CONSENT
    ),
    "jwt_bearer": Keys(
        needed=("client_id", "private_key"), one_of=(_ENDPOINT,), used=(*_TOKEN_REQUEST, *_SIGNED, "issuer")
    ),
    "token_exchange": Keys(
        needed=("subject_token",),
        one_of=(_ENDPOINT,),
        used=(*_TOKEN_REQUEST, "client_id", "subject_token_type", "actor_token", "actor_token_type"),
    ),
    "workload": Keys(
        needed=("token_url",), used=(*_TOKEN_REQUEST, *_SIGNED, "client_id", "subject_token", "private_key")
    ),
    "exec": Keys(needed=("command",), used=("default_ttl", "dialect")),
    "static": Keys(one_of=(("token_file", "token"),)),
}

CLIENT_AUTHS: Final[dict[str, Keys]] = {
    "client_secret_basic": Keys(needed=("client_id", "client_secret"), used=("basic_encoding",)),
    "client_secret_post": Keys(needed=("client_id", "client_secret")),
    "client_secret_jwt": Keys(
        needed=("client_id", "client_secret"), used=("assertion_audience", "assertion_algorithm", "key_id")
    ),
    "private_key_jwt": Keys(
        needed=("client_id", "private_key"),
        used=("key_id", "assertion_audience", "assertion_algorithm", "certificate"),
    ),
    "tls_client_auth": Keys(needed=("client_id", "certificate", "certificate_key")),
    "self_signed_tls_client_auth": Keys(needed=("client_id", "certificate", "certificate_key")),
    "federated": Keys(needed=("client_id",), one_of=(("assertion_file", "assertion"),)),
    "none": Keys(),
}

EVERY_GRANT: Final = frozenset({"provider", "provider_params", "grant", "refresh", "stale_for", "required_for_ready"})

RESERVED_PARAMS: Final = {
    "grant_type": "the grant sets it: use 'grant'",
    "client_id": "use 'client_id'",
    "client_secret": "use 'client_secret' with client_auth: client_secret_post",
    "client_assertion": "the client authentication sets it",
    "client_assertion_type": "the client authentication sets it",
    "scope": "use 'scopes'",
    "refresh_token": "use 'refresh_token'",
    "subject_token": "use 'subject_token'",
    "assertion": "the grant sets it",
    "username": "the password grant is not supported (RFC 9700 section 2.4)",
    "password": "the password grant is not supported (RFC 9700 section 2.4)",
}
"""Fields of a token request that other keys set (RFC 6749 section 4.4.2, RFC 7521 section 4.2)."""

_URLS: Final = (
    *("token_url", "issuer", "authorization_url", "device_authorization_url", "revocation_url", "impersonation_url"),
)


_DEFAULTS: Final = {name: known.default for name, known in struct_shape(Credential).fields.items()}


def check(found: Found) -> None:
    """Apply every rule to every credential."""
    for path, credential in found.each(Credential):
        if (*path, "provider") in found.broken:
            continue
        _grant(found, path, credential)
        _urls(found, path, credential)
        _combinations(found, path, credential)
        _params(found, path, credential)
        _refresh(found, path, credential)
        _basic(found, path, credential)
        _certificate_key(found, path, credential)
        _store(found, path, credential)


def _grant(found: Found, path: Path, credential: Credential) -> None:
    if credential.grant is None:
        if not found.given((*path, "grant")) and not found.given((*path, "provider")):
            names = listed(GRANTS)
            found.note((*path, "grant"), f"a credential needs its 'grant' or a 'provider': {names}", at_key=True)
        return
    keys = GRANTS[credential.grant]
    _complete(found, path, f"grant: {credential.grant}", keys)
    known = EVERY_GRANT | keys.all
    if "client_auth" in known and credential.client_auth is not None:
        method = CLIENT_AUTHS[credential.client_auth]
        _complete(found, path, _method_named(found, path, credential), method, besides=keys.needed)
        known |= method.all
    if credential.provider is not None:
        _mandated(found, path, credential.provider, keys)
    _unused(found, path, credential, known)


def _mandated(found: Found, path: Path, provider: str, keys: Keys) -> None:
    """What the grant may have and the provider cannot do without."""
    from sidecar.config.presets import PRESETS  # only who has a provider

    for key in PRESETS[provider].yours:
        if key in keys.used and not found.has((*path, key)):
            found.note((*path, key), f"provider {provider} needs the key '{key}'", at_key=True)


def _method_named(found: Found, path: Path, credential: Credential) -> str:
    """By what the user knows it: the authentication they wrote, or the grant that implies it."""
    if found.given((*path, "client_auth")) or found.given((*path, "provider")):
        return f"client_auth: {credential.client_auth}"
    return f"grant: {credential.grant}"


def _complete(found: Found, path: Path, owner: str, keys: Keys, *, besides: tuple[str, ...] = ()) -> None:
    for key in keys.needed:
        if key not in besides and not found.has((*path, key)):
            found.note((*path, key), f"{owner} needs the key '{key}'", at_key=True)
    for group in keys.one_of:
        if not any(found.has((*path, key)) for key in group):
            found.note((*path, group[0]), f"{owner} needs one of the keys {listed(group)}", at_key=True)
        if "issuer" in keys.used:
            continue  # it has further endpoints to tell; a token_url beside it pins that one
        given = [key for key in group if found.given((*path, key))]
        for key in given[1:]:
            found.note((*path, key), f"'{given[0]}' stands here already: only one of {listed(group)}", at_key=True)


def _unused(found: Found, path: Path, credential: Credential, known: frozenset[str]) -> None:
    for key in Credential.__struct_fields__:
        place = (*path, key)
        if key not in known and found.given(place) and _asks_for_something(found, place, credential):
            owner = f"client_auth: {credential.client_auth}" if _is_for_auth(key) else f"grant: {credential.grant}"
            found.note(place, f"{owner} has no use for '{key}'", at_key=True)


def _asks_for_something(found: Found, place: Path, credential: Credential) -> bool:
    """A value equal to the default (``dpop: false``) asks for nothing."""
    return found.is_sound(place) and getattr(credential, str(place[-1])) != _DEFAULTS.get(str(place[-1]))


def _is_for_auth(key: str) -> bool:
    return key not in {name for keys in GRANTS.values() for name in keys.all}


def _urls(found: Found, path: Path, credential: Credential) -> None:
    for key in _URLS:
        url = getattr(credential, key)
        if url is None:
            continue
        parts = hosts.url_parts(url)
        local = credential.grant == "workload" and hosts.is_metadata(parts.host)
        if not parts.keeps_secrets and not local:
            found.note((*path, key), f"'{key}': http would send the client's secret in the clear: use https")
        if key == "issuer" and parts.query:
            found.note((*path, key), "an issuer has no query (RFC 8414 section 2)")
    if credential.redirect_uri is not None:
        _redirect(found, (*path, "redirect_uri"), credential)


def _combinations(found: Found, path: Path, credential: Credential) -> None:
    """Keys that are right each, and wrong together."""
    if credential.dialect.method == "GET" and credential.grant not in (None, "workload"):
        why = "GET would write the request's secrets into its address: only grant: workload has none there"
        found.note((*path, "dialect", "method"), f"'method': {why}")
    if credential.dpop and credential.impersonation_url is not None:
        why = "the token of 'impersonation_url' is bound to no key, and the one it is asked for with would be"
        found.note((*path, "dpop"), f"'dpop': {why}", at_key=True)


def _redirect(found: Found, path: Path, credential: Credential) -> None:
    """RFC 8252 section 7.3: the answer comes to this machine, by an address that no resolver decides on.

    Without a login of ours (``refresh_token``) it is only a field that some providers want to see again.
    """
    parts = hosts.url_parts(credential.redirect_uri or "")
    if credential.grant != "authorization_code":
        return
    if parts.host == "localhost":
        found.note(path, "'redirect_uri': write 127.0.0.1 or [::1], not localhost (RFC 8252 section 8.3)")
    elif parts.scheme != "http" or not hosts.is_loopback(parts.host):
        message = "'redirect_uri': `sidecar login` listens on this machine: http://127.0.0.1 or http://[::1], any port"
        found.note(path, f"{message} (RFC 8252 section 7.3)")


def _params(found: Found, path: Path, credential: Credential) -> None:
    for name in credential.token_params:
        place = (*path, "token_params", name)
        if reason := RESERVED_PARAMS.get(name.lower()):
            found.note(place, f"'{name}' cannot be set here: {reason}", at_key=True)
        elif name == "audience" and credential.audience is not None and found.given((*path, "audience")):
            line = found.line((*path, "audience"))
            found.note(place, f"the audience is given in line {line} already: leave one of them out", at_key=True)


def _refresh(found: Found, path: Path, credential: Credential) -> None:
    earliest = credential.refresh.at - credential.refresh.jitter
    latest = credential.refresh.at + credential.refresh.jitter
    if not (earliest > 0 and latest < 1) and found.is_sound((*path, "refresh")):
        message = f"at - jitter and at + jitter must lie between 0 and 1, not at {earliest:g} and {latest:g}"
        found.note((*path, "refresh"), message)


def _basic(found: Found, path: Path, credential: Credential) -> None:
    place = (*path, "client_id")
    is_raw = credential.client_auth == "client_secret_basic" and credential.basic_encoding == "raw"
    if is_raw and ":" in (credential.client_id or "") and found.is_sound(place):
        found.note(place, "'client_id': with basic_encoding: raw it has no colon (RFC 7617 section 2)")


def _certificate_key(found: Found, path: Path, credential: Credential) -> None:
    place = (*path, "certificate_key")
    if credential.certificate_key is not None and credential.certificate_key.path is None and found.is_sound(place):
        found.note(place, "'certificate_key': OpenSSL reads it from a file, so it is file:PATH or cred:NAME")


def _store(found: Found, path: Path, credential: Credential) -> None:
    if credential.grant in NEEDS_LOGIN and not found.given(("store",)):
        message = f"grant: {credential.grant} needs the section 'store': a refresh token has to survive a restart"
        found.note((*path, "grant"), message)
