"""What all connections share: the pool, the counters, the clock, and the generation of the configuration that is now.

A reload builds a new ``Generation`` and puts it here in one assignment. A request keeps the one it began with; the next
request on the same connection finds the new one. Everything else outlives a reload.
"""

from __future__ import annotations

import secrets
from email.utils import formatdate
from time import perf_counter
from typing import TYPE_CHECKING, Final

from sidecar.errors import InternalError, SidecarError
from sidecar.proxy.answers import answer
from sidecar.proxy.budget import RetryBudget
from sidecar.proxy.proving import Prover
from sidecar.telemetry.log import get_logger
from sidecar.telemetry.recent import KEPT_BYTES

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from sidecar.broker.credential import Credential
    from sidecar.config.model import Limits
    from sidecar.errors import Denied
    from sidecar.http.message import RequestHead
    from sidecar.proxy.authority import Authority, Origin
    from sidecar.proxy.minting import LocalCA
    from sidecar.proxy.pool import UpstreamPool
    from sidecar.proxy.routing import Route, RoutingTable
    from sidecar.runtime import Clock, Tasks
    from sidecar.telemetry.abuse import Source
    from sidecar.telemetry.access_log import AccessLog
    from sidecar.telemetry.metrics import Metrics, RouteMeters
    from sidecar.telemetry.recent import RecentRequests
    from sidecar.telemetry.tracing import Tracing

COMPLAINT_INTERVAL_SECONDS: Final = 10.0
"""One log line per route and reason in this time; the metrics count every case."""
_MAX_BYPASSED_HOSTS: Final = 256
MOST_LINGERING: Final = 128
"""Connections beyond the limit that get the time to read why they are refused."""


class Generation:
    """What one configuration says about requests; replaced whole, never changed.

    Args:
        table: its routes.
        limits: its limits.
        forwards_unmatched: hosts without a route are passed through untouched.
        unmatched_meters: where those are counted.
        local_ca: makes certificates for intercepted hosts; None where none is.
    """

    __slots__ = ("forwards_unmatched", "limits", "local_ca", "table", "unmatched_meters")

    def __init__(
        self,
        table: RoutingTable,
        limits: Limits,
        *,
        forwards_unmatched: bool,
        unmatched_meters: RouteMeters,
        local_ca: LocalCA | None = None,
    ) -> None:
        self.table = table
        self.limits = limits
        self.forwards_unmatched = forwards_unmatched
        self.unmatched_meters = unmatched_meters
        self.local_ca = local_ca


