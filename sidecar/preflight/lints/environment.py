"""Addresses of another environment: the staging IdP in production's configuration, or the other way round.

Words are compared whole: labels of a host, segments of a path, and their parts between dashes. The domain that somebody
registered (``live.com`` in ``login.live.com``, ``example.dev``) says nothing. A place that has a word of the declared
environment as well is left alone: who writes both knows why.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final

from sidecar.config import hosts
from sidecar.preflight.findings import Finding
from sidecar.preflight.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.config.found import Path
    from sidecar.preflight.subject import Subject


class Environment(enum.Enum):
    """The kinds that people have."""

    PRODUCTION = "production"
    STAGING = "staging"
    DEVELOPMENT = "development"


WORDS: Final = {
    **dict.fromkeys(("prod", "production", "prd", "live"), Environment.PRODUCTION),
    **dict.fromkeys(("staging", "stage", "stg", "uat", "preprod", "preproduction"), Environment.STAGING),
    **dict.fromkeys(
        ("dev", "develop", "development", "test", "testing", "sandbox", "qa", "nonprod"), Environment.DEVELOPMENT
    ),
}
_JOINED: Final = re.compile(r"\b(pre|non)[-_](prod|production|live)\b")
"""``pre-prod`` is not prod."""
ORDINARY: Final = frozenset({"dev.azure.com", "dev.to"})
"""Hosts that are everybody's, whatever their labels say."""
_URLS: Final = (
    *("token_url", "issuer", "impersonation_url", "authorization_url", "device_authorization_url", "revocation_url"),
    *("audience", "assertion_audience", "token_issuer"),
)
_SECOND_LEVEL: Final = frozenset({"co", "com", "org", "net", "gov", "ac", "edu"})
"""Below a country these are registries, not domains: ``example.co.uk``."""
_PRIVATE: Final = frozenset({"svc", "local", "internal", "lan", "corp", "intranet", "localdomain"})
"""Below these nothing is registered, so every label is its owner's word: ``idp.staging.svc``."""

Place = tuple["Path", str]
"""A key and the address at it."""


def lint(subject: Subject) -> Iterator[Finding]:
    """Hold every address against the declared environment; without one, against each other."""
    declared = subject.configuration.environment
    if declared is None:
        yield from _mixed(subject)
        return
    own = environments(declared)
    if len(own) != 1:
        message = "it names no environment that is known, so no address is held against it"
        yield Finding(Kind.ENVIRONMENT_UNKNOWN, ("environment",), message)
        return
    for path, text in _places(subject):
        named = environments_of(text)
        others = {word: each for word, each in named.items() if each not in own.values()}
        if others and len(others) == len(named):
            word, other = next(iter(others.items()))
            article = f"'{word}' in it says {other.value}" if word != other.value else f"it says {word}"
            yield Finding(Kind.ENVIRONMENT_MISMATCH, path, f"{article}, and the environment is {declared}")


def _mixed(subject: Subject) -> Iterator[Finding]:
    first: tuple[str, Environment] | None = None
    for path, text in _places(subject):
        for word, environment in environments_of(text).items():
            first = first or (text, environment)
            if environment is not first[1]:
                message = f"'{word}' in it says {environment.value}, and {first[0]} says {first[1].value}"
                yield Finding(Kind.ENVIRONMENTS_MIXED, path, message)
                return


def environments(text: str) -> dict[str, Environment]:
    """The environments that a text names, by the word that does."""
    joined = _JOINED.sub(r"\1\2", text.lower())
    parts = re.split(r"[^a-z]+", joined)
    return {part: WORDS[part] for part in parts if part in WORDS}


def environments_of(address: str) -> dict[str, Environment]:
    """The same for a URL, a host, or an audience that is neither."""
    if "://" not in address:
        return environments(_without_domain(address)) if _is_host(address) else environments(address)
    try:
        parts = hosts.url_parts(address)
    except ValueError:
        return environments(address.partition("://")[2])  # api://orders-staging
    return environments(_without_domain(parts.host)) | environments(parts.path)


def _is_host(text: str) -> bool:
    return "." in text and "/" not in text and ":" not in text


def _without_domain(host: str) -> str:
    if host in ORDINARY or hosts.is_address(host):
        return ""
    labels = host.split(".")
    match labels:
        case [_]:
            registered = 0
        case [*_, last] if last in _PRIVATE:
            registered = 1
        case [*_, second, last] if len(last) == 2 and second in _SECOND_LEVEL:
            registered = 3
        case _:
            registered = 2
    return ".".join(labels[: len(labels) - registered])


def _places(subject: Subject) -> Iterator[Place]:
    for path, _, credential in subject.credentials():
        for key in _URLS:
            if value := getattr(credential, key):
                yield (*path, key), value
        for at, scope in enumerate(credential.scopes):
            if "://" in scope:  # https://api.example.com/.default: the scope names the API
                yield (*path, "scopes", at), scope
    routed = set()
    for path, route in subject.routes():
        routed.add(route.host)
        yield (*path, "host"), route.host
    for at, listener in enumerate(subject.configuration.listeners):
        if listener.upstream is not None and hosts.url_parts(listener.upstream).host not in routed:
            yield ("listeners", at, "upstream"), listener.upstream
