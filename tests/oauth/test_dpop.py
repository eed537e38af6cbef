"""Proofs of possession."""

from __future__ import annotations

from sidecar.oauth.dpop import ProofKey
from sidecar.secrets import Secret


def test_a_key_does_not_print() -> None:
    assert "canary" not in repr(ProofKey(Secret("canary")))
