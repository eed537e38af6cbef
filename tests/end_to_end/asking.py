"""What the sidecar asks for tokens with, without the rest of it: for tests in which a process adds nothing."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sidecar.broker.idp import IdP
from sidecar.config import load
from sidecar.oauth.endpoint import Endpoint
from sidecar.runtime import SystemClock
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

NAME = "asker"


@asynccontextmanager
async def asker(
    credential: dict[str, Any], *, kind: type[Endpoint] = Endpoint, sections: Mapping[str, Any] | None = None
) -> AsyncIterator[IdP]:
    """The requests of this credential, read as from a file.

    Args:
        kind: what sends them.
        sections: further sections of the file.
    """
    listener = {"name": "egress", "bind": "127.0.0.1:6180"}
    whole = {"listeners": [listener], "credentials": {NAME: credential}, "allow_inline_secrets": True} | dict(
        sections or {}
    )
    read = load.parse(json.dumps(whole), "test")
    clock = SystemClock()
    endpoint = kind(clock)
    meters = Metrics().credential(NAME)
    try:
        yield IdP(read.credentials[NAME], name=NAME, clock=clock, endpoint=endpoint, meters=meters, limits=read.limits)
    finally:
        await endpoint.close()
