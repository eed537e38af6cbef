"""How the state of a running sidecar looks: cells, times, colours, and nothing that moves a cursor."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from sidecar.broker.policy import State
from sidecar.cli.status_table import _COLOURS, Counts, Look, counted, duration, for_programs, lines
from sidecar.telemetry.metrics import Metrics

NOW: Final = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC).timestamp()
ORDERS: Final[dict[str, Any]] = {
    "name": "orders",
    "state": "fresh",
    "usable": True,
    "generation": 3,
    "expires_at": "2026-11-28T12:41:12Z",
    "next_attempt_at": "2026-11-28T12:28:00Z",
    "refreshing": False,
    "consecutive_failures": 0,
    "last_error": None,
    "last_detail": None,
    "next": None,
}
BILLING: Final[dict[str, Any]] = ORDERS | {
    "name": "billing",
    "state": "failing",
    "usable": False,
    "generation": 0,
    "expires_at": None,
    "next_attempt_at": "2026-11-28T12:00:12Z",
    "consecutive_failures": 4,
    "last_error": "invalid_client",
    "last_detail": "the IdP said no",
    "next": "check client_id",
}


def look(*credentials: dict[str, Any], **changes: Any) -> Look:
    return Look("127.0.0.1:6182", NOW, credentials, **changes)


def shown(*credentials: dict[str, Any], coloured: bool = False, width: int | None = None, **changes: Any) -> list[str]:
    return lines(look(*credentials, **changes), coloured=coloured, width=width)


def test_the_table_and_below_it_what_failed_with_its_next_step() -> None:
    assert shown(ORDERS, BILLING) == [
        "sidecar at 127.0.0.1:6182",
        "",
        "CREDENTIAL  STATE    USABLE  GENERATION  EXPIRES IN  NEXT TRY IN  FAILURES",
        "orders      fresh    yes              3     41m 12s       28m 0s         0",
        "billing     failing  no               0           -          12s         4",
        "",
        "billing: invalid_client: the IdP said no",
        "  next: check client_id",
    ]


def test_counts_of_routes_follow_and_what_has_no_route_is_last() -> None:
    routes = {"_unmatched": Counts(2, 2), "api": Counts(10, 1, 2, 8, 1)}
    assert shown(ORDERS, routes=routes)[-3:] == [
        "ROUTE       REQUESTS  4XX  5XX  WITH TOKEN  WITHOUT",
        "api               10    1    2           8        1",
        "(no route)         2    2    0           0        0",
    ]
    assert "(no route)" not in "\n".join(shown(ORDERS, routes={"_unmatched": Counts(), "api": Counts()}))


@pytest.mark.parametrize(
    ("changes", "cells"),
    [
        ({"expires_at": None}, ("never", "28m 0s")),
        ({"expires_at": None, "generation": 0}, ("-", "28m 0s")),
        ({"expires_at": "2026-11-28T11:59:59Z"}, ("expired", "28m 0s")),
        ({"next_attempt_at": "2026-11-28T11:59:59Z"}, ("41m 12s", "now")),
        ({"refreshing": True}, ("41m 12s", "now")),
        ({"next_attempt_at": None}, ("41m 12s", "-")),
        ({"expires_at": "soon", "next_attempt_at": 7}, ("never", "-")),
    ],
)
def test_times_are_from_now_on(changes: dict[str, Any], cells: tuple[str, str]) -> None:
    row = shown(ORDERS | changes)[3]
    assert tuple(re.split("  +", row)[4:6]) == cells


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3599, "59m 59s"), (7200, "2h 0m"), (90061, "1d 1h"), (864000, "10d 0h")],
)
def test_a_duration_has_its_two_largest_units(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_colours_are_there_only_where_they_are_wanted() -> None:
    assert "\x1b" not in "".join(shown(ORDERS, BILLING, trouble="gone", routes={"api": Counts()}))
    text = "\n".join(shown(ORDERS, BILLING, coloured=True))
    assert "\x1b[32mfresh  \x1b[0m" in text
    assert "\x1b[31mfailing\x1b[0m" in text


def test_every_state_has_its_colour() -> None:
    assert _COLOURS.keys() == {state.value for state in State}


def test_a_sidecar_that_is_gone_is_told_above_what_was_seen_last() -> None:
    text = shown(ORDERS, trouble="nobody listens")
    assert text[:3] == ["sidecar at 127.0.0.1:6182", "nobody listens", "what was seen last:"]
    assert any(line.startswith("orders") for line in text)
    assert shown(trouble="nobody listens") == ["sidecar at 127.0.0.1:6182", "nobody listens"]


def test_no_credentials_are_said_to_be_none() -> None:
    assert shown()[-1] == "no credentials"


def test_what_is_long_ends_at_the_edge_of_the_terminal() -> None:
    text = shown(BILLING | {"next": "x" * 300}, width=80)
    assert [len(line) for line in text if "xxx" in line] == [80]


def test_nothing_that_was_said_moves_the_cursor() -> None:
    evil = "a\x1b[2J\r\nb\u202e"
    text = "\n".join(
        shown(
            BILLING | {"name": evil, "state": evil, "next": evil, "last_error": evil, "last_detail": evil}, trouble=evil
        )
    )
    assert "\x1b" not in text
    assert "\r" not in text
    assert "a?[2J??b?" in text


def test_counts_come_from_the_metrics() -> None:
    metrics = Metrics()
    api = metrics.route("api", "orders")
    for status in (200, 404, 503, 503):
        api.answered(b"GET", status).value += 1
    api.injections["injected"].value += 3
    api.injections["no_token"].value += 2
    found = counted(metrics.render()[0].decode())
    assert found["api"] == Counts(4, 1, 2, 3, 2)
    assert counted("no metrics\n") == {}


def test_programs_get_the_words_of_the_api_and_seconds_from_now_on() -> None:
    found: Any = for_programs(look(ORDERS, BILLING, routes={"api": Counts(1)}))
    assert (found["sidecar"], found["reachable"]) == ("127.0.0.1:6182", True)
    assert found["credentials"][0] == ORDERS | {"expires_in_seconds": 2472, "next_attempt_in_seconds": 1680}
    assert found["credentials"][1]["expires_in_seconds"] is None
    assert found["routes"][0]["requests"] == 1
    gone: Any = for_programs(look(trouble="nobody"))
    assert (gone["reachable"], gone["trouble"]) == (False, "nobody")
