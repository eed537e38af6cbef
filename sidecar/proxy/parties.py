"""What those who meet at a client's connection ask of each other, as types: nothing here runs.

They call each other in both directions, while the files import in one. So each is known to the others by what it can be
asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from sidecar.errors import Denied
    from sidecar.proxy.admission import Admission
    from sidecar.proxy.entrance import Entrance
    from sidecar.proxy.gateway import Gateway


class Client(Protocol):
    """What an exchange asks of the connection its request came from."""

    gateway: Gateway
    listener_name: str
    deadline: float
    """On the loop's clock; ``Relay.expired`` is called when it has passed."""

    @property
    def is_reading(self) -> bool:
        """False while reading is paused."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def write(self, data: bytes) -> None: ...

    def set_deadline(self, seconds: float | None) -> None:
        """Set ``deadline`` from now; None while something else bounds the time."""

    def denied(self, error: Denied, host: bytes) -> None:
        """A request for ``host`` is refused: count it, here and against who sent it."""

    def abort(self) -> None:
        """Break the connection off, so that the answer does not look complete."""

    def switch(self, upstream: asyncio.Transport, answer: bytes, data: bytes) -> None:
        """Send ``answer``, a 101, and become a tunnel to ``upstream``, which has sent ``data`` behind it."""

    def exchange_over(self, request_done: bool) -> None:
        """The answer is written; ``request_done`` False if the request's body was not read to its end."""


class Holder(Protocol):
    """Whoever holds a client's transport now, as its listener knows it: a connection that reads requests, a tunnel, or
    a TLS handshake."""

    def sweep(self, now: float) -> None:
        """Act on a deadline that has passed; called by the coarse timer of the process."""

    def drain(self) -> None:
        """The process, or the listener, wants to end: what is idle closes now, the rest after what it is doing."""

    def is_busy(self, now: float, quiet_seconds: float) -> bool:
        """Whether there is something under way that a drain waits for."""

    def abort(self) -> None:
        """Break off at once."""


class Inner(Holder, Protocol):
    """What reads the requests inside an intercepted tunnel: a protocol of asyncio, and a holder."""

    def attach(self, transport: asyncio.Transport) -> None:
        """Read from this transport."""

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> bool: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Listening(Protocol):
    """What the holders of connections ask of the listener they came in by."""

    gateway: Gateway
    name: str
    entrance: Entrance
    admission: Admission | None
    retired: bool
    trusts_forwarded: bool

    def opened(self, holder: Holder) -> bool:
        """Count it in; False if there is no room for it."""

    def closed(self, holder: Holder) -> None:
        """Count it out."""

    def succeeded(self, holder: Holder, successor: Holder) -> None:
        """The client's transport has gone from one to the other; it is the same connection."""
