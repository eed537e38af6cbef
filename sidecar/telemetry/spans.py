"""Spans of requests and of token fetches: the one file that knows OpenTelemetry, imported only where tracing is on.

Decides what a span is called and what it says: the fields of OpenTelemetry's conventions for HTTP clients, and words
of our own under ``tokensidecar.``. A span never holds a query, a field of a head or a body; of what the app chose there
is the method, host and path, without the secrets that we know. Where spans go, how many of them and under which service
name is said by the environment variables of OpenTelemetry, which its own packages read. They are sent from a thread of
theirs; when its queue is full, spans are lost and not waited for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, TypeAlias

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from sidecar import __version__
from sidecar.secrets import Secret
from sidecar.telemetry import trace_context
from sidecar.telemetry.metrics import METHODS
from sidecar.telemetry.redaction import Redactor, escape
from sidecar.telemetry.trace_context import Parent

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SERVICE: Final = "token-sidecar"
"""The service's name where no variable gives another."""
LONGEST_PATH: Final = 512
HEADERS: Final = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
"""Variables that hold the key to the collector; a library that cannot read an entry logs it."""
_NO_PARENT: Final = Context()

Link: TypeAlias = SpanContext
"""A span as others are linked to it."""


class RequestSpan:
    """One proxied request, from its head to the end of its answer."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def waited_for(self, fetch: Link) -> None:
        """Link it to the token fetch that it waited for."""
        self._span.add_link(fetch)

    def end(self, *, status: int, injection: str, trouble: str) -> None:
        """The answer is over.

        Args:
            status: what the app was answered.
            injection: what became of its token, the word of ``injections_total``; empty without a route.
            trouble: the word of the error tree, if it failed here.
        """
        span = self._span
        if status:
            span.set_attribute("http.response.status_code", status)
        if injection:
            span.set_attribute("tokensidecar.injection", injection)
        error = trouble or (str(status) if status >= 400 else "")
        if error:
            span.set_attribute("error.type", error)
            span.set_status(StatusCode.ERROR)
        span.end()


class FetchSpan:
    """One attempt to get a token."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, *, result: str, http_status: int | None = None) -> Link:
        """The attempt is over.

        Args:
            result: ``success``, or the word of the error tree.
            http_status: of the answer that refused the token.

        Returns:
            What the requests that waited for it are linked to.
        """
        span = self._span
        span.set_attribute("tokensidecar.result", result)
        if http_status is not None:
            span.set_attribute("http.response.status_code", http_status)
        if result != "success":
            span.set_attribute("error.type", result)
            span.set_status(StatusCode.ERROR)
        span.end()
        return span.get_span_context()


class Spans:
    """Makes spans and sends them.

    Raises:
        ValueError: a variable of OpenTelemetry has a value that cannot be.
    """

    def __init__(self) -> None:
        self._keys = [
            Secret(entry) for name in HEADERS for entry in os.environ.get(name, "").split(",") if entry.strip()
        ]
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("tokensidecar", __version__)
        self._redactor = Redactor()

    def request(
        self, lines: list[bytes], *, method: bytes, route: str, host: str, port: int, path: bytes
    ) -> RequestSpan | None:
        """Begin the span of a request, and make it the parent of what the upstream does; None if it is not sampled.

        Args:
            lines: the request's field lines: they say whose child it is, and are changed if it is sampled.
            route: its label.
            path: path and query as sent.
        """
        parent = trace_context.parent_in(lines)
        known = METHODS.get(method)  # any other is what somebody sent
        span = self._tracer.start_span(known or "HTTP", _context_of(parent), SpanKind.CLIENT)
        ours = span.get_span_context()
        if not (span.is_recording() and ours.trace_flags.sampled):
            return None
        trace_context.put_in(lines, Parent(ours.trace_id, ours.span_id, ours.trace_flags), continues=parent is not None)
        address, target = self._clean(host, path.partition(b"?")[0].decode("ascii", "backslashreplace"))
        span.set_attributes(
            {
                "http.request.method": known or "_OTHER",
                "server.address": address,
                "server.port": port,
                "url.path": target,
                "tokensidecar.route": route,
            }
        )
        return RequestSpan(span)

    def fetch(self, credential: str, trigger: str) -> FetchSpan | None:
        """Begin the span of an attempt to get a token, a trace of its own; None if it is not sampled."""
        attributes = {"tokensidecar.credential": credential, "tokensidecar.trigger": trigger}
        span = self._tracer.start_span("token fetch", _NO_PARENT, SpanKind.INTERNAL, attributes)
        return FetchSpan(span) if span.is_recording() and span.get_span_context().trace_flags.sampled else None

    def close(self) -> None:
        """Send what has gathered and end; blocks as long as the collector takes."""
        self._provider.shutdown()

    def _clean(self, host: str, path: str) -> tuple[str, str]:
        # One search for both, which is a fifth of what a span costs; a blank stands in neither.
        address, _, target = escape(self._redactor.redact(f"{host} {path}")).partition(" ")
        return address, target[:LONGEST_PATH]  # cut after redaction: half a secret is found by no search


def _resource() -> Resource:
    found = Resource.create({SERVICE_VERSION: __version__})
    named = found.attributes.get(SERVICE_NAME)
    unnamed = not isinstance(named, str) or named.startswith("unknown_service")
    return found.merge(Resource({SERVICE_NAME: SERVICE})) if unnamed else found


def _context_of(parent: Parent | None) -> Context:
    if parent is None:
        return _NO_PARENT  # and not the current one, which is nobody's here
    remote = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=TraceFlags(parent.flags))
    return set_span_in_context(NonRecordingSpan(remote), _NO_PARENT)
