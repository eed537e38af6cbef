"""The search for inputs that readers differ on: it can be repeated, finds what is planted, and says what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.fuzz import page
from benchmarks.fuzz.__main__ import run, smallest, unexplained
from benchmarks.fuzz.differences import KNOWN, REFUSES, Difference, explained
from benchmarks.fuzz.inputs import Input
from benchmarks.fuzz.page import Figures
from benchmarks.fuzz.trial import Trial
from sidecar.http import h1, hygiene

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.http.message import RequestHead

INPUTS = 2500


def test_a_short_run_leaves_nothing_unexplained_and_can_be_repeated() -> None:
    first, second = run(INPUTS, seed=3), run(INPUTS, seed=3)
    assert first.unexplained == 0
    assert min(first.accepted_requests, first.accepted_answers) > INPUTS // 10
    first.seconds = second.seconds
    assert first == second


# --- what a more lenient parser would let through ---------------------------------------------------------------------


def last_length(value: bytes, earlier: int | None, error: type[Exception]) -> int:
    return int(value) if value.isdigit() else 0


def length_and_chunks(head: RequestHead, codings: list[bytes]) -> None:
    head.chunked = bool(codings)


def any_size(self: Any, content: bytes) -> None:
    try:
        self._left = int(content.partition(b";")[0].strip() or b"0", 0x10)
    except ValueError:
        self._left = 0
    self._at = h1._At.DATA if self._left else h1._At.TRAILER


def nothing_nominated(head: RequestHead, nominated: frozenset[bytes]) -> None:
    head.close = b"close" in nominated


@pytest.mark.parametrize(
    ("owner", "name", "lenient"),
    [
        (hygiene, "_content_length", last_length),
        (hygiene, "_frame_request", length_and_chunks),
        (hygiene, "_apply_connection", nothing_nominated),
        (h1.ChunkedDecoder, "_size", any_size),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_a_more_lenient_parser_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    owner: Any,
    name: str,
    lenient: Callable[..., Any],
) -> None:
    monkeypatch.setattr(owner, name, lenient)
    assert run(INPUTS, seed=3).unexplained > 0
    assert "->" in capsys.readouterr().out


# --- what is said -----------------------------------------------------------------------------------------------------


def test_a_finding_is_made_small_before_it_is_shown() -> None:
    request = b"POST /long/target?query HTTP/1.1\r\nHost: example\r\nX-Some: thing\r\nETag: a\r\nETag: b\r\n\r\n"
    given = Input(False, b"GET", request)
    difference = next(each for each in Trial(given, [request]).found if each.what == REFUSES)
    least = page.smallest(
        given, lambda each: any(found[:3] == difference[:3] for found in Trial(each, [each.data]).found)
    )
    assert len(least.data) < 50
    assert least.data.count(b"ETag:") == 2


def test_an_input_whose_pieces_matter_is_shown_as_it_is() -> None:
    given = Input(False, b"GET", b"GET / HTTP/1.1\r\n\r\n")
    left = [Difference("ours", "pieces", "verdict", "1 whole instead of bad_request")]
    assert smallest(given, left, [given.data]) == (given, left)


def test_a_finding_is_shown_as_a_seed_is_written() -> None:
    shown = page.finding(
        Input(True, b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n"), [Difference("h11", "answer", "close", "True")]
    )
    assert shown.splitlines() == [
        "h11, answer: close: True",
        "== answer [HEAD] ->",
        "HTTP/1.1 200 OK\\r\\n",
        "\\r\\n",
    ]


def test_every_known_difference_has_a_name_of_its_own_and_a_reason() -> None:
    assert len({known.name for known in KNOWN}) == len(KNOWN)
    assert all(known.why and known.stages for known in KNOWN)


def test_what_no_class_knows_is_unexplained() -> None:
    difference = Difference("h11", "request", "framing", "5")
    assert explained(difference, b"") is None
    request = b"GET / HTTP/1.1\r\nHost: a\r\nETag: a\r\nETag: b\r\n\r\n"
    given = Input(False, b"GET", request)
    assert unexplained(given, Trial(given, [request])) == []


def test_the_page_tells_what_was_tried_and_what_is_known() -> None:
    figures = Figures(seed=7, requests=60, answers=40, accepted_requests=20, accepted_answers=10, seconds=0.05)
    figures.known[KNOWN[0].name] = 1234
    text = page.text(figures, where="Measured here.")
    assert text.startswith("Measured here.\n\n100 inputs (seed 7)")
    assert "2,000 a second" in text
    assert "Unexplained differences: **0**" in text
    assert f"| {KNOWN[0].name}: {KNOWN[0].why} | h11 | 1,234 |" in text
