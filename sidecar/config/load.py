"""A file to a configuration, or every error in it at once.

The way: bytes to text, text to a tree with places (``document``), tree to structs (``walker``), presets and what
follows from other keys filled in (``completion``), structs against each other (``rules``), files that must be there
(``files``). Nothing is ignored and nothing is guessed; secrets are not read here, because a missing one is another kind
of error and a rotated one is read again later.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sidecar.config import completion, document, interception, rules, walker
from sidecar.config.files import missing_secrets, refuse_uninstalled, refuse_unreadable
from sidecar.config.problems import ConfigurationErrors, Problems, Span
from sidecar.config.shapes import keys_without_secrets

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.config.found import Found
    from sidecar.config.model import Configuration
    from sidecar.config.problems import Frame

__all__ = ["ConfigurationErrors", "Loaded", "load", "missing_secrets", "parse", "parse_with_places", "text_of"]

_LARGEST: Final = f"{document.MAX_BYTES >> 20} MiB"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration together with what its file looks like, for whoever has more to say about it.

    Args:
        found: where everything stands.
        frame: gives the source line of a place, as it may be shown.
    """

    configuration: Configuration
    found: Found = field(repr=False)
    frame: Frame = field(repr=False)


def load(path: Path, *, check_files: bool = True) -> Configuration:
    """Read a configuration file.

    Args:
        path: where it stands.
        check_files: as for ``parse``.

    Raises:
        ConfigurationErrors: it cannot be read or used; carries every error with its place.
    """
    return parse(text_of(path, str(path)), str(path), check_files=check_files)


def text_of(path: Path, filename: str) -> str:
    """The text of a file.

    Raises:
        ConfigurationErrors: it cannot be read, or is no text.
    """
    problems = Problems(filename)
    text = _text(path, problems)
    if text is None:
        raise problems.error()
    return text


def parse(text: str, filename: str, *, check_files: bool = True) -> Configuration:
    """Read a configuration that is at hand as text.

    Args:
        text: the YAML.
        filename: what errors call it.
        check_files: also see whether the CA files and packages it names can be used.

    Raises:
        ConfigurationErrors: it cannot be used; carries every error with its place.
    """
    return parse_with_places(text, filename, check_files=check_files).configuration


def parse_with_places(text: str, filename: str, *, check_files: bool = True) -> Loaded:
    """As ``parse``, and keep where everything stands.

    Raises:
        ConfigurationErrors
    """
    problems = Problems(filename)
    if len(text.encode(errors="replace")) > document.MAX_BYTES:
        problems.add(None, f"a configuration has at most {_LARGEST}")
        raise problems.error()
    source = document.read(text, problems, known_keys=keys_without_secrets())
    if source.root is None:
        raise problems.error(source.frame)
    configuration, found = walker.walk(source.root, problems)
    configuration = completion.complete(configuration, found, os.environ)
    rules.check(configuration, found)
    if check_files:
        refuse_unreadable(found)
        interception.refuse_unusable(found)
        refuse_uninstalled(found)
    if problems or configuration is None:
        raise problems.error(source.frame)
    return Loaded(configuration, found, source.frame)


def _text(path: Path, problems: Problems) -> str | None:
    try:
        with path.open("rb") as file:
            raw = file.read(document.MAX_BYTES + 1)
    except OSError as exc:
        problems.add(None, f"the configuration cannot be read: {exc.strerror or 'unknown reason'}")
        return None
    if len(raw) > document.MAX_BYTES:
        problems.add(None, f"a configuration has at most {_LARGEST}")
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        before = raw[: exc.start].decode()
        line = before.count("\n")
        problems.add(Span.point(line, len(before) - before.rfind("\n") - 1), "the configuration is not UTF-8 text")
        return None
