"""The access log: one JSON line a request on standard output, cheap enough to leave on.

Decides the line's fields, all of fixed kinds, and when lines are written: together, a fraction of a second later, or
when enough have gathered. The query never stands in a line: it is where clients put their own keys; of the path, only
so much. Tokens are named by their generation. What clients chose is searched for secrets like every line of the event
log, but once a batch: most requests of a moment are for the same few targets.

A write blocks the loop while the reader of standard output does not read, as it does for every program that logs there;
when standard output is closed the lines are dropped and the event log says so once.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.telemetry.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

FLUSH_SECONDS: Final = 0.25
FLUSH_BYTES: Final = 64 * 1024
LONGEST_PATH: Final = 512


class _Line(msgspec.Struct, tag_field="event", tag="request", omit_defaults=True, gc=False):
    timestamp: str
    listener: str
    route: str
    method: str
    host: str
    path: str
    status: int
    duration_ms: float
    received_bytes: int
    sent_bytes: int
    injection: str = ""
    generation: int = 0
    reason: str = ""


class AccessLog:
    """Writes one line a request.

    Args:
        write: takes the bytes of whole lines; standard output by default.
        wall: Unix time in seconds.
        on_broken: told once, by the error's text, when lines can no longer be written.
    """

    def __init__(
        self,
        *,
        write: Callable[[bytes], None] | None = None,
        wall: Callable[[], float] = time.time,
        on_broken: Callable[[str], None] | None = None,
    ) -> None:
        self._write = write or _write_to_stdout
        self._wall = wall
        self._on_broken = on_broken
        self._encode = msgspec.json.Encoder().encode_into
        self._buffer = bytearray()
        self._redactor = Redactor()
        self._texts: dict[tuple[bytes, bytes, bytes], tuple[str, str, str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._second = -1
        self._second_text = ""
        # Formatting the fraction would be a fifth of what a line costs.
        self._milliseconds = [f".{number:03d}Z" for number in range(1000)]
        self._broken = False

    def request(
        self,
        *,
        listener: str,
        route: str,
        method: bytes,
        host: bytes,
        path: bytes,
        status: int,
        seconds: float,
        received: int,
        sent: int,
        injection: str = "",
        generation: int = 0,
        reason: str = "",
    ) -> None:
        """Note one request that was answered.

        Args:
            method: as it stood in the request line.
            host: the authority it was for; bytes outside ASCII are shown escaped.
            path: the target's path; a query is cut off here.
            seconds: from its first byte to the last of the answer.
            received: bytes of the request's body.
            sent: bytes of the answer's body.
            injection: what became of its token, the word of ``injections_total``.
            generation: of the token that was injected.
            reason: why the sidecar answered itself, the word of the error tree.
        """
        now = self._wall()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        target = (method, host, path.partition(b"?")[0][:LONGEST_PATH])
        texts = self._texts.get(target)
        if texts is None:
            texts = self._texts[target] = (_text(method), _text(host), _text(target[2]))
        line = _Line(
            self._second_text + self._milliseconds[int(now % 1 * 1000)],
            listener,
            route,
            *texts,
            status,
            int(seconds * 1e6) / 1000,
            received,
            sent,
            injection,
            generation,
            reason,
        )
        buffer = self._buffer
        self._encode(line, buffer, -1)
        buffer += b"\n"
        if len(buffer) >= FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what has gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._buffer:
            return
        batch = bytes(self._buffer) if self._is_clean() else self._redacted()
        self._buffer.clear()
        self._texts.clear()
        if self._broken:
            return
        try:
            self._write(batch)
        except OSError as exc:
            self._broken = True
            if self._on_broken is not None:
                self._on_broken(exc.strerror or type(exc).__name__)

    def _is_clean(self) -> bool:
        # Everything else in a line is a number or a word of the configuration.
        return self._redactor.is_clean(" ".join({part for texts in self._texts.values() for part in texts}))

    def _redacted(self) -> bytes:
        lines = self._buffer.decode().splitlines()
        return "".join(f"{self._redactor.redact_json_line(line)}\n" for line in lines).encode()

    def close(self) -> None:
        """Write what is left. Lines noted later gather again until the next flush."""
        self.flush()


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "backslashreplace")


def _write_to_stdout(batch: bytes) -> None:
    left = memoryview(batch)
    while left:
        left = left[os.write(1, left) :]
