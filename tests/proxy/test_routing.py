"""The routes that an authority leads to, and the most specific of them."""

from __future__ import annotations

import random

import pytest

from sidecar.errors import BadRequest, RouteMismatch, TargetUnmatched
from sidecar.proxy.authority import Authority, Origin, parse_authority, split_absolute
from sidecar.proxy.routing import Route, RoutingTable
from tests.proxy.routes import found, route

# --- host and port ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (b"http://api.example.com/", "r"),
        (b"http://API.EXAMPLE.COM./", "r"),
        (b"http://api.example.com:80/", "r"),
        (b"http://api.example.com:443/", "r"),
        (b"https://api.example.com/", "r"),
        (b"https://api.example.com:443/", "r"),
        (b"https://api.example.com:80/", "target_unmatched"),
        (b"http://api.example.com:8080/", "target_unmatched"),
        (b"http://evilapi.example.com/", "target_unmatched"),
        (b"http://api.example.com.evil/", "target_unmatched"),
        (b"http://example.com/", "target_unmatched"),
        (b"http://x.api.example.com/", "target_unmatched"),
        (b"http://api-example.com/", "target_unmatched"),
        (b"http://apixexample.com/", "target_unmatched"),
        (b"http://api.example.com@evil/", "bad_request"),
        (b"http://evil@api.example.com/", "bad_request"),
        (b"http://evil?@api.example.com/", "target_unmatched"),
        (b"http://[api.example.com]/", "bad_request"),
        (b"http://api.example.com:/", "bad_request"),
        (b"http://api%2eexample.com/", "bad_request"),
    ],
)
def test_a_route_takes_exactly_its_host_and_port(url: bytes, expected: str) -> None:
    assert found(RoutingTable([route()]), url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (b"http://api.example.com/", "r"),
        (b"http://api.example.com:80/", "r"),
        (b"http://api.example.com:8443/", "r"),
        (b"https://api.example.com:8443/", "r"),
        (b"https://api.example.com/", "target_unmatched"),
        (b"http://api.example.com:443/", "target_unmatched"),
    ],
)
def test_an_http_target_takes_the_route_s_port_only_where_it_names_none_or_80(url: bytes, expected: str) -> None:
    assert found(RoutingTable([route(port=8443)]), url) == expected


@pytest.mark.parametrize(
    ("port", "url", "expected"),
    [
        (80, b"http://api.example.com/", "r"),
        (80, b"http://api.example.com:80/", "r"),
        (80, b"http://api.example.com:8080/", "target_unmatched"),
        (8080, b"http://api.example.com:8080/", "r"),
        (8080, b"http://api.example.com/", "target_unmatched"),
        (80, b"https://api.example.com/", "target_unmatched"),
        (80, b"https://api.example.com:80/", "target_unmatched"),
        (443, b"https://api.example.com/", "target_unmatched"),
        (443, b"http://api.example.com:443/", "r"),
    ],
)
def test_https_never_leaves_as_http(port: int, url: bytes, expected: str) -> None:
    assert found(RoutingTable([route(port=port, tls=False)]), url) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"a.example.com", "r"),
        (b"a.b.example.com", "r"),
        (b"A.EXAMPLE.com.", "r"),
        (b"example.com", "target_unmatched"),
        (b"evilexample.com", "target_unmatched"),
        (b"a.example.com.evil", "target_unmatched"),
        (b".example.com", "bad_request"),
    ],
)
def test_a_suffix_takes_what_is_below_it_and_nothing_else(host: bytes, expected: str) -> None:
    assert found(RoutingTable([route(host="*.example.com")]), b"http://" + host + b"/") == expected


def test_a_mapped_ipv6_address_is_the_ipv4_address() -> None:
    table = RoutingTable([route(host="10.0.0.1")])
    assert found(table, b"http://[::ffff:10.0.0.1]/") == "r"
    assert found(table, b"http://[::ffff:a00:1]/") == "r"
    assert found(table, b"http://10.1/") == "bad_request"


def test_a_tunnel_to_the_upstream_s_own_port_is_recognised_as_past_the_route() -> None:
    table = RoutingTable([route("exact", port=8443), route("suffix", "*.example.com")])
    assert table.tunnelled(Authority("api.example.com", 8443)) is table.routes[0]
    assert table.tunnelled(Authority("api.example.com", 443)) is table.routes[1]
    assert table.tunnelled(Authority("other.example", 443)) is None


# --- the most specific wins ------------------------------------------------------------------------------------------

SPECIFIC = [
    route("all", "*.example.com"),
    route("deep", "*.eu.example.com"),
    route("exact", "api.eu.example.com", paths=(b"/v1/",)),
    route("exact-orders", "api.eu.example.com", paths=(b"/v1/orders/", b"/v1/o/")),
    route("exact-orders-get", "api.eu.example.com", paths=(b"/v1/orders/",), methods=(b"GET",)),
]


@pytest.mark.parametrize(
    ("url", "method", "expected"),
    [
        (b"http://a.example.com/", b"GET", "all"),
        (b"http://a.eu.example.com/", b"GET", "deep"),
        (b"http://api.eu.example.com/v1/x", b"GET", "exact"),
        (b"http://api.eu.example.com/v1/orders/1", b"GET", "exact-orders-get"),
        (b"http://api.eu.example.com/v1/orders/1", b"POST", "exact-orders"),
        (b"http://api.eu.example.com/v1/orders", b"GET", "exact"),
        (b"http://api.eu.example.com/v2", b"GET", "deep"),
    ],
)
def test_the_most_specific_route_wins_in_any_order_of_the_file(url: bytes, method: bytes, expected: str) -> None:
    for seed in range(6):
        routes = list(SPECIFIC)
        random.Random(seed).shuffle(routes)
        assert found(RoutingTable(routes), url, method) == expected


