"""A request that is to be explained: which listener a URL means, and how curl writes it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.config import load
from sidecar.proxy.question import ask, curl, curl_by

if TYPE_CHECKING:
    from sidecar.config.model import Configuration

EGRESS: Final = {"name": "egress", "bind": "127.0.0.1:6180"}
ORDERS: Final = {"name": "orders", "mode": "reverse", "bind": "127.0.0.1:6190", "upstream": "https://api.example.com"}


def configuration(*listeners: dict[str, Any], **changes: Any) -> Configuration:
    complete = {
        "listeners": listeners or (EGRESS, ORDERS),
        "credentials": {"orders": {"grant": "static", "token_file": "/absent"}},
        "routes": [{"host": "api.example.com", "credential": "orders"}],
    }
    return load.parse(json.dumps(complete | changes), "test.yaml", check_files=False)


# --- which listener ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "listener", "target"),
    [
        ("http://api.example.com/v1?a=/b", "egress", "/v1?a=/b"),
        ("HTTP://api.example.com", "egress", "/"),
        ("http://api.example.com?a", "egress", "/?a"),
        ("https://api.example.com/v1#part", "egress", "/v1"),
        ("http://127.0.0.1:6190/v1", "orders", "/v1"),
        ("http://localhost:6190/v1", "orders", "/v1"),
        ("http://127.0.0.1:6191/v1", "egress", "/v1"),
        ("/v1", "orders", "/v1"),
    ],
)
def test_a_url_leads_to_its_listener(url: str, listener: str, target: str) -> None:
    asked = ask(configuration(), "GET", url)
    assert (asked.listener.name, asked.target) == (listener, target)


def test_a_listener_can_be_named() -> None:
    assert ask(configuration(), "GET", "/v1", "orders").listener.name == "orders"
    assert ask(configuration(), "GET", "https://api.example.com/v1", "orders").target == "/v1"


@pytest.mark.parametrize(
    ("url", "listener", "why"),
    [
        ("api.example.com/v1", None, "write the whole URL"),
        ("ftp://api.example.com/", None, "begins with http:// or https://"),
        ("http://api.example.com/a b", None, "percent-encode"),
        ("http://api.example.com/\r\nX: y", None, "percent-encode"),
        ("http://api.example.com/ä", None, "percent-encode"),
        ("/v1", "egress", "write the whole URL"),
        ("/v1", "absent", "no listener is called absent"),
        ("", None, "write the whole URL"),
    ],
)
def test_what_no_app_could_send_is_not_asked(url: str, listener: str | None, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ask(configuration(), "GET", url, listener)


@pytest.mark.parametrize(
    ("listeners", "url"),
    [
        ((EGRESS,), "/v1"),
        ((ORDERS,), "http://other.test/"),
        ((ORDERS, ORDERS | {"name": "b", "bind": "[::1]:1"}), "/v1"),
    ],
)
def test_where_no_listener_is_meant_one_has_to_be_named(listeners: tuple[dict[str, Any], ...], url: str) -> None:
    with pytest.raises(ValueError, match="name the reverse listener"):
        ask(configuration(*listeners), "GET", url)


# --- curl -------------------------------------------------------------------------------------------------------------


def line(url: str, *listeners: dict[str, Any], method: str = "GET", **changes: Any) -> str:
    there = configuration(*listeners, **changes)
    return curl_by(ask(there, method, url), there)


def test_by_the_proxy_and_by_the_base_url() -> None:
    assert line("http://api.example.com/v1") == "curl -x http://127.0.0.1:6180 http://api.example.com/v1"
    assert line("/v1?a=1&b=2", method="POST") == "curl -X POST 'http://127.0.0.1:6190/v1?a=1&b=2'"
    assert line("http://api.example.com/", method="HEAD").startswith("curl -I ")
    assert "--path-as-is" in line("http://api.example.com/a/../b")


def test_a_wildcard_is_reached_by_loopback() -> None:
    assert "-x http://127.0.0.1:6180 " in line(
        "http://api.example.com/", EGRESS | {"bind": "0.0.0.0:6180", "beyond_loopback": True}
    )


def test_secrets_are_variables_that_the_shell_fills_in() -> None:
    locked = EGRESS | {"auth": {"proxy_password": "file:/absent"}}
    assert line("http://api.example.com/", locked) == (
        'curl -x "http://any:$SIDECAR_PROXY_PASSWORD@127.0.0.1:6180" http://api.example.com/'
    )
    keyed = ORDERS | {"auth": {"header": "X-Key", "value": "file:/absent"}}
    assert line("/v1", keyed) == 'curl -H "X-Key: $SIDECAR_KEY" http://127.0.0.1:6190/v1'


def test_unix_sockets() -> None:
    assert line("/v1", ORDERS | {"bind": "unix:/run/o.sock"}) == "curl --unix-socket /run/o.sock http://localhost/v1"
    assert line("http://api.example.com/", EGRESS | {"bind": "unix:/run/e.sock"}) == "", "curl has no such proxy"


def test_whatever_a_url_holds_is_one_word_of_the_shell() -> None:
    url = "http://h.test/$(id)`id`'\"\\;&|"
    assert shlex.split(curl("GET", url, fields=("X: $TOKEN",)))[-1] == url
    assert "'http" in curl("GET", "http://h.test/$TOKEN")
