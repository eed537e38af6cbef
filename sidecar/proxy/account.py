"""What one request is counted, logged and traced by: status, bytes, what became of its token, and whose time it took.

The sidecar's own part of the time is what a stopwatch shows that runs while the sidecar works on the request and rests
while it waits for others. ``relay`` says when; everything is written once, at the end.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from sidecar.telemetry.recent import KEPT_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from sidecar.broker.credential import Credential
    from sidecar.http.message import RequestHead
    from sidecar.proxy.authority import Origin
    from sidecar.proxy.gateway import Gateway
    from sidecar.telemetry.metrics import RouteMeters

Result = TypeVar("Result")


class Account:
    """One request's; the stopwatch runs from the start. Where it is traced, its head tells the upstream from here on.

    Args:
        head: its ``traceparent`` is replaced if the request is sampled.
        path: path and query as sent.

    Attributes:
        meters: where it is counted.
        status: of the answer; 0 before it is known.
        reason: of an answer of our own.
        injection: what became of its token, a word of ``injections_total``; empty without a route.
        received: bytes of the request's body.
        sent: bytes of the answer's body.
        broken: why an answer that had begun was cut off, the word of the error tree.
    """

    __slots__ = (
        *("_mark", "_overhead", "_span", "_started_at", "broken", "injection", "meters", "reason", "received"),
        *("sent", "status"),
    )

    def __init__(self, meters: RouteMeters, gateway: Gateway, head: RequestHead, origin: Origin, path: bytes) -> None:
        self.meters = meters
        self.status = self.received = self.sent = 0
        self.injection = self.reason = self.broken = ""
        self._overhead = 0.0
        self._started_at = self._mark = perf_counter()
        spans = gateway.tracing.spans
        self._span = (
            None
            if spans is None
            else spans.request(
                head.lines, method=head.method, route=meters.label, host=origin.host, port=origin.port, path=path
            )
        )

    def works(self) -> None:
        """The sidecar has something to do for the request again."""
        self._mark = perf_counter()

    def waits(self) -> None:
        """What follows is the time of others."""
        self._overhead += perf_counter() - self._mark

    async def wait_on(self, credential: Credential, work: Awaitable[Result]) -> Result:
        """Wait for what the credential does; from there on the sidecar works again."""
        before = credential.fetched
        try:
            return await work
        finally:
            self.works()
            fetched = credential.fetched
            if self._span is not None and fetched is not None and fetched is not before:
                self._span.waited_for(fetched)

    def close(
        self, gateway: Gateway, head: RequestHead, *, listener: str, host: bytes, path: bytes, token: int
    ) -> None:
        """Write it all down.

        Args:
            listener: name of the one it came in by.
            host: the Host it was sent on with.
            path: path and query as sent.
            token: generation of the token it carried; 0 for none.
        """
        meters = self.meters
        duration = perf_counter() - self._started_at
        meters.in_flight.value -= 1
        meters.duration.observe(duration)
        meters.answered(head.method, self.status).value += 1
        if self.injection:
            meters.injections[self.injection].value += 1
        gateway.metrics.overhead.observe(self._overhead)
        if gateway.recent is not None:
            gateway.recent.note(
                (
                    self._started_at,
                    duration,
                    head.method,
                    meters.label,
                    host,
                    path[:KEPT_BYTES],
                    self.status,
                    self.injection,
                    token,
                    self.reason,
                )
            )
        if gateway.access_log is not None:
            gateway.access_log.request(
                listener=listener,
                route=meters.label,
                method=head.method,
                host=host,
                path=path,
                status=self.status,
                seconds=duration,
                received=self.received,
                sent=self.sent,
                injection=self.injection,
                generation=token,
                reason=self.reason,
            )
        if (span := self._span) is not None:
            self._span = None  # who still waits for a token ends later
            span.end(status=self.status, injection=self.injection, trouble=self.reason or self.broken)

    def __repr__(self) -> str:
        return f"<Account {self.status or 'open'}>"
