"""A signer signs with one key, which its public half verifies."""

from __future__ import annotations

from typing import Literal

import pytest
from joserfc import jwt
from joserfc.jwk import import_key

from sidecar.simulation.signing import Signer


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_what_it_signs_its_public_key_verifies(algorithm: Literal["ES256", "RS256"]) -> None:
    signer = Signer(algorithm)
    public = signer.public
    token = jwt.decode(signer.sign({"sub": "client"}), import_key(public), algorithms=[algorithm])
    assert token.claims == {"sub": "client"}
    assert (token.header["typ"], token.header["kid"]) == ("at+jwt", public["kid"])
    assert "d" not in public
