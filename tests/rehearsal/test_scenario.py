"""The model of scenario files says everything about its keys, and the events hold together."""

from __future__ import annotations

from sidecar.config.shapes import ListShape, StructShape, struct_shape
from sidecar.rehearsal.scenario import EVENTS, MEANINGS, OWN_EVENTS, REMOTE_EVENTS, Scenario
from sidecar.simulation.catalogue import FAULTS, ordered


def keys(shape: StructShape, before: str = "") -> list[str]:
    found: list[str] = []
    for name, known in shape.fields.items():
        match known.shape:
            case StructShape() as inner:
                found += keys(inner, f"{before}{name}.")
            case ListShape(StructShape() as inner):
                found += keys(inner, f"{before}{name}[].")
            case _:
                found.append(before + name)
    return found


def test_every_key_has_its_meaning() -> None:
    assert keys(struct_shape(Scenario)) == list(MEANINGS)


def test_events_are_the_faults_and_a_few_more() -> None:
    assert not OWN_EVENTS.keys() & FAULTS.keys()
    assert set(EVENTS) == OWN_EVENTS.keys() | FAULTS.keys()
    assert set(EVENTS) >= REMOTE_EVENTS
    for event in EVENTS.values():
        assert ordered(event.example, EVENTS).fault is event
