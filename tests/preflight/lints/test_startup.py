"""What a start would refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.preflight.kinds import Kind
from sidecar.preflight.lints.startup import lint
from tests.broker.store_kit import key_file
from tests.config.conftest import VALID
from tests.preflight.kit import sentences, told

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_what_is_not_there_is_not_read() -> None:
    assert told(lint, VALID) == []


def test_an_admin_token_that_can_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", "hunter2")
    text = VALID + "admin: {token: env:ADMIN_TOKEN}\n"

    assert told(lint, text) == [(Kind.SECRET_MISSING, "admin.token")]
    assert "hunter2" not in sentences(lint, text)[0]
    monkeypatch.setenv("ADMIN_TOKEN", "hunter2-hunter2-hunter2")
    assert told(lint, text) == []


def test_a_listener_s_secret_that_cannot_serve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "two\nlines")
    listener = "  - {name: api, mode: reverse, bind: 127.0.0.1:6190, upstream: 'https://api.example.com'"
    auth = ", auth: {header: X-Key, value: env:KEY}}\n"
    text = VALID.replace("credentials:", f"{listener}{auth}credentials:", 1)

    assert told(lint, text) == [(Kind.SECRET_MISSING, "listeners[1].auth")]
    monkeypatch.delenv("KEY")
    assert told(lint, text) == []


def test_the_keys_of_a_store_are_read(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    text = VALID + f"store: {{path: {tmp_path}/tokens, key: 'file:{path}'}}\n"

    assert told(lint, text) == []
    path.write_text("no key\n")
    assert told(lint, text) == [(Kind.STORE_UNUSABLE, "store.key")]
    path.unlink()
    assert told(lint, text) == [], "what is missing is told as that"
