"""What a reload changed, by path, and without a value."""

from __future__ import annotations

from typing import Any

from sidecar.config import model
from sidecar.config.difference import changes
from sidecar.config.model import Bind, Configuration, Credential, Listener, Route
from sidecar.secrets import SecretReference

EGRESS = Listener(name="egress", bind=Bind(host="127.0.0.1", port=6180))
ORDERS = Credential(grant="client_credentials", client_id="orders", scopes=("read",))
API = Route(host="api.example.com", name="api", credential="orders")
WEB = Route(host="web.example.com", credential="orders")


def configuration(**changed: Any) -> Configuration:
    whole: dict[str, Any] = {"listeners": (EGRESS,), "credentials": {"orders": ORDERS}, "routes": (API, WEB)}
    return Configuration(**(whole | changed))


def found(**changed: Any) -> list[tuple[str, str]]:
    return [(each.path, each.kind) for each in changes(configuration(), configuration(**changed))]


def test_the_same_configuration_has_no_difference() -> None:
    assert found() == []


def test_a_key_is_named_by_its_path() -> None:
    changed = Credential(grant="client_credentials", client_id="orders", scopes=("read", "write"), audience="a")
    assert found(credentials={"orders": changed}) == [
        ("credentials.orders.scopes", "changed"),
        ("credentials.orders.audience", "added"),
    ]


def test_names_come_and_go() -> None:
    assert found(credentials={"billing": ORDERS}) == [
        ("credentials.orders", "removed"),
        ("credentials.billing", "added"),
    ]
    assert found(routes=(API,)) == [("routes.web.example.com:443", "removed")]
    assert found(admin=model.Admin()) == [("admin", "added")]


def test_a_route_that_moved_is_the_same_route() -> None:
    assert found(routes=(WEB, API)) == [("routes", "changed")]
    plain = Route(host="api.example.com", name="api", credential="orders", upstream_tls="plain")
    assert found(routes=(plain, WEB)) == [("routes.api.upstream_tls", "changed")]


def test_no_value_is_told() -> None:
    before = configuration(admin=model.Admin(token=SecretReference.parse("canary-1", allow_inline=True)))
    after = configuration(admin=model.Admin(token=SecretReference.parse("canary-2", allow_inline=True)))
    assert [(each.path, each.kind) for each in changes(before, after)] == [("admin.token", "changed")]
