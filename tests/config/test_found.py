"""What the walk found: places, soundness, names that are shown."""

from __future__ import annotations

from sidecar.config import document, walker
from sidecar.config.found import Found, dotted
from sidecar.config.model import Listener, Log
from sidecar.config.problems import Problems

TEXT = """\
listeners:
  - name: egress
    bind: 127.0.0.1:6180
log:
  level: inof
"""


def walk(text: str) -> Found:
    problems = Problems("config.yaml")
    root = document.read(text, problems).root
    assert root is not None
    return walker.walk(root, problems)[1]


def test_structs_are_found_by_their_type_with_their_path() -> None:
    assert [(path, listener.name) for path, listener in walk(TEXT).each(Listener)] == [(("listeners", 0), "egress")]


def test_a_struct_with_a_broken_value_is_built_with_its_default() -> None:
    assert [log.level for _, log in walk(TEXT).each(Log)] == ["info"]


def test_what_holds_a_broken_value_is_not_sound() -> None:
    found = walk(TEXT)

    assert not found.is_sound(("log", "level"))
    assert not found.is_sound(("log",))
    assert not found.is_sound(())
    assert found.is_sound(("listeners", 0))


def test_a_value_is_given_if_it_is_written_and_not_null() -> None:
    found = walk(TEXT + "environment: null\nadmin: {}\n")

    assert found.given(("log", "level"))
    assert found.given(("admin",))
    assert not found.given(("environment",))
    assert not found.given(("store",))


def test_an_error_at_a_path_that_is_not_written_points_at_what_lacks_it() -> None:
    found = walk(TEXT)
    found.fail(("listeners", 0, "upstream"), "missing", at_key=True)

    assert (found.problems.found[-1].span or (9,))[0] == 1


def test_an_error_points_at_the_value_or_at_its_key() -> None:
    found = walk(TEXT)
    found.fail(("listeners", 0, "bind"), "value")
    found.fail(("listeners", 0, "bind"), "key", at_key=True)

    assert [problem.span and problem.span.column for problem in found.problems.found[-2:]] == [10, 4]


def test_a_path_is_dotted_without_names_that_may_be_secrets() -> None:
    assert dotted(("listeners", 0, "bind")) == "listeners[0].bind"
    assert dotted(("credentials", "S3cr3t!", "grant")) == "credentials.***.grant"
