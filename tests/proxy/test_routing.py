"""One canonical authority, the routes it leads to, and paths that nobody can read out of a route's prefix."""

from __future__ import annotations

import random
import re
from itertools import product
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_to_bytes

import pytest

from sidecar.errors import BadRequest, RouteMismatch, SidecarError, TargetUnmatched
from sidecar.proxy.routing import Authority, Origin, Route, RoutingTable, parse_authority, path_forms, split_absolute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def route(
    label: str = "r",
    host: str = "api.example.com",
    *,
    port: int = 443,
    tls: bool = True,
    paths: tuple[bytes, ...] = (b"/",),
    methods: tuple[bytes, ...] = (),
) -> Route:
    """A route as the composition root builds it; what it counts and injects does not matter here."""
    nothing = cast("Any", None)
    return Route(
        label=label,
        host=host.removeprefix("*."),
        suffix=host.startswith("*."),
        port=port,
        tls=tls,
        paths=paths,
        methods=frozenset(methods),
        credential=nothing,
        meters=nothing,
    )


def found(table: RoutingTable, url: bytes, method: bytes = b"GET") -> str:
    """The label of the route that a forward request takes, or the reason why none."""
    try:
        target = split_absolute(url, method)
        return table.find(target.scheme, target.authority).match(method, target.path).label
    except SidecarError as error:
        return error.reason


# --- the authority ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "host", "port"),
    [
        (b"api.example.com", "api.example.com", None),
        (b"API.Example.COM", "api.example.com", None),
        (b"api.example.com.", "api.example.com", None),
        (b"api.example.com.:443", "api.example.com", 443),
        (b"api.example.com:80", "api.example.com", 80),
        (b"api.example.com:00080", "api.example.com", 80),
        (b"api.example.com:65535", "api.example.com", 65535),
        (b"localhost", "localhost", None),
        (b"my_service-1", "my_service-1", None),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example", None),
        (b"127.0.0.1:8080", "127.0.0.1", 8080),
        (b"127.0.0.1.", "127.0.0.1", None),
        (b"1.example", "1.example", None),
        (b"[::1]", "::1", None),
        (b"[::1]:8443", "::1", 8443),
        (b"[0:0:0:0:0:0:0:1]", "::1", None),
        (b"[2001:DB8::A]", "2001:db8::a", None),
        (b"[::ffff:169.254.169.254]", "169.254.169.254", None),
        (b"[::ffff:a9fe:a9fe]:80", "169.254.169.254", 80),
        (b"a." * 126 + b"a", "a." * 126 + "a", None),
        (b"a" * 63, "a" * 63, None),
    ],
)
def test_an_authority_has_one_canonical_form(raw: bytes, host: str, port: int | None) -> None:
    authority = parse_authority(raw)
    assert authority == (host, port)
    assert parse_authority(authority.netloc(443).encode()).host == host


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b".",
        b"..",
        b":80",
        b".api.example.com",
        b"api..example.com",
        b"api.example.com..",
        b"user@api.example.com",
        b"user:password@api.example.com",
        b"api.example.com@evil.example",
        b"api.example.com:80@evil.example",
        b"api.example.com:",
        b"api.example.com:0",
        b"api.example.com:65536",
        b"api.example.com:000080",
        b"api.example.com:+80",
        b"api.example.com:-1",
        b"api.example.com:80:80",
        b"api.example.com: 80",
        b"api.example.com:0x50",
        b"api.example.com:http",
        b"api.example.com\t",
        b" api.example.com",
        b"api example.com",
        b"api.example.com%00",
        b"api%2eexample.com",
        b"api.example.com%2eevil.example",
        b"api.example.com,evil.example",
        b"api.example.com;evil",
        b"api.example.com\\evil",
        b"api.example.com/",
        b"api.example.com?",
        b"api.example.com#",
        b"*.example.com",
        "bücher.example".encode(),
        "\uff41pi.example.com".encode(),
        b"api.example.com\xad",
        b"a" * 64 + b".example",
        b"a." * 127 + b"a",
        b"127.1",
        b"0",
        b"2130706433",
        b"0x7f.1",
        b"0x7f000001",
        b"0X7F.0.0.1",
        b"0177.0.0.1",
        b"127.0.0.01",
        b"127.0.0.1.1",
        b"256.0.0.1",
        b"1.2.3",
        b"api.example.123",
        b"api.example.0x1",
        b"[::1",
        b"::1",
        b"::1]",
        b"[]",
        b"[::1]x",
        b"[::1]:",
        b"[::1]8080",
        b"[[::1]]",
        b"[::1%25eth0]",
        b"[fe80::1%eth0]",
        b"[127.0.0.1]",
        b"[api.example.com]",
        b"[v1.x]",
        b"[\xff]",
        b"[::12345]",
    ],
)
def test_what_two_readers_could_take_for_different_hosts_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_authority(raw)
    assert "evil" not in refused.value.detail


