"""The telemetry listener: ``/metrics`` for Prometheus, ``/livez``, ``/readyz`` and ``/startupz`` for the kubelet.

Decides what each probe means: the loop turns; configuration and listeners stand and the tokens that were named as
required are there; the listeners were opened. In a pod this listener stands on all interfaces, so it answers GET and
HEAD on four paths and shows nothing sensitive (what it names are words of the configuration, as the metrics do).

Leaves to ``health`` whether something is ready, and sockets and bounds to ``page_server``. An IdP that is down reddens
nothing here unless a credential says so.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.admin.page_server import TEXT, Answer, PageServer, Request
from sidecar.telemetry.log import get_logger
from sidecar.telemetry.loop_lag import observe_loop_lag

if TYPE_CHECKING:
    from sidecar.config.model import Bind
    from sidecar.errors import ClientError
    from sidecar.http.message import RequestHead
    from sidecar.runtime import Tasks
    from sidecar.telemetry.metrics import Metrics

NAMES_SHOWN: Final = 32

log = get_logger("telemetry")


class Health(Protocol):
    """What the probes ask about."""

    @property
    def started(self) -> bool:
        """The listeners are open."""

    @property
    def draining(self) -> bool:
        """The process is about to end and wants no new work."""

    def not_ready(self) -> list[str]:
        """What is missing, in words of the configuration; empty when nothing is."""


class TelemetryServer(PageServer):
    """Answers metrics and probes on one address.

    Args:
        bind: where; port 0 takes a free one.
        metrics: what ``/metrics`` shows; the lag of the loop is measured into it while the server runs.
        health: what the probes show.
        tasks: owns the background work of the server.
    """

    name = "telemetry"

    def __init__(self, bind: Bind, *, metrics: Metrics, health: Health, tasks: Tasks) -> None:
        super().__init__(bind, tasks=tasks)
        self._metrics = metrics
        self._health = health

    async def serve(self) -> None:
        await super().serve()
        self._running.append(self._tasks.spawn("event loop lag", observe_loop_lag(self._metrics.event_loop_lag)))

    def answer(self, request: Request) -> Answer:
        """The answer to a request; never raises."""
        head = request.head
        path = head.target.partition(b"?")[0]
        if path not in _PATHS:
            return Answer(404, b"not found\n", TEXT)
        if head.method not in (b"GET", b"HEAD"):
            return Answer(405, b"only GET and HEAD\n", TEXT, ("Allow: GET, HEAD",))
        try:
            return self._metrics_page(head) if path == b"/metrics" else self._probe(path)
        except Exception:
            log.exception("telemetry_failed", path=path.decode())
            return Answer(500, b"internal error\n", TEXT)

    def refuse(self, error: ClientError) -> Answer:
        return Answer(error.status, f"{error.title}\n".encode(), TEXT)

    def _metrics_page(self, head: RequestHead) -> Answer:
        return Answer(200, *self._metrics.render(_accept(head)))

    def _probe(self, path: bytes) -> Answer:
        missing = self._missing(path)
        status = 503 if missing else 200
        return Answer(status, json.dumps({"ok": not missing, "missing": missing[:NAMES_SHOWN]}).encode() + b"\n")

    def _missing(self, path: bytes) -> list[str]:
        # That there is an answer at all says that the loop turns: all that /livez promises.
        missing = [] if path == b"/livez" or self._health.started else ["listeners"]
        if path == b"/readyz":
            missing += ["draining"] if self._health.draining else []
            missing += self._health.not_ready()
        return missing


_PATHS: Final = frozenset((b"/metrics", b"/livez", b"/readyz", b"/startupz"))


def _accept(head: RequestHead) -> str:
    lines = (line.partition(b":") for line in head.lines)
    return ",".join(value.decode("latin-1").strip() for name, _, value in lines if name.lower() == b"accept")
