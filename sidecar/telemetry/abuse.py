"""Bursts of what nobody should ask for: denied hosts, wrong passwords, refused token requests; one event for a burst.

Decides, from instants that are told to it, when single refusals are one burst, where it comes from, when it has ended,
and how it is told: one log line at its start and one at its end, one count. Leaves to others what a refusal is, and who
stands at the other end of a socket. A stop to it is somebody's decision, not this file's: nothing is blocked here, for
whoever shares a socket with an attacker would be locked out with him.

Attackers choose how many sources there are and what the hosts are called. So sources are bounded in number, the one
that was silent longest making room, and a host is shown by the characters that host names have, cut short.
"""

from __future__ import annotations

import enum
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.errors import Denied
    from sidecar.telemetry.cells import Cell

log = get_logger("abuse")

MOST_SOURCES: Final = 256
MOST_HOSTS: Final = 5
LONGEST_HOST: Final = 64
_NO_HOST_CHARACTER: Final = re.compile(r"[^a-z0-9.:\[\]_-]")


class Kind(enum.Enum):
    """What is tried; the values are the labels of ``suspected_abuse_total``."""

    DENIED_HOSTS = "denied_hosts"
    PROXY_CREDENTIALS = "proxy_credentials"
    TOKEN_REQUESTS = "token_requests"
    ADMIN_TOKEN = "admin_token"


class Threshold(NamedTuple):
    """So many in so many seconds are a burst, which ends when none came for that long."""

    attempts: int
    seconds: float


