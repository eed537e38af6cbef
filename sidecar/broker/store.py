"""The store of refresh tokens: a folder with one encrypted file for each credential.

Decides how a grant reaches the disk and who may spend it. Leaves the form of a record to ``sealing``, and when to write
to ``renewal`` and ``sidecar login``.

A refresh token that rotates exists once, and losing it costs a person a login. So a write is a temporary file in the
same folder, written and synced, renamed over the old one, and the folder synced: after a crash at any point the old
record stands there or the new one, whole (https://lwn.net/Articles/457667/). If that crash came before the renaming,
the temporary file may hold the only refresh token that is left: the next owner looks for it. Two locks keep writers
apart. ``own`` is
for life: one process spends a grant, because two that refresh at once look like a theft to the IdP. The other is held
only while a record is compared and replaced, so that a login may put a new grant under a sidecar that runs, and what
that sidecar gets for the old one afterwards does not replace it.

Both are flock(2): the kernel ends them with the process, however it died.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

from sidecar.broker.sealing import Grant, fingerprint, new_lineage, read_keys, seal, unseal
from sidecar.errors import StoreLocked, StoreUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sidecar.oauth.endpoint import FileStamp
    from sidecar.secrets import SecretReference

__all__ = ["Grant", "Ownership", "TokenStore", "file_name", "fingerprint", "new_lineage"]

LARGEST_RECORD: Final = 256 * 1024
LONGEST_NAME: Final = 200
"""File systems end names at 255 bytes; the endings that tell files apart have to fit as well."""
LONGEST_WAIT_SECONDS: Final = 5.0
"""For another process to end its write."""

_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW
_PRIVATE_FOLDER: Final = 0o700
_PRIVATE: Final = 0o600


class Ownership:
    """The right to spend a credential's refresh token, until ``close`` or the end of the process."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Let another process have it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Ownership {'held' if self._descriptor >= 0 else 'given up'}>"


