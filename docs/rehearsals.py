"""The tables of ``docs/simulate.md``: faults, events, scenario files and the scenarios that are shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from docs.providers import table
from sidecar.config.scalars import written_duration
from sidecar.config.shapes import ListShape, StructShape, WrittenShape, struct_shape
from sidecar.rehearsal import reading
from sidecar.rehearsal.scenario import MEANINGS, OWN_EVENTS, Scenario
from sidecar.simulation.catalogue import FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.config.shapes import FieldShape
    from sidecar.simulation.catalogue import Fault


def faults() -> str:
    """Every fault by name."""
    return _named("fault", FAULTS.values())


def events() -> str:
    """What a scenario has beside them."""
    return _named("event", OWN_EVENTS.values())


def _named(what: str, named: Iterable[Fault]) -> str:
    return table(
        [what, "for example", "meaning"], [[f"`{each.name}`", f"`{each.example}`", each.meaning] for each in named]
    )


def scenarios() -> str:
    """The scenarios of the package."""
    loaded = {name: reading.load(path) for name, path in reading.shipped().items()}
    rows = [[f"`{name}`", f"{each.duration:g} s", each.description] for name, each in loaded.items()]
    return table(["scenario", "takes", "what is shown"], rows)


def scenario() -> str:
    """Every key of a scenario file, from the model."""
    rows = [[f"`{key}`", _default(known), MEANINGS[key]] for key, known in _keys(struct_shape(Scenario))]
    return table(["key", "default", "meaning"], rows)


def _keys(shape: StructShape, before: str = "") -> Iterator[tuple[str, FieldShape]]:
    for name, known in shape.fields.items():
        match known.shape:
            case StructShape() as inner:
                yield from _keys(inner, f"{before}{name}.")
            case ListShape(StructShape() as inner):
                yield from _keys(inner, f"{before}{name}[].")
            case _:
                yield before + name, known


def _default(known: FieldShape) -> str:
    if known.required:
        return "required"
    return f"`{_written(known, known.default)}`" if known.default not in (None, msgspec.NODEFAULT, ()) else "none"


def _written(known: FieldShape, value: Any) -> str:
    is_duration = isinstance(known.shape, WrittenShape) and known.shape.kind == "duration"
    return written_duration(value) if is_duration else f"{value:g}"
