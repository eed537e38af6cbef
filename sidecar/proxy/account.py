"""What one request is counted and logged by: its status, its bytes, what became of its token, and whose time it took.

The sidecar's own part of the time is what a stopwatch shows that runs while the sidecar works on the request and rests
while it waits for others. ``relay`` says when; everything is written once, at the end.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from sidecar.telemetry.recent import KEPT_BYTES

if TYPE_CHECKING:
    from sidecar.http.message import RequestHead
    from sidecar.proxy.gateway import Gateway
    from sidecar.telemetry.metrics import RouteMeters


class Account:
    """One request's; the stopwatch runs from the start.

    Attributes:
        meters: where it is counted.
        status: of the answer; 0 before it is known.
        reason: of an answer of our own.
        injection: what became of its token, a word of ``injections_total``; empty without a route.
        received: bytes of the request's body.
        sent: bytes of the answer's body.
    """

    __slots__ = ("_mark", "_overhead", "_started_at", "injection", "meters", "reason", "received", "sent", "status")

    def __init__(self, meters: RouteMeters) -> None:
        self.meters = meters
        self.status = self.received = self.sent = 0
        self.injection = self.reason = ""
        self._overhead = 0.0
        self._started_at = self._mark = perf_counter()

    def works(self) -> None:
        """The sidecar has something to do for the request again."""
        self._mark = perf_counter()

    def waits(self) -> None:
        """What follows is the time of others."""
        self._overhead += perf_counter() - self._mark

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

    def __repr__(self) -> str:
        return f"<Account {self.status or 'open'}>"
