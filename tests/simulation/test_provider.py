"""A provider knows its clients and where it is."""

from __future__ import annotations

import pytest

from sidecar.simulation.exchange import Refused
from sidecar.simulation.provider import Provider
from sidecar.simulation.registration import Client


def test_its_addresses_hang_together() -> None:
    provider = Provider(issuer_path="/tenant")
    provider.port = 8080
    assert provider.token_url == "http://127.0.0.1:8080/tenant/token"
    assert provider.token_url.startswith(provider.issuer + "/")
    assert provider.issuer.startswith(provider.origin)


def test_a_client_registered_anew_keeps_its_secrets() -> None:
    provider = Provider(clients={"client": "secret"})
    provider.register("client", Client(redirect_uris=("http://127.0.0.1/",)))
    provider.register("other", Client(), secret="other-secret")
    assert provider.client("client").redirect_uris == ("http://127.0.0.1/",)
    assert provider.secrets == {"client": {"secret"}, "other": {"other-secret"}}


def test_a_secret_alone_makes_an_ordinary_client() -> None:
    provider = Provider()
    provider.secrets["billing"] = {"billing-secret"}
    assert provider.client("billing") == Client()


def test_an_unknown_client_is_refused() -> None:
    with pytest.raises(Refused, match="invalid_client"):
        Provider().client("nobody")
