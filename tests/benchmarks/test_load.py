"""A wrk run counts only when nothing went wrong in it."""

from __future__ import annotations

import pytest

from benchmarks.load import Load, LoadFailed, parse_done

REPORT = """\
Running 5s test @ http://127.0.0.1:6190/1k
  1 threads and 32 connections
Requests/sec:  20000.00
"""


def test_the_hooks_line_is_read_and_wrks_own_report_is_not() -> None:
    line = '{"requests": 100000, "microseconds": 5000000, "errors": 0, "p50": 1500, "p99": 4200}\n'
    load = parse_done(REPORT + line)
    assert load == Load(requests=100_000, seconds=5.0, p50_us=1500, p99_us=4200)
    assert load.per_second == pytest.approx(20_000)


def test_one_error_fails_the_run() -> None:
    line = '{"requests": 100000, "microseconds": 5000000, "errors": 1, "p50": 1500, "p99": 4200}\n'
    with pytest.raises(LoadFailed, match="1 errors in 100000 requests"):
        parse_done(REPORT + line)


def test_a_run_without_requests_fails() -> None:
    with pytest.raises(LoadFailed):
        parse_done('{"requests": 0, "microseconds": 5000000, "errors": 0, "p50": 0, "p99": 0}\n')


def test_a_run_without_the_hooks_line_fails() -> None:
    with pytest.raises(LoadFailed, match="no result"):
        parse_done(REPORT)
