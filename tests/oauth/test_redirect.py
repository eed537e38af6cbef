"""Redirect URIs of a login: which are listened for, and how they are put together again."""

from __future__ import annotations

import pytest

from sidecar.errors import ConfigurationInvalid, UsageError
from sidecar.oauth.redirect import RedirectURI


def test_without_a_redirect_uri_any_port_of_127_0_0_1_will_do() -> None:
    address = RedirectURI.read(None, port=None)
    assert (address.host, address.port, address.at(8400)) == ("127.0.0.1", 0, "http://127.0.0.1:8400/callback")
    assert RedirectURI.read(None, port=8400).port == 8400


@pytest.mark.parametrize(
    ("uri", "host", "port"),
    [
        ("http://127.0.0.1:8400/cb", "127.0.0.1", 8400),
        ("http://127.0.0.1:8400", "127.0.0.1", 8400),
        ("http://[::1]:8400/a%2Fb?x=%c3&y=", "::1", 8400),
        ("HTTP://127.0.0.1:8400/CB", "127.0.0.1", 8400),
    ],
)
def test_a_redirect_uri_with_its_port_is_kept_byte_for_byte(uri: str, host: str, port: int) -> None:
    address = RedirectURI.read(uri, port=None)
    assert (address.host, address.port, address.at(port)) == (host, port, uri)
    assert RedirectURI.read(uri, port=port) == address


def test_a_redirect_uri_without_a_port_gets_the_one_that_is_bound() -> None:
    address = RedirectURI.read("http://[::1]/a?b=c", port=None)
    assert (address.host, address.port, address.at(8400)) == ("::1", 0, "http://[::1]:8400/a?b=c")
    assert RedirectURI.read("http://127.0.0.1", port=7).at(7) == "http://127.0.0.1:7"


def test_another_port_than_the_redirect_uris_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="8400"):
        RedirectURI.read("http://127.0.0.1:8400/cb", port=8401)


@pytest.mark.parametrize(
    "uri",
    ["https://127.0.0.1:8400/cb", "http://app.example.com/cb", "http://192.0.2.1:80/cb", "http://localhost:8400/cb"],
)
def test_an_address_that_is_not_this_machines_is_refused(uri: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="redirect_uri"):
        RedirectURI.read(uri, port=None)
