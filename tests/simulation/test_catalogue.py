"""Faults by name: how they are written, what is refused, and what each does to an answer."""

from __future__ import annotations

import re

import pytest

from sidecar.simulation.catalogue import FAULTS, Fault, Value, ordered


@pytest.mark.parametrize(
    ("text", "name", "value", "seconds", "count"),
    [
        ("429:30s", "429", None, 30.0, None),
        ("429=7s:1m", "429", 7.0, 60.0, None),
        ("500x3", "500", None, None, 3),
        ("latency=2s", "latency", 2.0, None, None),
        ("latency=500ms:10sx4", "latency", 0.5, 10.0, 4),
        ("skew=-5m", "skew", -300.0, None, None),
        ("skew=+5m", "skew", 300.0, None, None),
        ("no_tokenx1", "no_token", None, None, 1),
        (" revoke\n", "revoke", None, None, None),
    ],
)
def test_a_fault_is_written_as_a_name_with_value_time_and_count(
    text: str, name: str, value: float | None, seconds: float | None, count: int | None
) -> None:
    order = ordered(text)
    assert (order.fault.name, order.value, order.seconds, order.count) == (name, value, seconds, count)
    assert str(order) == text.strip()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "it is written NAME"),
        ("429 30s", "it is written NAME"),
        ("429:30", "it is written NAME"),
        ("latancy=2s", "no fault has this name; did you mean 'latency'?"),
        ("latency", "latency needs its value: latency=2s"),
        ("empty=2s", "empty takes no value"),
        ("revoke:2s", "revoke happens once: it has no time"),
        ("429:0s", "its time is more than nothing"),
        ("outagex3", "outage is not counted in answers"),
        ("500x0", "it is for 1 to"),
        ("latency=-2s", "the value of latency has no sign"),
        ("429:2y", "the units of a duration are"),
    ],
)
def test_what_is_no_fault_is_refused_with_a_sentence(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        ordered(text)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_every_fault_has_an_example_that_can_be_ordered_and_does_something(fault: Fault) -> None:
    order = ordered(fault.example)
    assert order.fault is fault
    assert (fault.step is None) != (fault.change is None)
    assert fault.meaning
    assert fault.value is not Value.NEEDED or order.value is not None


def test_a_limit_names_its_moment_only_with_a_value() -> None:
    step = FAULTS["429"].step
    assert step is not None
    assert (step(None).status, dict(step(None).headers)) == (429, {})
    assert step(7.0).headers == {"Retry-After": "7"}
