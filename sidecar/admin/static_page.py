"""The status page as it is sent: one file, and the policy under which a browser may run it.

Decides that nothing runs but what stands in the file, by its hash, and that it speaks to nobody but this listener
(Content Security Policy Level 3, https://www.w3.org/TR/CSP3/). The page holds no data: it asks for all of it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

HTML: Final = "text/html; charset=utf-8"
HARDENED: Final = (
    "Referrer-Policy: no-referrer",
    "Cross-Origin-Opener-Policy: same-origin",
    "Cross-Origin-Resource-Policy: same-origin",
)
NOTHING: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The policy of what is no page, or one that does nothing."""


class Page(NamedTuple):
    """The file, and the value of its Content-Security-Policy."""

    body: bytes
    policy: str


@cache
def status_page() -> Page:
    """Read once: it comes with the code."""
    body = Path(__file__).with_name("page.html").read_bytes()
    return Page(body, policy_of(body.decode()))


def policy_of(html: str) -> str:
    """The policy that lets exactly the inline scripts and styles of this page run."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes(html, 'script')}",
            f"style-src {_hashes(html, 'style')}",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def _hashes(html: str, element: str) -> str:
    texts = re.findall(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"


def message_page(title: str, text: str) -> bytes:
    """A page of two plain sentences, for a browser that comes back from a login."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1><p>{text}</p></html>\n"
    ).encode()
