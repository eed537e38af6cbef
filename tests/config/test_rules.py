"""Rules across keys and sections."""

from __future__ import annotations

import pytest

from sidecar.config import load
from sidecar.config.model import NOT_YET
from tests.config.conftest import VALID, Messages

REVERSE = """\
listeners:
  - name: orders
    mode: reverse
    bind: 127.0.0.1:6190
    upstream: {upstream}
credentials:
  orders: {{grant: static, token_file: /run/token}}
unmatched: {unmatched}
routes:
  - {route}
"""


def reverse(upstream: str, route: str, *, unmatched: str = "deny") -> str:
    return REVERSE.format(upstream=upstream, route=f"{{credential: orders, {route}}}", unmatched=unmatched)


def routes(*entries: str) -> str:
    """The valid configuration with these routes, the first in line 11."""
    return (
        VALID[: VALID.index("routes:")] + "routes:\n" + "".join(f"  - {{{e}, credential: orders}}\n" for e in entries)
    )


def listeners(*entries: str, more: str = "") -> str:
    """Only listeners, the first in line 2."""
    return "listeners:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries) + more


# --- features that do not exist yet ---


@pytest.mark.parametrize(
    ("key", "section", "line", "name"),
    [
        ("simulation.enabled", "", "simulation: {enabled: true}", "enabled"),
        ("routes.*.probe", "routes", "probe: /healthz", "probe"),
    ],
)
def test_a_key_whose_feature_does_not_exist_yet_is_refused_by_name(
    key: str, section: str, line: str, name: str, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NOT_YET, key, ())
    anchor = "    credential: orders\n"
    text = VALID.replace(anchor, f"{anchor}    {line}\n") if section else VALID + line + "\n"

    assert [message.partition(": ")[2] for message in messages(text)] == [f"'{name}' is not supported by this version"]


def test_a_value_that_asks_for_nothing_is_accepted() -> None:
    text = VALID.replace("    client_id", "    dpop: false\n    command: []\n    provider: null\n    client_id")
    text = text.replace("    bind", "    auth: none\n    bind").replace(
        "    credential:", "    intercept: false\n    credential:"
    )

    load.parse(text + "admin: null\nstore: null\nsimulation: {enabled: false}\n", "config.yaml")


# --- listeners ---


@pytest.mark.parametrize("bind", ["0.0.0.0:6180", "'[::]:6180'", "10.0.0.1:6180", "'[fe80::1]:6180'"])
def test_a_listener_beyond_loopback_must_be_asked_for(bind: str, messages: Messages) -> None:
    found = messages(listeners(f"name: a, bind: {bind}"))

    assert len(found) == 1
    assert "set auth, or beyond_loopback: true" in found[0]
    assert messages(listeners(f"name: a, bind: {bind}, beyond_loopback: true")) == []
    assert messages(listeners(f"name: a, bind: {bind}, auth: {{proxy_password: env:PASSWORD}}")) == []


def test_a_broken_auth_is_not_taken_for_none(messages: Messages) -> None:
    assert len(messages(listeners("name: a, bind: 0.0.0.0:6180, auth: nobody"))) == 1
    assert len(messages(listeners("name: a, bind: 0.0.0.0:6180, auth: {proxy_password: hunter2}"))) == 1


@pytest.mark.parametrize("bind", ["127.0.0.1:6180", "127.9.9.9:6180", "'[::1]:6180'", "localhost:6180", "unix:/run/a"])
def test_loopback_and_unix_sockets_need_no_leave(bind: str, messages: Messages) -> None:
    assert messages(listeners(f"name: a, bind: {bind}")) == []


def test_telemetry_may_listen_anywhere(messages: Messages) -> None:
    assert messages(VALID + "telemetry: {bind: '[::]:6181'}\n") == []


