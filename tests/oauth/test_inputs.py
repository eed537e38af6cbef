"""The inputs of a token request do not print."""

from __future__ import annotations

from sidecar.oauth.inputs import Inputs
from sidecar.secrets import Secret


def test_printing_the_inputs_shows_the_endpoint_and_nothing_else() -> None:
    inputs = Inputs(token_url="https://idp.example.com/token", wall=1.0, secret=Secret("canary"), dpop_nonce="nonce")
    assert repr(inputs) == "Inputs(token_url='https://idp.example.com/token', issuer=None, wall=1.0)"
