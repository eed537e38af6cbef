"""Fixtures of the security tests: one bench a file for what bytes mean, a rig a test for what changes the sidecar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from sidecar.simulation.idp import MockIdP
from tests.proxy.conftest import logs, pytest_asyncio_loop_factories, rig, trust
from tests.proxy.rig import API, Rig, Trust
from tests.security.bench import KEEPING, PREFIXED, REJECTING, Bench
from tests.security.recording import RecordingOrigin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

__all__ = ["bench", "logs", "pytest_asyncio_loop_factories", "rig", "trust"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(trust: Trust, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """A sidecar that serves all cases of a file."""
    clients = {"client": "client-secret", "billing": "billing-secret"}
    async with (
        MockIdP(clients=clients) as idp,
        RecordingOrigin(trust.server(API, KEEPING, PREFIXED, REJECTING, "localhost")) as origin,
        RecordingOrigin() as other,
        RecordingOrigin() as stranger,
        Rig(trust, tmp_path_factory.mktemp("bench"), idp, origin, other) as rig,
    ):
        for name in (KEEPING, PREFIXED, REJECTING, "stranger.test", f"evil{API}", f"{API}.evil.test"):
            rig.names[name] = ["127.0.0.1"]
        await rig.start(
            listeners=[
                {"name": "egress", "mode": "forward"},
                {"name": "orders", "mode": "reverse", "upstream": f"https://{API}:{origin.port}"},
            ],
            credentials={
                "orders": rig.credential(),
                "billing": rig.credential(client_id="billing", client_secret="billing-secret"),
            },
            routes=[
                rig.route(),
                rig.route(name="keeping", host=KEEPING, if_present="keep"),
                rig.route(name="rejecting", host=REJECTING, if_present="reject"),
                rig.route(name="prefixed", host=PREFIXED, paths=["/v1/"], methods=["GET"]),
                rig.plain_route(credential="billing"),
            ],
        )
        yield Bench(rig, origin, other, stranger)
    assert rig.loop_errors == []
