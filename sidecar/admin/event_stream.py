"""The live part of the status page: what changed, once a second, to everybody who looks, and nothing while nobody does.

Decides the form of a message and when there is one. A snapshot is made once a second for all streams together; what is
the same as a second ago is not sent. Server-sent events, as HTML defines them
(https://html.spec.whatwg.org/multipage/server-sent-events.html): whoever is cut off asks again and gets everything.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.admin.page_server import Sink, Stream
from sidecar.errors import Overloaded
from sidecar.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.runtime import Clock, Tasks

EVENT_STREAM: Final = "text/event-stream"
MOST_STREAMS: Final = 8
TICK_SECONDS: Final = 1.0
QUIET_TICKS: Final = 15
"""After so many without a change a comment is sent, so that both sides see that the other is there."""
RETRY: Final = b"retry: 2000\n\n"
HEARTBEAT: Final = b": still here\n\n"
_LISTS: Final = ("credentials", "routes")

log = get_logger("admin")


class EventStreams:
    """Everybody who looks.

    Args:
        snapshot: makes one; its lists hold objects with a ``name``.
        clock: its wall clock dates the messages.
    """

    def __init__(self, snapshot: Callable[[], dict[str, Any]], *, clock: Clock, tasks: Tasks) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._tasks = tasks
        self._sinks: set[Sink] = set()
        self._parts: dict[str, bytes] = {}
        self._quiet = 0
        self._ticking: asyncio.Task[None] | None = None

    def stream(self, *fields: str) -> Stream:
        """One more.

        Raises:
            Overloaded: there are too many.
        """
        if len(self._sinks) >= MOST_STREAMS:
            raise Overloaded(f"{MOST_STREAMS} pages are looking already: close one", retry_after_seconds=10.0)
        if not self._sinks:
            self._parts = _parts(self._snapshot())
        return Stream(EVENT_STREAM, self._opened, self._closed, fields)

    def _opened(self, sink: Sink) -> None:
        self._sinks.add(sink)
        sink.send(RETRY + self._message(self._parts))
        if self._ticking is None:
            self._ticking = self._tasks.spawn("admin events", self._tick_forever())

    def _closed(self, sink: Sink) -> None:
        self._sinks.discard(sink)
        if not self._sinks and self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                self.tick()
            except Exception:
                # A bug in one snapshot must not stop the clock of the next one.
                log.exception("admin_failed")

    def tick(self) -> None:
        """Tell everybody what changed since the last time."""
        before, self._parts = self._parts, _parts(self._snapshot())
        changed = {key: raw for key, raw in self._parts.items() if before.get(key) != raw}
        self._quiet = 0 if changed else self._quiet + 1
        if changed:
            self._send(self._message(changed))
        elif self._quiet % QUIET_TICKS == 0:
            self._send(HEARTBEAT)

    def _send(self, data: bytes) -> None:
        for sink in list(self._sinks):
            sink.send(data)

    def _message(self, parts: dict[str, bytes]) -> bytes:
        members = b",".join(msgspec.json.encode(key) + b":" + raw for key, raw in parts.items())
        return b'event: update\ndata: {"now":%.3f,"parts":{%b}}\n\n' % (self._clock.wall(), members)


def _parts(snapshot: dict[str, Any]) -> dict[str, bytes]:
    """The snapshot in pieces that change by themselves, encoded: ``about``, ``credentials``, ``credentials/NAME``."""
    parts: dict[str, bytes] = {}
    for key, value in snapshot.items():
        if key not in _LISTS:
            parts[key] = msgspec.json.encode(value)
            continue
        parts[key] = msgspec.json.encode([each["name"] for each in value])
        parts |= {f"{key}/{each['name']}": msgspec.json.encode(each) for each in value}
    return parts
