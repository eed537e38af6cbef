"""The event loop that the soaks run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvloop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Transports differ between loops in what they do at the ends of a connection."""
    return {"uvloop": uvloop.new_event_loop}
