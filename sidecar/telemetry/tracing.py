"""Whether there are spans: the switch that requests and credentials look at.

Decides when OpenTelemetry is imported (never, unless the configuration asks for it), what its absence is called, and
how long the end waits for a collector. Leaves what a span says to ``spans``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import threading
from typing import TYPE_CHECKING, Final

from sidecar.errors import ConfigurationInvalid

if TYPE_CHECKING:
    from sidecar.telemetry.spans import Spans

INSTALL: Final = "pip install token-sidecar[otel]"
CLOSE_SECONDS: Final = 3.0
"""For the last spans; what a collector has not taken by then is lost."""
_NEEDED: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


class Tracing:
    """One for the whole process.

    Attributes:
        spans: what makes them; None while tracing is off.
    """

    __slots__ = ("_prepared", "spans")

    def __init__(self) -> None:
        self.spans: Spans | None = None
        self._prepared: Spans | None = None

    def prepare(self) -> None:
        """Do all that can fail of switching it on; takes a fraction of a second the first time.

        Raises:
            ConfigurationInvalid: the packages are missing, or a variable of theirs is wrong.
        """
        if self._prepared is not None:
            return
        try:
            from sidecar.telemetry.spans import Spans  # only where it is wanted: 0.2 s and 9 MiB

            self._prepared = Spans()
        except ImportError as exc:
            raise ConfigurationInvalid(f"tracing.enabled: OpenTelemetry cannot be imported: {INSTALL}") from exc
        except (ValueError, OSError) as exc:
            raise ConfigurationInvalid(f"tracing.enabled: a variable OTEL_... is wrong: {exc}") from exc

    def switch(self, on: bool) -> None:
        """Make spans from now on, or none; before the first time there has to be a ``prepare``."""
        self.spans = self._prepared if on else None

    async def close(self) -> None:
        """Send what has gathered, for a moment at most: a collector that is away does not hold up the end."""
        self.spans, prepared = None, self._prepared
        if prepared is None:
            return
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def send_the_rest() -> None:
            prepared.close()
            with contextlib.suppress(RuntimeError):  # the loop has not waited
                loop.call_soon_threadsafe(done.set)

        # A daemon and no executor's thread: those are waited for when the process ends, without a bound.
        threading.Thread(target=send_the_rest, name="last spans", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await done.wait()


def is_installed() -> bool:
    """Whether the packages of the extra ``otel`` are there; imports nothing of them."""
    try:
        return all(importlib.util.find_spec(name) is not None for name in _NEEDED)
    except ModuleNotFoundError:
        return False
