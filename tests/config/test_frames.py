"""What a source line may show."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sidecar.config import frames
from sidecar.config.problems import Span


@dataclass
class Piece:
    span: Span
    visible: bool


def piece(column: int, end: int, *, visible: bool, line: int = 0, end_line: int | None = None) -> Piece:
    return Piece(Span(line, column, line if end_line is None else end_line, end), visible)


def test_what_is_not_visible_is_replaced_and_the_structure_stays() -> None:
    text, columns = frames.masked_line(
        "{mode: forward, client_secret: hunter2}",
        0,
        [
            piece(1, 5, visible=True),
            piece(7, 14, visible=True),
            piece(16, 29, visible=True),
            piece(31, 38, visible=False),
        ],
    )

    assert text == "{mode: forward, client_secret: ***}"
    assert columns[31] == columns[37] == 31
    assert columns[38] == 34


def test_the_length_of_a_hidden_value_is_hidden_too() -> None:
    short, _ = frames.masked_line("a: x", 0, [piece(3, 4, visible=False)])
    long, _ = frames.masked_line("a: " + "x" * 90, 0, [piece(3, 93, visible=False)])

    assert short == long == "a: ***"


def test_comments_are_cut_off() -> None:
    text, _ = frames.masked_line("a: x # the old one was hunter2", 0, [piece(3, 4, visible=True)])

    assert text == "a: x"


def test_a_value_over_several_lines_is_hidden_on_each() -> None:
    secret = piece(3, 4, visible=False, end_line=2)

    assert frames.masked_line("a: |", 0, [secret])[0] == "a: ***"
    assert frames.masked_line("  hunter2", 1, [secret])[0] == "***"


def test_what_moves_the_cursor_is_replaced() -> None:
    assert frames.masked_line("a\t\x1b[31m\u202e", 0, [])[0] == "a ?[31m?"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("    mode: forwrd", "    mode: forwrd"),
        ("  - mode: forward # x", "  - mode: forward"),
        ("mode:", "mode:"),
        ("mode: a: b", "***"),
        ("mode: user@host", "mode: ***"),
        ("  client_secret: hunter2", "  ***"),
        ("  hunter2", "  ***"),
        ("", ""),
        ("\tmode: forward", " mode: forward"),
    ],
)
def test_a_line_that_is_no_yaml_is_shown_only_if_it_is_a_known_key_and_a_word(line: str, shown: str) -> None:
    assert frames.unparsed_line(line, {"mode"}) == shown


def test_a_long_line_is_cut_around_the_caret() -> None:
    text, caret, width = frames.windowed("x" * 500 + "HERE" + "y" * 500, 500, 4)

    assert text[caret : caret + width] == "HERE"
    assert text.startswith("...")
    assert text.endswith("...")
    assert len(text) < 120


def test_a_caret_beyond_the_line_stands_at_its_end() -> None:
    assert frames.windowed("abc", 9, 5) == ("abc", 3, 1)


@pytest.mark.parametrize("text", ["user:pw@host", "https://host/?api_key=x", "two words", "a#b", "ä", ""])
def test_text_with_room_for_a_secret_is_no_plain_word(text: str) -> None:
    assert not frames.is_plain_word(text)