def test_two_listeners_cannot_have_one_name(messages: Messages) -> None:
    text = listeners("name: a, bind: 127.0.0.1:6180", "name: a, bind: 127.0.0.1:6190")

    assert messages(text) == ["3: another listener has this name, in line 2"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("127.0.0.1:6180", "127.0.0.1:6180"),
        ("127.0.0.1:6180", "localhost:6180"),
        ("0.0.0.0:6180", "127.0.0.1:6180"),
        ("'[::1]:6180'", "'[::]:6180'"),
        ("unix:/run/a", "{unix: /run/a, mode: '0660'}"),
    ],
)
def test_two_listeners_cannot_have_one_address(one: str, other: str, messages: Messages) -> None:
    text = listeners(f"name: a, bind: {one}, beyond_loopback: true", f"name: b, bind: {other}, beyond_loopback: true")

    assert messages(text) == ["3: this address is taken in line 2"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:6180", "127.0.0.2:6180"),
        ("0.0.0.0:6180", "'[::]:6180'"),
        ("unix:/run/a", "unix:/run/b"),
    ],
)
def test_addresses_that_do_not_meet_are_no_error(one: str, other: str, messages: Messages) -> None:
    text = listeners(f"name: a, bind: {one}, beyond_loopback: true", f"name: b, bind: {other}, beyond_loopback: true")

    assert messages(text) == []


@pytest.mark.parametrize("bind", ["0.0.0.0:6182", "'[::]:6182'", "10.0.0.1:6182"])
def test_the_admin_api_goes_beyond_loopback_only_with_a_token(bind: str, messages: Messages) -> None:
    assert messages(VALID + f"admin: {{bind: {bind}}}\n") == [
        "13: beyond loopback the admin API needs its 'token': set it, or bind 127.0.0.1"
    ]
    assert messages(VALID + f"admin: {{bind: {bind}, token: env:ADMIN}}\n") == []


@pytest.mark.parametrize("bind", ["127.0.0.1:6182", "'[::1]:6182'", "localhost:6182", "unix:/run/admin.sock"])
def test_the_admin_api_on_loopback_needs_no_token(bind: str, messages: Messages) -> None:
    assert messages(VALID + f"admin: {{bind: {bind}}}\n") == []


def test_a_broken_admin_token_is_one_error(messages: Messages) -> None:
    assert len(messages(VALID + "admin: {bind: 0.0.0.0:6182, token: hunter2}\n")) == 1


def test_the_admin_api_cannot_share_an_address(messages: Messages) -> None:
    assert messages(VALID + "admin: {bind: 127.0.0.1:6180}\n") == ["13: this address is taken in line 3"]
    assert messages(VALID + "admin: {bind: 127.0.0.1:6181}\n") == [
        "13: telemetry listens on 127.0.0.1:6181 unless telemetry.bind says otherwise"
    ]
    assert messages(VALID + "telemetry: {bind: 127.0.0.1:6182}\nadmin: {token: env:ADMIN}\n") == [
        "13: admin listens on 127.0.0.1:6182 unless admin.bind says otherwise"
    ]
    assert messages(VALID.replace("6180", "6182") + "admin: {token: env:ADMIN}\n") == [
        "3: admin listens on 127.0.0.1:6182 unless admin.bind says otherwise"
    ]
    assert messages(VALID.replace("6180", "6182")) == []


def test_the_admin_api_is_no_upstream(messages: Messages) -> None:
    route = "host: localhost, port: 6182"
    assert "the sidecar itself listens on 127.0.0.1:6182" in messages(routes(route) + "admin: {token: env:ADMIN}\n")[0]
    assert messages(routes(route)) == []


def test_telemetry_cannot_share_an_address(messages: Messages) -> None:
    assert messages(VALID + "telemetry: {bind: 127.0.0.1:6180}\n") == ["13: this address is taken in line 3"]
    assert messages(listeners("name: a, bind: 127.0.0.1:6181")) == [
        "2: telemetry listens on 127.0.0.1:6181 unless telemetry.bind says otherwise"
    ]


@pytest.mark.parametrize("key", ["upstream: https://a.example", "hosts: [a.example]"])
def test_a_forward_listener_has_nothing_of_a_reverse_one(key: str, messages: Messages) -> None:
    name = key.partition(":")[0]

    assert messages(listeners(f"name: a, bind: 127.0.0.1:6180, {key}")) == [
        f"2: '{name}' belongs to a listener with mode: reverse"
    ]


