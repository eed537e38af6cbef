"""Secrets: a type that does not print, and the references by which the configuration names one.

Decides how a secret is read (``file:PATH``, ``env:NAME``, ``cred:NAME``), its limits, and that it shows itself in no
``repr``, ``str``, format, pickle or comparison by accident. Leaves to others when to read it: the broker reads again
before every token request, because rotated files are how platforms rotate secrets.

Every live secret is known to ``live_values()``, so that the log can remove a value that reached a line in spite of it.
CPython cannot wipe a ``str``; dropping the reference on rotation is all that is promised.
"""

from __future__ import annotations

import hmac
import os
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from sidecar.errors import SecretMissing

MAX_SECRET_BYTES: Final = 64 * 1024
SHORTEST_REDACTABLE: Final = 6
"""Values shorter than this are not searched for in log lines: they would blank out ordinary words."""

_live: weakref.WeakSet[Secret] = weakref.WeakSet()
_changing: Final = threading.RLock()
"""Secrets are also made in threads, where disks are waited for; a set that changes while it is read raises, and that
would be in the middle of a line of the log. Reentrant: what the garbage collector runs may make one as well."""


class Secret:
    """A value that leaves only by ``reveal()``.

    Equality is constant-time and only with another secret; there is no ordering, no length, no hash of the value.
    """

    __slots__ = ("__value", "__weakref__")

    def __init__(self, value: str) -> None:
        self.__value = value
        with _changing:
            _live.add(self)

    def reveal(self) -> str:
        """The value itself. Call it at the last moment, and keep what it returns in no object."""
        return self.__value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.__value.encode())

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled or copied")


def live_values() -> list[str]:
    """The values of all secrets alive now that are long enough to be searched for, longest first."""
    with _changing:
        values = {secret.reveal() for secret in _live}
    return sorted((value for value in values if len(value) >= SHORTEST_REDACTABLE), key=len, reverse=True)


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Where a secret stands: ``kind`` is ``file``, ``env``, ``cred`` or ``inline``; printing it shows no secret.

    ``cred:NAME`` is systemd's ``$CREDENTIALS_DIRECTORY/NAME`` (https://systemd.io/CREDENTIALS/).
    """

    kind: str
    name: str
    inline: Secret | None = None

    @classmethod
    def parse(cls, text: str, *, allow_inline: bool = False) -> SecretReference:
        """Read a reference as it stands in the configuration.

        Raises:
            ValueError: the text is no reference, and no literal that is allowed; the message shows nothing of it.
        """
        kind, colon, name = text.partition(":")
        if colon and kind in ("file", "env", "cred"):
            if not name:
                raise ValueError(f"{kind}: needs a name after the colon")
            if kind == "cred" and ("/" in name or name in (".", "..")):
                raise ValueError("cred: takes the plain name of a systemd credential")
            return cls(kind, name)
        if allow_inline:
            if not text:
                raise ValueError("it is empty")  # as a file or a variable may not be: an empty password is none
            return cls("inline", "", Secret(text))
        raise ValueError("a secret is named, not written here: use file:PATH, env:NAME or cred:NAME")

    @property
    def path(self) -> Path | None:
        """The file that holds the secret; None for ``env:`` and inline ones, which cannot change while we run."""
        if self.kind == "file":
            return Path(self.name)
        if self.kind == "cred":
            return Path(os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials"), self.name)
        return None

    def loose_mode(self, *, mounted_for_a_group: bool = False) -> int | None:
        """The permissions of the file, if others than its owner may use it; None if not, or if there is no file.

        Args:
            mounted_for_a_group: do not mind a file of somebody else that its group may only read. A container that
                is not root gets its secrets so (Kubernetes: ``fsGroup``), and could read them in no other way.

        Raises:
            OSError: the file is not there.
        """
        path = self.path
        if path is None:
            return None
        stat = path.stat()
        minded = 0o037 if mounted_for_a_group and stat.st_uid != os.geteuid() else 0o077
        return stat.st_mode & 0o777 if stat.st_mode & minded else None

    def read(self) -> Secret:
        """Read the secret now; one line end at its end is taken off.

        Raises:
            SecretMissing: it is not there, not readable, empty, too large, or not text.
        """
        if self.inline is not None:
            return self.inline
        value = self._read_env() if self.kind == "env" else self._read_file()
        value = value.removesuffix("\n").removesuffix("\r")
        if not value:
            raise SecretMissing(f"{self} is empty")
        if "\0" in value:
            raise SecretMissing(f"{self} holds a NUL character")
        return Secret(value)

    def _read_env(self) -> str:
        value = os.environ.get(self.name)
        if value is None:
            raise SecretMissing(f"{self}: the environment variable is not set")
        try:
            return os.fsencode(value).decode()  # the bytes as they are: others stand there as surrogates (PEP 383)
        except UnicodeDecodeError:
            raise SecretMissing(f"{self} is not UTF-8 text") from None

    def _read_file(self) -> str:
        path = self.path
        assert path is not None  # noqa: S101 - only env and inline references have none
        try:
            # O_NONBLOCK: a pipe put there in place of the file would keep everybody waiting.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                raw = file.read(MAX_SECRET_BYTES + 1) or b""  # None: a pipe with nothing in it
        except OSError as exc:
            raise SecretMissing(f"{self}: {exc.strerror or 'cannot be read'}") from exc
        if len(raw) > MAX_SECRET_BYTES:
            raise SecretMissing(f"{self} is larger than {MAX_SECRET_BYTES // 1024} KiB")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            # "from None": the decode error's text quotes bytes of the secret.
            raise SecretMissing(f"{self} is not UTF-8 text") from None

    def __str__(self) -> str:
        return "inline secret" if self.inline is not None else f"{self.kind}:{self.name}"
