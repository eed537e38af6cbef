"""Secrets as they lie there: whether they can be read, by whom, what is wrong in them, and whether they can change.

What a secret holds is looked at and never told. A secret file that others may read is a warning and not an error: the
volumes of Kubernetes and Docker are readable inside their container by default, and there that is the boundary.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.config.files import located_references
from sidecar.errors import SecretMissing
from sidecar.preflight.findings import Finding
from sidecar.preflight.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.config.found import Path as KeyPath
    from sidecar.preflight.subject import Subject
    from sidecar.secrets import SecretReference

_CONTAINER_MOUNTS: Final = ("/run/secrets/", "/var/run/secrets/", "/run/credentials/")
"""Where container engines, Kubernetes and systemd put secrets for one process alone."""
_MANY_LINES: Final = frozenset({"private_key", "certificate_key", "key"})
"""PEM files, and a store's list of keys."""
_SHELL: Final = re.compile(r"\s*export\s+[A-Za-z_][A-Za-z0-9_]*=")
_AGED: Final = ("client_secret", "private_key", "certificate_key")
_DAY: Final = 86400.0


def lint(subject: Subject) -> Iterator[Finding]:
    """Everything about secrets."""
    yield from contents(subject)
    yield from open_to_others(subject)
    yield from _too_old(subject)


def _references(subject: Subject) -> Iterator[tuple[KeyPath, SecretReference]]:
    for path, reference in located_references(subject.configuration):
        if subject.covers(path):
            yield path, reference


# --- what is in them -------------------------------------------------------------------------------------------------


def contents(subject: Subject) -> Iterator[Finding]:
    """Secrets that cannot be read, and those that are not what the IdP has."""
    for path, reference in _references(subject):
        try:
            text = reference.read().reveal()
        except SecretMissing as exc:
            yield Finding(Kind.SECRET_MISSING, path, exc.detail)
            continue
        for kind, message in _flaws(text, reference, has_lines=path[-1] in _MANY_LINES):
            yield Finding(kind, path, message)


def _flaws(text: str, reference: SecretReference, *, has_lines: bool) -> Iterator[tuple[Kind, str]]:
    """What is wrong with a secret; never what it is."""
    where = str(reference)
    if text.startswith("\ufeff"):
        yield Kind.SECRET_BYTE_ORDER_MARK, f"{where} begins with a byte order mark"
        text = text[1:]
    if _has_windows_ends(reference):
        yield Kind.SECRET_WINDOWS_LINE_ENDS, f"{where} has Windows line ends"
    if _SHELL.match(text):
        yield Kind.SECRET_SHELL_SYNTAX, f"{where} holds a line for a shell, export NAME=..., in place of the value"
        return
    if has_lines:
        return
    word = text.strip()
    if word != text:
        yield Kind.SECRET_TRAILING_BLANK, f"{where} begins or ends with a blank or an empty line"
    if len(word.splitlines()) > 1 and not word.startswith(("{", "-----BEGIN ")):
        yield Kind.SECRET_SEVERAL_LINES, f"{where} has several lines"
    if len(word) > 2 and word[0] == word[-1] and word[0] in "\"'":
        yield Kind.SECRET_IN_QUOTES, f"{where} stands in quotes"


def _has_windows_ends(reference: SecretReference) -> bool:
    """Looked for in the file itself: the end of the last line is gone from what was read."""
    path = reference.path
    try:
        return path is not None and b"\r\n" in path.read_bytes()
    except OSError:
        return False


# --- who may read them -----------------------------------------------------------------------------------------------


def open_to_others(subject: Subject) -> Iterator[Finding]:
    """Secret files that every user of the machine may read or write, outside the mounts made for one container."""
    for key, reference in _references(subject):
        path = reference.path
        if path is not None and (danger := _danger(path)):
            message = f"{reference} can be {danger} by every user of this machine"
            yield Finding(Kind.SECRET_OPEN_TO_OTHERS, key, message, remedy=f"chmod o-rwx {path}")


def _danger(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return None  # a missing secret is a finding of its own
    if mode & 0o002:
        return "changed"
    return "read" if mode & 0o004 and not _is_container_mount(path) else None


def _is_container_mount(path: Path) -> bool:
    # Kubernetes writes volumes behind a link called "..data", wherever they are mounted.
    return os.path.lexists(path.parent / "..data") or str(path.absolute()).startswith(_CONTAINER_MOUNTS)


# --- whether they change ---------------------------------------------------------------------------------------------


def mounted_alone(subject: Subject) -> Iterator[Finding]:
    """Files that are mounts of their own: a bind mount holds on to the file that was there when it was made.

    https://kubernetes.io/docs/concepts/storage/volumes/#using-subpath
    """
    for key, path in _files(subject):
        if subject.machine.is_mount(path):
            yield Finding(Kind.MOUNTED_ALONE, key, f"{path} is a mount of its own: a new content never gets here")


def _files(subject: Subject) -> Iterator[tuple[KeyPath, Path]]:
    if subject.file is not None and not subject.only:
        yield (), subject.file
    for key, reference in _references(subject):
        if reference.path is not None:
            yield key, reference.path
    for path, _, credential in subject.credentials():
        for name in ("ca_file", "certificate"):
            if file := getattr(credential, name):
                yield (*path, name), Path(file)
    for path, route in subject.routes():
        if route.ca_file is not None:
            yield (*path, "ca_file"), Path(route.ca_file)


def _too_old(subject: Subject) -> Iterator[Finding]:
    """By the file's time: what the platform says of when a secret changed is not known here."""
    for path, _, credential in subject.credentials():
        for key in _AGED:
            reference: SecretReference | None = getattr(credential, key)
            if credential.secret_max_age is None or reference is None or reference.path is None:
                continue
            try:
                age = subject.machine.wall - reference.path.stat().st_mtime
            except OSError:
                continue
            if age > credential.secret_max_age:
                most = credential.secret_max_age / _DAY
                message = f"{reference} has not changed for {age / _DAY:.0f} days; secret_max_age is {most:g} days"
                yield Finding(Kind.SECRET_TOO_OLD, (*path, key), message)
