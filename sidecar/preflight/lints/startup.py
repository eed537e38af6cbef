"""What a start reads once and refuses when it is wrong: listeners' secrets, the admin token, the CA, store keys.

A secret that is missing is left to ``secret_files``; what makes one usable is decided where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.broker.sealing import read_keys
from sidecar.config.files import located_references
from sidecar.errors import ConfigurationInvalid, SecretMissing, StoreUnusable
from sidecar.preflight.findings import Finding
from sidecar.preflight.kinds import Kind
from sidecar.read_once import ReadOnce
from sidecar.runtime import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.config.found import Path
    from sidecar.preflight.subject import Subject


def lint(subject: Subject) -> Iterator[Finding]:
    """Read it as a start would."""
    if not _is_missing(subject, ("listeners", "admin", "interception")):
        yield from _read_once(subject)
    store = subject.configuration.store
    if store is None or _is_missing(subject, ("store",)):
        return
    try:
        read_keys(store.key)
    except StoreUnusable as exc:
        yield Finding(Kind.STORE_UNUSABLE, ("store", "key"), exc.detail)


def _read_once(subject: Subject) -> Iterator[Finding]:
    try:
        ReadOnce.of(subject.configuration, SystemClock())
    except ConfigurationInvalid as exc:
        yield Finding(Kind.CONFIGURATION_INVALID, (), exc.detail)
    except SecretMissing as exc:  # it is there, and cannot serve
        path, message = _told(exc.detail, subject)
        yield Finding(Kind.SECRET_MISSING, path, message)


def _is_missing(subject: Subject, sections: tuple[str, ...]) -> bool:
    """Whether a secret of these sections cannot be read."""
    for path, reference in located_references(subject.configuration):
        if path[0] in sections:
            try:
                reference.read()
            except SecretMissing:
                return True
    return False


def _told(detail: str, subject: Subject) -> tuple[Path, str]:
    """The key that a message begins with, as a path, and the rest of it."""
    listeners = enumerate(subject.configuration.listeners)
    keys: dict[str, Path] = {f"listeners.{each.name}.auth": ("listeners", at, "auth") for at, each in listeners}
    keys["admin.token"] = ("admin", "token")
    key, _, rest = detail.partition(": ")
    return (keys[key], rest) if key in keys else ((), detail)
