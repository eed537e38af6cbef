"""What a registration means by itself."""

from __future__ import annotations

from sidecar.simulation.registration import Client


def test_a_client_that_can_prove_nothing_is_public() -> None:
    assert Client(auth=frozenset({"none"})).is_public
    assert not Client().is_public
    assert not Client(auth=frozenset({"none", "client_secret_post"})).is_public
