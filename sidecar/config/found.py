"""What the walk over the tree found, each with its place: the ground that the rules across keys stand on.

Nothing is decided here. A rule asks which keys were written, whether what it needs is sound, and notes its errors at a
path, which this file turns into a place in the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sidecar.config.document import MappingNode, Node, ScalarNode
from sidecar.config.frames import HIDDEN
from sidecar.config.model import Model
from sidecar.config.problems import Problems, Span, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

Path = tuple[str | int, ...]
"""Where something stands in the configuration: ``("listeners", 0, "bind")``."""
M = TypeVar("M", bound=Model)


class _Broken:
    """What a wrong value is read as."""


BROKEN: Final = _Broken()


def dotted(path: Path) -> str:
    """``listeners[0].bind``; a name that may be a secret in the wrong place is left out."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{shown(part)}" if text else part
    return text


def shown(name: str) -> str:
    return name if quoted(name) else HIDDEN


@dataclass(slots=True)
class Written:
    """A value that stands in the file: its node, and its key unless it is an element of a list."""

    key: ScalarNode | None
    node: Node

    @property
    def span(self) -> Span:
        """Where to point for the value; an empty one and a mapping are shown by their key."""
        is_hollow = isinstance(self.node, MappingNode) or (isinstance(self.node, ScalarNode) and not self.node.text)
        return self.key.span if self.key is not None and is_hollow else self.node.span

    @property
    def key_span(self) -> Span:
        return self.span if self.key is None else self.key.span


@dataclass(slots=True)
class Found:
    """What the walk found.

    Attributes:
        problems: collects the errors.
        written: everything that stands in the file, by path.
        broken: paths whose value is wrong.
        built: every struct, by path; those with broken values too, which have a default or nothing there.
        values: every value that is not broken, by path.
        supplied: what a preset gave, by path.
    """

    problems: Problems
    written: dict[Path, Written] = field(default_factory=dict)
    broken: set[Path] = field(default_factory=set)
    _unsound: set[Path] = field(default_factory=set)
    built: dict[Path, Model] = field(default_factory=dict)
    values: dict[Path, Any] = field(default_factory=dict)
    supplied: set[Path] = field(default_factory=set)

    def fail(self, path: Path, message: str, *, at_key: bool = False) -> None:
        """Note an error that leaves no value at this path."""
        self.mark_broken(path)
        self.note(path, message, at_key=at_key)

    def note(self, path: Path, message: str, *, at_key: bool = False) -> None:
        """Note an error at a path; for a path that is not written, at what it would stand in."""
        self.problems.add(self.span(path, at_key=at_key), message)

    def span(self, path: Path, *, at_key: bool = False) -> Span | None:
        """Where a path stands; for one that is not written, where it would stand."""
        while path and path not in self.written:
            path = path[:-1]
        place = self.written.get(path)
        return None if place is None else place.key_span if at_key else place.span

    def each(self, model: type[M]) -> Iterator[tuple[Path, M]]:
        """Every struct of a type, in the order of the file."""
        for path, struct in self.built.items():
            if isinstance(struct, model):
                yield path, struct

    def is_sound(self, path: Path) -> bool:
        """Whether nothing at or below this path is broken."""
        return path not in self._unsound

    def mark_broken(self, path: Path) -> None:
        self.broken.add(path)
        self._unsound.update(path[:length] for length in range(len(path) + 1))

    def given(self, path: Path) -> bool:
        """Whether a value other than null stands there, be it broken."""
        return path in self.written and self.values.get(path, BROKEN) is not None

    def has(self, path: Path) -> bool:
        """Whether there is a value, from the file or from a preset."""
        return self.given(path) or path in self.supplied

    def line(self, path: Path) -> int:
        """The line of a written path, as people count."""
        return self.written[path].key_span.line + 1
