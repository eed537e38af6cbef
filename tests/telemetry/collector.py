"""A collector of spans on a real socket: what OpenTelemetry's own packages send is what tests look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.proxy.raw_origin import Origin, ok

if TYPE_CHECKING:
    import pytest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

VARIABLES = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG")


class Collector(Origin):
    """Takes spans over OTLP and HTTP; use it as an asynchronous context."""

    def __init__(self) -> None:
        super().__init__()
        self.always = ok(b"", "Content-Type: application/x-protobuf")

    def name_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Say by OpenTelemetry's variables that spans go here, and nothing else."""
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NO_PROXY", "*")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{self.port}")

    @property
    def received(self) -> list[ExportTraceServiceRequest]:
        """All that was sent."""
        assert {request.target for request in self.requests} <= {"/v1/traces"}
        return [ExportTraceServiceRequest.FromString(request.body) for request in self.requests]

    @property
    def spans(self) -> list[Span]:
        """The spans in the order of their end."""
        return [
            span
            for request in self.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def named(self, name: str) -> list[Span]:
        """The spans of this name."""
        return [span for span in self.spans if span.name == name]

    @property
    def service(self) -> str:
        """The name of the service that they are from."""
        [name] = {
            str(attribute.value.string_value)
            for request in self.received
            for each in request.resource_spans
            for attribute in each.resource.attributes
            if attribute.key == "service.name"
        }
        return name


def attributes(span: Span) -> dict[str, str | int]:
    """What a span says."""
    return {
        each.key: each.value.string_value if each.value.HasField("string_value") else each.value.int_value
        for each in span.attributes
    }
