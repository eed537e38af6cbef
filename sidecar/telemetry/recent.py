"""The last requests, for whoever looks at the status page: a ring of tuples, made readable only when somebody reads.

Decides what is kept of a request and what is shown of it. A request is written from the warm path, so that costs one
tuple and one append; time, text and redaction are the reader's. The query never shows: it is where clients put their
own keys. What clients chose is searched for secrets like every line of the log.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sidecar.secrets import SHORTEST_REDACTABLE, live_values
from sidecar.telemetry.redaction import MASK, Redactor, escape, forms_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST: Final = 50
KEPT_BYTES: Final = 1024
"""Of a target: what the ring holds is bounded by the ring, not by what clients send."""
SHOWN: Final = 200
"""Characters of a path, a host or a method. Cut after redaction: half a secret is found by no search."""
_CLIENTS: Final = ("method", "host", "path")
"""What clients chose."""

Kept: TypeAlias = tuple[float, float, bytes, str, bytes, bytes, int, str, int, str]
"""Start on ``perf_counter``, duration, method, route, host, target, status, injection, generation, reason."""


class RecentRequests:
    """The last requests that were answered.

    Attributes:
        note: takes one in.
    """

    __slots__ = ("_kept", "_redactor", "_shown", "note")

    def __init__(self, most: int = MOST) -> None:
        self._kept: deque[Kept] = deque(maxlen=most)
        self._redactor = Redactor()
        self._shown: tuple[Kept | None, list[dict[str, Any]]] = (None, [])
        self.note: Callable[[Kept], None] = self._kept.append

    def entries(self, *, wall: float) -> list[dict[str, Any]]:
        """What is shown of them, the newest first; made anew when there was another one.

        Args:
            wall: Unix time now.
        """
        newest = self._kept[-1] if self._kept else None
        if newest is not self._shown[0]:
            self._shown = newest, self._readable(wall)
        return self._shown[1]

    def _readable(self, wall: float) -> list[dict[str, Any]]:
        began = wall - time.perf_counter()
        kept = list(reversed(self._kept))
        entries = [_entry(each, began) for each in kept]
        _mask_halves([entry for entry, each in zip(entries, kept, strict=True) if _is_cut(each[5])])
        if not self._redactor.is_clean(" ".join(_texts(entries))):
            for entry in entries:
                entry |= {name: escape(self._redactor.redact(entry[name])) for name in _CLIENTS}
        for entry in entries:
            entry |= {name: entry[name][:SHOWN] for name in _CLIENTS}
        return entries


def _entry(kept: Kept, began: float) -> dict[str, Any]:
    started_at, seconds, method, route, host, target, status, injection, generation, reason = kept
    return {
        "at": round(began + started_at, 3),
        "method": _text(method),
        "route": route,
        "host": _text(host),
        "path": _text(_path(target)),
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
        "injection": injection,
        "generation": generation,
        "reason": reason,
    }


def _texts(entries: Iterable[dict[str, Any]]) -> set[str]:
    return {entry[name] for entry in entries for name in _CLIENTS}


def _is_cut(target: bytes) -> bool:
    return len(target) >= KEPT_BYTES and b"?" not in target


def _mask_halves(cut: list[dict[str, Any]]) -> None:
    """Mask what begins like a secret in paths that were cut before redaction: its end may be what was cut off."""
    heads = {form[:SHORTEST_REDACTABLE] for value in live_values() for form in forms_of(value)} if cut else set()
    for entry in cut:
        places = [place for head in heads if (place := entry["path"].find(head)) >= 0]
        if places:
            entry["path"] = entry["path"][: min(places)] + MASK


def _path(target: bytes) -> bytes:
    """Of any form of a target (RFC 9112 section 3.2)."""
    path = target.partition(b"?")[0]
    if not path.startswith(b"/") and b"://" in path:
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return path


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "backslashreplace")
