"""What a client beside the sidecar is told by its environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.cli.client_settings import ALIASES, BESIDE, CLIENTS, as_java_patterns, listener_variable, no_proxy
from sidecar.config import load

if TYPE_CHECKING:
    from sidecar.config.model import Configuration


def configuration(*hosts: str) -> Configuration:
    routes = "".join(f"\n  - {{host: '{host}', credential: orders}}" for host in hosts)
    return load.parse(
        f"listeners: [{{name: egress, bind: 127.0.0.1:6180}}]\n"
        f"credentials: {{orders: {{grant: static, token_file: /absent}}}}\nroutes:{routes}\n",
        "test.yaml",
    )


def entries(inherited: str, *hosts: str, **environment: str) -> list[str]:
    return no_proxy(configuration(*hosts), {"NO_PROXY": inherited, **environment}).split(",")


def test_loopback_metadata_and_the_cluster_are_called_directly() -> None:
    assert entries("", "api.example.com", KUBERNETES_SERVICE_HOST="10.0.0.1") == [*BESIDE, "10.0.0.1"]


def test_what_was_there_before_stays() -> None:
    assert entries("intra.example.org, localhost,,10.0.0.0/8", "api.example.com")[:3] == [
        "intra.example.org",
        "localhost",
        "10.0.0.0/8",
    ]


def test_the_lower_case_spelling_comes_first_as_it_does_in_curl() -> None:
    found = no_proxy(configuration("api.example.com"), {"NO_PROXY": "a.test", "no_proxy": "b.test"})
    assert found.startswith("b.test,")


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("*", "api.example.com"),
        ("api.example.com", "api.example.com"),
        ("API.Example.com", "api.example.com"),
        ("example.com", "api.example.com"),
        (".example.com", "api.example.com"),
        ("*.example.com", "api.example.com"),
        ("api.example.com:443", "api.example.com"),
        ("a.example.com", "*.example.com"),
        ("example.com", "*.example.com"),
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3"),
        ("::1", "::1"),
        ("localhost", "localhost"),
        (".svc", "orders.shop.svc"),
    ],
)
def test_an_entry_that_covers_a_route_is_left_out(entry: str, host: str) -> None:
    assert entry not in entries(entry, host)


@pytest.mark.parametrize(
    ("entry", "host"),
    [("example.org", "api.example.com"), ("ample.com", "api.example.com"), ("10.0.0.0/8", "192.0.2.1")],
)
def test_an_entry_that_covers_no_route_is_kept(entry: str, host: str) -> None:
    assert entry in entries(entry, host)


def test_java_writes_the_exceptions_with_stars_and_bars() -> None:
    entries = "localhost,127.0.0.1,::1,.svc,*.example.org,intra.example.org,10.0.0.0/8,*"
    assert as_java_patterns(entries) == (
        "localhost|127.0.0.1|[::1]|*.svc|*.example.org|intra.example.org|*.intra.example.org"
    )


def test_the_variable_of_a_listener_has_no_character_that_a_shell_does_not_take() -> None:
    assert listener_variable("or-ders.v1:x/y") == "TOKEN_SIDECAR_OR_DERS_V1_X_Y"


def test_every_other_name_leads_to_a_client() -> None:
    assert set(ALIASES.values()) <= set(CLIENTS)
    assert not ALIASES.keys() & CLIENTS.keys()
