"""Secrets as they lie there; what they hold is never told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sidecar.preflight.kinds import Kind
from sidecar.preflight.lints import secret_files
from sidecar.preflight.lints.secret_files import lint
from tests.config.conftest import VALID
from tests.preflight.kit import NOW, sentences, subject, told, with_credential

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "credentials.orders.client_secret"


def lying(path: Path, content: bytes | str = "hunter2", *, mode: int = 0o600) -> str:
    """The valid configuration with its secret there."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return VALID.replace("/run/secrets/orders", str(path))


# --- what is in them ---


def test_a_secret_that_is_not_there_is_an_error_at_its_key() -> None:
    text = VALID.replace("/run/secrets/orders", "/nowhere/at/all")

    assert told(lint, text) == [(Kind.SECRET_MISSING, SECRET)]
    assert sentences(lint, text) == [f"{SECRET}: file:/nowhere/at/all: No such file or directory"]


@pytest.mark.parametrize(
    ("content", "kinds"),
    [
        ("hunter2", []),
        ("hunter2\n", []),
        ("hunter two", []),
        ("a=b==", []),
        ('{"client": "json"}', []),
        ("hunter2 \n", [Kind.SECRET_TRAILING_BLANK]),
        ("\thunter2", [Kind.SECRET_TRAILING_BLANK]),
        ("hunter2\n\n", [Kind.SECRET_TRAILING_BLANK]),
        ("\ufeffhunter2", [Kind.SECRET_BYTE_ORDER_MARK]),
        ("hunter2\r\n", [Kind.SECRET_WINDOWS_LINE_ENDS]),
        ("hunter2\r\nhunter3", [Kind.SECRET_WINDOWS_LINE_ENDS, Kind.SECRET_SEVERAL_LINES]),
        ("hunter2\nhunter3\n", [Kind.SECRET_SEVERAL_LINES]),
        ("export SECRET=hunter2\n", [Kind.SECRET_SHELL_SYNTAX]),
        ("\ufeff export SECRET='hunter2'", [Kind.SECRET_BYTE_ORDER_MARK, Kind.SECRET_SHELL_SYNTAX]),
        ("'hunter2'", [Kind.SECRET_IN_QUOTES]),
        ('"hunter2"\n', [Kind.SECRET_IN_QUOTES]),
        ("''", []),
    ],
)
def test_what_would_be_sent_along_is_mentioned_and_never_told(tmp_path: Path, content: str, kinds: list[Kind]) -> None:
    text = lying(tmp_path / "secret", content)

    assert told(lint, text) == [(kind, SECRET) for kind in kinds]
    assert "hunter" not in " ".join(sentences(lint, text))


def test_a_key_has_many_lines(tmp_path: Path) -> None:
    text = lying(tmp_path / "key", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n")
    text = text.replace("client_secret: file", "client_auth: private_key_jwt\n    private_key: file")

    assert told(lint, text) == []


def test_a_secret_in_the_environment_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_SECRET", "hunter2 ")
    text = VALID.replace("file:/run/secrets/orders", "env:ORDERS_SECRET")

    assert told(lint, text) == [(Kind.SECRET_TRAILING_BLANK, SECRET)]


def test_the_secrets_of_other_credentials_are_left_alone() -> None:
    text = VALID.replace("/run/secrets/orders", "/nowhere/at/all").replace(
        "credentials:\n", "credentials:\n  other: {grant: static, token: env:NO_SUCH_VARIABLE}\n"
    )

    assert told(lint, text, only=frozenset({"other"})) == [(Kind.SECRET_MISSING, "credentials.other.token")]


# --- who may read them ---


@pytest.mark.parametrize(("mode", "danger"), [(0o644, "read"), (0o666, "changed"), (0o602, "changed")])
def test_a_secret_file_that_is_open_to_every_user_is_mentioned(tmp_path: Path, mode: int, danger: str) -> None:
    text = lying(tmp_path / "secret", mode=mode)

    assert told(lint, text) == [(Kind.SECRET_OPEN_TO_OTHERS, SECRET)]
    assert sentences(lint, text) == [f"{SECRET}: file:{tmp_path}/secret can be {danger} by every user of this machine"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o440])
def test_a_secret_file_for_its_owner_and_group_is_fine(tmp_path: Path, mode: int) -> None:
    assert told(lint, lying(tmp_path / "secret", mode=mode)) == []


def test_a_volume_of_kubernetes_is_fine_as_it_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "..2026_11_22").mkdir()
    (tmp_path / "..data").symlink_to("..2026_11_22")
    lying(tmp_path / "..data" / "secret", mode=0o644)
    (tmp_path / "secret").symlink_to("..data/secret")

    assert told(lint, VALID.replace("/run/secrets/orders", str(tmp_path / "secret"))) == []


# --- whether they change ---


def test_a_file_that_is_a_mount_of_its_own_is_mentioned(tmp_path: Path) -> None:
    text = lying(tmp_path / "secret")
    text = text.replace("    client_id", f"    ca_file: {tmp_path}/ca.pem\n    client_id")
    (tmp_path / "config.yaml").write_text(text)
    mounts = [str(tmp_path), str(tmp_path / "secret"), str(tmp_path / "config.yaml")]
    here = subject(text.replace(f"    ca_file: {tmp_path}/ca.pem\n", ""), mounts=mounts, file=tmp_path / "config.yaml")

    found = [(each.kind, each.key) for each in secret_files.mounted_alone(here)]
    assert found == [(Kind.MOUNTED_ALONE, ""), (Kind.MOUNTED_ALONE, SECRET)]


def test_a_folder_that_is_a_mount_is_as_it_should_be(tmp_path: Path) -> None:
    assert told(secret_files.mounted_alone, lying(tmp_path / "secret"), mounts=[str(tmp_path)]) == []


def test_a_secret_past_its_age_is_mentioned(tmp_path: Path) -> None:
    text = with_credential("secret_max_age: 90d", lying(tmp_path / "secret"))

    os.utime(tmp_path / "secret", (NOW - 89 * 86400, NOW - 89 * 86400))
    assert told(lint, text) == []
    os.utime(tmp_path / "secret", (NOW - 91 * 86400, NOW - 91 * 86400))
    assert told(lint, text) == [(Kind.SECRET_TOO_OLD, SECRET)]
    assert "has not changed for 91 days; secret_max_age is 90 days" in sentences(lint, text)[0]
