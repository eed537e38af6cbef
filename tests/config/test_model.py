"""The structs by themselves: what they print, derive and refuse to change."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.config.model import NOT_YET, Bind, Configuration, Listener, Route
from sidecar.config.shapes import structs


@pytest.mark.parametrize(
    ("bind", "text"),
    [
        (Bind(host="127.0.0.1", port=6180), "127.0.0.1:6180"),
        (Bind(host="::1", port=6180), "[::1]:6180"),
        (Bind(path="/run/a.sock"), "unix:/run/a.sock"),
    ],
)
def test_an_address_prints_as_it_is_written(bind: Bind, text: str) -> None:
    assert str(bind) == text


def test_a_unix_socket_is_for_its_owner_alone_by_default() -> None:
    assert Bind(path="/run/a.sock").mode == 0o600


@pytest.mark.parametrize(
    ("route", "port"),
    [
        (Route(host="a", credential="c"), 443),
        (Route(host="a", credential="c", upstream_tls="plain"), 80),
        (Route(host="a", credential="c", port=8443), 8443),
        (Route(host="a", credential="c", port=8080, upstream_tls="plain"), 8080),
    ],
)
def test_a_routes_port_follows_its_tls(route: Route, port: int) -> None:
    assert route.upstream_port == port


@pytest.mark.parametrize(
    ("route", "label"),
    [
        (Route(host="a.example", credential="c"), "a.example:443"),
        (Route(host="a.example", credential="c", paths=("/v1/", "/v2/")), "a.example:443/v1/"),
        (Route(name="orders", host="a.example", credential="c"), "orders"),
    ],
)
def test_a_route_without_a_name_is_labelled_by_what_it_matches(route: Route, label: str) -> None:
    assert route.label == label


def test_nothing_can_be_changed_after_loading() -> None:
    configuration = Configuration(listeners=(Listener(name="a", bind=Bind(host="127.0.0.1", port=1)),))

    with pytest.raises(AttributeError):
        configuration.listeners = ()  # type: ignore[misc]


def test_every_struct_says_what_it_is_for() -> None:
    assert all((shape.model.__doc__ or "").strip() for shape in structs())


def test_what_does_not_exist_yet_is_named_by_keys_that_exist() -> None:
    for path in NOT_YET:
        section: object = Configuration
        for part in path.split("."):
            names = [field.name for shape in structs() for field in msgspec.structs.fields(shape.model)]
            assert part == "*" or part in names
        assert section