class Gateway:
    """The shared part of the data path.

    Args:
        generation: the first one.
        pool: connections to upstreams.
        metrics: the counters.
        tasks: owner of what has to wait.
        clock: token lifetimes are judged on it.
        loop_time: the event loop's clock, for deadlines.
        tracing: whether requests have spans.
    """

    def __init__(
        self,
        generation: Generation,
        *,
        pool: UpstreamPool,
        metrics: Metrics,
        tasks: Tasks,
        clock: Clock,
        loop_time: Callable[[], float],
        tracing: Tracing,
    ) -> None:
        self.generation = generation
        self.pool = pool
        self.metrics = metrics
        self.tasks = tasks
        self.clock = clock
        self.prover = Prover(clock)
        self.now = clock.now
        self.loop_time = loop_time
        self.tracing = tracing
        self.log = get_logger("proxy")
        self.access_log: AccessLog | None = None
        self.recent: RecentRequests | None = None
        self.draining = False
        self.open_connections = 0
        # A name of this process alone (RFC 9110 section 7.6.3): sidecars may stand in a row, a loop is only through us.
        self.pseudonym: Final = b"token-sidecar-" + secrets.token_hex(4).encode()
        self.via_request: Final = b"Via: 1.1 " + self.pseudonym + b"\r\n"
        self.via_response: Final = b"Via: 1.1 token-sidecar\r\n"
        self._date_at = -1
        self._date = b""
        self._complaints: dict[tuple[str, str], tuple[float, int]] = {}
        self._bypassed: set[str] = set()
        self._retries: dict[RouteMeters, RetryBudget] = {}

    def run(
        self, name: str, work: Coroutine[None, None, None], failed: Callable[[SidecarError], None]
    ) -> asyncio.Task[None]:
        """Run the part of a request that has to wait, as a task; ``failed`` is told what it ended with, bugs too."""
        task = self.tasks.spawn(name, self._guarded(work, failed))
        task.add_done_callback(lambda _: work.close())  # its client may leave before the task has taken a step
        return task

    async def _guarded(self, work: Coroutine[None, None, None], failed: Callable[[SidecarError], None]) -> None:
        try:
            await work
        except SidecarError as error:
            failed(error)
        except Exception as exc:
            self.log.error("request_crashed", exc_info=exc)
            failed(InternalError("unexpected error; the log has it"))

    def may_retry(self, origin: Origin, meters: RouteMeters) -> bool:
        """Whether a request may be sent once more, whose kept connection died under it; each route has its own budget.

        An origin that strains it does not keep its connections, whatever it says: for a while none is kept here either.
        """
        now = self.loop_time()
        budget = self._retries.get(meters)
        if budget is None:
            budget = self._retries[meters] = RetryBudget(lambda: meters.duration.count)
        allowed = budget.allows(now)
        if budget.is_strained:
            self.pool.distrust(origin, now)
        return allowed

    @property
    def is_flooded(self) -> bool:
        """Whether so many connections are open beyond the limit that those who are refused are not waited for."""
        return self.open_connections > self.generation.limits.connections + MOST_LINGERING

    def date(self) -> bytes:
        """The Date field's value, made once a second (RFC 9110 section 6.6.1)."""
        now = int(self.clock.wall())
        if now != self._date_at:
            self._date_at = now
            self._date = formatdate(now, usegmt=True).encode()
        return self._date

    def date_line(self) -> bytes:
        """A complete Date line."""
        return b"Date: " + self.date() + b"\r\n"

    def answer(
        self,
        error: SidecarError,
        *,
        method: bytes,
        close: bool,
        credential: Credential | None = None,
    ) -> bytes:
        """The bytes of an answer of our own, which names the route's credential and its token's generation; see
        ``answers.answer``."""
        published = credential.published if credential is not None else None
        return answer(
            error,
            method=method,
            date=self.date(),
            close=close,
            credential=credential.name if credential is not None else None,
            generation=published.generation if published is not None else None,
        )

    def count_denied(self, error: Denied, source: Source | None = None, host: bytes = b"") -> None:
        """Count a refusal by its reason, and against who was refused: many of them are a burst.

        Args:
            source: the client; None where a refusal says nothing about one.
            host: what it was for.
        """
        self.metrics.denied[error.reason].value += 1
        if source is not None:
            self.metrics.abuse.denied(error, source, self.now(), host)

    def refused(self, meters: RouteMeters, error: SidecarError, head: RequestHead | None) -> None:
        """Tell of a request that got no exchange, and keep it among the last ones; what has no head is none."""
        self.complain(meters, error)
        if self.recent is not None and head is not None:
            host, target = head.host or b"", head.target[:KEPT_BYTES]
            self.recent.note(
                (perf_counter(), 0.0, head.method, meters.label, host, target, error.status, "", 0, error.reason)
            )

    def complain(self, meters: RouteMeters, error: SidecarError) -> None:
        """Log a failed request, at most once per route and reason in a while, with how many were left out."""
        key = (meters.label, error.reason)
        now = self.loop_time()
        last, left_out = self._complaints.get(key, (-COMPLAINT_INTERVAL_SECONDS, 0))
        if now - last < COMPLAINT_INTERVAL_SECONDS:
            self._complaints[key] = (last, left_out + 1)
            return
        self._complaints[key] = (now, 0)
        self.log.warning(
            "request_failed",
            route=meters.label,
            reason=error.reason,
            fault=error.fault.value,
            status=error.status,
            detail=error.detail,
            left_out=left_out,
        )

    def note_bypass(self, route: Route, authority: Authority) -> None:
        """A tunnel was opened to a host that has a route: count it, and say once per host what would help."""
        route.meters.injections["bypassed_connect"].value += 1
        if authority.host in self._bypassed or len(self._bypassed) >= _MAX_BYPASSED_HOSTS:
            return
        self._bypassed.add(authority.host)
        self.log.warning(
            "injection_bypassed",
            host=authority.host,
            route=route.label,
            detail="the app opened a CONNECT tunnel, so its requests are encrypted past the sidecar and get no token",
            remedy=f"call http://{authority.host}/ through HTTP_PROXY (it leaves as https), or use a reverse listener",
        )
