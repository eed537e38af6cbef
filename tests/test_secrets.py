"""Secrets do not print themselves, and are read where their reference says."""

from __future__ import annotations

import copy
import gc
import logging
import os
import pickle
import sys
import threading
import traceback
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import SecretMissing
from sidecar.secrets import MAX_SECRET_BYTES, Secret, SecretReference, live_values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARKER = "S3cr3t+Marker/42=="


# --- the value ---


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{!r:>40}".format,
        lambda secret: f"{secret:>40}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - one way among the others
        lambda secret: repr([secret, {"key": secret}, (secret,)]),
        lambda secret: repr(SecretReference("inline", "", secret)),
        lambda secret: str(SecretReference("inline", "", secret)),
        lambda secret: logging.LogRecord("n", 20, "p", 1, "%s", (secret,), None).getMessage(),
        lambda secret: repr(vars(type(secret))),
    ],
)
def test_no_way_of_printing_shows_the_value(show: object) -> None:
    assert callable(show)
    assert MARKER not in show(Secret(MARKER))


def test_only_reveal_gives_the_value() -> None:
    secret = Secret(MARKER)

    assert secret.reveal() == MARKER
    assert not hasattr(secret, "__dict__")
    assert not hasattr(secret, "value")


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_not_pickled_or_copied(leak: object) -> None:
    assert callable(leak)
    with pytest.raises(TypeError, match="not pickled"):
        leak(Secret(MARKER))


def test_secrets_are_equal_by_value_to_secrets_only() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret("ü") == Secret("ü")


def test_a_hash_says_nothing_of_the_value() -> None:
    one, other = Secret(MARKER), Secret(MARKER)

    assert hash(one) != hash(other)
    assert bool(Secret("")) is False


def test_a_traceback_does_not_show_the_value() -> None:
    def fail(secret: Secret) -> None:
        raise ValueError(f"cannot use {secret}")

    try:
        fail(Secret(MARKER))
    except ValueError as exc:
        text = "".join(traceback.TracebackException.from_exception(exc, capture_locals=True).format())
    assert MARKER not in text


def test_live_values_are_those_of_secrets_that_still_exist() -> None:
    secret = Secret(MARKER + "live")
    assert MARKER + "live" in live_values()

    del secret
    gc.collect()
    assert MARKER + "live" not in live_values()


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty_threads")
def test_secrets_may_be_made_in_a_thread_while_a_line_is_logged() -> None:
    ended = threading.Event()

    def read_a_disk() -> None:
        while not ended.is_set():
            Secret(MARKER)

    kept = [Secret(f"{MARKER}{number}") for number in range(50)]
    reader = threading.Thread(target=read_a_disk)
    reader.start()
    try:
        for _ in range(300):
            assert len(live_values()) >= len(kept)
    finally:
        ended.set()
        reader.join()


def test_live_values_leave_out_what_would_blank_ordinary_words_and_put_the_longest_first() -> None:
    kept = [Secret("short"), Secret("longer-value-1"), Secret("longer-value-1-and-more")]
    values = [value for value in live_values() if value.startswith(("short", "longer-value-1"))]

    assert values == ["longer-value-1-and-more", "longer-value-1"]
    assert kept


# --- the reference ---


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("file:/run/secrets/a", "file", "/run/secrets/a"),
        ("file:relative/a:b", "file", "relative/a:b"),
        ("env:ORDERS_SECRET", "env", "ORDERS_SECRET"),
        ("cred:orders", "cred", "orders"),
    ],
)
def test_a_reference_is_read_and_written_alike(text: str, kind: str, name: str) -> None:
    reference = SecretReference.parse(text)

    assert (reference.kind, reference.name) == (kind, name)
    assert str(reference) == text


@pytest.mark.parametrize("text", ["file:", "env:", "cred:", "cred:../a", "cred:.", "cred:..", "cred:a/b"])
@pytest.mark.parametrize("allow_inline", [False, True])
def test_an_incomplete_reference_is_no_inline_secret_either(text: str, allow_inline: bool) -> None:
    with pytest.raises(ValueError, match="name"):
        SecretReference.parse(text, allow_inline=allow_inline)


@given(st.text(min_size=1).filter(lambda text: text.partition(":")[0] not in ("file", "env", "cred")))
def test_a_literal_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="named, not written here") as caught:
        SecretReference.parse(text)
    assert str(caught.value) == "a secret is named, not written here: use file:PATH, env:NAME or cred:NAME"


