"""Errors of the configuration, all of them at once: where each stands, what is wrong, and the report a person reads.

Decides the form ``file:line:column: what is wrong``, the frame with source line and caret, and how many are printed.
What a source line may show is decided in ``frames``; what is an error, everywhere else in this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sidecar.errors import ConfigurationInvalid

MOST_PRINTED: Final = 100
"""A file of another kind gives an error a line; nobody reads more than this."""
_LONGEST_QUOTED: Final = 60


class Span(NamedTuple):
    """A piece of the file: lines and columns counted from 0, the end exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int

    @classmethod
    def point(cls, line: int, column: int) -> Span:
        return cls(line, column, line, column + 1)

    @property
    def position(self) -> str:
        """Line and column as people and editors count them, from 1."""
        return f"{self.line + 1}:{self.column + 1}"


class Problem(NamedTuple):
    """One error; without a span it is about the file as a whole."""

    span: Span | None
    message: str


Frame = Callable[[Span], tuple[str, int, int] | None]
"""Gives the source line of a span as it may be shown, with the caret's first column and its width."""


def _no_frame(_: Span) -> None:
    return None


@dataclass(slots=True)
class Problems:
    """Collects the errors of one file."""

    filename: str
    found: list[Problem] = field(default_factory=list)

    def add(self, span: Span | None, message: str) -> None:
        """Note an error; the same one at the same place counts once."""
        problem = Problem(span, message)
        if problem not in self.found[-20:]:
            self.found.append(problem)

    def __bool__(self) -> bool:
        return bool(self.found)

    @property
    def is_long(self) -> bool:
        """Whether there are more errors than are printed."""
        return len(self.found) > MOST_PRINTED

    def error(self, frame: Frame = _no_frame) -> ConfigurationErrors:
        """The exception that carries them all, in the order of the file."""
        ordered = sorted(self.found, key=lambda problem: problem.span or Span(-1, -1, -1, -1))
        return ConfigurationErrors(ordered, report(self.filename, ordered, frame), frame)


class ConfigurationErrors(ConfigurationInvalid):
    """Everything that is wrong with a configuration; ``str()`` is the whole report.

    Attributes:
        problems: each error with its place, for output in other formats.
        frame: gives the source line of each place.
    """

    def __init__(self, problems: Iterable[Problem], text: str, frame: Frame = _no_frame) -> None:
        super().__init__(text)
        self.problems = tuple(problems)
        self.frame = frame


def report(filename: str, problems: list[Problem], frame: Frame) -> str:
    """The report as printed: each error with its frame, and their number when there are several."""
    parts = [_entry(filename, problem, frame) for problem in problems[:MOST_PRINTED]]
    if len(problems) > MOST_PRINTED:
        parts.append(f"... and {len(problems) - MOST_PRINTED} more")
    if len(problems) > 1:
        parts.append(f"{len(problems)} errors in {filename}")
    return "\n".join(parts)


def _entry(filename: str, problem: Problem, frame: Frame) -> str:
    if problem.span is None:
        return f"{filename}: {problem.message}"
    return "\n".join([f"{filename}:{problem.span.position}: {problem.message}", *excerpt(problem.span, frame)])


def excerpt(span: Span, frame: Frame) -> list[str]:
    """The source line of a span and a caret below it; nothing if the line may not be shown."""
    shown = frame(span)
    if shown is None:
        return []
    line, caret, width = shown
    number = str(span.line + 1)
    gutter = " " * len(number)
    return [f"  {number} | {line}".rstrip(), f"  {gutter} | {' ' * caret}{'^' * width}"]


# --- words in messages -------------------------------------------------------------------------------------------


def did_you_mean(near: str | None) -> str:
    """``; did you mean 'x'?``, or nothing."""
    return f"; did you mean '{near}'?" if near else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` is most likely a slip of."""
    import difflib  # only on the way to an error

    folded = {name.replace("_", "").lower(): name for name in known}
    matches = difflib.get_close_matches(word.replace("_", "").replace("-", "").lower()[:80], folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def quoted(word: str, known: Iterable[str] = ()) -> str:
    """The word in quotes if it is plainly a word of configuration, with a space before it; else nothing.

    A secret that stands in the wrong place must not be printed: what has signs, or capitals and digits, and is not
    nearly a known word, is not.
    """
    letters = word.replace("_", "").replace("-", "")
    harmless = word.isascii() and (letters.isalpha() or (letters.isalnum() and letters == letters.lower()))
    if len(word) <= _LONGEST_QUOTED and (harmless or nearest(word, known) is not None):
        return f" '{word}'"
    return ""


def listed(words: Iterable[str]) -> str:
    """``a, b or c``."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
