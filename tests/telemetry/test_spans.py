"""Spans as a collector gets them from OpenTelemetry's own packages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from sidecar.secrets import Secret
from sidecar.telemetry import log
from sidecar.telemetry.spans import RequestSpan, Spans
from sidecar.telemetry.trace_context import parent_in
from tests.telemetry.collector import Collector, attributes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PARENT: Final = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"
SAMPLED: Final = PARENT + b"01"
NOT_SAMPLED: Final = PARENT + b"00"


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    async with Collector() as collector:
        collector.name_it(monkeypatch)
        yield collector


def begin(spans: Spans, lines: list[bytes], path: bytes = b"/v1/orders?key=value") -> RequestSpan | None:
    return spans.request(lines, method=b"GET", route="api", host="api.example.test", port=443, path=path)


async def sent(collector: Collector, spans: Spans) -> list[Sent]:
    await asyncio.to_thread(spans.close)
    return collector.spans


async def test_a_request_says_what_conventions_say_and_no_query(collector: Collector) -> None:
    spans = Spans()
    span = begin(spans, [])
    assert span is not None
    span.end(status=200, injection="injected", trouble="")
    [found] = await sent(collector, spans)
    assert (found.name, found.kind) == ("GET", Sent.SPAN_KIND_CLIENT)
    assert attributes(found) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "api.example.test",
        "server.port": 443,
        "url.path": "/v1/orders",
        "tokensidecar.route": "api",
        "tokensidecar.injection": "injected",
    }
    assert found.status.code == Status.STATUS_CODE_UNSET
    assert collector.service == "token-sidecar"


async def test_a_method_that_nobody_knows_is_not_repeated(collector: Collector) -> None:
    spans, secret = Spans(), Secret("canary-in-a-method")
    span = spans.request([], method=secret.reveal().encode(), route="api", host="api.example.test", port=443, path=b"/")
    assert span is not None
    span.end(status=200, injection="", trouble="")
    [found] = await sent(collector, spans)
    assert found.name == "HTTP"
    assert attributes(found)["http.request.method"] == "_OTHER"
    assert b"canary" not in found.SerializeToString()


@pytest.mark.parametrize(
    ("status", "trouble", "error"),
    [
        (404, "", "404"),
        (503, "token_unavailable", "token_unavailable"),
        (200, "reset", "reset"),
        (0, "timeout", "timeout"),
    ],
)
async def test_a_failure_is_an_error_with_its_type(collector: Collector, status: int, trouble: str, error: str) -> None:
    spans = Spans()
    span = begin(spans, [])
    assert span is not None
    span.end(status=status, injection="", trouble=trouble)
    [found] = await sent(collector, spans)
    assert attributes(found)["error.type"] == error
    assert attributes(found).get("http.response.status_code", 0) == status
    assert found.status.code == Status.STATUS_CODE_ERROR


async def test_it_is_the_child_of_the_apps_span_and_the_upstreams_parent(collector: Collector) -> None:
    spans = Spans()
    lines = [SAMPLED, b"tracestate: a=1"]
    span = begin(spans, lines)
    assert span is not None
    span.end(status=200, injection="", trouble="")
    [found] = await sent(collector, spans)
    assert found.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert found.parent_span_id.hex() == "00f067aa0ba902b7"
    assert lines == [f"traceparent: 00-{found.trace_id.hex()}-{found.span_id.hex()}-01".encode(), b"tracestate: a=1"]


async def test_without_a_parent_a_trace_begins(collector: Collector) -> None:
    spans = Spans()
    lines = [b"traceparent: broken", b"tracestate: of=nobody", b"Accept: */*"]
    span = begin(spans, lines)
    assert span is not None
    span.end(status=200, injection="", trouble="")
    [found] = await sent(collector, spans)
    assert not found.parent_span_id
    assert lines[0] == b"Accept: */*"
    parent = parent_in(lines)
    assert parent is not None
    assert (parent.trace_id, parent.span_id) == (int.from_bytes(found.trace_id), int.from_bytes(found.span_id))
    assert len(lines) == 2


async def test_what_is_not_sampled_passes_as_it_is(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = Spans()
    lines = [NOT_SAMPLED, b"tracestate: a=1"]
    assert begin(spans, lines) is None
    assert lines == [NOT_SAMPLED, b"tracestate: a=1"]
    assert await sent(collector, spans) == []

    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    off = Spans()
    for lines in ([SAMPLED], [b"traceparent: broken", b"tracestate: a=1"], []):
        before = list(lines)
        assert begin(off, lines) is None
        assert lines == before
    assert off.fetch("orders", "startup") is None
    assert await sent(collector, off) == []


async def test_the_variables_of_opentelemetry_are_followed(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "orders-egress")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    spans = Spans()
    assert begin(spans, []) is None
    span = begin(spans, [SAMPLED])
    assert span is not None
    span.end(status=200, injection="", trouble="")
    assert len(await sent(collector, spans)) == 1
    assert collector.service == "orders-egress"
    assert collector.requests[0].values("x-tenant") == ["blue"]


async def test_secrets_in_a_path_are_taken_out_and_odd_bytes_are_shown(collector: Collector) -> None:
    spans = Spans()
    secret = Secret("s3cret-in-the-path")
    span = begin(spans, [], b"/hook/" + secret.reveal().encode() + b"/caf\xe9?x=1")
    assert span is not None
    span.end(status=200, injection="", trouble="")
    [found] = await sent(collector, spans)
    assert attributes(found)["url.path"] == "/hook/[redacted]/caf\\xe9"


async def test_a_fetch_is_a_trace_of_its_own_that_requests_are_linked_to(collector: Collector) -> None:
    spans = Spans()
    fetch, request = spans.fetch("orders", "on_demand"), begin(spans, [SAMPLED])
    assert fetch is not None
    assert request is not None
    request.waited_for(fetch.end(result="invalid_client", http_status=401))
    request.end(status=503, injection="no_token", trouble="token_unavailable")
    first, second = await sent(collector, spans)
    assert (first.name, first.kind, first.parent_span_id) == ("token fetch", Sent.SPAN_KIND_INTERNAL, b"")
    assert attributes(first) == {
        "tokensidecar.credential": "orders",
        "tokensidecar.trigger": "on_demand",
        "tokensidecar.result": "invalid_client",
        "http.response.status_code": 401,
        "error.type": "invalid_client",
    }
    [link] = second.links
    assert (link.trace_id, link.span_id) == (first.trace_id, first.span_id)


async def test_a_key_to_the_collector_that_is_miswritten_is_not_logged(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("info")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue,x-key 0123456789-key-of-the-collector")
    await sent(collector, Spans())
    said = capsys.readouterr().err
    assert "library_log" in said
    assert "key-of-the-collector" not in said
