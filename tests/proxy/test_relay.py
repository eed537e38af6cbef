"""One request at work: what leaves, with which fields, and what is refused before anything does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.proxy.raw_client import get, path
from tests.proxy.raw_origin import ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    import pytest

    from tests.proxy.raw_client import RawClient
    from tests.proxy.rig import Rig

URL = f"http://{API}"
MIB = 1024 * 1024


async def assert_goes_on(client: RawClient, url: str = URL) -> None:
    """The sentinel gets its own answer."""
    answer = await client.ask(get(f"{url}/sentinel"))
    assert (answer.status, answer.body) == (200, b"GET /sentinel 0")


# --- what leaves ------------------------------------------------------------------------------------------------------


async def test_http_in_leaves_as_https_with_a_token(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await assert_goes_on(client)
    request = rig.secure.requests[0]
    assert rig.idp.is_valid(request.token or "")
    assert request.values("Host") == [f"{API}:{rig.secure.port}"]
    assert rig.plain.requests == []
    assert rig.value("injections_total", route="api", credential="orders", result="injected") == 1
    assert rig.value("http_requests_total", route="api", method="GET", code="200") == 1


async def test_the_path_and_the_query_leave_byte_for_byte(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    for target in ("/a%2Fb/../c;x=1//d?q=%20+&r=/../x", "/?", "/%41", "/a?b?c", "/*"):
        assert (await client.ask(get(URL + target))).status == 200
        assert rig.secure.requests[-1].target == target
    assert (await client.ask(get(URL))).status == 200
    assert rig.secure.requests[-1].target == "/"
    assert (await client.ask(get(f"{URL}?q"))).status == 200
    assert rig.secure.requests[-1].target == "/?q"
    assert (await client.ask(get(URL, method="OPTIONS"))).status == 200
    assert rig.secure.requests[-1].target == "*"


async def test_fields_leave_in_their_order_and_as_they_were_written(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    sent = ["x-Lower:no-space", "Set-Thing: 1", "X-Empty:", "Set-Thing:   2", "Cookie: a=b", "Accept-Encoding: gzip"]
    await client.ask(get(f"{URL}/", *sent))
    lines = rig.secure.requests[0].raw.decode().split("\r\n")
    assert lines[2 : 2 + len(sent)] == sent


async def test_hop_by_hop_fields_stay_here_whatever_connection_nominates(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    rig.secure.reply(
        ok(b"x", "Connection: X-Back, authorization,", "X-Back: 1", "Keep-Alive: timeout=5", "Proxy-Connection: x")
    )
    answer = await client.ask(
        get(
            f"{URL}/",
            "Connection: X-Private, keep-alive",
            "connection: , authorization, host, content-length, via",
            "X-Private: 1",
            "X-Public: 1",
            "Keep-Alive: 300",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic c2VjcmV0",
            "TE: trailers",
            "Trailer: X-T",
            "Upgrade: websocket",
        )
    )
    request = rig.secure.requests[0]
    for name in ("X-Private", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE", "Trailer", "Upgrade"):
        assert request.values(name) == [], name
    assert request.values("Connection") == []
    assert request.values("X-Public") == ["1"]
    assert len(request.values("Host")) == 1
    assert rig.idp.is_valid(request.token or "")
    for name in ("X-Back", "Keep-Alive", "Proxy-Connection", "Connection"):
        assert answer.values(name) == [], name
    await assert_goes_on(client)


async def test_the_apps_own_authorization_is_replaced_in_every_spelling(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    for fields in (
        ["Authorization: Bearer of-the-app"],
        ["AUTHORIZATION:Basic YTpi"],
        ["authorization: Bearer one", "Authorization: Bearer two"],
        ["Authorization: Bearer one, Bearer two", "Connection: authorization"],
    ):
        await client.ask(get(f"{URL}/", *fields))
        assert rig.idp.is_valid(rig.secure.requests[-1].token or "")
        assert b"of-the-app" not in rig.secure.requests[-1].raw
    assert rig.value("injections_total", route="api", credential="orders", result="injected") == 4


async def test_the_apps_own_authorization_is_kept_where_the_route_says_so(rig: Rig) -> None:
    await rig.start(routes=[rig.route(if_present="keep")])
    client = await rig.client()
    await client.ask(get(f"{URL}/", "Authorization: Basic YTpi"))
    assert rig.secure.requests[0].values("Authorization") == ["Basic YTpi"]
    assert rig.value("injections_total", route="api", credential="orders", result="already_present") == 1
    answer = await client.ask(get(f"{URL}/", "Authorization: Basic YTpi", "Authorization: Basic YTpi"))
    assert (answer.status, answer.reason) == (400, "bad_request")
    await client.ask(get(f"{URL}/"))
    assert rig.idp.is_valid(rig.secure.requests[-1].token or "")


async def test_the_apps_own_authorization_is_refused_where_the_route_says_so(rig: Rig) -> None:
    await rig.start(routes=[rig.route(if_present="reject")])
    client = await rig.client()
    answer = await client.ask(get(f"{URL}/", "authorization: Basic YTpi"))
    assert (answer.status, answer.reason) == (403, "authorization_refused")
    assert rig.secure.requests == []
    assert rig.value("denied_requests_total", reason="authorization_refused") == 1
    assert rig.value("injections_total", route="api", credential="orders", result="denied") == 1
    await assert_goes_on(client)


async def test_via_is_appended_both_ways_and_a_missing_date_is_added(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    rig.secure.reply(ok(b"x", "Via: 1.1 origin"))
    answer = await client.ask(get(f"{URL}/", "Via: 1.0 app"))
    assert rig.secure.requests[0].values("Via")[0] == "1.0 app"
    assert len(rig.secure.requests[0].values("Via")) == 2
    assert answer.values("Via") == ["1.1 origin", "1.1 token-sidecar"]
    assert answer.value("Date") is not None
    rig.secure.reply(ok(b"x", "Date: Tue, 15 Nov 1994 08:12:31 GMT"))
    assert (await client.ask(get(f"{URL}/"))).values("Date") == ["Tue, 15 Nov 1994 08:12:31 GMT"]


async def test_a_path_or_method_without_a_route_is_refused(rig: Rig) -> None:
    await rig.start(routes=[rig.route(paths=["/v1/"], methods=["GET"])], unmatched="forward")
    client = await rig.client()
    for request in (
        get(f"{URL}/v2/"),
        get(f"{URL}/v1/../v2/"),
        get(f"{URL}/v1/%2e%2e/v2"),
        get(f"{URL}/v1/", method="DELETE"),
        get(f"{URL}/v1/", method="TRACE"),
    ):
        answer = await client.ask(request)
        assert (answer.status, answer.reason) == (403, "route_mismatch")
    assert rig.secure.requests == []
    assert (await client.ask(get(f"{URL}/v1/x"))).status == 200


async def test_unmatched_hosts_pass_through_untouched_where_the_configuration_says_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.proxy.resolver.reason_to_refuse", lambda address, routed: None)
    rig.names["other.test"] = ["127.0.0.1"]
    await rig.start(routes=[rig.route()], unmatched="forward")
    client = await rig.client()
    url = f"http://other.test:{rig.plain.port}"
    await client.ask(get(f"{url}/", "Authorization: Basic YTpi", "Proxy-Authorization: Basic c2VjcmV0"))
    request = rig.plain.requests[0]
    assert request.values("Authorization") == ["Basic YTpi"]
    assert request.values("Proxy-Authorization") == []
    await client.ask(get(f"{url}/"))
    assert rig.plain.requests[1].token is None
    assert rig.value("http_requests_total", route="_unmatched", method="GET", code="200") == 2


async def test_nothing_without_a_route_reaches_loopback(rig: Rig) -> None:
    rig.names["rebound.test"] = ["127.0.0.1"]
    await rig.start(routes=[rig.route()], unmatched="forward")
    client = await rig.client()
    for host in ("rebound.test", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"):
        answer = await client.ask(get(f"http://{host}:{rig.plain.port}/"))
        assert (answer.status, answer.reason) == (403, "address_denied")
    assert rig.plain.connections == []
    assert rig.value("denied_requests_total", reason="address_denied") == 4


async def test_link_local_addresses_and_own_listeners_are_never_upstreams(rig: Rig) -> None:
    rig.names |= {"metadata.test": ["169.254.169.254"], "self.test": ["127.0.0.1"], "six.test": ["fe80::1"]}
    routes = [
        rig.route(name="metadata", host="metadata.test", port=80, upstream_tls="plain", ca_file=None),
        rig.route(name="six", host="six.test", port=80, upstream_tls="plain", ca_file=None),
        rig.route(name="self", host="self.test", port=rig.port("egress"), upstream_tls="plain", ca_file=None),
        rig.route(name="scrape", host="self.test", port=rig.port("telemetry"), upstream_tls="plain", ca_file=None),
    ]
    for route in routes:
        del route["ca_file"]
    await rig.start(routes=routes)
    client = await rig.client()
    urls = [f"http://self.test:{rig.port(name)}" for name in ("egress", "telemetry")]
    for url in ("http://metadata.test", "http://six.test", *urls):
        answer = await client.ask(get(f"{url}/metrics"))
        assert (answer.status, answer.reason) == (403, "address_denied")
        assert "destination_ip_prohibited" in (answer.value("Proxy-Status") or "")
    assert rig.value("denied_requests_total", reason="address_denied") == 4
    assert rig.value("injections_total", route="self", credential="orders", result="denied") == 1


# --- reverse listeners ------------------------------------------------------------------------------------------------


async def test_a_reverse_listener_sends_origin_form_requests_to_its_upstream(rig: Rig) -> None:
    upstream = f"https://{API}:{rig.secure.port}"
    await rig.start(listeners=[{"name": "orders", "mode": "reverse", "upstream": upstream, "hosts": ["orders.local"]}])
    client = await rig.client("orders")
    port = rig.port("orders")
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost", "orders.local", API, f"{API.upper()}:443"):
        answer = await client.ask(path("/v1/x?y", host=host))
        assert answer.body == b"GET /v1/x?y 0"
        assert rig.secure.requests[-1].values("Host") == [f"{API}:{rig.secure.port}"]
        assert rig.idp.is_valid(rig.secure.requests[-1].token or "")
    answer = await client.ask(get(f"http://localhost:{port}/absolute"))
    assert answer.body == b"GET /absolute 0"


async def test_a_reverse_listener_answers_to_no_other_host(rig: Rig) -> None:
    upstream = f"https://{API}:{rig.secure.port}"
    await rig.start(listeners=[{"name": "orders", "mode": "reverse", "upstream": upstream}])
    client = await rig.client("orders")
    for request in (
        path("/", host="rebound.attacker.test"),
        path("/", host=f"{API}.attacker.test"),
        get("http://attacker.test/"),
    ):
        answer = await client.ask(request)
        assert (answer.status, answer.reason) == (403, "host_unknown")
    assert rig.secure.requests == []
    assert rig.value("denied_requests_total", reason="host_unknown") == 3
    answer = await client.ask(path("/"))
    assert answer.status == 200