def test_a_literal_is_taken_where_it_is_allowed() -> None:
    reference = SecretReference.parse(MARKER, allow_inline=True)

    assert reference.read().reveal() == MARKER
    assert str(reference) == "inline secret"
    assert reference.path is None


# --- reading ---


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("hunter2", "hunter2"),
        ("hunter2\n", "hunter2"),
        ("hunter2\r\n", "hunter2"),
        ("hunter2\n\n", "hunter2\n"),
        (" hunter2 ", " hunter2 "),
        ("pässwörd", "pässwörd"),
        ("two\nlines\n", "two\nlines"),
    ],
)
def test_one_line_end_is_taken_off_and_nothing_else(tmp_path: Path, content: str, value: str) -> None:
    (tmp_path / "secret").write_bytes(content.encode())

    assert SecretReference("file", str(tmp_path / "secret")).read().reveal() == value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"a\0b", "holds a NUL character"),
        (b"\xff" + MARKER.encode(), "is not UTF-8 text"),
        (b"x" * (MAX_SECRET_BYTES + 1), "is larger than 64 KiB"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_holds_no_secret_is_told_without_its_content(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SecretMissing) as caught:
        SecretReference("file", str(path)).read()
    assert caught.value.detail.startswith(f"file:{path}")
    assert caught.value.detail.endswith(reason)
    report = "".join(traceback.format_exception(caught.value))
    assert MARKER not in report


def test_a_secret_of_the_greatest_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * MAX_SECRET_BYTES)

    assert len(SecretReference("file", str(tmp_path / "secret")).read().reveal()) == MAX_SECRET_BYTES


def test_a_rotated_file_gives_its_new_content(tmp_path: Path) -> None:
    reference = SecretReference("file", str(tmp_path / "secret"))
    (tmp_path / "secret").write_text("old")
    assert reference.read() == Secret("old")

    (tmp_path / "new").write_text("new")
    (tmp_path / "new").rename(tmp_path / "secret")
    assert reference.read() == Secret("new")


def test_an_environment_variable_that_is_not_utf_8_is_an_error_without_a_byte_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORDERS_SECRET", os.fsdecode(b"caf\xe9-secret"))
    with pytest.raises(SecretMissing, match=r"env:ORDERS_SECRET is not UTF-8 text\Z"):
        SecretReference.parse("env:ORDERS_SECRET").read()


def test_an_environment_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_SECRET", MARKER)
    reference = SecretReference.parse("env:ORDERS_SECRET")

    assert reference.read().reveal() == MARKER
    assert reference.path is None

    monkeypatch.delenv("ORDERS_SECRET")
    with pytest.raises(SecretMissing, match="env:ORDERS_SECRET: the environment variable is not set"):
        reference.read()


def test_a_systemd_credential_is_read_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "orders").write_text(MARKER)
    reference = SecretReference.parse("cred:orders")

    assert reference.path == tmp_path / "orders"
    assert reference.read().reveal() == MARKER


def test_a_missing_secret_ends_the_process_with_its_own_code() -> None:
    assert SecretMissing.exit_code == 4


# --- who may use the file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "loose"), [(0o600, None), (0o400, None), (0o640, 0o640), (0o604, 0o604)])
def test_a_file_that_others_may_use_says_its_mode(tmp_path: Path, mode: int, loose: int | None) -> None:
    path = tmp_path / "key"
    path.write_text("x")
    path.chmod(mode)
    assert SecretReference("file", str(path)).loose_mode() == loose
    link = tmp_path / "link"
    link.symlink_to("key")
    assert SecretReference("file", str(link)).loose_mode() == loose


@pytest.mark.parametrize(("mode", "loose"), [(0o440, None), (0o444, 0o444), (0o460, 0o460), (0o400, None)])
def test_what_somebody_else_mounted_for_our_group_to_read_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, loose: int | None
) -> None:
    path = tmp_path / "key"
    path.write_text("x")
    path.chmod(mode)
    reference = SecretReference("file", str(path))
    assert reference.loose_mode(mounted_for_a_group=True) == (mode if mode & 0o077 else None)
    monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid + 1)
    assert reference.loose_mode(mounted_for_a_group=True) == loose


def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    os.mkfifo(path)
    with pytest.raises(SecretMissing):
        SecretReference("file", str(path)).read()
    writer = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(SecretMissing):
            SecretReference("file", str(path)).read()
    finally:
        os.close(writer)


def test_a_secret_without_a_file_has_no_mode() -> None:
    assert SecretReference("env", "KEY").loose_mode() is None
