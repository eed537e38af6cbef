"""What has to stand before anything is served. Listeners' secrets and the local CA have their tests in ``test_app``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.config import load
from sidecar.errors import SecretMissing
from sidecar.read_once import ReadOnce, see_secrets
from sidecar.runtime import SystemClock
from tests.config.conftest import VALID

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.config.model import Configuration


def configured(secret: Path, admin: str) -> Configuration:
    return load.parse(VALID.replace("/run/secrets/orders", str(secret)) + f"admin: {admin}\n", "config.yaml")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("of-the-test")
    return path


def test_a_sound_admin_token_is_no_error(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN", "0123456789abcdef")
    configuration = configured(secret, "{token: env:ADMIN}")
    assert see_secrets(configuration, SystemClock()) == ReadOnce({"egress": None}, None)
    assert see_secrets(configured(secret, "{bind: 127.0.0.1:6182}"), SystemClock()).local_ca is None


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("0123456789abcde", r"at least 16 characters: `openssl rand -hex 32` makes one"),
        ("0123456789 abcdef", "visible ASCII characters without spaces"),
        ("0123456789\tabcdef", "visible ASCII characters without spaces"),
        ("0123456789abcdefé", "visible ASCII characters without spaces"),
    ],
)
def test_an_admin_token_that_cannot_serve_as_one_is_told_without_showing_it(
    secret: Path, monkeypatch: pytest.MonkeyPatch, token: str, why: str
) -> None:
    monkeypatch.setenv("ADMIN", token)
    with pytest.raises(SecretMissing, match=rf"^admin\.token: .*{why}") as caught:
        see_secrets(configured(secret, "{token: env:ADMIN}"), SystemClock())
    assert caught.value.exit_code == 4
    assert token not in str(caught.value)


def test_an_absent_admin_token_is_named_with_its_key(secret: Path) -> None:
    with pytest.raises(SecretMissing, match=r"^admin\.token: file:/absent/token: No such file"):
        ReadOnce.of(configured(secret, "{token: file:/absent/token}"), SystemClock())
