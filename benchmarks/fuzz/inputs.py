"""What is fed: a grammar of requests and answers, mostly valid, and the ways to harm what it or a seed gives.

Everything is drawn from one seeded generator, so a run can be repeated.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from benchmarks.fuzz.corpus import ANSWERS, REQUESTS, seeds
from benchmarks.fuzz.words import (
    BODIES,
    ENDS,
    EXTENSIONS,
    FRAMING,
    HOPS,
    HOSTS,
    INTERIM,
    METHODS,
    NEXT,
    ODD,
    PLAIN,
    SIZES,
    STATUSES,
    TARGETS,
    TRAILERS,
    VERSIONS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_T = TypeVar("_T")


class Input(NamedTuple):
    """A stream to one side of the proxy."""

    is_answer: bool
    method: bytes
    """Of the request that an answer belongs to."""
    data: bytes


GET: Final = b"GET"


class Source:
    """Endless inputs, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.chance: Final = Random(seed)
        self._requests: Final = tuple(seed.data for seed in seeds(REQUESTS))
        self._answers: Final = tuple((seed.method, seed.data) for seed in seeds(ANSWERS))

    def next(self) -> Input:
        """The next one: half requests, half answers; a third of them harmed, a fifth of them from a seed."""
        chance = self.chance
        is_answer = chance.random() < 0.5
        method = GET
        if chance.random() < 0.2:
            if is_answer:
                method, data = self._one(self._answers)
            else:
                data = self._one(self._requests)
            return Input(is_answer, method, self.harmed(data, is_answer))
        if is_answer:
            method = b"HEAD" if chance.random() < 0.1 else GET
            data = self.answer()
        else:
            data = self.request()
        return Input(is_answer, method, self.harmed(data, is_answer) if chance.random() < 0.3 else data)

    def pieces(self, data: bytes) -> list[bytes]:
        """The same bytes as several reads."""
        chance, length = self.chance, len(data)
        if chance.random() < 0.01:
            return [data[at : at + 1] for at in range(length)]
        cuts = sorted(int(chance.random() * (length + 1)) for _ in range(1 + int(chance.random() * 3)))
        return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, length], strict=True)]

    def _one(self, words: Sequence[_T]) -> _T:
        return words[int(self.chance.random() * len(words))]

    # --- the grammar ---

    def request(self) -> bytes:
        """A request with its body, and perhaps the beginning of the next one."""
        one = self._one
        if self.chance.random() < 0.6:
            line = [one(METHODS[:14]), b" ", one(TARGETS[:12]), b" HTTP/1.1\r\nHost: a\r\n"]
        else:
            line = [one(METHODS), b" ", one(TARGETS), b" ", one(VERSIONS), b"\r\n", one(HOSTS), b"\r\n"]
        return b"".join((*line, *self._fields_and_body(), one(NEXT)))

    def answer(self) -> bytes:
        """An answer with its body, perhaps after interim ones, perhaps with more than it says."""
        one, chance = self._one, self.chance
        line = [one(INTERIM)] if chance.random() < 0.1 else []
        if chance.random() < 0.6:
            line += (b"HTTP/1.1 ", one(STATUSES[:12]), b"\r\n")
        else:
            line += (one(VERSIONS), b" ", one(STATUSES), b"\r\n")
        return b"".join((*line, *self._fields_and_body(), b"" if chance.random() < 0.8 else one(NEXT)))

    def _fields_and_body(self) -> list[bytes]:
        one, draw = self._one, self.chance.random
        lines = [one(PLAIN) for _ in range(int(draw() * 4))]
        if draw() < 0.4:
            lines.append(one(HOPS))
        kind = draw()
        body = b""
        if kind < 0.3:
            content = one(BODIES)
            lines.append(b"Content-Length: %d" % len(content))
            body = content
        elif kind < 0.65:
            lines.append(b"Transfer-Encoding: chunked")
            body = self.chunks()
        elif kind < 0.8:
            lines += (one(FRAMING) for _ in range(1 + int(draw() * 2)))
            body = self.chunks() if draw() < 0.5 else one(BODIES)
        if len(lines) > 1 and draw() < 0.5:
            self.chance.shuffle(lines)
        parts = [line + b"\r\n" for line in lines]
        parts += (b"\r\n", body)
        return parts

    def chunks(self) -> bytes:
        """A chunked body; every second one without anything odd in it."""
        one, draw = self._one, self.chance.random
        parts: list[bytes] = []
        clean = draw() < 0.5
        for _ in range(int(draw() * 3)):
            content = one(BODIES) or b"x"
            if clean:
                parts += (b"%x" % len(content), b"\r\n", content, b"\r\n")
            else:
                parts += (one(SIZES) % len(content), one(EXTENSIONS), one(ENDS), content, one(ENDS))
        if clean:
            parts.append(b"0\r\n\r\n")
        else:
            parts += (one(SIZES) % 0, one(EXTENSIONS), one(ENDS), one(TRAILERS), one(ENDS))
        return b"".join(parts)

    # --- the harm ---

    def harmed(self, data: bytes, is_answer: bool) -> bytes:
        """One to three changes."""
        draw = self.chance.random
        for _ in range(1 + int(draw() * draw() * 3)):
            at = int(draw() * (len(data) + 1))
            match int(draw() * 10):
                case 0 | 1 | 2:
                    data = data[:at] + self._one(ODD) + data[at:]
                case 3:
                    data = data[:at] + self._one(ODD) + data[at + 1 :]
                case 4:
                    data = data[:at] + data[at + 1 + int(draw() * 4) :]
                case 5:
                    data = data[:at] + bytes((int(draw() * 256),)) + data[at + 1 :]
                case 6 | 7:
                    data = self._line_in(data, self._one(self._one((PLAIN, HOPS, FRAMING, HOSTS))))
                case 8:
                    data = self._line_twice(data)
                case _:
                    other = self.answer() if is_answer else self.request()
                    data = data[:at] + other[int(draw() * len(other)) :]
        return data

    def _line_in(self, data: bytes, line: bytes) -> bytes:
        ends = data.split(b"\r\n")
        ends.insert(1 + int(self.chance.random() * len(ends)), line)
        return b"\r\n".join(ends)

    def _line_twice(self, data: bytes) -> bytes:
        lines = data.split(b"\r\n")
        at = int(self.chance.random() * len(lines))
        lines.insert(int(self.chance.random() * len(lines)), lines[at])
        return b"\r\n".join(lines)
