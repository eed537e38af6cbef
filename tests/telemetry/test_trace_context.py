"""What a ``traceparent`` says, when it says nothing, and what stands in the head when ours takes its place."""

from __future__ import annotations

from typing import Final

import pytest

from sidecar.telemetry.trace_context import Parent, parent_in, put_in

TRACE: Final = 0x4BF92F3577B34DA6A3CE929D0E0E4736
SPAN: Final = 0x00F067AA0BA902B7
VALUE: Final = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OURS: Final = Parent(TRACE, 0xABC, 3)
OUR_LINE: Final = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000abc-03"


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        (b"traceparent: " + VALUE, 1),
        (b"TraceParent:" + VALUE + b" \t", 1),
        (b"traceparent: " + VALUE[:-2] + b"00", 0),
        (b"traceparent: " + VALUE[:-2] + b"ff", 255),
        (b"traceparent: cc" + VALUE[2:], 1),
        (b"traceparent: cc" + VALUE[2:] + b"-what-comes-\xff", 1),
    ],
)
def test_a_valid_one_names_trace_span_and_flags(line: bytes, flags: int) -> None:
    assert parent_in([b"Accept: */*", line, b"tracestate: a=1"]) == Parent(TRACE, SPAN, flags)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"ff" + VALUE[2:],
        VALUE.upper(),
        VALUE[:-1],
        VALUE + b"-00",
        VALUE + b"0",
        b"cc" + VALUE[2:] + b"0",
        VALUE.replace(b"4bf92f3577b34da6a3ce929d0e0e4736", b"0" * 32),
        VALUE.replace(b"00f067aa0ba902b7", b"0" * 16),
        VALUE.replace(b"-", b"_"),
        VALUE[:-2] + b"0g",
        VALUE + b"," + VALUE,
        VALUE.replace(b"4bf9", "\uff14bf9".encode()),
    ],
)
def test_an_invalid_one_is_none(value: bytes) -> None:
    assert parent_in([b"traceparent: " + value]) is None


def test_none_and_several_are_none() -> None:
    assert parent_in([b"tracestate: a=1", b"x-traceparent: " + VALUE, b"traceparent-x: " + VALUE]) is None
    assert parent_in([b"traceparent: " + VALUE, b"Traceparent: " + VALUE]) is None


def test_ours_takes_the_place_of_the_parent_and_keeps_its_state() -> None:
    lines = [b"A: 1", b"Traceparent: " + VALUE, b"tracestate: a=1", b"baggage: k=v", b"Tracestate: b=2"]
    put_in(lines, OURS, continues=True)
    assert lines == [b"A: 1", OUR_LINE, b"tracestate: a=1", b"baggage: k=v", b"Tracestate: b=2"]


def test_a_trace_that_begins_here_takes_over_no_state() -> None:
    lines = [b"traceparent: broken", b"A: 1", b"TRACEPARENT: too", b"tracestate: a=1", b"baggage: k=v", b"tracestate:"]
    put_in(lines, OURS, continues=False)
    assert lines == [b"A: 1", b"baggage: k=v", OUR_LINE]
