"""Requests of every kind, and what may come of each."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.soaks import content, mix
from benchmarks.soaks.client import Answer, Ask
from benchmarks.soaks.mix import Abort, Job


def job(method: str = "GET", *, expects: int = 10, size: int | None = None) -> Job:
    return Job(Ask("/size/10", method, size=size), expects, Abort.NEVER, abort_after=0.0, resets=False, fresh=False)


def test_the_same_seed_makes_the_same_requests() -> None:
    assert list(mix.jobs(200, seed=3)) == list(mix.jobs(200, seed=3)) != list(mix.jobs(200, seed=4))


def test_there_is_some_of_everything() -> None:
    jobs = list(mix.jobs(5_000, seed=1))
    assert {each.ask.method for each in jobs} == set(mix.METHODS)
    assert {each.abort for each in jobs} == set(Abort)
    assert {each.ask.chunked for each in jobs} == {each.fresh for each in jobs} == {True, False}
    sizes = [each.expects for each in jobs]
    assert min(sizes) == 0
    assert 128 * 1024 < max(sizes) <= content.MIB


def test_only_posts_and_puts_have_a_body_and_none_is_larger_than_allowed() -> None:
    jobs = list(mix.jobs(2_000, seed=1, largest=1_000))
    with_body = Counter(each.ask.method for each in jobs if each.ask.size is not None)
    assert set(with_body) == {"POST", "PUT"}
    assert max(max(each.expects, each.ask.size or 0) for each in jobs) == 1_000


@pytest.mark.parametrize(
    ("asked", "answer", "right"),
    [
        (job(), Answer(200, content.body(10), False), True),
        (job(), Answer(200, content.body(9), False), False),
        (job(), Answer(200, b"X" * 10, False), False),
        (job(), Answer(502, content.body(10), False), False),
        (job("HEAD"), Answer(200, b"", False), True),
    ],
)
def test_an_answer_is_right_to_the_last_byte(asked: Job, answer: Answer, right: bool) -> None:
    assert asked.is_right(answer) is right


@pytest.mark.parametrize(("size", "may"), [(None, False), (1_000, False), (64 * 1024, True)])
def test_only_a_request_too_large_to_be_kept_may_meet_401(size: int | None, may: bool) -> None:
    assert job("POST", size=size).may_meet_401 is may
