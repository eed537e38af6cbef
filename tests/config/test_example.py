"""``config.example.yaml`` is the reference, so it is held against the model: every key, every default."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.config import document, load, walker
from sidecar.config.model import Configuration, Model
from sidecar.config.problems import Problems
from sidecar.config.shapes import (
    EitherShape,
    FieldShape,
    ListShape,
    MapShape,
    Shape,
    StructShape,
    struct_shape,
    structs,
)

if TYPE_CHECKING:
    from sidecar.config.found import Path as KeyPath

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
TEXT = EXAMPLE.read_text()
COMPLETE = re.sub(r"^(\s*)#(?=[a-z]|- )", r"\1", TEXT, flags=re.MULTILINE)
"""The example with every key that it leaves out taken in: ``#key:`` is a key, ``# words`` is a comment."""
REMARK = re.compile(r"# \((?:(required)|(default)|default: ([^)]*))\)")


@dataclass(frozen=True, slots=True)
class Line:
    """A key as it stands in the complete example."""

    path: KeyPath
    owner: type[Model]
    known: FieldShape
    value: Any
    remark: re.Match[str] | None


def lines() -> list[Line]:
    """Every key of a struct, in the order of the file."""
    problems = Problems("config.example.yaml")
    root = document.read(COMPLETE, problems).root
    assert root is not None
    found = walker.walk(root, problems)[1]
    assert not problems.found
    text = COMPLETE.splitlines()
    result = []
    for path, written in found.written.items():
        place = locate(path)
        if place is not None and written.key is not None:
            remark = REMARK.search(text[written.key.span.line])
            result.append(Line(path, *place, found.values[path], remark))
    return result


def locate(path: KeyPath) -> tuple[type[Model], FieldShape] | None:
    """The struct and the field that a path leads to; None where the user, not the model, chose the last part."""
    place: tuple[type[Model], FieldShape] | None = None
    shape: Shape = struct_shape(Configuration)
    for part in path:
        if isinstance(shape, EitherShape):
            shape = shape.other
        match shape:
            case StructShape(model, fields):
                place = (model, fields[str(part)])
                shape = place[1].shape
            case ListShape(inner) | MapShape(value=inner):
                place, shape = None, inner
            case _:  # within an address to listen on
                return None
    return place


LINES = lines()
KEYS = {(shape.model, name) for shape in structs() for name in shape.fields}


def test_it_loads_as_it_stands() -> None:
    configuration = load.load(EXAMPLE)

    assert [listener.name for listener in configuration.listeners] == ["egress", "orders"]
    assert list(configuration.credentials) == ["orders"]


def test_what_it_leaves_out_is_valid() -> None:
    load.parse(COMPLETE, "config.example.yaml", check_files=False)


def test_it_names_every_key_of_the_model() -> None:
    assert KEYS - {(line.owner, line.known.name) for line in LINES} == set()


def test_it_says_of_every_key_whether_it_is_needed_or_what_its_default_is() -> None:
    remarked = {(line.owner, line.known.name) for line in LINES if line.remark or has_keys_of_its_own(line)}

    assert KEYS - remarked == set()


def has_keys_of_its_own(line: Line) -> bool:
    return isinstance(line.known.shape, StructShape) and not line.known.nullable


@pytest.mark.parametrize(
    "line", [line for line in LINES if line.remark], ids=lambda line: ".".join(map(str, line.path))
)
def test_what_it_says_of_a_default_is_what_the_model_says(line: Line) -> None:
    assert line.remark is not None
    required, is_default, stated = line.remark.groups()
    if required:
        assert line.known.required
        return
    assert not line.known.required
    if is_default:
        assert line.value == line.known.default
    else:
        assert stated == ("none" if line.known.default is None else as_written(line.known.default))


def as_written(default: Any) -> str:
    match default:
        case dict():
            return "{}"
        case tuple():
            return f"[{', '.join(default)}]"
    return str(default)


def test_what_is_not_marked_as_a_default_is_not_one() -> None:
    for line in LINES:
        if line.remark is not None and line.remark[3] is not None:
            assert line.value != line.known.default, line.path


def test_no_line_is_longer_than_a_screen() -> None:
    assert max(map(len, TEXT.splitlines())) <= 120
