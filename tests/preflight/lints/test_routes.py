"""Routes that hide each other."""

from __future__ import annotations

import pytest

from sidecar.preflight.kinds import Kind
from sidecar.preflight.lints.routes import lint
from tests.preflight.kit import sentences, told

BEFORE = """\
listeners: [{name: egress, bind: 127.0.0.1:6180}]
credentials:
  a: {grant: static, token: env:A}
  b: {grant: static, token: env:B}
routes:
"""


def routes(*entries: str) -> str:
    return BEFORE + "".join(f"  - {{{entry}}}\n" for entry in entries)


def test_routes_that_have_nothing_to_do_with_each_other_are_not_mentioned() -> None:
    text = routes("host: a.example.com, credential: a", "host: b.example.com, credential: b, paths: [/v1/, /v2]")

    assert told(lint, text) == []


def test_a_second_port_that_no_plain_url_reaches_is_mentioned() -> None:
    text = routes("host: a.example.com, credential: a, port: 8443", "host: a.example.com, credential: b")

    assert told(lint, text) == [(Kind.ROUTE_SHADOWED, "routes[0].port")]
    assert told(lint, routes("host: a.example.com, credential: a, port: 8443")) == []


def test_what_goes_on_to_a_wildcard_with_another_credential_is_mentioned() -> None:
    wide = "host: '*.example.com', credential: b"

    assert sentences(lint, routes("host: a.example.com, credential: a, paths: [/v1/]", wide)) == [
        "routes[0].host: what its paths and methods leave out goes to *.example.com, with the token of b"
    ]
    assert told(lint, routes("host: a.example.com, credential: a, methods: [GET]", wide)) == [
        (Kind.ROUTE_FALLS_THROUGH, "routes[0].host")
    ]


@pytest.mark.parametrize(
    "entries",
    [
        ("host: a.example.com, credential: a", "host: '*.example.com', credential: b"),
        ("host: a.example.com, credential: b, paths: [/v1/]", "host: '*.example.com', credential: b"),
        ("host: a.example.org, credential: a, paths: [/v1/]", "host: '*.example.com', credential: b"),
        ("host: badexample.com, credential: a, paths: [/v1/]", "host: '*.example.com', credential: b"),
    ],
)
def test_what_stays_with_the_same_credential_or_leaves_nothing_out_is_not(entries: tuple[str, ...]) -> None:
    assert told(lint, routes(*entries)) == []


def test_a_path_below_another_one_of_its_route_is_mentioned() -> None:
    text = routes("host: a.example.com, credential: a, paths: [/v1, /v1/orders, /v10]")

    assert told(lint, text) == [(Kind.ROUTE_PATH_COVERED, "routes[0].paths[1]")]