@pytest.mark.parametrize(
    ("authority", "default", "netloc"),
    [
        (Authority("a", None), 443, "a"),
        (Authority("a", 443), 443, "a"),
        (Authority("a", 443), 80, "a:443"),
        (Authority("::1", 80), 80, "[::1]"),
        (Authority("::1", 8080), 80, "[::1]:8080"),
    ],
)
def test_the_host_field_leaves_out_the_default_port(authority: Authority, default: int, netloc: str) -> None:
    assert authority.netloc(default) == netloc


# --- the target ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "scheme", "authority", "path"),
    [
        (b"http://a/x?y", "http", b"a", b"/x?y"),
        (b"HTTPS://A:1/%2F//..;x", "https", b"A:1", b"/%2F//..;x"),
        (b"http://a", "http", b"a", b"/"),
        (b"http://a?x=/b", "http", b"a", b"/?x=/b"),
        (b"http://a?x?y", "http", b"a", b"/?x?y"),
        (b"http://a/http://b/", "http", b"a", b"/http://b/"),
        (b"http://u@a/", "http", b"u@a", b"/"),
        (b"http:///x", "http", b"", b"/x"),
    ],
)
def test_a_target_is_taken_apart_and_its_path_kept(target: bytes, scheme: str, authority: bytes, path: bytes) -> None:
    assert split_absolute(target, b"GET") == (scheme, authority, path)


def test_options_without_a_path_asks_about_the_whole_server() -> None:
    assert split_absolute(b"http://a", b"OPTIONS").path == b"*"
    assert split_absolute(b"http://a/", b"OPTIONS").path == b"/"
    assert split_absolute(b"http://a?x", b"OPTIONS").path == b"/?x"


@pytest.mark.parametrize(
    "target",
    [
        b"/x",
        b"*",
        b"a:443",
        b"ftp://a/",
        b"ws://a/",
        b"file:///etc/passwd",
        b"http:/a",
        b"http:a",
        b"://a/",
        b"\xff://a",
    ],
)
def test_what_is_not_http_or_https_with_an_authority_is_refused(target: bytes) -> None:
    with pytest.raises(BadRequest):
        split_absolute(target, b"GET")


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


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/../admin",
        b"/v1/..",
        b"/v1/../",
        b"/v1/./../admin",
        b"/v1/%2e%2e/admin",
        b"/v1/.%2E/admin",
        b"/v1/%2e%2e%2fadmin",
        b"/v1/..%2fadmin",
        b"/v1/..%2Fadmin",
        b"/v1/..%5cadmin",
        b"/v1/..\\admin",
        b"/v1/%252e%252e/admin",
        b"/v1/%252e%252e%252fadmin",
        b"/v1/..%252fadmin",
        b"/v1/..;/admin",
        b"/v1/..;x=y/admin",
        b"/v1/..%3b/admin",
        b"/v1/%2e%2e;/admin",
        b"/v1/x/../../admin",
        b"/v1/x/..//../admin",
        b"/v1/x%2f%2e%2e%2f%2e%2e/admin",
        # These come back below the prefix for one reader, but not for another.
        b"/v1/../v1/x",
        b"/v1/../admin//../v1/x",
        b"/v1/../admin/..;/v1/x",
        b"/v1/x%2fy/%2e%2e/%2e%2e/admin",
        b"/v1/x%5cy/%2e%2e/%2e%2e/admin",
        b"/v1/;%2fx/%2e%2e/admin",
        b"/v1//../admin",
        b"/v1/.;/../admin",
        # These are not below it as sent.
        b"//v1/x",
        b"/%2fv1/x",
        b"/./v1/x",
        b"/admin/../v1/x",
        b"/v1;x/y",
        b"/v1%2fx",
        b"/%761/x",
        b"/v1\\x",
    ],
)
def test_no_spelling_reaches_a_prefix_that_some_reader_would_leave(path: bytes) -> None:
    assert found(RoutingTable([route(paths=(b"/v1/",))]), b"http://api.example.com" + path) == "route_mismatch"


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/a%20b",
        b"/v1/a%2Fb",
        b"/v1/100%25",
        b"/v1/50%",
        b"/v1/%zz%+f%f",
        b"/v1/%C3%A9",
        b"/v1/a;b=c/d",
        b"/v1//x",
        b"/v1/./x",
        b"/v1/x/.",
        b"/v1/x/../y",
        b"/v1/x/..",
        b"/v1/x/%2e%2e/y",
        b"/v1/.hidden",
        b"/v1/...",
        b"/v1/..x",
        b"/v1/x..",
        b"/v1/a%252Fb",
        b"/v1/http://elsewhere/",
        b"/v1/x?next=/../../admin&y=%2e%2e%00",
    ],
)
def test_a_path_that_stays_below_its_prefix_for_every_reader_is_taken(path: bytes) -> None:
    assert found(RoutingTable([route(paths=(b"/v1/",))]), b"http://api.example.com" + path) == "r"


