"""What a WebSocket costs."""

from __future__ import annotations

from benchmarks.scenarios import Upstream
from benchmarks.soaks import idle_websockets
from benchmarks.soaks.idle_websockets import Cost


def test_each_upstream_has_a_bound_of_its_own() -> None:
    cost = Cost(count=512, some=40.0, loaded=50.0, after=45.0)
    plain, tls = idle_websockets.outcome({Upstream.PLAIN: cost, Upstream.TLS: cost}).targets
    assert plain.measured == tls.measured == 20.0
    assert (plain.met, tls.met) == (False, True)
