"""The seeds that readers of HTTP differ on: what we make of each is written down, and holds however it is cut.

The long search for more of them is ``python -m benchmarks.fuzz``; every input that it ever found stands here.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import pytest

from benchmarks.fuzz.corpus import ANSWERS, REQUESTS, Seed, escaped, seeds, unescaped
from benchmarks.fuzz.differences import explained
from benchmarks.fuzz.inputs import Input
from benchmarks.fuzz.ours import Answer, Requests
from benchmarks.fuzz.trial import Trial, in_pieces

if TYPE_CHECKING:
    from benchmarks.fuzz.reading import Reading

EVERY = [pytest.param(False, seed, id=f"request: {seed.title}") for seed in seeds(REQUESTS)]
EVERY += [pytest.param(True, seed, id=f"answer: {seed.title}") for seed in seeds(ANSWERS)]


def read(is_answer: bool, seed: Seed, *pieces: bytes) -> Reading:
    return (Answer(seed.method) if is_answer else Requests()).read(pieces)


@pytest.mark.parametrize(("is_answer", "seed"), EVERY)
def test_a_seed_is_read_as_written_down_and_as_the_others_read_it(is_answer: bool, seed: Seed) -> None:
    trial = Trial(Input(is_answer, seed.method, seed.data), [seed.data])
    assert trial.reading.verdict == seed.verdict
    assert [each for each in trial.found if explained(each, seed.data) is None] == []


@pytest.mark.parametrize(("is_answer", "seed"), EVERY)
def test_a_seed_is_read_alike_however_it_is_cut(is_answer: bool, seed: Seed) -> None:
    data = seed.data
    whole = read(is_answer, seed, data)
    byte_by_byte = [data[at : at + 1] for at in range(len(data))]
    for pieces in chain((byte_by_byte,), ([data[:cut], data[cut:]] for cut in range(1, min(len(data), 400)))):
        found = in_pieces(whole, read(is_answer, seed, *pieces))
        assert [each for each in found if explained(each, data) is None] == [], pieces


def test_titles_are_told_apart() -> None:
    for page in (REQUESTS, ANSWERS):
        titles = [seed.title for seed in seeds(page)]
        assert len(titles) == len(set(titles)) > 50


def test_a_seed_is_text_for_any_bytes() -> None:
    data = bytes(range(256)) + b"\r\n\r\nx\\r\n"
    assert b"".join(map(unescaped, escaped(data).split("\n"))) == data