@pytest.mark.parametrize("path", [b"/v1/%00", b"/v1/%0d%0aX", b"/v1/%7f", b"/v1/%2500", b"/v1/%25252e", b"/%2525252e"])
def test_a_path_that_hides_control_characters_or_layers_of_encoding_is_refused(path: bytes) -> None:
    assert found(RoutingTable([route(paths=(b"/v1/",))]), b"http://api.example.com" + path) == "bad_request"


def test_a_prefix_without_a_slash_at_its_end_is_left_the_same_ways() -> None:
    table = RoutingTable([route(paths=(b"/v1/orders",))])
    assert found(table, b"http://api.example.com/v1/orders/%2e%2e/users") == "route_mismatch"
    assert found(table, b"http://api.example.com/v1/orders/x/../y") == "r"


def test_the_first_form_is_the_path_as_sent() -> None:
    for path in (b"/a/../b", b"/a%2f..", b"/", b"//"):
        assert path_forms(path + b"?q")[0] == path


# Readers that upstreams are known to be, in every combination of what they decode and how they split.


def _unreserved(path: bytes) -> bytes:
    return re.sub(rb"(?i)%(2[de]|3\d|[46][1-9a-f]|[57][0-9a]|5f|7e)", lambda code: unquote_to_bytes(code[0]), path)


def _twice(path: bytes) -> bytes:
    return unquote_to_bytes(unquote_to_bytes(path))


def _without_parameters(path: bytes) -> bytes:
    return b"/".join(segment.partition(b";")[0] for segment in path.split(b"/"))


def _resolved(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4."""
    kept: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    return b"/" + b"/".join(kept)


def _as_is(path: bytes) -> bytes:
    return path


def readers() -> Iterator[Callable[[bytes], bytes]]:
    decodings = (_as_is, _unreserved, unquote_to_bytes, _twice)
    options = product(decodings, (0, 1, 2), (False, True), (False, True))
    for decode, parameters, backslash, merge in options:

        def read(
            path: bytes,
            decode: Callable[[bytes], bytes] = decode,
            parameters: int = parameters,
            backslash: bool = backslash,
            merge: bool = merge,
        ) -> bytes:
            if parameters == 1:
                path = _without_parameters(path)
            path = decode(path)
            if parameters == 2:
                path = _without_parameters(path)
            if backslash:
                path = path.replace(b"\\", b"/")
            if merge:
                path = re.sub(rb"/+", b"/", path)
            return re.sub(rb"/+", b"/", _resolved(path)) if merge else _resolved(path)

        yield read


def test_no_reader_leaves_the_prefix_of_a_path_that_matched() -> None:
    words = [
        b"/",
        b"/",
        b"..",
        b"..",
        b".",
        b"v1",
        b"a",
        b"%2e",
        b"%2f",
        b"%5c",
        b"\\",
        b";",
        b"%3b",
        b"%252e",
        b"%252f",
    ]
    words += [b"%255c", b"%253b", b"%25"]
    table, upstreams, draw, matched = RoutingTable([route(paths=(b"/v1/",))]), list(readers()), random.Random(11), 0
    for _ in range(2500):
        path = b"/v1/" + b"".join(draw.choices(words, k=draw.randint(1, 12)))
        if found(table, b"http://api.example.com" + path) != "r":
            continue
        matched += 1
        for read in upstreams:
            assert (read(path).rstrip(b"/") + b"/").startswith(b"/v1/"), path
    assert matched > 500