def test_a_reverse_listener_needs_its_upstream(messages: Messages) -> None:
    assert messages(listeners("name: a, mode: reverse, bind: 127.0.0.1:6180")) == [
        "2: a listener with mode: reverse needs its 'upstream'"
    ]


@pytest.mark.parametrize("path", ["/v1", "/?a=b", "?a=b"])
def test_an_upstream_has_no_path(path: str, messages: Messages) -> None:
    assert messages(reverse(f"https://a.example{path}", "host: a.example")) == [
        "5: an upstream is scheme, host and port; the path comes with each request"
    ]


@pytest.mark.parametrize("host", ["169.254.169.254", "'[fe80::1]'", "metadata.google.internal", "168.63.129.16"])
def test_a_metadata_address_is_never_an_upstream(host: str, messages: Messages) -> None:
    found = messages(reverse(f"http://{host.strip(chr(39))}", f"host: {host}, upstream_tls: plain"))

    assert [message.partition(": ")[2] for message in found] == [
        "link-local and metadata addresses are never upstreams"
    ] * 2


@pytest.mark.parametrize(
    ("upstream", "route"),
    [
        ("https://a.example", "host: a.example"),
        ("https://A.Example:443/", "host: a.example"),
        ("https://a.b.example", "host: '*.example'"),
        ("https://a.example:8443", "host: a.example, port: 8443"),
        ("http://a.example", "host: a.example, upstream_tls: plain"),
        ("http://a.example:8080", "host: a.example, port: 8080, upstream_tls: plain"),
    ],
)
def test_an_upstream_with_its_route_is_no_error(upstream: str, route: str, messages: Messages) -> None:
    assert messages(reverse(upstream, route)) == []


@pytest.mark.parametrize(
    ("upstream", "route", "message"),
    [
        ("https://a.example", "host: b.example", "no route covers this host, so every request would be denied"),
        ("https://example", "host: '*.example'", "no route covers this host, so every request would be denied"),
        (
            "https://a.example:8443",
            "host: a.example",
            "no route covers port 8443; the route for this host has port 443",
        ),
        (
            "http://a.example",
            "host: a.example, port: 80",
            "the route for this host and port says upstream_tls: required; this URL needs plain",
        ),
        (
            "https://a.example",
            "host: a.example, port: 443, upstream_tls: plain",
            "the route for this host and port says upstream_tls: plain; this URL needs required",
        ),
    ],
)
def test_an_upstream_without_its_route_is_an_error(upstream: str, route: str, message: str, messages: Messages) -> None:
    assert messages(reverse(upstream, route)) == [f"5: {message}"]


def test_an_upstream_without_a_route_passes_where_unmatched_requests_do(messages: Messages) -> None:
    assert messages(reverse("https://a.example", "host: b.example", unmatched="forward")) == []


def test_a_broken_route_does_not_make_its_upstream_an_error_too(messages: Messages) -> None:
    assert len(messages(reverse("https://a.example", "host: a.example, port: x"))) == 1


@pytest.mark.parametrize(
    ("upstream", "route"),
    [
        ("http://127.0.0.1:6190", "host: 127.0.0.1, port: 6190, upstream_tls: plain"),
        ("http://localhost:6190", "host: localhost, port: 6190, upstream_tls: plain"),
        ("http://[::1]:6181", "host: '[::1]', port: 6181, upstream_tls: plain"),
    ],
)
def test_the_sidecars_own_sockets_are_never_upstreams(upstream: str, route: str, messages: Messages) -> None:
    found = messages(reverse(upstream, route))

    assert all("requests would go round in circles" in message for message in found)
    assert len(found) == (2 if ":6190" in upstream else 0)


# --- limits ---


def test_the_target_fits_into_the_head(messages: Messages) -> None:
    expected = "13: the request target is part of the head: 'target' cannot be larger than 'head'"

    assert messages(VALID + "limits: {target: 128KiB}\n") == [expected]
    assert messages(VALID + "limits: {head: 4KiB}\n") == [expected]


