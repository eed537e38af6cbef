"""What exchange and tunnel ask of the client's connection, as types: nothing here runs.

They call each other in both directions, while the files import in one. So the connection is known to the two by what
it can be asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sidecar.errors import SidecarError
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

    def write_answer(
        self, error: SidecarError, *, method: bytes, close: bool, credential: str | None, generation: int | None
    ) -> None:
        """Send an answer of the sidecar's own."""

    def set_deadline(self, seconds: float | None) -> None:
        """Set ``deadline`` from now; None while something else bounds the time."""

    def abort(self) -> None:
        """Break the connection off, so that the answer does not look complete."""

    def exchange_over(self, request_done: bool) -> None:
        """The answer is written; ``request_done`` False if the request's body was not read to its end."""


class TunnelClient(Protocol):
    """What a tunnel asks of the client's connection."""

    def write(self, data: bytes) -> None: ...

    def write_eof(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_deadline(self, seconds: float | None) -> None: ...

    def tunnel_over(self) -> None:
        """Flush what is written and close."""
