"""Bodies that both ends know."""

from __future__ import annotations

import hashlib

import pytest

from benchmarks.soaks import content


@pytest.mark.parametrize("size", [0, 1, content.PIECE, content.PIECE + 1, content.MIB, 2 * content.MIB + 17])
def test_the_pieces_of_a_body_are_its_bytes(size: int) -> None:
    whole = b"".join(content.pieces(size))
    assert len(whole) == size
    assert whole[: content.MIB] == content.body(min(size, content.MIB))
    assert hashlib.sha256(whole).hexdigest() == content.digest(size)


def test_a_piece_in_the_wrong_place_does_not_look_right() -> None:
    first, second = list(content.pieces(2 * content.PIECE))
    assert first != second


@pytest.mark.parametrize(
    ("body", "framed"),
    [(b"", b"0\r\n\r\n"), (b"a", b"1\r\na\r\n0\r\n\r\n"), (b"abcde", b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n")],
)
def test_a_chunked_body_has_no_empty_chunk_before_its_last(body: bytes, framed: bytes) -> None:
    assert content.chunks(body) == framed
