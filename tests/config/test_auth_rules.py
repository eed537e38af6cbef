"""Who may use a listener: one form, that one whole, where it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.config import load
from sidecar.config.model import ListenerAuth

if TYPE_CHECKING:
    from tests.config.conftest import Messages

FORWARD = "mode: forward, bind: 127.0.0.1:6180"
SOCKET = "mode: forward, bind: unix:/run/a"
REVERSE = "mode: reverse, bind: 127.0.0.1:6190, upstream: https://a.example"


def listener(form: str, auth: str) -> str:
    """One listener, its ``auth`` in line 3 and what that holds from line 4."""
    keys = "".join(f"\n      {line}" for line in auth.split("; ")) if auth else " {}"
    lines = "".join(f"    {key}\n" for key in form.split(", "))
    return f"listeners:\n  - name: a\n    auth:{keys}\n{lines}unmatched: forward\n"


@pytest.mark.parametrize(
    ("form", "auth"),
    [
        (FORWARD, "proxy_password: file:/run/password"),
        (SOCKET, "proxy_password: env:PASSWORD"),
        (REVERSE, "header: X-Sidecar-Key; value: file:/run/key"),
        (REVERSE, "value: cred:key; header: x_key"),
        (SOCKET, "peer_uids: [0, 1000, 4294967294]"),
        (FORWARD, "proxy_password: env:A; header: null"),
    ],
)
def test_each_form_is_taken_where_it_belongs(form: str, auth: str, messages: Messages) -> None:
    assert messages(listener(form, auth)) == []


def test_an_empty_password_is_none(messages: Messages) -> None:
    text = listener(FORWARD, "proxy_password: ''") + "allow_inline_secrets: true\n"

    assert messages(text) == ["4: 'proxy_password': it is empty"]


def test_the_forms_are_in_the_model() -> None:
    [one] = load.parse(listener(SOCKET, "peer_uids: [1000]"), "config.yaml").listeners

    assert one.auth == ListenerAuth(peer_uids=(1000,))


@pytest.mark.parametrize(
    ("form", "auth", "message"),
    [
        (REVERSE, "proxy_password: env:A", "4: 'proxy_password' belongs to a listener with mode: forward"),
        (FORWARD, "header: X-Key; value: env:A", "4: 'header' belongs to a listener with mode: reverse"),
        (FORWARD, "value: env:A", "4: 'value' belongs to a listener with mode: reverse"),
        (FORWARD, "peer_uids: [1000]", "4: 'peer_uids' belongs to a Unix socket: bind: unix:PATH"),
        (REVERSE, "peer_uids: [1000]", "4: 'peer_uids' belongs to a Unix socket: bind: unix:PATH"),
        (REVERSE, "header: X-Key", "4: 'header' needs its 'value'"),
        (REVERSE, "value: env:A", "4: 'value' needs its 'header'"),
        (REVERSE, "header: null; value: env:A", "5: 'value' needs its 'header'"),
        (SOCKET, "peer_uids: []", "4: an empty list lets nobody in: name the users, or leave 'auth' out"),
        (FORWARD, "", "3: 'auth' needs proxy_password, or header and value, or peer_uids"),
        (FORWARD, "proxy_password: null", "3: 'auth' needs proxy_password, or header and value, or peer_uids"),
    ],
)
def test_a_form_that_is_misplaced_or_not_whole_is_one_error_at_its_place(
    form: str, auth: str, message: str, messages: Messages
) -> None:
    assert messages(listener(form, auth)) == [message]


@pytest.mark.parametrize(
    ("form", "auth", "message"),
    [
        (
            SOCKET,
            "proxy_password: env:A; peer_uids: [1]",
            "5: 'auth' has one form only: 'proxy_password' stands in line 4",
        ),
        (
            SOCKET,
            "peer_uids: [1]; proxy_password: env:A",
            "4: 'auth' has one form only: 'proxy_password' stands in line 5",
        ),
        (
            REVERSE,
            "proxy_password: env:A; header: X-Key; value: env:B",
            "5: 'auth' has one form only: 'proxy_password' stands in line 4",
        ),
        (REVERSE, "header: X-Key; peer_uids: [1]", "5: 'auth' has one form only: 'header' stands in line 4"),
    ],
)
def test_two_forms_at_once_are_one_error(form: str, auth: str, message: str, messages: Messages) -> None:
    assert messages(listener(form, auth)) == [message]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Host",
            "authorization",
            "Content-Length",
            "CONNECTION",
            "Transfer-Encoding",
            "TE",
            "Via",
            "Expect",
            "Cookie",
        ),
        *("Proxy-Authorization", "Proxy-Anything", "Upgrade", "Origin", "Sec-Fetch-Site", "Forwarded"),
        *("X-Forwarded-For", "Keep-Alive", "Trailer", "Max-Forwards", "Content_Length", "content.length"),
    ],
)
def test_a_field_that_decides_something_is_no_key(name: str, messages: Messages) -> None:
    assert messages(listener(REVERSE, f"header: {name}; value: env:A")) == [
        "4: this field has a meaning of its own: take another, such as X-Sidecar-Key"
    ]


@pytest.mark.parametrize(
    ("form", "auth"),
    [
        (FORWARD, "proxy_password: hunter2"),
        (REVERSE, "header: 'X Key'; value: env:A"),
        (SOCKET, "peer_uids: [root]"),
        (SOCKET, "peer_uids: [4294967295]"),
        (FORWARD, "password: env:A"),
        (FORWARD.replace("forward", "sideways"), "proxy_password: env:A"),
        (FORWARD.replace("127.0.0.1:6180", "nowhere"), "peer_uids: [1]"),
    ],
)
def test_what_is_broken_is_not_told_twice(form: str, auth: str, messages: Messages) -> None:
    assert len(messages(listener(form, auth))) == 1
