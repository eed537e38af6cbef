"""Which requests a listener takes, and which authority each of them means."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sidecar.errors import BadRequest, HostUnknown, OriginForeign, SidecarError
from sidecar.http.message import RequestHead
from sidecar.proxy.authority import Authority
from sidecar.proxy.entrance import (
    Entrance,
    ForwardEntrance,
    TunnelEntrance,
    canonical_host,
    connect_authority,
    reverse_entrance,
)
from sidecar.proxy.routing import Route, RoutingTable


def head(target: bytes, host: bytes | None = None, method: bytes = b"GET") -> RequestHead:
    request = RequestHead(method, target, 1)
    request.host = host
    return request


def table() -> RoutingTable:
    nothing = cast("Any", None)
    return RoutingTable(
        [
            Route("api", "api.example.com", False, 443, True, (b"/",), frozenset(), nothing, nothing),
            Route("plain", "plain.example.com", False, 8080, False, (b"/",), frozenset(), nothing, nothing),
        ]
    )


def refusal(entrance: Entrance, request: RequestHead) -> type[SidecarError]:
    with pytest.raises(SidecarError) as refused:
        entrance.admit(request)
    return type(refused.value)


# --- forward ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [b"api.example.com", b"other.example", b"[::1]:5", b"API.example.com:80", None])
def test_a_forward_listener_goes_by_the_target_whatever_the_host_says(host: bytes | None) -> None:
    candidates, path = ForwardEntrance(table()).admit(head(b"http://api.example.com/x?%2F", host))
    assert candidates.authority == Authority("api.example.com", None)
    assert [route.label for route in candidates.routes] == ["api"]
    assert path == b"/x?%2F"


@pytest.mark.parametrize("target", [b"/", b"/http://api.example.com/", b"*", b"api.example.com:443", b"ftp://a/"])
def test_a_forward_listener_takes_absolute_targets_only(target: bytes) -> None:
    assert refusal(ForwardEntrance(table()), head(target, b"api.example.com")) is BadRequest
    assert refusal(ForwardEntrance(table()), head(target, b"api.example.com", b"OPTIONS")) is BadRequest


@pytest.mark.parametrize("host", [b"", b"a b/@", b"user@a", b"a,b", b"a/", b"a:", b"\xff", b"127.1"])
def test_a_host_that_is_replaced_must_still_be_one(host: bytes) -> None:
    assert refusal(ForwardEntrance(table()), head(b"http://api.example.com/", host)) is BadRequest


def test_asterisk_is_what_options_without_a_path_becomes() -> None:
    assert ForwardEntrance(table()).admit(head(b"http://api.example.com", method=b"OPTIONS"))[1] == b"*"


# --- reverse ---------------------------------------------------------------------------------------------------------


def reverse(hosts: tuple[str, ...] = (), bound_host: str = "127.0.0.1") -> Entrance:
    return reverse_entrance(table(), "https://api.example.com", hosts, bound_host)


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"LocalHost:6190",
        b"127.0.0.1:6190",
        b"[::1]:6190",
        b"[::ffff:127.0.0.1]",
        b"api.example.com",
        b"api.example.com.:443",
        None,
    ],
)
def test_a_reverse_listener_answers_to_its_own_names(host: bytes | None) -> None:
    entrance = reverse()
    for _ in range(2):  # the second time the Host is known
        candidates, path = entrance.admit(head(b"/x", host))
        assert candidates.authority.host == "api.example.com"
        assert path == b"/x"


@pytest.mark.parametrize(
    "host",
    [b"evil.example", b"localhost.evil.example", b"xlocalhost", b"127.0.0.2", b"api.example.com.evil", b"example.com"],
)
def test_a_reverse_listener_gives_nothing_to_a_rebound_name(host: bytes) -> None:
    entrance = reverse()
    assert refusal(entrance, head(b"/", host)) is HostUnknown
    assert refusal(entrance, head(b"http://" + host + b"/", b"localhost")) is HostUnknown
    assert refusal(entrance, head(b"http://localhost/", host)) is HostUnknown


@pytest.mark.parametrize("host", [b"", b"user@localhost", b"localhost:", b"local host", b"0x7f.1"])
def test_a_reverse_listener_refuses_an_invalid_host(host: bytes) -> None:
    assert refusal(reverse(), head(b"/", host)) is BadRequest


@pytest.mark.parametrize("host", [b"orders.internal", b"ORDERS.internal:80", b"10.1.2.3"])
def test_further_names_and_the_bound_address_are_its_own(host: bytes) -> None:
    reverse(("orders.internal",), "10.1.2.3").admit(head(b"/", host))
    assert refusal(reverse(), head(b"/", host)) is HostUnknown


def test_a_unix_socket_has_no_address_to_answer_to() -> None:
    reverse(bound_host="").admit(head(b"/", b"localhost"))


def test_an_absolute_target_does_not_change_the_upstream() -> None:
    candidates, path = reverse().admit(head(b"http://localhost:6190/y?z", b"localhost:6190"))
    assert (candidates.authority.host, path) == ("api.example.com", b"/y?z")


@pytest.mark.parametrize(
    ("method", "target"), [(b"GET", b"*"), (b"GET", b"api.example.com:443"), (b"GET", b"ftp://a/")]
)
def test_other_forms_of_target_are_refused(method: bytes, target: bytes) -> None:
    assert refusal(reverse(), head(target, b"localhost", method)) is BadRequest


def test_an_asterisk_is_for_options_only() -> None:
    assert reverse().admit(head(b"*", b"localhost", b"OPTIONS"))[1] == b"*"


def test_memory_of_hosts_is_bounded() -> None:
    entrance = reverse()
    for port in range(1, 5000):
        entrance.admit(head(b"/", b"localhost:%d" % port))
    assert not isinstance(entrance, ForwardEntrance)
    assert len(entrance._checked) <= 64
    assert refusal(entrance, head(b"/", b"evil.example")) is HostUnknown


@pytest.mark.parametrize(
    ("bound", "canonical"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("0:0::1", "::1"), ("LocalHost", "localhost")]
)
def test_a_bound_address_is_written_as_authorities_are(bound: str, canonical: str) -> None:
    assert canonical_host(bound) == canonical


# --- tunnel ----------------------------------------------------------------------------------------------------------


def tunnel(host: str, port: int) -> Entrance:
    return TunnelEntrance(table().candidates("http", Authority(host, port)))


@pytest.mark.parametrize(
    ("port", "host"),
    [(80, b"api.example.com"), (80, b"API.example.com.:80"), (8080, b"plain.example.com:8080"), (80, None)],
)
def test_inside_a_tunnel_the_host_is_the_one_connected_to(port: int, host: bytes | None) -> None:
    outer = "plain.example.com" if port == 8080 else "api.example.com"
    assert tunnel(outer, port).admit(head(b"/x", host))[0].authority == (outer, port)


@pytest.mark.parametrize(
    "host",
    [b"plain.example.com", b"evil.example", b"api.example.com:8080", b"api.example.com:443", b"user@api.example.com"],
)
def test_inside_a_tunnel_another_host_is_refused(host: bytes) -> None:
    entrance = tunnel("api.example.com", 80)
    assert refusal(entrance, head(b"/", host)) is BadRequest
    assert refusal(entrance, head(b"http://" + host + b"/", b"api.example.com")) is BadRequest


def test_only_a_forward_listener_takes_connect() -> None:
    assert [entrance.takes_connect for entrance in (ForwardEntrance(table()), reverse(), tunnel("a", 80))] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        (b"api.example.com:443", ("api.example.com", 443)),
        (b"API.Example.com.:0443", ("api.example.com", 443)),
        (b"[::1]:80", ("::1", 80)),
    ],
)
def test_connect_names_host_and_port(target: bytes, authority: tuple[str, int]) -> None:
    assert connect_authority(head(target, method=b"CONNECT")) == authority


@pytest.mark.parametrize(
    "target",
    [
        b"api.example.com",
        b"api.example.com:",
        b"api.example.com:0",
        b"http://a:80/",
        b"/",
        b"*",
        b"a:80/",
        b"u@a:80",
        b":80",
    ],
)
def test_any_other_target_of_connect_is_refused(target: bytes) -> None:
    with pytest.raises(BadRequest):
        connect_authority(head(target, b"api.example.com", b"CONNECT"))


@pytest.mark.parametrize("host", [b"", b"a b/@", b"x@y", b"a:x"])
def test_an_invalid_host_beside_the_target_of_connect_is_refused(host: bytes) -> None:
    with pytest.raises(BadRequest):
        connect_authority(head(b"api.example.com:443", host, b"CONNECT"))


# --- web pages -------------------------------------------------------------------------------------------------------


def from_a_page(*fields: tuple[bytes, bytes]) -> RequestHead:
    request = head(b"/v1/transfer", b"127.0.0.1:6190", b"POST")
    request.browser = list(fields)
    return request


REVERSE = reverse_entrance(table(), "https://api.example.com", ("app.example.com",), "127.0.0.1")


@pytest.mark.parametrize(
    "field",
    [
        (b"origin", b"https://evil.example"),
        (b"origin", b"https://evil.example:6190"),
        (b"origin", b"http://127.0.0.1.evil.example"),
        (b"origin", b"null"),
        (b"origin", b"file://"),
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-site", b"same-site"),
    ],
)
def test_a_page_of_another_site_cannot_spend_the_token_through_a_base_url(field: tuple[bytes, bytes]) -> None:
    assert refusal(REVERSE, from_a_page(field)) is OriginForeign
    assert refusal(REVERSE, from_a_page((b"sec-fetch-site", b"none"), field)) is OriginForeign


@pytest.mark.parametrize(
    "field",
    [
        (b"origin", b"http://localhost:3000"),
        (b"origin", b"http://127.0.0.1:6190"),
        (b"origin", b"https://app.example.com"),
        (b"sec-fetch-site", b"same-origin"),
        (b"sec-fetch-site", b"none"),
    ],
)
def test_pages_of_the_listener_itself_and_of_named_hosts_may_use_it(field: tuple[bytes, bytes]) -> None:
    assert REVERSE.admit(from_a_page(field))[1] == b"/v1/transfer"
