"""YAML to a tree: what the subset takes, and the place and words of what it refuses."""

from __future__ import annotations

import pytest

from sidecar.config import document
from sidecar.config.document import ListNode, MappingNode, Node, ScalarNode
from sidecar.config.problems import Problems, Span


def refused(text: str) -> list[tuple[str, str]]:
    """What is wrong with a text: place and message."""
    problems = Problems("config.yaml")
    document.read(text, problems)
    return [(problem.span.position if problem.span else "", problem.message) for problem in problems.found]


def read(text: str) -> Node:
    problems = Problems("config.yaml")
    root = document.read(text, problems).root
    assert not problems.found
    assert root is not None
    return root


def plain_data(node: Node) -> object:
    match node:
        case MappingNode():
            return {key.text: plain_data(value) for key, value in node.entries}
        case ListNode():
            return [plain_data(item) for item in node.items]
        case ScalarNode():
            return node.text


def test_scalars_keep_their_text_and_nothing_is_converted() -> None:
    root = read("a: no\nb: 12:30:00\nc: 0012\nd: 2018-02-01\ne: ~\nf:\n")

    assert plain_data(root) == {"a": "no", "b": "12:30:00", "c": "0012", "d": "2018-02-01", "e": "~", "f": ""}


def test_mappings_and_lists_are_read_in_both_styles() -> None:
    assert plain_data(read("a:\n  - b: 1\n  - [x, y]\n")) == plain_data(read('{"a": [{"b": 1}, ["x", "y"]]}'))


def test_every_node_has_its_place() -> None:
    root = read("ü: é x\nlist:\n  - 'two'\n")

    assert isinstance(root, MappingNode)
    key, value = root.entries[0]
    assert (key.span, value.span) == (Span(0, 0, 0, 1), Span(0, 3, 0, 6))
    items = root.entries[1][1]
    assert isinstance(items, ListNode)
    assert items.items[0].span == Span(2, 4, 2, 9)


def test_windows_line_ends_and_a_byte_order_mark_are_taken() -> None:
    assert plain_data(read("\ufeffa: x\r\nb: y\r\n")) == {"a": "x", "b": "y"}


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "3:1", "a second time; the first is in line 1"),
        ("a: &x 1\n", "1:4", "anchors"),
        ("a: 1\nb: *x\n", "2:4", "aliases"),
        ("host: *.example.com\n", "1:8", "starts with * or & needs quotes"),
        ("a: !!str 1\n", "1:4", "tags"),
        ("a: !secret x\n", "1:4", "tags"),
        ("a: !x!y z\n", "1:4", "tags"),
        ("<<: {a: 1}\n", "1:1", "merge keys"),
        ("a: 1\n---\nb: 2\n", "2:1", "a second document"),
        ("---\n---\na: 1\n", "2:1", "a second document"),
        ("a:\n\tb: 1\n", "2:1", "a tab"),
        ("a:\tb\n", "1:3", "a tab"),
        ("[x]: y\n", "1:1", "a key is a single word"),
        ("no: y\n", "1:1", "put it in quotes"),
        ("~: y\n", "1:1", "put it in quotes"),
        ("1.5: y\n", "1:1", "put it in quotes"),
        ("a: \x01\n", "1:4", "U+0001"),
        ("a: x\u2028b\n", "1:5", "U+2028"),
        ("a: x # \u202e\n", "1:8", "U+202E"),
        ("a: \ud800\n", "1:4", "U+D800"),
        ("", "", "empty"),
        ("# nothing\n", "", "empty"),
        ("---\n", "", "empty"),
        ("a: b: c\n", "1:5", "belongs to no key"),
        ("a: {b:}\n", "1:6", "followed by a space"),
        ("a: 'x\n", "1:4", "never closed"),
        ("a: [1,\n", "2:1", "bracket is not closed"),
        ("a: [1 2: 3, {\n", "2:1", "not closed"),
        ("a: @x\n", "1:4", "put the text in quotes"),
        ("a: 1\n b: 2\n", "2:3", "indentation"),
        ("a: 1\nb\n", "3:1", "a key without its ':'"),
        ("- a\nb: 1\n", "2:1", "the indentation does not fit the list"),
        ("a: - b\n", "1:4", "a list cannot begin here"),
    ],
)
def test_what_yaml_readers_disagree_on_is_refused_at_its_place(text: str, place: str, words: str) -> None:
    found = refused(text)

    assert len(found) == 1
    assert found[0][0] == place
    assert words in found[0][1]


def test_several_things_that_are_refused_are_found_at_once() -> None:
    assert [place for place, _ in refused("a: &x 1\nb: !y 2\na: *x\n")] == ["1:4", "2:4", "3:4", "3:1"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused_before_it_costs_anything(opening: str) -> None:
    assert [message for _, message in refused(opening * 50_000)] == ["nested more than 32 levels deep"]


def test_thirty_two_levels_are_enough_for_anybody() -> None:
    read("[" * 32 + "]" * 32)


def test_a_comment_may_hold_a_tab() -> None:
    assert plain_data(read("a: b # x\ty\n")) == {"a": "b"}


def test_the_source_line_of_a_text_that_is_no_yaml_shows_known_keys_only() -> None:
    problems = Problems("config.yaml")
    source = document.read("mode: 'a\nclient_secret: x: y\n", problems, known_keys={"mode"})

    assert source.root is None
    assert source.frame(Span.point(0, 6)) == ("mode: ***", 6, 1)
    assert source.frame(Span.point(1, 16)) == ("***", 3, 1)
    assert source.frame(Span.point(7, 0)) is None
