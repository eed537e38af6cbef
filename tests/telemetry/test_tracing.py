"""The switch: what is imported without it, what it needs, and an end that waits for no collector."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from sidecar.errors import ConfigurationInvalid
from sidecar.telemetry import tracing
from sidecar.telemetry.tracing import Tracing
from tests.end_to_end.waiting import until
from tests.proxy.raw_origin import ok
from tests.telemetry.collector import Collector

if TYPE_CHECKING:
    from tests.proxy.raw_origin import Request


def test_without_it_nothing_of_opentelemetry_is_imported() -> None:
    code = "import sys, sidecar.app, sidecar.cli.run; from sidecar.telemetry import tracing; tracing.Tracing()"
    code += "; print(*[name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_missing_packages_are_a_configuration_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracing.is_installed()
    monkeypatch.delitem(sys.modules, "sidecar.telemetry.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    assert not tracing.is_installed()
    with pytest.raises(ConfigurationInvalid, match=r"pip install token-sidecar\[otel\]"):
        Tracing().prepare()


def test_a_variable_that_cannot_be_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with pytest.raises(ConfigurationInvalid, match=r"OTEL_.*max_queue_size must be a positive integer"):
        Tracing().prepare()


async def test_it_is_switched_on_and_off_and_on_with_the_same_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Collector() as collector:
        collector.name_it(monkeypatch)
        switch = Tracing()
        switch.prepare()
        seen = [switch.spans]
        for on in (True, False, True):
            switch.prepare()
            switch.switch(on)
            seen.append(switch.spans)
        await switch.close()
        seen.append(switch.spans)
        assert [spans is not None for spans in seen] == [False, True, False, True, False]
        assert seen[1] is seen[3]
    assert collector.spans == []


async def test_the_end_does_not_wait_for_a_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "CLOSE_SECONDS", 0.2)
    asked, release = asyncio.Event(), asyncio.Event()

    async def hang(request: Request) -> None:
        asked.set()
        await release.wait()
        await request.connection.send(ok(b""))

    async with Collector() as collector:
        collector.name_it(monkeypatch)
        collector.always = hang
        switch = Tracing()
        switch.prepare()
        switch.switch(True)
        assert switch.spans is not None
        span = switch.spans.fetch("orders", "startup")
        assert span is not None
        span.end(result="success")
        began_at = time.monotonic()
        await switch.close()
        assert asked.is_set()
        assert time.monotonic() - began_at < 5.0
        release.set()
        await until(lambda: "last spans" not in {each.name for each in threading.enumerate()}, "all threads have ended")


async def test_the_end_without_a_beginning_is_nothing() -> None:
    await Tracing().close()
