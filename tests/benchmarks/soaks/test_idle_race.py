"""What counts in the race for a kept connection."""

from __future__ import annotations

from collections import Counter

from benchmarks.soaks import idle_race
from benchmarks.soaks.idle_race import SHARES, Closing, Ending, Size

SIZE = Size(gets=3, posts=2)


def test_every_ending_has_its_share_of_a_hundred() -> None:
    assert set(SHARES) == set(Ending)
    assert sum(SHARES.values()) == 100


def test_a_get_that_failed_and_a_post_that_came_twice_miss_their_targets() -> None:
    application = Closing(seed=1)
    application.arrived.update({b"get-0": 2, b"get-1": 1, b"post-0": 2, b"post-1": 1})
    lost, doubled = idle_race.outcome(SIZE, Counter({"200": 2, "502": 1}), Counter({"200": 2}), application).targets
    assert (lost.measured, doubled.measured) == (1, 1)


def test_a_post_that_was_refused_and_a_get_that_came_twice_miss_none() -> None:
    application = Closing(seed=1)
    application.arrived.update({b"get-0": 2, b"get-1": 1, b"get-2": 1, b"post-0": 1, b"post-1": 1})
    outcome = idle_race.outcome(SIZE, Counter({"200": 3}), Counter({"200": 1, "502": 1}), application)
    assert outcome.succeeded
    assert "1 POSTs met the race" in outcome.facts[0]


def test_each_request_has_an_id_of_its_own() -> None:
    asks = [*idle_race.gets(5), *idle_race.posts(5)]
    assert len({ask.fields for ask in asks}) == 10
    assert [ask.method for ask in asks] == ["GET"] * 5 + ["POST"] * 5
