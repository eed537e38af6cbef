"""The store on a real disk: whole after every failure, private, and one owner for each grant."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.broker import store as store_module
from sidecar.broker.store import LARGEST_RECORD, Grant, TokenStore
from sidecar.errors import StoreLocked, StoreUnusable
from sidecar.secrets import Secret, SecretReference
from tests.broker.store_kit import grant, key_file, new_key, open_store, other_process, said_by

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return open_store(tmp_path)


@pytest.fixture
def record(store: TokenStore) -> Path:
    """The file of a grant that was written."""
    store.write("orders", grant())
    return store.path / "orders.grant"


def files(store: TokenStore) -> list[str]:
    return sorted(path.name for path in store.path.iterdir())


# --- writing and reading ---------------------------------------------------------------------------------------------


def test_what_was_written_is_read(store: TokenStore) -> None:
    full = grant(
        expires_at=1_800_086_400.5,
        scope="a b",
        rotates=True,
        spent_at=1_800_000_100.25,
        seed="f1",
        dpop_key=Secret('{"kty":"EC"}'),
    )
    store.write("orders", full)
    assert store.read("orders") == full


def test_a_credential_without_a_grant_has_none(store: TokenStore) -> None:
    assert store.read("orders") is None
    assert store.stamp("orders") is None
    store.write("orders", grant())
    assert store.read("reports") is None


def test_the_folder_and_its_files_are_for_their_owner_alone(store: TokenStore) -> None:
    before = os.umask(0)
    try:
        store.write("orders", grant())
        store.own("orders").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in store.path.iterdir()} == {0o600}
    assert files(store) == ["orders.grant", "orders.grant.owner", "writing"]


def test_no_secret_stands_in_the_file_in_clear(record: Path) -> None:
    assert b"canary" not in record.read_bytes()


def test_a_grant_can_be_forgotten(store: TokenStore, record: Path) -> None:
    store.remove("orders")
    store.remove("orders")
    assert store.read("orders") is None


def test_a_stamp_tells_that_somebody_wrote(store: TokenStore) -> None:
    first = store.write("orders", grant())
    assert store.stamp("orders") == first
    second = store.write("orders", grant("canary-other"))
    assert store.stamp("orders") == second != first


@pytest.mark.parametrize(
    "name",
    [
        "../../outside",
        "..",
        ".",
        "/etc/shadow",
        "a/b",
        "*.example.com:443/[v1]",
        "ä\n\0",
        "x" * 128,
        "%" * 128,
        "/" * 128,
    ],
)
def test_no_name_leaves_the_folder_or_meets_another(store: TokenStore, tmp_path: Path, name: str) -> None:
    store.write(name, grant("canary-odd"))
    store.write(name.upper() + "2", grant("canary-other"))
    with store.own(name), store.own(name.upper() + "2"):
        pass
    assert store.read(name) == grant("canary-odd")
    assert {path.name for path in tmp_path.iterdir()} == {"tokens", "store-key"}
    assert all(path.is_file() for path in store.path.iterdir())


# --- a newer login wins ----------------------------------------------------------------------------------------------


def test_a_grant_is_replaced_while_its_lineage_is_there(store: TokenStore) -> None:
    store.write("orders", grant())
    stamp = store.replace("orders", grant("canary-next", rotates=True), lineage="l1")
    assert stamp == store.stamp("orders")
    assert store.read("orders") == grant("canary-next", rotates=True)


@pytest.mark.parametrize("expected", ["l1", None])
def test_a_rotation_does_not_overwrite_a_newer_login(store: TokenStore, expected: str | None) -> None:
    store.write("orders", grant("canary-login", lineage="l2"))
    assert store.replace("orders", grant("canary-late", lineage="l1"), lineage=expected) is None
    assert store.read("orders") == grant("canary-login", lineage="l2")


def test_a_rotation_does_not_bring_back_what_was_removed(store: TokenStore, record: Path) -> None:
    store.remove("orders")
    assert store.replace("orders", grant("canary-late"), lineage="l1") is None
    assert store.read("orders") is None


def test_the_first_grant_is_written_where_there_is_none(store: TokenStore) -> None:
    assert store.replace("orders", grant(), lineage=None)
    assert store.read("orders") == grant()


def test_a_login_in_another_process_goes_under_a_sidecar_that_runs(store: TokenStore, tmp_path: Path) -> None:
    store.write("orders", grant())
    with store.own("orders"):
        said_by(other_process(tmp_path, 'store.write("orders", Grant(Secret("canary-login"), "l2", 1800000001.0))'))
        assert store.replace("orders", grant("canary-late"), lineage="l1") is None
    read = store.read("orders")
    assert read is not None
    assert read.lineage == "l2"


def test_writers_in_two_processes_leave_a_whole_record(store: TokenStore, tmp_path: Path) -> None:
    code = """