# --- routes ---


def test_a_route_names_a_credential_that_exists(messages: Messages) -> None:
    assert messages(VALID.replace("credential: orders", "credential: ordres")) == [
        "12: no credential has this name; did you mean 'orders'?"
    ]


def test_a_credential_with_errors_exists_all_the_same(messages: Messages) -> None:
    assert len(messages(VALID.replace("client_credentials", "x"))) == 1


@pytest.mark.parametrize("key", ["paths", "methods"])
def test_a_list_that_matches_nothing_is_an_error(key: str, messages: Messages) -> None:
    assert messages(routes(f"host: a.example, {key}: []")) == [
        f"11: an empty list matches nothing: leave '{key}' out for all"
    ]


def test_a_ca_without_tls_is_an_error(messages: Messages) -> None:
    found = messages(routes("host: a.example, upstream_tls: plain, ca_file: /nowhere"))

    assert "11: 'ca_file' has no use with upstream_tls: plain" in found


@pytest.mark.parametrize(
    ("one", "other", "methods"),
    [
        ("host: a.example", "host: A.example", "every method"),
        ("host: a.example, methods: [GET, POST]", "host: a.example, methods: [PUT, POST, GET]", "POST or GET"),
        ("host: a.example, paths: [/a, /b]", "host: a.example, paths: [/c, /b]", "every method"),
        ("host: a.example", "host: a.example, port: 443", "every method"),
        ("host: '*.example'", "host: '*.example'", "every method"),
    ],
)
def test_two_routes_that_match_equally_are_an_error(one: str, other: str, methods: str, messages: Messages) -> None:
    assert messages(routes(f"name: one, {one}", f"name: other, {other}")) == [
        f"12: the route in line 11 has the same host, port and path for {methods}"
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("host: a.example", "host: b.example"),
        ("host: a.example", "host: '*.example'"),
        ("host: a.example", "host: a.example, port: 8443"),
        ("host: a.example", "host: a.example, paths: [/v1]"),
        ("host: a.example, paths: [/v1]", "host: a.example, paths: [/v1/]"),
        ("host: a.example", "host: a.example, methods: [GET]"),
        ("host: a.example, methods: [GET]", "host: a.example, methods: [POST]"),
    ],
)
def test_routes_of_which_one_is_more_specific_are_no_tie(one: str, other: str, messages: Messages) -> None:
    assert messages(routes(f"name: one, {one}", f"name: other, {other}")) == []


def test_two_routes_cannot_have_one_label(messages: Messages) -> None:
    assert messages(routes("name: x, host: a.example", "name: x, host: b.example")) == [
        "12: the route in line 11 has the same label in metrics"
    ]
    assert messages(routes("host: a.example", "host: a.example, methods: [GET]")) == [
        "12: the route in line 11 has the same label in metrics: give this one a 'name'"
    ]


# --- probes ---


def probing(probe: str, more: str = "") -> str:
    return VALID + f"    paths: [/v1/, /health]\n    probe: {probe}\n{more}"


@pytest.mark.parametrize("probe", ["/v1/", "/v1/orders?limit=1", "/health", "/health/live"])
def test_a_probe_stays_within_the_paths_of_its_route(probe: str, messages: Messages) -> None:
    assert messages(probing(probe)) == []


@pytest.mark.parametrize("probe", ["/", "/v2/", "/healthz", "/v1/../admin", "/v1/%2e%2e/admin"])
def test_a_probe_beside_the_paths_of_its_route_is_an_error(probe: str, messages: Messages) -> None:
    assert messages(probing(probe)) == ["14: 'probe' lies outside the route's 'paths', where the token never goes"]


def test_a_probe_is_a_get_to_one_host(messages: Messages) -> None:
    assert messages(probing("/v1/", "    methods: [POST]\n")) == [
        "14: 'probe' is a GET, which the route's 'methods' leave out"
    ]
    assert messages(probing("/v1/").replace("api.example.com", "'*.example.com'")) == [
        "14: 'probe' needs a route with an exact host: no name stands for all below it"
    ]
