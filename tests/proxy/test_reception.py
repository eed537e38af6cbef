"""Requests at the door: which fields that may mislead an upstream go on, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.http.h1 import read_request_head
from sidecar.http.hygiene import read_request
from sidecar.proxy.reception import named_host, pass_on
from tests.proxy.raw_client import get
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.rig import Rig

URL: Final = f"http://{API}"
FORWARDED: Final = ("Forwarded: for=192.0.2.1", "X-Forwarded-Host: evil.test", "X_Forwarded_For: 192.0.2.1")
OVERRIDES: Final = ("X-Original-URL: /admin", "X-Rewrite-Url: /admin", "X-HTTP-Method-Override: DELETE")


def names(*lines: str) -> list[str]:
    return [line.partition(":")[0] for line in lines]


async def arrived(rig: Rig, *lines: str) -> list[str]:
    """Which of these fields the upstream has seen of one request."""
    client = await rig.client()
    assert (await client.ask(get(f"{URL}/v1/x", *lines))).status == 200
    return [name for name in names(*lines) if rig.secure.requests[-1].values(name)]


@pytest.mark.parametrize(
    ("listener", "seen"), [({}, []), ({"trust_forwarded": True}, names(*FORWARDED)), ({"trust_forwarded": False}, [])]
)
async def test_what_the_app_says_of_earlier_hops_goes_on_where_it_is_trusted(
    rig: Rig, listener: dict[str, Any], seen: list[str]
) -> None:
    await rig.start(listeners=[{"name": "egress"} | listener])
    assert await arrived(rig, *FORWARDED) == seen


@pytest.mark.parametrize(
    ("route", "seen"),
    [({}, names(*OVERRIDES)), ({"paths": ["/v1/"]}, []), ({"methods": ["GET"]}, [])],
    ids=["takes all", "some paths", "some methods"],
)
async def test_a_field_that_overrides_path_or_method_goes_on_only_where_the_route_takes_them_all(
    rig: Rig, route: dict[str, Any], seen: list[str]
) -> None:
    await rig.start(routes=[rig.route(**route)])
    assert await arrived(rig, *OVERRIDES) == seen


def test_what_gets_no_token_goes_on_untouched() -> None:
    raw = get(f"{URL}/", *FORWARDED, *OVERRIDES)
    head = read_request(raw, max_fields=128, max_target=8192)
    assert head.lines == []
    pass_on(head, None, trusts_forwarded=False)
    assert head.lines == [line.encode() for line in (*FORWARDED, *OVERRIDES)]


async def test_a_request_that_was_here_before_is_a_loop(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    answer = await client.ask(get(f"{URL}/", f"Via: 1.1 {rig.sidecar.gateway.pseudonym.decode()}"))
    assert (answer.status, answer.reason) == (508, "loop_detected")


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        (b"GET http://a.test/x?key=1 HTTP/1.1\r\nHost: b.test\r\n\r\n", b"a.test"),
        (b"GET http://user:password@a.test:81?key=1 HTTP/1.1\r\nHost: b.test\r\n\r\n", b"a.test:81"),
        (b"GET /x?at=http://c.test HTTP/1.1\r\nHost: b.test\r\n\r\n", b"b.test"),
        (b"CONNECT a.test:443 HTTP/1.1\r\nHost: b.test\r\n\r\n", b"a.test:443"),
        (b"GET /x HTTP/1.0\r\n\r\n", b""),
    ],
)
def test_the_host_that_is_named_holds_nothing_else_of_the_target(raw: bytes, host: bytes) -> None:
    assert named_host(read_request_head(raw, max_fields=9, max_target=99)) == host


def test_what_is_no_request_names_no_host() -> None:
    assert named_host(None) == b""
