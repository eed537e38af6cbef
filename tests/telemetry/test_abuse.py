"""Bursts: when single refusals become one, how long it lasts, what is told of it, and what an attacker cannot grow."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.errors import Denied, KeyRefused, PeerRefused, ProxyAuthRequired, TargetUnmatched, leaves
from sidecar.telemetry.abuse import (
    KINDS_OF_DENIALS,
    LONGEST_HOST,
    MOST_HOSTS,
    MOST_SOURCES,
    THRESHOLDS,
    Abuse,
    Detector,
    Kind,
    Source,
)
from sidecar.telemetry.cells import Cell
from sidecar.telemetry.log import configure
from sidecar.telemetry.metrics import Metrics

APP = Source("egress", uid=1000)
COUNT, SECONDS = THRESHOLDS[Kind.DENIED_HOSTS]
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What was told of bursts since the last look."""
    configure("info")

    def read() -> list[dict[str, Any]]:
        written = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        return [line for line in written if line["event"] == "suspected_abuse"]

    return read


def abuse() -> tuple[Abuse, dict[str, Cell]]:
    counts = {kind.value: Cell() for kind in Kind}
    return Abuse(counts), counts


# --- when it is a burst ---


@pytest.mark.parametrize("kind", Kind)
def test_a_burst_begins_with_the_attempt_that_reaches_the_threshold(kind: Kind) -> None:
    detector, (count, seconds) = Detector(), THRESHOLDS[kind]
    step = seconds / count
    began = [detector.note(kind, APP, number * step)[0] for number in range(count)]
    assert began[:-1] == [None] * (count - 1)
    burst = began[-1]
    assert burst is not None
    assert (burst.kind, burst.source, burst.count, burst.began_at) == (kind, APP, count, 0.0)


def test_attempts_that_are_spread_are_no_burst() -> None:
    detector = Detector()
    step = SECONDS / (COUNT - 1) * 1.01
    assert all(detector.note(Kind.DENIED_HOSTS, APP, number * step) == (None, []) for number in range(COUNT * 3))


