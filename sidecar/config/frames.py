"""What a source line may show beneath an error: structure and known words, never what may be a secret.

A value is hidden unless the walk over the model has recognised its place as one that holds no secret and its text as
plain; keys likewise. Comments are cut off, because old secrets live there. When the text is not YAML at all, no place
is known, and only a line that is plainly ``known_key: word`` is shown.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from sidecar.config.problems import Span

HIDDEN: Final = "***"
_WIDEST: Final = 100
_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9_.,:/*\[\]~+=-]{1,200}\Z")
_KEY_AND_WORD: Final = re.compile(r"(\s*(?:- +)*)([a-z_]+)(\s*:)(?:(\s+)(\S*))?\s*\Z")
_COMMENT: Final = re.compile(r"(?:^|\s)#.*\Z")


class Piece(Protocol):
    """A scalar of the document."""

    @property
    def span(self) -> Span: ...

    @property
    def visible(self) -> bool: ...


def is_plain_word(text: str) -> bool:
    """Whether a value in a place without secrets may be shown: no spaces, no userinfo, no query."""
    return _PLAIN_WORD.match(text) is not None


def masked_line(line: str, number: int, pieces: Sequence[Piece]) -> tuple[str, list[int]]:
    """The line with everything hidden that is not visible.

    Args:
        line: as it stands in the file.
        number: its index.
        pieces: the scalars of the document, in order.

    Returns:
        the text, and for each column of the line (and the one behind it) the column in the text.
    """
    parts: list[str] = []
    columns: list[int] = []
    at = width = 0
    for start, end, visible in _on_line(line, number, pieces):
        shown = line[start:end] if visible else HIDDEN
        parts += (line[at:start], shown)
        columns += range(width, width + start - at)
        width += start - at
        columns += range(width, width + end - start) if visible else [width] * (end - start)
        width += len(shown)
        at = end
    rest = _COMMENT.sub("", line[at:])
    columns += [width + min(offset, len(rest)) for offset in range(len(line) - at + 1)]
    return _printable("".join([*parts, rest])).rstrip(), columns


def _on_line(line: str, number: int, pieces: Sequence[Piece]) -> Iterator[tuple[int, int, bool]]:
    """The pieces of scalars that stand on a line: first column, end, visible."""
    first = bisect_left(pieces, number, key=lambda piece: piece.span.line)
    at = 0
    for piece in islice(pieces, max(0, first - 1), None):  # the one before may reach over several lines
        span = piece.span
        if span.line > number:
            return
        start = span.column if span.line == number else 0
        end = min(span.end_column if span.end_line == number else len(line), len(line))
        if span.end_line >= number and end > start >= at:
            yield start, end, piece.visible
            at = end


def unparsed_line(line: str, known_keys: Collection[str]) -> str:
    """What may be shown of a line of a text that is not YAML."""
    match = _KEY_AND_WORD.match(_COMMENT.sub("", line))
    if match is None or match[2] not in known_keys:
        indent = line[: len(line) - len(line.lstrip())]
        return _printable(indent) + (HIDDEN if line.strip() else "")
    indent, key, colon, gap, word = match.groups()
    shown = word if word is None or is_plain_word(word) else HIDDEN
    return _printable(f"{indent}{key}{colon}{gap or ''}{shown or ''}")


def windowed(text: str, caret: int, width: int) -> tuple[str, int, int]:
    """Cut a long line to what stands around the caret."""
    caret = min(caret, len(text))
    width = max(1, min(width, len(text) - caret))
    if len(text) <= _WIDEST:
        return text, caret, width
    first = max(0, min(caret - _WIDEST // 3, len(text) - _WIDEST))
    cut = text[first : first + _WIDEST]
    head, tail = "..." if first else "", "..." if first + _WIDEST < len(text) else ""
    return head + cut + tail, caret - first + len(head), max(1, min(width, len(cut) - (caret - first)))


def _printable(text: str) -> str:
    """One column for each character; what moves the cursor or the reading direction becomes a question mark."""
    return "".join(" " if char == "\t" else char if char.isprintable() else "?" for char in text)