for number in range(50):
    store.write("orders", Grant(Secret("canary-" + sys.argv[3] * 1000), sys.argv[3], float(number)))
    assert store.read("orders") is not None
"""
    for process in [other_process(tmp_path, code, lineage) for lineage in "ab"]:
        said_by(process)
    read = store.read("orders")
    assert read is not None
    assert read.refresh_token == Secret(f"canary-{read.lineage * 1000}")


def test_a_write_that_another_process_never_ends_is_not_waited_for_for_ever(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("orders", grant())
    holder = other_process(
        tmp_path, 'import fcntl\nwith store._writing():\n    print("held", flush=True)\n    sys.stdin.read()'
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    monkeypatch.setattr(store_module, "LONGEST_WAIT_SECONDS", 0.05)
    with pytest.raises(StoreUnusable, match="another process has been writing"):
        store.write("orders", grant("canary-other"))
    said_by(holder)
    store.write("orders", grant("canary-other"))


# --- one owner -------------------------------------------------------------------------------------------------------


def test_a_grant_has_one_owner_and_then_the_next(store: TokenStore) -> None:
    ownership = store.own("orders")
    with pytest.raises(StoreLocked, match=r"credential orders: another process holds .*orders\.grant\.owner"):
        store.own("orders")
    with store.own("reports"):
        pass
    ownership.close()
    ownership.close()
    with store.own("orders"):
        pass


def test_the_owner_may_be_another_process_until_it_dies(store: TokenStore, tmp_path: Path) -> None:
    owner = other_process(tmp_path, 'ownership = store.own("orders")\nprint("owned", flush=True)\nsys.stdin.read()')
    assert owner.stdout is not None
    assert owner.stdout.readline() == "owned\n"
    with pytest.raises(StoreLocked):
        store.own("orders")
    owner.kill()
    owner.communicate(timeout=60)
    with store.own("orders"):
        pass


# --- a writer that was killed before it renamed ----------------------------------------------------------------------


def left_behind(store: TokenStore, there: Grant, left: Grant) -> None:
    """The folder as a writer leaves it that dies between writing ``left`` and renaming it."""
    store.write("orders", left)
    record = store.path / "orders.grant"
    raw = record.read_bytes()
    store.write("orders", there)
    (store.path / "orders.grant.new").write_bytes(raw)


def test_the_next_owner_finds_a_successor_that_was_not_renamed(store: TokenStore) -> None:
    left_behind(store, grant(spent_at=1.0), grant("canary-next", rotates=True))
    with store.own("orders"):
        assert store.read("orders") == grant("canary-next", rotates=True)
    assert files(store) == ["orders.grant", "orders.grant.owner", "writing"]


@pytest.mark.parametrize(
    ("there", "left"),
    [
        (grant(spent_at=1.0), grant("canary-other", lineage="l2")),
        (grant(), grant("canary-next")),
        (grant(spent_at=1.0), grant()),
    ],
    ids=["of another login", "of a token that was not spent", "the same token"],
)
def test_what_is_no_successor_is_left_where_it_is(store: TokenStore, there: Grant, left: Grant) -> None:
    left_behind(store, there, left)
    with store.own("orders"):
        assert store.read("orders") == there
    store.write("orders", grant("canary-new"))
    with store.own("orders"):
        assert store.read("orders") == grant("canary-new")


def test_a_successor_waits_for_a_key_that_comes_late(store: TokenStore, tmp_path: Path) -> None:
    left_behind(store, grant(spent_at=1.0), grant("canary-next"))
    key = tmp_path / "store-key"
    key.rename(tmp_path / "not-mounted-yet")
    with pytest.raises(StoreUnusable):
        store.own("orders")
    (tmp_path / "not-mounted-yet").rename(key)
    with store.own("orders"):
        assert store.read("orders") == grant("canary-next")


def test_half_a_successor_is_none(store: TokenStore) -> None:
    left_behind(store, grant(spent_at=1.0), grant("canary-next"))
    fresh = store.path / "orders.grant.new"
    fresh.write_bytes(fresh.read_bytes()[:-1])
    with store.own("orders"):
        assert store.read("orders") == grant(spent_at=1.0)


def test_a_grant_that_is_being_written_by_others_is_not_taken_from_under_them(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind(store, grant(spent_at=1.0), grant("canary-next"))
    monkeypatch.setattr(store_module, "LONGEST_WAIT_SECONDS", 0.05)
    with store._writing():
        with pytest.raises(StoreUnusable, match="another process has been writing"):
            store.own("orders")
    with store.own("orders"):
        assert store.read("orders") == grant("canary-next")


# --- damage ----------------------------------------------------------------------------------------------------------


def cut(raw: bytes) -> Iterator[bytes]:
    yield from (raw[:length] for length in range(0, len(raw), 7))
    yield raw[:-1]
    yield raw + b"\0"


def test_a_record_that_was_cut_or_went_on_is_refused(store: TokenStore, record: Path) -> None:
    for damaged in cut(record.read_bytes()):
        record.write_bytes(damaged)
        with pytest.raises(StoreUnusable, match="log in again"):
            store.read("orders")


def test_a_changed_bit_is_noticed_wherever_it_is(store: TokenStore, record: Path) -> None:
    raw = record.read_bytes()
    for place in range(len(raw)):
        record.write_bytes(raw[:place] + bytes([raw[place] ^ 0x20]) + raw[place + 1 :])
        with pytest.raises(StoreUnusable, match="log in again"):
            store.read("orders")


def test_one_credentials_record_does_not_serve_another(store: TokenStore, record: Path) -> None:
    store.write("reports", grant("canary-reports"))
    (store.path / "reports.grant").replace(record)
    with pytest.raises(StoreUnusable, match=r"orders\.grant: .* written for another credential"):
        store.read("orders")


def test_a_record_beyond_all_bounds_is_not_read(store: TokenStore, record: Path) -> None:
    record.write_bytes(record.read_bytes() + bytes(LARGEST_RECORD))
    with pytest.raises(StoreUnusable, match="larger than a record can be"):
        store.read("orders")


def test_a_grant_beyond_all_bounds_is_not_written(store: TokenStore, record: Path) -> None:
    with pytest.raises(StoreUnusable, match="larger than 256 KiB"):
        store.write("orders", grant("x" * LARGEST_RECORD))
    assert store.read("orders") == grant()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_no_record(store: TokenStore, record: Path, tmp_path: Path, kind: str) -> None:
    record.rename(tmp_path / "elsewhere")
    match kind:
        case "link":
            record.symlink_to(tmp_path / "elsewhere")
        case "pipe":
            os.mkfifo(record)
        case _:
            record.mkdir()
    with pytest.raises(StoreUnusable):
        store.read("orders")


def test_a_login_mends_a_damaged_record(store: TokenStore, record: Path) -> None:
    record.write_bytes(b"rubbish")
    with pytest.raises(StoreUnusable):
        store.replace("orders", grant(), lineage="l1")
    store.write("orders", grant())
    assert store.read("orders") == grant()


def test_what_a_killed_writer_left_is_in_nobodys_way(store: TokenStore, record: Path) -> None:
    (store.path / "orders.grant.new").write_bytes(b"half a rec")
    assert store.read("orders") == grant()
    store.write("orders", grant("canary-other"))
    assert store.read("orders") == grant("canary-other")


# --- keys ------------------------------------------------------------------------------------------------------------


def test_another_key_opens_nothing(store: TokenStore, record: Path, tmp_path: Path) -> None:
    key_file(tmp_path, new_key())
    with pytest.raises(StoreUnusable, match="none of the store's keys has encrypted it"):
        store.read("orders")


def test_a_new_key_above_the_old_one_takes_over_with_the_next_write(tmp_path: Path) -> None:
    old, new = new_key(), new_key()
    key_file(tmp_path, old)
    store = open_store(tmp_path)
    store.write("orders", grant())
    key_file(tmp_path, new, "", old)
    assert store.read("orders") == grant()
    assert store.replace("orders", grant(), lineage="l1")
    key_file(tmp_path, new)
    assert store.read("orders") == grant()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_that_others_can_read_is_refused(store: TokenStore, tmp_path: Path, mode: int) -> None:
    key = tmp_path / "store-key"
    key.chmod(mode)
    with pytest.raises(StoreUnusable) as caught:
        store.write("orders", grant())
    assert caught.value.detail == (
        f"{key} has mode {mode:04o}, but a store's key is for its owner alone: chmod 600 {key}"
    )


def test_a_key_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "tokens", SecretReference("file", str(tmp_path / "nowhere")))
    for attempt in (lambda: store.write("orders", grant()), lambda: store.read("orders")):
        with pytest.raises(StoreUnusable, match=r"No such file.*openssl rand -base64 32"):
            attempt()


# --- a disk that fails -----------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_record(store: TokenStore, record: Path, tmp_path: Path) -> None:
    # A limit on the size of files fails in the middle of a write, as a full volume does.
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    store.replace("orders", Grant(Secret("canary-next" * 100), "l1", 1.0), lineage="l1")
except SidecarError as exc:
    print(exc.reason, exc.detail)
"""
    said = said_by(other_process(tmp_path, code))
    assert said == f"store_unusable {record}: File too large; make room on the volume of {store.path}"
    assert store.read("orders") == grant()
    assert files(store) == ["orders.grant", "writing"]


