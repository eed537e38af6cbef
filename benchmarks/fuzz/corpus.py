"""The seeds: messages that readers of HTTP are known to differ on, kept as text that can be read.

A seed is a title line, ``== what it is -> what we make of it``, and its bytes, one line a line, with ``\\r``, ``\\n``
and the rest escaped as in Python; the end of a text line is not part of it. An answer's title may name the method of
its request: ``== what it is [HEAD] -> ...``. The words after the arrow are a ``Reading.verdict``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent.parent.parent / "tests" / "property" / "corpus"
REQUESTS: Final = FOLDER / "requests.txt"
ANSWERS: Final = FOLDER / "answers.txt"


@dataclass(frozen=True, slots=True)
class Seed:
    """One entry."""

    title: str
    method: bytes
    """Of the request that an answer belongs to; ``GET`` if the title says nothing."""
    data: bytes
    verdict: str


def seeds(page: Path) -> list[Seed]:
    """All seeds of a page, in its order."""
    return [_seed(entry) for entry in page.read_text("ascii").split("\n== ")[1:]]


def _seed(entry: str) -> Seed:
    heading, _, text = entry.partition("\n")
    title, _, verdict = heading.rpartition(" -> ")
    title, _, method = title.removesuffix("]").partition(" [")
    data = b"".join(map(unescaped, text.split("\n")))
    return Seed(title, method.encode() or b"GET", data, verdict)


def unescaped(line: str) -> bytes:
    """The bytes that a line of a seed stands for."""
    return line.encode("ascii").decode("unicode_escape").encode("latin-1")


def escaped(data: bytes) -> str:
    """Bytes as the lines of a seed."""
    text = data.decode("latin-1").encode("unicode_escape").decode("ascii")
    return text.replace("\\n", "\\n\n").removesuffix("\n")