class TokenStore:
    """Refresh tokens by credential name, encrypted. Every method may wait for the disk.

    Args:
        path: the folder; it is made when something is first written there.
        key: where the keys stand; they are read again each time.
    """

    __slots__ = ("_key", "path")

    def __init__(self, path: Path, key: SecretReference) -> None:
        self.path = path
        self._key = key

    def own(self, name: str) -> Ownership:
        """Become the only process that spends this credential's refresh token; ends a write that the last one began.

        Raises:
            StoreLocked: another one is.
            StoreUnusable: the folder cannot be used.
        """
        path = self._file(name, ".owner")
        with self._translating(path):
            self._make_folder()
            descriptor = _take(path)
        if descriptor is None:
            raise StoreLocked(f"credential {name}: another process holds {path}, and a refresh token has one owner")
        with contextlib.ExitStack() as stack:
            ownership = stack.enter_context(Ownership(descriptor))
            self._end_write(name)
            stack.pop_all()
        return ownership

    def is_owned(self, name: str) -> bool:
        """Whether a process owns the grant now; asking leaves nothing behind.

        Raises:
            StoreUnusable: that cannot be seen.
        """
        path = self._file(name, ".owner")
        with self._translating(path):
            try:
                descriptor = os.open(path, os.O_RDONLY | _FLAGS)
            except FileNotFoundError:
                return False  # nobody has ever owned it
            try:
                # A shared lock, for an instant: other checks may look at the same time.
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(descriptor)
        return False

    def read(self, name: str) -> Grant | None:
        """The grant on disk; None if there is none.

        Raises:
            StoreUnusable: it cannot be read or opened, or the key cannot.
        """
        return self._read(name, self._file(name))

    def _read(self, name: str, path: Path) -> Grant | None:
        keys = read_keys(self._key)  # first: a key that is no good is told before there is a grant
        with self._translating(path):
            try:
                raw = _contents(path)
            except FileNotFoundError:
                return None
        if len(raw) > LARGEST_RECORD:
            raise StoreUnusable(f"{path}: it is larger than a record can be; {_LOG_IN}")
        try:
            return unseal(name, raw, keys)
        except StoreUnusable as exc:
            raise StoreUnusable(f"{path}: {exc.detail}; {_LOG_IN}") from exc

    def write(self, name: str, grant: Grant) -> FileStamp:
        """Put a grant on disk, whatever stands there: a login. When this returns, it outlives a crash.

        Raises:
            StoreUnusable: it could not be written; what was there before is still there.
        """
        raw = self._sealed(name, grant)
        with self._writing():
            return self._put(name, raw)

    def replace(self, name: str, grant: Grant, *, lineage: str | None) -> FileStamp | None:
        """Put a grant on disk if the one there is still of this lineage (None: if there is none); else return None.

        Raises:
            StoreUnusable: it could not be written, or what is there cannot be read.
        """
        raw = self._sealed(name, grant)
        with self._writing():
            there = self.read(name)
            if (there.lineage if there else None) != lineage:
                return None
            return self._put(name, raw)

    def remove(self, name: str) -> None:
        """Forget a grant, if there is one.

        Raises:
            StoreUnusable: the file is there and cannot be removed.
        """
        path = self._file(name)
        with self._writing(), self._translating(path):
            path.unlink(missing_ok=True)
            _sync_folder(self.path)

    def stamp(self, name: str) -> FileStamp | None:
        """What tells whether somebody wrote the grant since; None if there is none to be seen."""
        try:
            return _stamp(self._file(name).stat())
        except OSError:
            return None

    # --- writing ----------------------------------------------------------------------------------------------------

    def _sealed(self, name: str, grant: Grant) -> bytes:
        raw = seal(name, grant, read_keys(self._key))
        if len(raw) > LARGEST_RECORD:
            raise StoreUnusable(f"credential {name}: the grant is larger than {LARGEST_RECORD // 1024} KiB")
        return raw

    def _put(self, name: str, raw: bytes) -> FileStamp:
        path, fresh = self._file(name), self._file(name, ".new")
        with self._translating(path):
            try:
                stamp = _write(fresh, raw)
                _rename(fresh, path)
            except OSError:
                with contextlib.suppress(OSError):
                    fresh.unlink()
                raise
            _sync_folder(self.path)
        return stamp

    def _end_write(self, name: str) -> None:
        """Put a successor in its place that was written whole and not renamed, because its writer died between.

        Anything else under that name is half a record, or one that nobody misses.
        """
        path, fresh = self._file(name), self._file(name, ".new")
        if not fresh.exists():
            return
        with self._writing():
            there = self._read(name, path)  # if not now, then when it can be read: what owns it does not look again
            try:
                left = self._read(name, fresh)
            except StoreUnusable:
                return
            if there is None or left is None or not _is_successor(left, there):
                return
            with self._translating(path):
                _sync_file(fresh)
                _rename(fresh, path)
                _sync_folder(self.path)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone with the records: a file of its own, because NFS locks no folders."""
        path = self.path / "writing"
        with self._translating(path):
            self._make_folder()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, _PRIVATE)
        try:
            with self._translating(path):
                _wait_for_lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _make_folder(self) -> None:
        self.path.mkdir(_PRIVATE_FOLDER, parents=True, exist_ok=True)

    # --- names and errors -------------------------------------------------------------------------------------------

    def _file(self, name: str, ending: str = "") -> Path:
        return self.path / f"{file_name(name)}{ending}"

    @contextlib.contextmanager
    def _translating(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise StoreUnusable(f"{path}: {exc.strerror or 'it cannot be used'}; {self._remedy(exc)}") from exc

    def _remedy(self, exc: OSError) -> str:
        match exc.errno:
            case errno.EACCES | errno.EPERM | errno.EROFS:
                return f"store.path has to be a folder that user {os.geteuid()} can write"
            case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
                return f"make room on the volume of {self.path}"
            case errno.EAGAIN:
                return f"another process has been writing there for {LONGEST_WAIT_SECONDS:g} s"
            case _:
                return f"see to the volume of {self.path}"


def file_name(name: str) -> str:
    """What the record of a credential is called.

    No name leaves the folder: what is not a letter, a digit or one of ``_.-~`` is encoded, and all have an end. A hash
    has a sign before it that no encoded name can have.
    """
    encoded = quote(name, safe="")
    if len(encoded) > LONGEST_NAME:
        encoded = f"={hashlib.sha256(name.encode()).hexdigest()}"
    return f"{encoded}.grant"


def _is_successor(left: Grant, there: Grant) -> bool:
    """Whether ``left`` came for the refresh token that ``there`` says was spent."""
    return left.lineage == there.lineage and there.spent_at is not None and left.refresh_token != there.refresh_token


_LOG_IN: Final = "if it cannot be repaired, log in again"


# --- the disk --------------------------------------------------------------------------------------------------------


def _contents(path: Path) -> bytes:
    # O_NONBLOCK: whatever stands there in place of a file does not keep anybody waiting.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(LARGEST_RECORD + 1)


def _write(path: Path, raw: bytes) -> FileStamp:
    """Write a file that nobody else reads; it is on disk when this returns, under a name that may not be yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS, _PRIVATE)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        os.fchmod(descriptor, _PRIVATE)
        _fill(descriptor, raw)
        _sync(descriptor)
        return _stamp(os.fstat(file.fileno()))


def _fill(descriptor: int, raw: bytes) -> None:
    while raw:
        raw = raw[os.write(descriptor, raw) :]


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(fresh: Path, path: Path) -> None:
    fresh.replace(path)


def _sync_folder(path: Path) -> None:
    """Until then the rename itself may be lost."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stamp(stat: os.stat_result) -> FileStamp:
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take(path: Path) -> int | None:
    """A descriptor that holds the file's lock; None if another one does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, _PRIVATE)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        if _locked(descriptor):
            stack.pop_all()
            return descriptor
    return None


def _wait_for_lock(descriptor: int) -> None:
    """flock(2) with an end to the waiting: a stopped process may hold it.

    Raises:
        BlockingIOError: somebody still holds it.
    """
    for _ in range(int(LONGEST_WAIT_SECONDS / 0.01)):
        if _locked(descriptor):
            return
        time.sleep(0.01)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
