"""Rules of one credential: what its grant needs, which keys it uses, where its secrets may travel.

A key that the grant does not use is an error: who wrote it expects something that would not happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.config import hosts
from sidecar.config.model import NOT_YET, Credential
from sidecar.config.problems import listed

if TYPE_CHECKING:
    from sidecar.config.found import Found, Path


@dataclass(frozen=True, slots=True)
class GrantKeys:
    """The keys of one grant, besides those that every credential may have."""

    needed: tuple[str, ...]
    one_of: tuple[str, ...] = ()
    used: tuple[str, ...] = ()


GRANTS: Final[dict[str, GrantKeys]] = {
    "client_credentials": GrantKeys(
        needed=("client_id", "client_secret"),
        one_of=("token_url", "issuer"),
        used=(
            "client_auth",
            "basic_encoding",
            "scopes",
            "required_scopes",
            "on_scope_missing",
            "audience",
            "token_params",
            "ca_file",
            "default_ttl",
        ),
    ),
    "static": GrantKeys(needed=("token_file",)),
}
"""The grants of this version; a further one is a further row."""

EVERY_GRANT: Final = frozenset({"provider", "grant", "refresh", "stale_for", "required_for_ready"})

RESERVED_PARAMS: Final = {
    "grant_type": "the grant sets it: use 'grant'",
    "client_id": "use 'client_id'",
    "client_secret": "use 'client_secret' with client_auth: client_secret_post",
    "client_assertion": "the client authentication sets it",
    "client_assertion_type": "the client authentication sets it",
    "scope": "use 'scopes'",
    "username": "the password grant is not supported (RFC 9700 section 2.4)",
    "password": "the password grant is not supported (RFC 9700 section 2.4)",
}
"""Fields of a token request that other keys set (RFC 6749 section 4.4.2, RFC 7521 section 4.2)."""


def check(found: Found) -> None:
    """Apply every rule to every credential."""
    for path, credential in found.each(Credential):
        _grant(found, path, credential)
        _urls(found, path, credential)
        _params(found, path, credential)
        _refresh(found, path, credential)


def _grant(found: Found, path: Path, credential: Credential) -> None:
    if credential.grant is None:
        if not found.given((*path, "grant")) and not found.given((*path, "provider")):
            found.note((*path, "grant"), f"a credential needs its 'grant': {listed(GRANTS)}", at_key=True)
        return
    keys = GRANTS.get(credential.grant)
    if keys is None:
        return  # refused by name already
    for key in keys.needed:
        if not found.given((*path, key)):
            found.note((*path, key), f"grant: {credential.grant} needs the key '{key}'", at_key=True)
    _one_of(found, path, credential.grant, keys.one_of)
    _unused(found, path, credential, keys)


def _one_of(found: Found, path: Path, grant: str, keys: tuple[str, ...]) -> None:
    given = [key for key in keys if found.given((*path, key))]
    if keys and not given:
        found.note((*path, keys[0]), f"grant: {grant} needs one of the keys {listed(keys)}", at_key=True)
    for key in given[1:]:
        found.note((*path, key), f"'{given[0]}' stands here already: only one of {listed(keys)}", at_key=True)


def _unused(found: Found, path: Path, credential: Credential, keys: GrantKeys) -> None:
    known = EVERY_GRANT.union(keys.needed, keys.one_of, keys.used)
    for info in Credential.__struct_fields__:
        place = (*path, info)
        if info not in known and found.given(place) and f"credentials.*.{info}" not in NOT_YET:
            found.note(place, f"grant: {credential.grant} has no use for '{info}'", at_key=True)
    encoding = (*path, "basic_encoding")
    if "basic_encoding" in known and found.given(encoding) and credential.client_auth == "client_secret_post":
        found.note(encoding, "'basic_encoding' has no use with client_auth: client_secret_post", at_key=True)


def _urls(found: Found, path: Path, credential: Credential) -> None:
    for key, url in (("token_url", credential.token_url), ("issuer", credential.issuer)):
        if url is None:
            continue
        parts = hosts.url_parts(url)
        if not parts.keeps_secrets:
            found.note((*path, key), f"'{key}': http would send the client's secret in the clear: use https")
        if key == "issuer" and parts.query:
            found.note((*path, key), "an issuer has no query (RFC 8414 section 2)")


def _params(found: Found, path: Path, credential: Credential) -> None:
    for name in credential.token_params:
        place = (*path, "token_params", name)
        if reason := RESERVED_PARAMS.get(name.lower()):
            found.note(place, f"'{name}' cannot be set here: {reason}", at_key=True)
        elif name == "audience" and credential.audience is not None:
            line = found.line((*path, "audience"))
            found.note(place, f"the audience is given in line {line} already: leave one of them out", at_key=True)


def _refresh(found: Found, path: Path, credential: Credential) -> None:
    earliest = credential.refresh.at - credential.refresh.jitter
    latest = credential.refresh.at + credential.refresh.jitter
    if not (earliest > 0 and latest < 1) and found.is_sound((*path, "refresh")):
        message = f"at - jitter and at + jitter must lie between 0 and 1, not at {earliest:g} and {latest:g}"
        found.note((*path, "refresh"), message)
