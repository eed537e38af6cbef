"""What a connection costs."""

from __future__ import annotations

from benchmarks.soaks import idle_connections
from benchmarks.soaks.idle_connections import Cost


def test_the_growth_is_divided_by_the_connections() -> None:
    used = Cost(count=1_024, before=40.0, loaded=50.0, after=50.0)
    silent = Cost(count=1_024, before=40.0, loaded=54.0, after=50.0)
    outcome = idle_connections.outcome(used, silent)
    assert [(target.measured, target.met) for target in outcome.targets] == [(10.0, True), (14.0, False)]
