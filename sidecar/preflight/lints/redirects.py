"""Redirect URIs that differ from what is registered by a detail: providers compare them character by character.

RFC 9700 section 2.1 wants an exact comparison, but for the port of a loopback address. What is registered cannot be
seen from here, so only forms that are known to go wrong are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sidecar.preflight.findings import Finding
from sidecar.preflight.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.preflight.subject import Subject


def lint(subject: Subject) -> Iterator[Finding]:
    """Every detail of every redirect URI."""
    for path, _, credential in subject.credentials():
        if credential.redirect_uri is not None:
            place = (*path, "redirect_uri")
            for kind, message in _details(credential.redirect_uri):
                yield Finding(kind, place, message)
            if credential.grant == "authorization_code" and urlsplit(credential.redirect_uri).port is None:
                message = "a login takes a free port, which not every provider accepts (RFC 8252 section 7.3)"
                yield Finding(Kind.REDIRECT_WITHOUT_PORT, place, message)


def _details(uri: str) -> Iterator[tuple[Kind, str]]:
    parts = urlsplit(uri)
    if "*" in uri:
        yield Kind.REDIRECT_WILDCARD, "a '*' stands for itself: no provider of repute takes a pattern"
    if parts.path.endswith("/"):
        yield Kind.REDIRECT_TRAILING_SLASH, "to the provider it is another address without the slash at its end"
    if any(letter.isupper() for letter in parts.scheme + parts.netloc + parts.path):
        yield Kind.REDIRECT_UPPER_CASE, "upper and lower case are different addresses to the provider"
    if parts.hostname == "localhost":
        yield Kind.REDIRECT_LOCALHOST, "localhost and 127.0.0.1 are different addresses to the provider"
    if parts.port == {"http": 80, "https": 443}.get(parts.scheme):
        yield Kind.REDIRECT_DEFAULT_PORT, f":{parts.port} is the default, and another address than without it"
