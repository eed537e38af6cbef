"""The access log: what a line holds, what it never holds, and when lines are written."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from sidecar.secrets import Secret
from sidecar.telemetry.access_log import FLUSH_BYTES, LONGEST_PATH, AccessLog

START = 1_800_000_000.0


class Sink:
    """Collects batches; can be told to fail like a closed pipe."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.written = asyncio.Event()
        self.error: OSError | None = None

    def __call__(self, batch: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.batches.append(batch)
        self.written.set()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for batch in self.batches for line in batch.splitlines()]


def note(log: AccessLog, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "listener": "egress",
        "route": "orders-api",
        "method": b"GET",
        "host": b"api.example.com:443",
        "path": b"/v1/orders",
        "status": 200,
        "seconds": 0.0123456,
        "received": 0,
        "sent": 1024,
    }
    log.request(**(fields | changes))


async def test_a_line_tells_the_request_and_the_generation_of_its_token() -> None:
    sink = Sink()
    log = AccessLog(write=sink, wall=lambda: START + 0.25)
    note(log, injection="injected", generation=7)
    log.close()
    assert sink.lines == [
        {
            "event": "request",
            "timestamp": "2027-01-15T08:00:00.250Z",
            "listener": "egress",
            "route": "orders-api",
            "method": "GET",
            "host": "api.example.com:443",
            "path": "/v1/orders",
            "status": 200,
            "duration_ms": 12.345,
            "received_bytes": 0,
            "sent_bytes": 1024,
            "injection": "injected",
            "generation": 7,
        }
    ]


async def test_the_timestamp_follows_the_clock_from_second_to_second() -> None:
    sink = Sink()
    instants = iter([START + 0.999, START + 1.0, START + 1.5])
    log = AccessLog(write=sink, wall=lambda: next(instants))
    for _ in range(3):
        note(log)
    log.close()
    assert [line["timestamp"][17:] for line in sink.lines] == ["00.999Z", "01.000Z", "01.500Z"]


async def test_a_query_is_never_logged_and_a_long_path_is_cut() -> None:
    sink = Sink()
    log = AccessLog(write=sink)
    note(log, path=b"/v1/" + b"x" * 2000 + b"?api_key=hunter2")
    note(log, path=b"/v1?api_key=hunter2")
    log.close()
    assert [len(line["path"]) for line in sink.lines] == [LONGEST_PATH, 3]
    assert b"hunter2" not in b"".join(sink.batches)


async def test_bytes_that_are_no_text_cannot_forge_or_break_a_line() -> None:
    sink = Sink()
    log = AccessLog(write=sink)
    note(log, path=b'/a"\r\n{"event":"forged"}\x1b\xff\xe2\x80\xae', host=b"\x7f\x00", method=b"G\nT")
    log.close()
    (line,) = sink.batches[0].splitlines()
    assert line.isascii()
    assert not set(line) & {*range(32), 127}
    assert json.loads(line)["event"] == "request"


@pytest.mark.parametrize(
    "path", [b"/hooks/cn4ry-path-secret/x", b"/t/eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln", b"/x/client_secret=hunter2"]
)
async def test_a_secret_in_a_path_is_removed_from_its_line_alone(path: bytes) -> None:
    secret = Secret("cn4ry-path-secret")
    sink = Sink()
    log = AccessLog(write=sink)
    note(log, path=b"/before")
    note(log, path=path)
    note(log, path=b"/after")
    log.close()
    output = b"".join(sink.batches).decode()
    assert secret.reveal() not in output
    assert "eyJ" not in output
    assert "hunter2" not in output
    assert [line["path"] for line in sink.lines][::2] == ["/before", "/after"]
    assert "[redacted]" in sink.lines[1]["path"]


async def test_lines_are_written_together_shortly_afterwards() -> None:
    sink = Sink()
    log = AccessLog(write=sink)
    note(log)
    note(log)
    assert sink.batches == []
    async with asyncio.timeout(5):
        await sink.written.wait()
    assert len(sink.batches) == 1
    assert len(sink.lines) == 2
    sink.written.clear()
    note(log)
    async with asyncio.timeout(5):
        await sink.written.wait()
    assert len(sink.lines) == 3


async def test_a_full_buffer_is_written_at_once() -> None:
    sink = Sink()
    log = AccessLog(write=sink)
    for _ in range(FLUSH_BYTES // 200):
        note(log)
    assert sink.batches
    written = len(sink.lines)
    log.close()
    assert len(sink.lines) == FLUSH_BYTES // 200
    assert written < FLUSH_BYTES // 200
    log.close()
    assert len(sink.batches) == 2


async def test_a_closed_standard_output_is_told_once_and_costs_no_request() -> None:
    sink = Sink()
    sink.error = BrokenPipeError(32, "Broken pipe")
    told: list[str] = []
    log = AccessLog(write=sink, on_broken=told.append)
    for _ in range(3):
        note(log)
        log.flush()
    sink.error = None
    note(log)
    log.close()
    assert told == ["Broken pipe"]
    assert sink.batches == []


async def test_lines_go_to_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log = AccessLog()
    note(log)
    log.close()
    captured = capfdbinary.readouterr()
    assert json.loads(captured.out)["status"] == 200
    assert captured.err == b""


async def test_a_short_write_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    written = bytearray()

    def few(_descriptor: int, data: memoryview) -> int:
        written.extend(data[:10])
        return min(10, len(data))

    monkeypatch.setattr(os, "write", few)
    log = AccessLog(wall=lambda: START)
    note(log)
    log.close()
    monkeypatch.undo()
    assert json.loads(written)["path"] == "/v1/orders"
