"""W3C Trace Context in a head's lines: what ``traceparent`` says, and how a line of ours takes its place.

Decides what a valid ``traceparent`` is, and what becomes of ``tracestate`` (the recommendation's processing
model). Only a request that a span is recorded for is changed here; every other one passes with its lines as they are.
Leaves ids and sampling to ``spans``.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# "traceparent Header Field Values" of the recommendation: lower case alone. Versions to come may go on after a dash,
# 00 may not.
_FORM: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_PARENT: Final = b"traceparent:"
_STATE: Final = b"tracestate:"


class Parent(NamedTuple):
    """The span that a request comes from."""

    trace_id: int
    span_id: int
    flags: int


def parent_in(lines: list[bytes]) -> Parent | None:
    """What the one ``traceparent`` among the field lines says; None without one, with several, or if it is invalid."""
    found = [line for line in lines if _is(line, _PARENT)]
    match = _FORM.fullmatch(found[0][len(_PARENT) :].strip(b" \t")) if len(found) == 1 else None
    if match is None or match[1] == b"ff" or (match[1] == b"00" and match[5]):
        return None
    parent = Parent(int(match[2], 16), int(match[3], 16), int(match[4], 16))
    return parent if parent.trace_id and parent.span_id else None


def put_in(lines: list[bytes], ours: Parent, *, continues: bool) -> None:
    """Make ``ours`` the parent of what comes next.

    Args:
        lines: changed in place.
        continues: the trace is the one that the lines named: its state stays. The state of no trace, or of one that
            could not be read, belongs to nobody, and goes.
    """
    line = b"traceparent: 00-%032x-%016x-%02x" % ours
    if continues:
        lines[:] = [line if _is(each, _PARENT) else each for each in lines]
    else:
        lines[:] = [each for each in lines if not (_is(each, _PARENT) or _is(each, _STATE))]
        lines.append(line)


def _is(line: bytes, name: bytes) -> bool:
    return line[: len(name)].lower() == name
