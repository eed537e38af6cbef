"""Bodies that can be made anywhere and checked anywhere: one random block, from its beginning, over and over.

Random, so that a piece that is lost, doubled or moved does not look right; the same in every process and run.
"""

from __future__ import annotations

import functools
import hashlib
import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB: Final = 1024 * 1024
BLOCK: Final = random.Random(1).randbytes(MIB)
"""One MiB; bodies up to this size are its beginning."""
PIECE: Final = 64 * 1024
"""How much is written at once."""


def body(size: int) -> bytes:
    """A body of at most one MiB."""
    return BLOCK[:size]


def pieces(size: int) -> Iterator[bytes]:
    """A body of any size, piece by piece."""
    at = 0
    while at < size:
        start = at % MIB
        piece = BLOCK[start : start + min(PIECE, size - at)]
        yield piece
        at += len(piece)


def chunks(body: bytes) -> bytes:
    """The body in two chunks (RFC 9112 section 7.1)."""
    half = len(body) // 2
    parts = (part for part in (body[:half], body[half:]) if part)
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@functools.cache
def digest(size: int) -> str:
    """SHA-256 of the body of that size."""
    hashed = hashlib.sha256()
    for piece in pieces(size):
        hashed.update(piece)
    return hashed.hexdigest()
