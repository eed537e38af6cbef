"""The configuration on its stage: what it is about is kept, every address is replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.rehearsal.arrangement import Arrangement, arranged, upstream_ports
from sidecar.rehearsal.made_up import MadeUp
from sidecar.simulation.idp import MockIdP
from tests.rehearsal.plays import ORDERS, ROUTE, STORE, configuration

if TYPE_CHECKING:
    from pathlib import Path


def on_stage(folder: Path, **changes: Any) -> Arrangement:
    original = configuration(**changes)
    echoes = {port: 40000 + number for number, port in enumerate(upstream_ports(original))}
    idp = MockIdP()
    return arranged(original, idps=dict.fromkeys(original.credentials, idp), echoes=echoes, made_up=MadeUp(folder))


def test_listeners_admin_and_interception_stay_away(tmp_path: Path) -> None:
    kept = on_stage(
        tmp_path,
        admin={"token": "file:/absent"},
        listeners=[{"name": "a", "bind": "0.0.0.0:6180", "beyond_loopback": True}],
        limits={"token_wait": "2s"},
    ).configuration
    assert [str(listener.bind) for listener in kept.listeners] == ["127.0.0.1:0"]
    assert (kept.admin, kept.interception, kept.store) == (None, None, None)
    assert kept.limits.token_wait == 2.0


def test_routes_keep_their_hosts_and_labels_and_lead_to_echoes(tmp_path: Path) -> None:
    result = on_stage(
        tmp_path,
        routes=[
            ROUTE,
            {"host": "*.example.org", "credential": "orders", "methods": ["POST"]},
            {"host": "api.example.com", "port": 8443, "credential": "orders"},
            {"host": "10.1.2.3", "credential": "orders", "upstream_tls": "plain"},
        ],
    )
    assert [(call.route, call.method, call.url) for call in result.calls] == [
        ("api", "GET", "http://api.example.com:40000/v1/"),
        ("*.example.org:443", "POST", "http://any.example.org:40000/"),
        ("api.example.com:8443", "GET", "http://api.example.com:40001/"),
        ("10.1.2.3:80", "GET", "http://address-4.rehearsal.test:40002/"),
    ]
    assert {route.upstream_tls for route in result.configuration.routes} == {"plain"}


def test_a_store_is_made_where_logins_need_one(tmp_path: Path) -> None:
    credential = ORDERS | {"grant": "refresh_token", "refresh_token": "file:/absent"}
    kept = on_stage(tmp_path, credentials={"orders": credential}, store=STORE).configuration
    assert kept.store is not None
    assert kept.store.path.startswith(str(tmp_path))


def test_notes_name_the_credential(tmp_path: Path) -> None:
    notes = on_stage(tmp_path, credentials={"orders": {"grant": "static", "token_file": "/absent"}}).notes
    assert notes[0].startswith("credential orders: grant static")