THRESHOLDS: Final = {
    # An app that lacks a route tries now and then; one every other second is a loop, or somebody who looks around.
    Kind.DENIED_HOSTS: Threshold(30, 60.0),
    # A pool of an app that missed a rotation comes with a handful of connections, and is told at the first.
    Kind.PROXY_CREDENTIALS: Threshold(10, 60.0),
    # A refused credential is probed every few minutes; more is forced from outside, and may lock the client at the IdP.
    Kind.TOKEN_REQUESTS: Threshold(5, 60.0),
    # People mistype, but not five times a minute.
    Kind.ADMIN_TOKEN: Threshold(5, 60.0),
}
KINDS_OF_DENIALS: Final = {
    "target_unmatched": Kind.DENIED_HOSTS,
    "route_mismatch": Kind.DENIED_HOSTS,
    "tunnel_denied": Kind.DENIED_HOSTS,
    "address_denied": Kind.DENIED_HOSTS,
    "proxy_auth_required": Kind.PROXY_CREDENTIALS,
    "key_refused": Kind.PROXY_CREDENTIALS,
    "peer_refused": Kind.PROXY_CREDENTIALS,
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where it comes from, as far as it is known.

    Attributes:
        name: the listener, or the credential.
        uid: the user at the other end of a Unix socket.
        pid: its process, of the latest attempt: it does not tell sources apart, because processes are cheap.
        port: of the peer on TCP, of the latest attempt for the same reason.
    """

    name: str
    uid: int | None = None
    pid: int | None = field(default=None, compare=False)
    port: int | None = field(default=None, compare=False)


@dataclass(slots=True)
class Burst:
    """One that is under way, or has ended."""

    kind: Kind
    source: Source
    count: int
    began_at: float
    last_at: float
    hosts: list[str]


class _Track:
    """The latest attempts from one source, and the burst that they became."""

    __slots__ = ("burst", "hosts", "times")

    def __init__(self, most: int) -> None:
        self.times: deque[float] = deque(maxlen=most)
        self.hosts: list[str] = []
        self.burst: Burst | None = None


class Detector:
    """Tells bursts from single attempts. All instants are seconds on one clock that is never set back."""

    def __init__(self) -> None:
        self._tracks: dict[tuple[Kind, Source], _Track] = {}

    def note(self, kind: Kind, source: Source, now: float, host: str = "") -> tuple[Burst | None, list[Burst]]:
        """One more attempt: the burst that it makes one, if it does, and those that it ends or pushes out."""
        threshold, key = THRESHOLDS[kind], (kind, source)
        ended = self.ended(now)
        track = self._tracks.pop(key, None)
        if track is None:
            track = _Track(threshold.attempts)
            if len(self._tracks) >= MOST_SOURCES:
                ended += self._make_room()
        self._tracks[key] = track  # the end of the table is whoever came last
        track.times.append(now)
        if host and host not in track.hosts and len(track.hosts) < MOST_HOSTS:
            track.hosts.append(host)
        if track.burst is not None:
            track.burst.count, track.burst.last_at, track.burst.source = track.burst.count + 1, now, source
        elif len(track.times) == threshold.attempts and now - track.times[0] <= threshold.seconds:
            track.burst = Burst(kind, source, threshold.attempts, track.times[0], now, track.hosts)
            return track.burst, ended
        return None, ended

    def _make_room(self) -> list[Burst]:
        burst = self._tracks.pop(next(iter(self._tracks))).burst
        return [] if burst is None else [burst]

    def ended(self, now: float) -> list[Burst]:
        """The bursts that are over; whoever was silent for its window is forgotten."""
        over = []
        for key, track in self._tracks.items():
            if now - track.times[-1] <= THRESHOLDS[key[0]].seconds:
                break  # all after it were heard of later, and all windows are the same
            over.append(key)
        return [burst for key in over if (burst := self._tracks.pop(key).burst) is not None]

    def __len__(self) -> int:
        return len(self._tracks)


class Abuse:
    """Counts bursts and tells of them.

    Args:
        counts: by kind.
    """

    def __init__(self, counts: Mapping[str, Cell]) -> None:
        self._counts = counts
        self._detector = Detector()

    def denied(self, error: Denied, source: Source, now: float, host: bytes = b"") -> None:
        """A request was denied. Only what was tried counts: a client learns from a 407 that there is a password."""
        kind = KINDS_OF_DENIALS.get(error.reason)
        if kind is not None and error.is_attempt:
            self.note(kind, source, now, _shown(host) if kind is Kind.DENIED_HOSTS else "")

    def note(self, kind: Kind, source: Source, now: float, host: str = "") -> None:
        """One attempt."""
        began, ended = self._detector.note(kind, source, now, host)
        self._tell_ends(ended)
        if began is not None:
            self._counts[kind.value].value += 1
            log.warning("suspected_abuse", phase="began", **_keys(began), next=REMEDIES[kind])

    def sweep(self, now: float) -> None:
        """Tell of the bursts that are over; called now and then."""
        self._tell_ends(self._detector.ended(now))

    def _tell_ends(self, bursts: list[Burst]) -> None:
        for burst in bursts:
            log.warning("suspected_abuse", phase="ended", **_keys(burst))


REMEDIES: Final = {
    Kind.DENIED_HOSTS: "find the process; if it is your app, add the route it lacks, else see what runs beside it",
    Kind.PROXY_CREDENTIALS: "find the process; restart it if it missed a rotation, else see what runs beside it",
    Kind.TOKEN_REQUESTS: "see token_refresh_failed for the cause, and who asks: manual refreshes, secrets that change",
    Kind.ADMIN_TOKEN: "find the process; give it the admin token or take its way to the admin listener",
}


def _keys(burst: Burst) -> dict[str, object]:
    source = burst.source
    known = {"uid": source.uid, "pid": source.pid, "peer_port": source.port, "hosts": burst.hosts or None}
    return {
        "kind": burst.kind.value,
        "source": source.name,
        **{key: value for key, value in known.items() if value is not None},
        "count": burst.count,
        "seconds": round(burst.last_at - burst.began_at, 1),
        "window_seconds": THRESHOLDS[burst.kind].seconds,
    }


def _shown(host: bytes) -> str:
    """A host as it may stand in a log: what somebody sent, in the characters of host names."""
    text = host[: LONGEST_HOST + 1].decode("latin-1").lower()
    return _NO_HOST_CHARACTER.sub("?", text[:LONGEST_HOST]) + ("..." if len(text) > LONGEST_HOST else "")
