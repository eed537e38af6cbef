"""What an upstream's 401 says about the token: that it is bad, or that its proof wants a nonce.

Decides by the ``WWW-Authenticate`` fields alone. Any other 401 (no challenge, another scheme, another error) is the
upstream's matter with the app, unless the provider's dialect says that its APIs do not tell.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.http.message import ResponseHead

_PARAMETER: Final = re.compile(
    rb"""(?<![a-z0-9_.!#$%&*+^`|~-])([a-z0-9_.!#$%&*+^`|~-]++)\s*+=\s*+(?:"([^"]*+)"|([^\s",]++))"""
)
"""Reads a line once: it begins at the beginning of a name only, and gives nothing back. Otherwise a line of 64 KiB that
is one long name takes most of a minute, in which nothing else is served."""


def token_was_refused(head: ResponseHead, *, scheme: bytes = b"bearer", any_401: bool = False) -> bool:
    """Whether a 401 says that the token is bad: ``error="invalid_token"`` (RFC 6750 section 3.1, RFC 9449 section 7.1).

    Args:
        head: the answer's.
        scheme: the one that the token was presented with, lower case.
        any_401: the provider's APIs do not tell, so any 401 says so.
    """
    return head.status == 401 and (any_401 or _says(head, scheme, b"invalid_token"))


def asks_for_nonce(head: ResponseHead) -> bool:
    """Whether a 401 wants the proof again with the nonce that came with it (RFC 9449 section 9)."""
    return head.status == 401 and bool(head.values(b"dpop-nonce")) and _says(head, b"dpop", b"use_dpop_nonce")


def _says(head: ResponseHead, scheme: bytes, error: bytes) -> bool:
    return any(_names(value, scheme, error) for value in head.values(b"www-authenticate"))


def _names(challenges: bytes, scheme: bytes, error: bytes) -> bool:
    """Read one WWW-Authenticate line: schemes, each with its own parameters (RFC 9110 section 11.6.1)."""
    ours = False
    for element in _elements(challenges.lower()):
        words = element.partition(b"=")[0].split()
        if words and (len(words) > 1 or b"=" not in element):
            ours = words[0] == scheme  # a scheme begins here, perhaps with its first parameter
        if ours and any(found[1] == b"error" and error in found.groups()[1:] for found in _PARAMETER.finditer(element)):
            return True
    return False


def _elements(value: bytes) -> list[bytes]:
    """Split a list at its commas, those inside quoted strings aside (RFC 9110 section 5.6.1).

    Some gateways put blanks between the parameters (Amazon's), so an element may hold several.
    """
    parts = value.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
    parts[::2] = [part.replace(b",", b"\n") for part in parts[::2]]  # no field value holds an LF
    return b'"'.join(parts).split(b"\n")