def test_the_window_slides_so_a_burst_across_two_minutes_is_seen() -> None:
    detector = Detector()
    first = [detector.note(Kind.DENIED_HOSTS, APP, 50.0)[0] for _ in range(COUNT // 2)]
    second = [detector.note(Kind.DENIED_HOSTS, APP, 70.0)[0] for _ in range(COUNT - COUNT // 2)]
    assert [burst for burst in (*first, *second) if burst] == [second[-1]]


def test_a_burst_is_one_event_however_long_it_lasts_and_the_next_one_another() -> None:
    detector = Detector()
    began = [detector.note(Kind.DENIED_HOSTS, APP, 0.1 * number)[0] for number in range(COUNT * 10)]
    assert len([burst for burst in began if burst]) == 1
    [over] = detector.ended(0.1 * COUNT * 10 + SECONDS)
    assert over.count == COUNT * 10
    again = [detector.note(Kind.DENIED_HOSTS, APP, 1000.0)[0] for _ in range(COUNT)]
    assert again[-1] is not None


def test_a_burst_ends_only_when_nothing_came_for_the_window() -> None:
    detector = Detector()
    for _ in range(COUNT):
        detector.note(Kind.DENIED_HOSTS, APP, 0.0)
    assert detector.ended(SECONDS) == []
    assert len(detector.ended(SECONDS + 0.1)) == 1
    assert detector.ended(SECONDS + 0.2) == []
    assert len(detector) == 0


def test_kinds_and_sources_are_counted_apart() -> None:
    detector, other = Detector(), Source("egress", uid=1001)
    for number in range(COUNT - 1):
        assert detector.note(Kind.DENIED_HOSTS, APP, 0.0) == (None, [])
        assert detector.note(Kind.DENIED_HOSTS, other, 0.0) == (None, [])
        if number < THRESHOLDS[Kind.PROXY_CREDENTIALS].attempts - 1:
            assert detector.note(Kind.PROXY_CREDENTIALS, APP, 0.0) == (None, [])
    assert detector.note(Kind.DENIED_HOSTS, APP, 0.0)[0] is not None


def test_new_ports_and_processes_do_not_hide_that_it_is_one_source() -> None:
    detector = Detector()
    began = [
        detector.note(Kind.PROXY_CREDENTIALS, Source("egress", port=40000 + number), float(number))[0]
        for number in range(THRESHOLDS[Kind.PROXY_CREDENTIALS].attempts)
    ]
    assert began[-1] is not None
    assert began[-1].source.port == 40000 + len(began) - 1


# --- what an attacker cannot grow ---


def test_sources_are_bounded_and_one_that_makes_room_ends_its_burst() -> None:
    detector = Detector()
    for _ in range(COUNT):
        detector.note(Kind.DENIED_HOSTS, APP, 0.0)
    ended = []
    for uid in range(MOST_SOURCES * 3):
        ended += detector.note(Kind.DENIED_HOSTS, Source("other", uid=uid), 1.0)[1]
    assert len(detector) == MOST_SOURCES
    assert [burst.source for burst in ended] == [APP]


def test_hosts_are_a_few_cut_short_and_of_the_characters_of_hosts(lines: Lines) -> None:
    watch, _ = abuse()
    for number in range(COUNT):
        watch.denied(TargetUnmatched("x"), APP, 0.0, b'Evil"\r\n\x1b[31m\xff%d' % number + b"a" * 500)
    [line] = lines()
    assert len(line["hosts"]) == MOST_HOSTS
    assert line["hosts"][0].startswith("evil????[31m?0aaa")
    assert all(len(host) <= LONGEST_HOST + 3 and host.isascii() for host in line["hosts"])


# --- what is told ---


def test_a_burst_is_counted_once_and_told_at_both_ends(lines: Lines) -> None:
    watch, counts = abuse()
    for number in range(COUNT + 2):
        watch.denied(TargetUnmatched("x"), Source("egress", uid=1000, pid=number), float(number), b"a.example:80")
    watch.sweep(COUNT + 1 + SECONDS + 1)
    began, ended = lines()
    common = {"component": "abuse", "kind": "denied_hosts", "source": "egress", "uid": 1000, "window_seconds": SECONDS}
    assert began.items() >= (common | {"phase": "began", "count": COUNT, "pid": COUNT - 1}).items()
    assert ended.items() >= (common | {"phase": "ended", "count": COUNT + 2, "seconds": COUNT + 1.0}).items()
    assert began["hosts"] == ["a.example:80"]
    assert began["next"]
    assert "peer_port" not in began
    assert {kind: cell.value for kind, cell in counts.items()} == dict.fromkeys(counts, 0.0) | {"denied_hosts": 1.0}


def test_a_port_is_told_where_there_is_no_user(lines: Lines) -> None:
    watch, _ = abuse()
    for _ in range(THRESHOLDS[Kind.PROXY_CREDENTIALS].attempts):
        watch.denied(KeyRefused("x"), Source("egress", port=41000), 0.0, b"ignored.example")
    [line] = lines()
    assert line["peer_port"] == 41000
    assert not {"uid", "pid", "hosts"} & line.keys()


def test_a_client_that_only_asks_what_to_bring_is_no_attempt(lines: Lines) -> None:
    watch, counts = abuse()
    for _ in range(100):
        watch.denied(ProxyAuthRequired("send it"), APP, 0.0)
    assert lines() == []
    assert counts["proxy_credentials"].value == 0
    for _ in range(100):
        watch.denied(ProxyAuthRequired("wrong", is_attempt=True), APP, 0.0)
    assert counts["proxy_credentials"].value == 1


@pytest.mark.parametrize("kind", leaves(Denied))
def test_each_refusal_is_of_a_kind_or_of_none(kind: type[Denied]) -> None:
    watch, counts = abuse()
    for _ in range(100):
        watch.denied(kind("x"), APP, 0.0)
    counted = [name for name, cell in counts.items() if cell.value]
    expected = KINDS_OF_DENIALS.get(kind.reason) if kind is not ProxyAuthRequired else None
    assert counted == ([] if expected is None else [expected.value])


def test_users_who_may_not_use_the_socket_count_as_wrong_credentials() -> None:
    assert KINDS_OF_DENIALS[PeerRefused.reason] is Kind.PROXY_CREDENTIALS


def test_every_kind_is_a_series_from_the_start() -> None:
    shown = Metrics().render()[0].decode()
    for kind in Kind:
        assert f'tokensidecar_suspected_abuse_total{{kind="{kind.value}"}} 0' in shown