def test_a_folder_that_cannot_be_written_is_told_with_its_remedy(
    store: TokenStore, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root writes into any folder, so the system's answer is put in its place where these tests run as root.
    really = os.open

    def refused(path: Path, *arguments: Any) -> int:
        if Path(path).is_relative_to(store.path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(path, *arguments)

    store.path.chmod(0o500)
    if os.geteuid() == 0:
        monkeypatch.setattr("os.open", refused)
    for attempt in (store.own, store.remove, lambda name: store.write(name, grant())):
        with pytest.raises(StoreUnusable, match=r"Permission denied; store\.path has to be a folder that user"):
            attempt("orders")
    store.path.chmod(0o700)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    key = key_file(tmp_path)
    (tmp_path / "file").write_text("")
    store = TokenStore(tmp_path / "file" / "tokens", SecretReference("file", str(key)))
    with pytest.raises(StoreUnusable, match="Not a directory"):
        store.own("orders")
    with pytest.raises(StoreUnusable, match="Not a directory"):
        store.read("orders")


@pytest.mark.parametrize("step", ["_fill", "_sync", "_rename"])
def test_a_write_that_fails_at_any_step_leaves_the_old_record(
    store: TokenStore, record: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fails(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(store_module, step, fails)
    with pytest.raises(StoreUnusable, match="Input/output error; see to the volume"):
        store.write("orders", grant("canary-other"))
    assert store.read("orders") == grant()
    assert files(store) == ["orders.grant", "writing"]


def test_a_write_is_done_when_file_and_folder_are_synced(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    for step in ("_fill", "_sync", "_rename", "_sync_folder"):
        real = getattr(store_module, step)

        def noted(*arguments: object, step: str = step, real: object = real) -> None:
            assert callable(real)
            real(*arguments)
            done.append(step)

        monkeypatch.setattr(store_module, step, noted)
    store.write("orders", grant())
    assert done == ["_fill", "_sync", "_rename", "_sync_folder"]


def test_nothing_secret_stands_in_an_error(store: TokenStore, record: Path, tmp_path: Path) -> None:
    key = key_file(tmp_path, "canary-key" * 4)
    for attempt in (lambda: store.read("orders"), lambda: store.write("orders", grant())):
        with pytest.raises(StoreUnusable) as caught:
            attempt()
        assert "canary" not in str(caught.value).replace(str(key), "")
        assert caught.value.__cause__ is None


def test_threads_of_one_process_wait_for_each_other(store: TokenStore) -> None:
    def write(number: int) -> None:
        for _ in range(20):
            store.write("orders", grant(f"canary-{number}"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read("orders") in [grant(f"canary-{number}") for number in range(3)]
