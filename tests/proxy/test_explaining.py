"""What is told of a request beforehand is what happens to it, and why the other routes lost."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.config import load
from sidecar.proxy.explaining import Explanation, Outcome, as_json, explain, route_of
from sidecar.proxy.question import ask
from sidecar.proxy.routing import Route
from tests.proxy.raw_client import RawClient
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.rig import Rig

EGRESS: Final = {"name": "egress", "bind": "127.0.0.1:6180"}
ORDERS: Final = {"name": "orders", "mode": "reverse", "bind": "127.0.0.1:6190", "upstream": "https://api.example.com"}
STATIC: Final = {"grant": "static", "token_file": "/absent"}


def told(
    url: str, *routes: dict[str, Any], method: str = "GET", listener: str | None = None, **changes: Any
) -> Explanation:
    complete = {
        "listeners": [EGRESS],
        "credentials": {"orders": STATIC},
        "routes": [{"credential": "orders"} | route for route in routes],
    }
    configuration = load.parse(json.dumps(complete | changes), "test.yaml", check_files=False)
    return explain(configuration, ask(configuration, method, url, listener))


def why(explanation: Explanation) -> dict[str, str]:
    return {each.label: each.why for each in explanation.routes if not each.taken}


# --- it is what happens -----------------------------------------------------------------------------------------------

URLS: Final = (
    *(
        "http://{api}/v1/a",
        "http://{api}:80/v1/a",
        "http://{api}:{port}/v1/a",
        "http://{api}:{port}",
        "http://{api}/v2",
    ),
    *("http://{api}/v1/../x", "http://{api}/v1/%2e%2e/x", "http://{api}/v1/%25252e", "http://{api}/v1;a/b?c=d"),
    *("http://{api}:1/v1/a", "http://a.wild.test/x", "http://wild.test/x", "http://a.wild.test/deep/x"),
    *(
        "http://localhost:{plain}/x",
        "http://localhost/x",
        "http://[::1]:{plain}/",
        "http://user@{api}/",
        "http://0x7f.1/",
    ),
    *("http://other.test/", "http://{api}/v1\\x", "http://:80/", "http://{api}:0/", "http://{api}:99999/"),
)


@pytest.mark.parametrize("unmatched", ["deny", "forward"])
async def test_what_is_told_is_what_the_sidecar_does(rig: Rig, unmatched: str) -> None:
    rig.names |= {"a.wild.test": ["127.0.0.1"], "wild.test": ["127.0.0.1"], "other.test": None}
    routes = [
        rig.route(name="v1", paths=["/v1/"], methods=["GET", "POST"]),
        rig.route(name="root", paths=["/v1"], methods=["PUT"]),
        rig.route(name="wild", host="*.wild.test"),
        rig.route(name="deep", host="*.wild.test", paths=["/deep/"], if_present="reject"),
        rig.plain_route(),
    ]
    sidecar = await rig.start(routes=routes, unmatched=unmatched)
    for form in URLS:
        url = form.format(api=API, port=rig.secure.port, plain=rig.plain.port)
        for method in ("GET", "PUT", "TRACE", "BREW", "get"):
            explanation = explain(sidecar.configuration, ask(sidecar.configuration, method, url, "egress"))
            status, label = await _status(rig, method, url)
            happened = (method, url, status)
            match explanation.outcome:
                case Outcome.DENIED:
                    assert explanation.status == status, (explanation, happened)
                case Outcome.TOKEN:
                    assert status in (200, 502), (explanation, happened)
                    assert explanation.route == label, (explanation, happened)
                case _:
                    assert status in (200, 403, 502), (explanation, happened)
                    assert unmatched == "forward"


async def _status(rig: Rig, method: str, url: str) -> tuple[int, str | None]:
    """The status of the answer, and the label that it was counted under."""
    before = _counted(rig)
    host = url.partition("://")[2].partition("/")[0]
    async with await RawClient.to(rig.port("egress")) as client:
        answer = await client.ask(f"{method} {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    counted = [label for label, count in _counted(rig).items() if count > before[label]]
    return answer.status, counted[0] if counted else None


def _counted(rig: Rig) -> dict[str, float]:
    labels = [route.label for route in rig.sidecar.configuration.routes]
    return {label: rig.total("http_requests_total", route=label) for label in labels}


async def test_a_route_is_read_as_the_running_sidecar_reads_it(rig: Rig) -> None:
    routes = [
        rig.route(paths=["/v1/", "/v2"], methods=["GET"], if_present="keep", on_failure="open"),
        rig.route(name="wild", host="*.wild.test", intercept=True),
        rig.plain_route(),
    ]
    sidecar = await rig.start(routes=routes, interception=rig.interception("*.wild.test"))
    names = [each.name for each in dataclasses.fields(Route) if each.name not in ("credential", "meters")]
    running = {route.label: route for route in sidecar.gateway.generation.table.routes}
    for config in sidecar.configuration.routes:
        for name in names:
            assert getattr(route_of(config), name) == getattr(running[config.label], name), name


# --- the route that takes it ------------------------------------------------------------------------------------------


def test_a_request_that_gets_its_token() -> None:
    explanation = told(
        "http://api.example.com/v1/orders?a=1",
        {"name": "api", "host": "api.example.com", "paths": ["/v1/"], "ca_file": "/etc/ca.pem"},
    )
    assert (explanation.outcome, explanation.route, explanation.credential) == (Outcome.TOKEN, "api", "orders")
    assert explanation.path == "/v1/orders?a=1"
    assert explanation.read_as == ()
    way = explanation.way
    assert way is not None
    assert way.url == "https://api.example.com/v1/orders?a=1"
    assert way.tls == "over TLS, with a certificate for api.example.com from /etc/ca.pem"
    assert way.authorization == "replaced by the token"
    assert way.added == ("Host: api.example.com", "Via: 1.1 token-sidecar-...", "Authorization: Bearer $TOKEN")
    assert "after 5 s at most the answer is 503" in way.without_token
    assert way.limits == {"token_wait": 5.0, "connect": 5.0, "first_byte": 60.0, "response_idle": 300.0}
    assert way.curl == (
        "curl --cacert /etc/ca.pem -H \"Authorization: Bearer $TOKEN\" 'https://api.example.com/v1/orders?a=1'"
    )
    assert [each.why for each in explanation.routes] == ["the most specific one"]


@pytest.mark.parametrize(
    ("changes", "authorization"),
    [
        ({"if_present": "keep"}, "kept, and then no token is added"),
        ({"if_present": "reject"}, "refused: 403 (authorization_refused)"),
    ],
)
def test_what_becomes_of_an_authorization_of_the_app(changes: dict[str, str], authorization: str) -> None:
    way = told("http://api.example.com/", {"host": "api.example.com", **changes}).way
    assert way is not None
    assert way.authorization == authorization


def test_what_happens_without_a_token_and_over_plain_http() -> None:
    credentials = {"orders": STATIC | {"stale_for": "10m"}}
    route = {"host": "api.example.com", "upstream_tls": "plain", "on_failure": "open"}
    way = told("http://api.example.com/", route, credentials=credentials).way
    assert way is not None
    assert way.without_token.startswith("for 600 s past its end the old one is used; then after 5 s at most it goes on")
    assert way.tls.startswith("plain http: whoever is on the way")
    assert way.url == "http://api.example.com/"


def test_what_does_not_go_on_depends_on_route_and_listener() -> None:
    keyed = ORDERS | {"auth": {"header": "X-Key", "value": "file:/absent"}}
    narrow = told("/v1/", {"host": "api.example.com", "paths": ["/v1/"]}, listeners=[keyed])
    assert narrow.way is not None
    text = " ".join(narrow.way.removed)
    assert all(word in text for word in ("X-Forwarded-*", "X-Original-URL", "X-Key: the listener's key"))
    assert any("403 (key_refused) without it" in note for note in narrow.notes)
    wide = told("/v1/", {"host": "api.example.com"}, listeners=[ORDERS | {"trust_forwarded": True}])
    assert wide.way is not None
    assert len(wide.way.removed) == 1


def test_a_bound_token_goes_with_a_proof_and_curl_cannot_make_one() -> None:
    credential = {"grant": "client_credentials", "token_url": "https://i.test/t", "client_id": "c", "dpop": True}
    credential |= {"client_secret": "file:/absent"}
    way = told("http://api.example.com/", {"host": "api.example.com"}, credentials={"orders": credential}).way
    assert way is not None
    assert "Authorization: DPoP $TOKEN" in way.added
    assert way.curl == ""


def test_a_path_that_climbs_is_shown_as_it_may_be_read() -> None:
    explanation = told("http://api.example.com/v1/../x", {"name": "api", "host": "api.example.com", "paths": ["/v1/"]})
    assert (explanation.status, explanation.reason) == (403, "route_mismatch")
    assert explanation.read_as == ("/",)
    assert why(explanation) == {"api": "path: / is not below /v1/"}


# --- why the others lost ----------------------------------------------------------------------------------------------


def test_every_route_says_what_it_lost_by() -> None:
    host = "api.example.com"
    explanation = told(
        "http://api.example.com/v1/orders",
        {"name": "taken", "host": host, "paths": ["/v1/orders"], "methods": ["GET"]},
        {"name": "any-method", "host": host, "paths": ["/v1/orders"]},
        {"name": "shorter", "host": host, "paths": ["/v1/"]},
        {"name": "pattern", "host": "*.example.com"},
        {"name": "shorter-pattern", "host": "*.com"},
        {"name": "elsewhere", "host": host, "paths": ["/v2/"]},
        {"name": "posts", "host": host, "methods": ["POST", "PUT"]},
        {"name": "other-port", "host": host, "port": 8443},
        {"name": "other-host", "host": "other.example.com"},
        {"name": "other-pattern", "host": "*.example.org"},
        {"name": "itself", "host": "*.api.example.com"},
    )
    assert explanation.route == "taken"
    assert why(explanation) == {
        "any-method": "less specific than taken: it takes every method",
        "shorter": "less specific than taken: its path is shorter",
        "pattern": "less specific than taken: a pattern, and that one names the host",
        "shorter-pattern": "less specific than taken: a pattern, and that one names the host",
        "elsewhere": "path: /v1/orders is not below /v2/",
        "posts": "method: GET is not among POST PUT",
        "other-port": "port: without one in the URL, 443 comes before 8443",
        "other-host": "host: api.example.com is not other.example.com",
        "other-pattern": "host: api.example.com is not below example.org",
        "itself": "host: *.api.example.com means names below api.example.com, not api.example.com itself",
    }
    assert {each.label for each in explanation.routes if not each.same_host} == {
        "other-host",
        "other-pattern",
        "itself",
    }


def test_of_two_patterns_the_longer_one_wins() -> None:
    explanation = told(
        "http://a.b.example.com/",
        {"name": "long", "host": "*.b.example.com"},
        {"name": "short", "host": "*.example.com"},
    )
    assert explanation.route == "long"
    assert why(explanation) == {"short": "less specific than long: its pattern is shorter"}


def test_ports_and_schemes() -> None:
    tls, plain = {"name": "tls", "host": "a.test", "port": 8443}, {"name": "plain", "host": "b.test"}
    plain["upstream_tls"] = "plain"
    assert why(told("http://a.test:8080/", tls)) == {"tls": "port: the route has 8443, the URL 8080"}
    denied = told("https://b.test/", tls, plain)
    assert why(denied)["plain"] == "port: the route is for plain http (upstream_tls: plain)"
    assert told("http://a.test/", tls).outcome is Outcome.TOKEN


def test_trace_is_never_sent_with_a_token() -> None:
    assert why(told("http://a.test/", {"name": "a", "host": "a.test"}, method="TRACE")) == {
        "a": "method: TRACE is never sent with a token"
    }


# --- denied, passed through, tunnelled --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "method", "status", "reason"),
    [
        ("http://other.test/", "GET", 403, "target_unmatched"),
        ("http://user@a.test/", "GET", 400, "bad_request"),
        ("http://a.test/%25252e", "GET", 400, "bad_request"),
        ("http://a.test/", "BREW", 501, "method_unknown"),
        ("http://a.test/", "CONNECT", 400, "bad_request"),
        ("http://a.test/" + "x" * 9000, "GET", 414, "target_too_long"),
        ("https://other.test/", "GET", 403, "target_unmatched"),
        ("https://a.test:80/", "GET", 400, "bad_request"),
    ],
)
def test_what_is_denied_says_so_with_status_and_reason(url: str, method: str, status: int, reason: str) -> None:
    explanation = told(url, {"host": "a.test", "paths": ["/v1/"]}, method=method)
    assert explanation.outcome is Outcome.DENIED
    assert (explanation.status, explanation.reason) == (status, reason)
    assert explanation.detail
    assert explanation.way is None


def test_a_base_url_does_not_answer_to_a_foreign_host() -> None:
    route = {"host": "api.example.com"}
    assert told("http://evil.test/", route, listener="orders", listeners=[ORDERS]).reason == "host_unknown"
    assert told("https://api.example.com/x", route, listener="orders", listeners=[ORDERS]).outcome is Outcome.TOKEN


def test_without_a_route_it_may_be_passed_on_untouched() -> None:
    explanation = told("http://other.test:8080/x", {"host": "a.test"}, unmatched="forward")
    assert explanation.outcome is Outcome.UNTOUCHED
    assert explanation.way is not None
    assert explanation.way.url == "http://other.test:8080/x"
    assert explanation.way.authorization == "passed on as it is"
    assert any("address_denied" in note for note in explanation.notes)


def test_https_is_a_tunnel_that_gets_no_token() -> None:
    explanation = told("https://a.test/v1/x", {"name": "a", "host": "a.test"})
    assert (explanation.outcome, explanation.route) == (Outcome.TUNNELLED, "a")
    assert "bypassed_connect" in explanation.detail
    assert any("call http:// instead" in note for note in explanation.notes)


def test_https_to_strangers_is_a_matter_of_unmatched_and_port() -> None:
    assert told("https://other.test/", {"host": "a.test"}, unmatched="forward").outcome is Outcome.TUNNELLED
    assert told("https://other.test:22/", {"host": "a.test"}, unmatched="forward").reason == "tunnel_denied"


def test_https_is_read_where_the_route_intercepts() -> None:
    changes: dict[str, Any] = {"interception": {"certificate": "/etc/ca.pem", "key": "file:/absent"}}
    routes = ({"name": "v1", "host": "a.test", "intercept": True, "paths": ["/v1/"]},)
    explanation = told("https://a.test/v1/x", *routes, **changes)
    assert (explanation.outcome, explanation.route) == (Outcome.TOKEN, "v1")
    assert any("local CA" in note for note in explanation.notes)
    assert explanation.curl == "curl -x http://127.0.0.1:6180 --cacert /etc/ca.pem https://a.test/v1/x"
    assert told("https://a.test/v2/x", *routes, **changes).reason == "route_mismatch"


def test_for_programs_it_is_plain_values() -> None:
    found = as_json(told("http://a.test/", {"name": "a", "host": "a.test"}))
    assert json.loads(json.dumps(found))["outcome"] == "token"
    assert found["routes"] == ({"label": "a", "taken": True, "why": "the most specific one", "same_host": True},)