def test_a_target_without_a_port_goes_out_over_tls_where_both_are_configured() -> None:
    table = RoutingTable([route("plain", tls=False, port=80), route("other", port=8443), route("tls")])
    assert found(table, b"http://api.example.com/") == "tls"
    assert found(table, b"http://api.example.com:8443/") == "other"


LIMITED = RoutingTable([route(paths=(b"/v1/", b"/health"), methods=(b"GET", b"POST"))])


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        (b"/v1/", b"GET", "r"),
        (b"/v1/a/b?x=../..", b"POST", "r"),
        (b"/v1/?/../..", b"GET", "r"),
        (b"/health", b"GET", "r"),
        (b"/health/live", b"GET", "r"),
        (b"/health?x", b"GET", "r"),
        (b"/healthy", b"GET", "route_mismatch"),
        (b"/v1", b"GET", "route_mismatch"),
        (b"/v10/", b"GET", "route_mismatch"),
        (b"/V1/", b"GET", "route_mismatch"),
        (b"/", b"GET", "route_mismatch"),
        (b"", b"GET", "route_mismatch"),
        (b"", b"OPTIONS", "route_mismatch"),
        (b"/v1/", b"DELETE", "route_mismatch"),
        (b"/v1/", b"HEAD", "route_mismatch"),
        (b"/v1/", b"TRACE", "route_mismatch"),
    ],
)
def test_a_route_takes_its_paths_and_methods_only(path: bytes, method: bytes, expected: str) -> None:
    assert found(LIMITED, b"http://api.example.com" + path, method) == expected


def test_a_mismatch_is_told_from_a_host_without_a_route() -> None:
    candidates = LIMITED.find("http", b"api.example.com")
    with pytest.raises(RouteMismatch):
        candidates.match(b"GET", b"/v2/")
    with pytest.raises(TargetUnmatched):
        LIMITED.find("http", b"other.example").match(b"GET", b"/v1/")


@pytest.mark.parametrize(
    "routes", [[route()], [route(methods=(b"TRACE", b"GET"))], [route(), route("b", paths=(b"/b/",))]]
)
def test_no_route_takes_trace_which_would_echo_the_token(routes: list[Route]) -> None:
    assert found(RoutingTable(routes), b"http://api.example.com/b/", b"TRACE") == "route_mismatch"


def test_an_options_for_the_whole_server_counts_as_its_root() -> None:
    assert found(RoutingTable([route()]), b"http://api.example.com", b"OPTIONS") == "r"


# --- the way out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "url", "origin", "netloc"),
    [
        (route(), b"http://API.example.com:80/", (True, "api.example.com", 443, None, True), b"api.example.com"),
        (
            route(port=8443),
            b"http://api.example.com/",
            (True, "api.example.com", 8443, None, True),
            b"api.example.com:8443",
        ),
        (
            route(tls=False, port=80),
            b"http://api.example.com/",
            (False, "api.example.com", 80, None, True),
            b"api.example.com",
        ),
        (
            route(host="*.example.com"),
            b"http://x.Example.com/",
            (True, "x.example.com", 443, None, True),
            b"x.example.com",
        ),
        (route(host="::1"), b"http://[::1]/", (True, "::1", 443, None, True), b"[::1]"),
    ],
)
def test_a_request_leaves_for_the_route_s_origin(
    of: Route, url: bytes, origin: tuple[bool, str, int, str | None, bool], netloc: bytes
) -> None:
    table = RoutingTable([of])
    target = split_absolute(url, b"GET")
    candidates = table.find(target.scheme, target.authority)
    assert candidates.leg(of) == (Origin(*origin), netloc)
    assert candidates.leg(of) is candidates.leg(of)


@pytest.mark.parametrize(
    ("scheme", "authority", "origin"),
    [
        ("http", b"other.example", (False, "other.example", 80, None, False)),
        ("https", b"other.example", (True, "other.example", 443, None, False)),
        ("http", b"other.example:8080", (False, "other.example", 8080, None, False)),
    ],
)
def test_what_no_route_names_leaves_as_it_was_asked_for(
    scheme: str, authority: bytes, origin: tuple[bool, str, int, str | None, bool]
) -> None:
    assert RoutingTable([]).find(scheme, authority).leg(None)[0] == Origin(*origin)


def test_memory_of_authorities_is_bounded_and_stays_right() -> None:
    table = RoutingTable([route(host="*.example.com")])
    numbers = random.Random(7)
    for _ in range(100_000):
        table.find("http", b"h%x.example.com:%d" % (numbers.getrandbits(64), numbers.randrange(1, 65536)))
    assert len(table._cache) <= 512
    assert found(table, b"http://a.example.com/") == "r"
    assert found(table, b"https://a.example.com:80/") == "target_unmatched"


def test_a_refused_authority_is_not_remembered() -> None:
    table = RoutingTable([route()])
    for _ in range(2):
        with pytest.raises(BadRequest):
            table.find("http", b"user@api.example.com")
    assert len(table._cache) == 0


def test_an_enormous_authority_is_refused_quickly() -> None:
    for raw in (b"@" * 65536, b"a." * 32768, b"[" + b":" * 65536, b"1" * 65536, b"a:" + b"1" * 65536):
        with pytest.raises(BadRequest):
            parse_authority(raw)


def test_a_route_shows_its_label_only() -> None:
    assert repr(route("orders")) == "<Route orders>"
