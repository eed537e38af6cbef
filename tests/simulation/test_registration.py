"""What a registration means by itself."""

from __future__ import annotations

import pytest

from sidecar.simulation.registration import Client


def test_a_client_that_can_prove_nothing_is_public() -> None:
    assert Client(auth=frozenset({"none"})).is_public
    assert not Client().is_public
    assert not Client(auth=frozenset({"none", "client_secret_post"})).is_public


@pytest.mark.parametrize(
    ("registered", "uri", "allowed"),
    [
        ("http://127.0.0.1/cb", "http://127.0.0.1:1234/cb", True),
        ("http://127.0.0.1:1/cb", "http://127.0.0.1/cb", True),
        ("http://[::1]/cb", "http://[::1]:1234/cb", True),
        ("http://127.0.0.1/cb?a=1", "http://127.0.0.1:1234/cb?a=1", True),
        ("http://127.0.0.1/cb", "http://127.0.0.1:1234/cb?a=1", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:1234/other", False),
        ("http://127.0.0.1/cb", "https://127.0.0.1:1234/cb", False),
        ("http://127.0.0.1/cb", "http://[::1]:1234/cb", False),
        ("http://127.0.0.1/cb", "http://user@127.0.0.1:1234/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:1234/cb#x", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:port/cb", False),
        ("http://localhost/cb", "http://localhost:1234/cb", False),
        ("https://app.test/cb", "https://app.test:1234/cb", False),
        ("https://app.test/cb", "https://app.test/cb", True),
    ],
)
def test_only_the_port_of_a_loopback_address_may_vary(registered: str, uri: str, allowed: bool) -> None:
    assert Client(redirect_uris=(registered,), any_loopback_port=True).may_return_to(uri) is allowed
    assert Client(redirect_uris=(registered,)).may_return_to(uri) is (registered == uri)
