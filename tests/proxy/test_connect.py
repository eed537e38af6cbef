"""Which kind of tunnel a CONNECT gets; the tunnels themselves are driven in ``test_tunnel``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from sidecar.config.model import Limits
from sidecar.errors import BadRequest, SidecarError, TargetUnmatched, TunnelDenied
from sidecar.http.message import RequestHead
from sidecar.proxy.authority import Authority
from sidecar.proxy.connect import Inside, Intercepted, Opaque, plan
from sidecar.proxy.entrance import ForwardEntrance, reverse_entrance
from sidecar.proxy.gateway import Generation
from sidecar.proxy.routing import Route, RoutingTable
from sidecar.telemetry.metrics import UNMATCHED, Metrics

if TYPE_CHECKING:
    from sidecar.proxy.entrance import Entrance


def generation(*, forwards_unmatched: bool = False) -> Generation:
    metrics, nothing = Metrics(), cast("Any", None)

    def route(label: str, host: str, port: int, *, tls: bool) -> Route:
        return Route(label, host, False, port, tls, (b"/",), frozenset(), nothing, metrics.route(label, None))

    table = RoutingTable(
        [
            route("api", "api.example.com", 443, tls=True),
            route("plain", "plain.example.com", 8080, tls=False),
        ]
    )
    unmatched = metrics.route(UNMATCHED, None)
    return Generation(table, Limits(), forwards_unmatched=forwards_unmatched, unmatched_meters=unmatched)


def planned(target: bytes, *, forwards_unmatched: bool = False) -> Inside | Intercepted | Opaque:
    now = generation(forwards_unmatched=forwards_unmatched)
    return plan(RequestHead(b"CONNECT", target, 1), ForwardEntrance(now.table), now, None)


@pytest.mark.parametrize(
    ("target", "port"),
    [(b"api.example.com:80", 80), (b"plain.example.com:8080", 8080), (b"API.example.com.:80", 80)],
)
def test_http_is_read_inside_a_tunnel_to_a_plain_port_of_a_route(target: bytes, port: int) -> None:
    way = planned(target)
    assert isinstance(way, Inside)
    assert way.authority.port == port


def test_a_tunnel_to_the_tls_port_of_a_route_is_opaque_and_names_the_route_it_bypasses() -> None:
    way = planned(b"api.example.com:443")
    assert isinstance(way, Opaque)
    assert way.authority == Authority("api.example.com", 443)
    assert way.route is not None
    assert way.route.label == "api"


@pytest.mark.parametrize("target", [b"other.example:443", b"other.example:80"])
def test_strangers_get_a_tunnel_to_the_webs_ports_where_they_are_passed_through(target: bytes) -> None:
    way = planned(target, forwards_unmatched=True)
    assert isinstance(way, Opaque)
    assert way.route is None


@pytest.mark.parametrize(
    ("target", "forwards_unmatched", "error"),
    [
        (b"other.example:443", False, TargetUnmatched),
        (b"api.example.com:22", False, TargetUnmatched),
        (b"other.example:25", True, TunnelDenied),
        (b"api.example.com:6443", True, TunnelDenied),
        (b"api.example.com", True, BadRequest),
        (b"http://api.example.com:443", True, BadRequest),
    ],
)
def test_every_other_tunnel_is_refused(target: bytes, forwards_unmatched: bool, error: type[SidecarError]) -> None:
    with pytest.raises(error):
        planned(target, forwards_unmatched=forwards_unmatched)


def test_only_a_forward_listener_opens_tunnels() -> None:
    now = generation()
    entrance: Entrance = reverse_entrance(now.table, "https://api.example.com", (), "127.0.0.1")
    with pytest.raises(BadRequest):
        plan(RequestHead(b"CONNECT", b"api.example.com:443", 1), entrance, now, None)
