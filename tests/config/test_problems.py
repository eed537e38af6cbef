"""The report: its form, its order, its bounds, and which words it quotes."""

from __future__ import annotations

import pytest

from sidecar.config.problems import MOST_PRINTED, Problems, Span, did_you_mean, listed, nearest, quoted
from sidecar.errors import ConfigurationInvalid


def test_an_error_has_its_place_the_line_and_a_caret() -> None:
    problems = Problems("config.yaml")
    problems.add(Span(11, 4, 11, 8), "unknown key 'mood'")

    assert str(problems.error(lambda span: ("    mood: x", 4, 4))) == (
        "config.yaml:12:5: unknown key 'mood'\n"  # the place counts from 1
        "  12 |     mood: x\n"
        "     |     ^^^^"
    )


def test_errors_stand_in_the_order_of_the_file_and_are_counted() -> None:
    problems = Problems("c.yaml")
    problems.add(Span.point(3, 0), "second")
    problems.add(Span.point(0, 2), "first")
    problems.add(None, "the whole")

    assert str(problems.error()) == "c.yaml: the whole\nc.yaml:1:3: first\nc.yaml:4:1: second\n3 errors in c.yaml"


def test_the_same_error_at_the_same_place_counts_once() -> None:
    problems = Problems("c.yaml")
    problems.add(Span.point(0, 0), "twice")
    problems.add(Span.point(0, 0), "twice")

    assert str(problems.error()) == "c.yaml:1:1: twice"


def test_a_file_of_another_kind_does_not_fill_the_screen() -> None:
    problems = Problems("c.yaml")
    for line in range(1000):
        problems.add(Span.point(line, 0), "wrong")
    lines = str(problems.error()).splitlines()

    assert len(lines) == MOST_PRINTED + 2
    assert lines[-2:] == ["... and 900 more", "1000 errors in c.yaml"]


def test_the_exception_ends_the_process_with_the_code_of_the_contract() -> None:
    problems = Problems("c.yaml")
    problems.add(None, "wrong")
    error = problems.error()

    assert isinstance(error, ConfigurationInvalid)
    assert error.exit_code == 3
    assert [problem.message for problem in error.problems] == ["wrong"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [("bnd", "bind"), ("client_secert", "client_secret"), ("clientSecret", "client_secret"), ("banana", None)],
)
def test_the_nearest_known_word_is_suggested(word: str, meant: str | None) -> None:
    assert nearest(word, ["bind", "client_id", "client_secret"]) == meant


def test_nothing_near_suggests_nothing() -> None:
    assert did_you_mean(None) == ""
    assert did_you_mean("bind") == "; did you mean 'bind'?"


@pytest.mark.parametrize("word", ["mood", "client-id", "http2", "Bind", "CorrectCase"])
def test_a_word_of_configuration_is_quoted(word: str) -> None:
    assert quoted(word) == f" '{word}'"


@pytest.mark.parametrize(
    "word", ["S3cr3tMarker", "a+b/c==", "hunter 2", "x" * 61, "", "pässword", "eyJhbGciOiJIUzI1NiJ9.e30"]
)
def test_a_word_that_may_be_a_secret_is_not_quoted(word: str) -> None:
    assert quoted(word) == ""


def test_a_slip_of_a_known_word_is_quoted_whatever_its_letters() -> None:
    assert quoted("clientId2", ["client_id"]) == " 'clientId2'"


def test_words_are_listed_for_people() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b or c"
