"""The configurations that a reload goes round."""

from __future__ import annotations

import itertools

from benchmarks.soaks import reload
from benchmarks.soaks.traffic import Tally

BASE = {"routes": [{"name": "plain", "host": "a"}, {"name": "tls", "host": "b"}], "log": {"level": "info"}}


def test_a_route_comes_another_with_a_changed_limit_and_both_go() -> None:
    (first, added), (second, limited), (third, removed) = itertools.islice(reload.variants(BASE), 3)
    assert [route["name"] for route in first["routes"]] == ["plain", added, "tls"]
    assert first["routes"][1] == {"name": added, "host": "a", "paths": [reload.SEVEN]}
    assert [route["name"] for route in second["routes"]] == ["plain", limited, "tls"]
    assert "first_byte" in second["limits"]
    assert (third, removed) == (BASE, "plain")


def test_each_new_route_is_told_from_those_before() -> None:
    names = [name for _, name in itertools.islice(reload.variants(BASE), 30) if name != "plain"]
    assert len(set(names)) == len(names) == 20


def test_one_failed_request_misses_the_target() -> None:
    tally = Tally(answered=9)
    tally.failed["reset"] = 1
    lost, rejected = reload.outcome(tally, 5, 0.0, "RSS stayed.").targets
    assert (lost.what, lost.met, rejected.met) == ("of 10 requests during 5 reloads, failed", False, True)
