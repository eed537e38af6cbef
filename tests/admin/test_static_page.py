"""The file of the status page and the policy it is sent with."""

from __future__ import annotations

import base64
import hashlib
import re

from sidecar.admin.static_page import message_page, policy_of, status_page


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_only_what_stands_in_the_file_may_run() -> None:
    policy = policy_of("<style>a</style><script>b</script><script>c</script>")
    assert policy.split("; ") == [
        "default-src 'none'",
        f"script-src 'sha256-{digest('b')}' 'sha256-{digest('c')}'",
        f"style-src 'sha256-{digest('a')}'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]


def test_without_scripts_none_may_run() -> None:
    assert "script-src 'none'; style-src 'none'" in policy_of("<p>text</p>")


def test_the_page_loads_nothing_and_keeps_nothing() -> None:
    html = status_page().body.decode()
    assert status_page().policy == policy_of(html)
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?(?:https?:)?//""", html)
    assert not re.findall(r"@import|url\(|<link|<img|<iframe", html)
    assert not re.findall(r"""\son\w+=|\sstyle=|javascript:""", html)  # the policy would refuse them
    assert not re.findall(r"localStorage|sessionStorage|indexedDB|document\.cookie", html)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", html)
    assert "/token" not in html  # a token is not for a page


def test_a_message_is_a_page_of_its_own() -> None:
    assert b"<h1>Refused</h1><p>Why.</p>" in message_page("Refused", "Why.")
