"""Records: opened by the key and for the credential they were made for, and keys read as they stand in the file."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sidecar.broker.sealing import FORM, fingerprint, new_lineage, read_keys, seal, unseal
from sidecar.errors import StoreUnusable
from sidecar.secrets import Secret, SecretReference
from tests.broker.store_kit import grant, key_file, new_key

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.broker.sealing import Keys


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return read_keys(SecretReference("file", str(key_file(tmp_path))))


def test_a_record_gives_back_its_grant(keys: Keys) -> None:
    whole = grant(scope="a", dpop_key=Secret("{}"), seed="f", rotates=True, spent_at=1.0, expires_at=2.0, party="p")
    assert unseal("orders", seal("orders", whole, keys), keys) == whole


def test_the_same_grant_is_another_record_each_time(keys: Keys) -> None:
    assert seal("orders", grant(), keys) != seal("orders", grant(), keys)


def test_a_record_of_another_form_is_not_guessed_at(keys: Keys) -> None:
    raw = seal("orders", grant(), keys)
    with pytest.raises(StoreUnusable, match="another version wrote it"):
        unseal("orders", raw.replace(b"form 1", b"form 2"), keys)


@pytest.mark.parametrize("clear", [b"{}", b"[]", b"canary", b'{"refresh_token": 1}', b"\xff"])
def test_what_opens_but_is_no_grant_is_refused_without_showing_it(keys: Keys, clear: bytes) -> None:
    key_id, key = keys.first
    nonce = os.urandom(12)
    sealed = AESGCM(key).encrypt(nonce, clear, FORM + key_id + b"orders")
    with pytest.raises(StoreUnusable) as caught:
        unseal("orders", FORM + key_id + nonce + sealed, keys)
    assert caught.value.detail == "another version wrote it"
    assert caught.value.__cause__ is None


def test_no_repr_shows_a_key_or_a_token(keys: Keys) -> None:
    assert "canary" not in repr(grant("canary-refresh", dpop_key=Secret("canary-jwk")))
    assert repr(keys) == "Keys()"


def test_lineages_and_fingerprints_tell_apart() -> None:
    assert new_lineage() != new_lineage()
    assert fingerprint(Secret("a")) == fingerprint(Secret("a")) != fingerprint(Secret("b"))


# --- keys ------------------------------------------------------------------------------------------------------------


def read(folder: Path, text: str) -> Keys:
    path = folder / "store-key"
    path.write_text(text)
    path.chmod(0o600)
    return read_keys(SecretReference("file", str(path)))


def test_the_first_key_encrypts_and_all_open(tmp_path: Path) -> None:
    old, new = new_key(), new_key()
    record = seal("orders", grant(), read(tmp_path, old))
    both = read(tmp_path, f"\n  {new}\r\n\n{old}\n")
    assert unseal("orders", record, both) == grant()
    assert unseal("orders", seal("orders", grant(), both), read(tmp_path, new)) == grant()


@pytest.mark.parametrize(
    "line",
    [
        "password",
        base64.b64encode(b"16 bytes of key.").decode(),
        base64.b64encode(bytes(33)).decode(),
        base64.b64encode(bytes(32)).decode().rstrip("="),
        bytes(32).hex(),
        "é",
    ],
)
def test_a_line_that_is_no_key_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(StoreUnusable) as caught:
        read(tmp_path, f"{new_key()}\n{line}\n")
    assert "line 2 of file:" in caught.value.detail
    assert caught.value.detail.endswith("is not 32 bytes in base64; make one with `openssl rand -base64 32`")
    assert line not in caught.value.detail


@pytest.mark.parametrize("text", ["", "\n", "  \n\n"])
def test_an_empty_key_file_says_how_to_make_a_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(StoreUnusable, match="is empty; make one with"):
        read(tmp_path, text)


def test_a_key_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_KEY", new_key())
    assert read_keys(SecretReference("env", "STORE_KEY")).first


def test_a_key_that_vanishes_between_two_looks_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self: SecretReference, **_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(SecretReference, "loose_mode", gone)
    with pytest.raises(StoreUnusable, match="No such file"):
        read(tmp_path, new_key())


def test_cryptography_is_loaded_only_for_a_record() -> None:
    code = "import sys, sidecar.broker.store; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
