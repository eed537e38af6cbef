"""Made-up secrets are private files, and change as a platform changes them."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from sidecar.broker.sealing import read_keys
from sidecar.oauth.jws import signing_key
from sidecar.rehearsal.made_up import MadeUp
from sidecar.simulation.idp import MockIdP

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def made_up(tmp_path: Path) -> MadeUp:
    return MadeUp(tmp_path)


def test_files_are_for_this_user_alone(made_up: MadeUp, tmp_path: Path) -> None:
    assert made_up.file("one").read().reveal() == "one"
    assert made_up.file("two").read().reveal() == "two"
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_the_provider_knows_the_secret_and_a_client_has_one(made_up: MadeUp) -> None:
    idp = MockIdP()
    reference = made_up.secret(idp, "a")
    assert made_up.secret(idp, "a") == reference
    assert idp.secrets["a"] == {reference.read().reveal()}
    assert made_up.secret(idp, "b") != reference


def test_a_rotation_is_first_at_the_provider_and_then_in_the_files(made_up: MadeUp) -> None:
    idp = MockIdP()
    reference = made_up.secret(idp, "a")
    before = reference.read().reveal()
    changed = made_up.change_at_idp(idp)
    assert before not in idp.secrets["a"]
    assert reference.read().reveal() == before
    made_up.change_files(changed)
    assert idp.secrets["a"] == {reference.read().reveal()}


@pytest.mark.parametrize("algorithm", [None, "ES256", "ES384", "ES512", "RS256", "PS512", "EdDSA"])
def test_a_key_is_one_that_signs_with_its_algorithm(made_up: MadeUp, algorithm: str | None) -> None:
    reference, public = made_up.key(algorithm)
    key = signing_key(reference.read(), key_id=None, algorithm=algorithm)
    assert key.algorithm == (algorithm or "ES256")
    assert "d" not in public


def test_the_key_of_the_store_is_one(made_up: MadeUp) -> None:
    read_keys(made_up.store_key())
