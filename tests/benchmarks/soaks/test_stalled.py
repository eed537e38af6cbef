"""What counts in a stall."""

from __future__ import annotations

import asyncio
import hashlib

from benchmarks.scenarios import Upstream
from benchmarks.soaks import stalled
from benchmarks.soaks.probe import Felt
from benchmarks.soaks.stalled import STALL_AFTER, Stall, Taker

CALM = Stall("upload", stalled_growth=1.0, growth=2.0, before=Felt(2.0, 0.0), during=Felt(2.2, 0.0), whole=True)


def test_a_taker_stops_once_and_hashes_everything() -> None:
    paused, stopped = [], asyncio.Event()
    taker = Taker(lambda: paused.append(taker.taken), stopped)
    piece = bytes(STALL_AFTER // 2)
    for _ in range(4):
        taker.take(piece)
    assert paused == [STALL_AFTER]
    assert stopped.is_set()
    assert taker.digest == hashlib.sha256(piece * 4).hexdigest()


def test_calm_stalls_meet_all_targets() -> None:
    assert stalled.outcome([(Upstream.PLAIN, CALM), (Upstream.TLS, CALM)]).succeeded


def test_memory_others_and_bytes_are_held_to_their_bounds() -> None:
    bad = Stall("download", stalled_growth=1.0, growth=17.0, before=Felt(2.0, 0.0), during=Felt(3.0, 0.0), whole=False)
    outcome = stalled.outcome([(Upstream.PLAIN, CALM), (Upstream.TLS, bad)])
    assert [target.met for target in outcome.targets] == [True, True, False, False, False]
    assert [target.measured for target in outcome.targets[2:]] == [17.0, 1.5, 1]
