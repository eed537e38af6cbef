"""What an attempt comes to, however it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sidecar.broker.fetch import REQUESTS_AN_ATTEMPT
from sidecar.simulation.idp import Step
from tests.broker.conftest import LIMITS, House, LogLines

if TYPE_CHECKING:
    import asyncio


async def test_a_token_that_expired_on_its_way_is_no_token(house: House, held: asyncio.Event) -> None:
    await house.broker.apply({"orders": house.config()}, LIMITS)
    await house.received(1)
    house.clock.slip(3600.0)
    held.set()
    house.clock.idle = lambda: house.broker.credential("orders").status().last_error == "malformed"
    await house.clock.settle()
    assert house.broker.credential("orders").published is None


async def test_a_fetch_that_never_ends_is_given_up(house: House) -> None:
    house.idp.always(Step(fault="hang"))
    limits = msgspec.structs.replace(LIMITS, token_request=1000.0)
    house.clock.idle = lambda: True
    await house.broker.apply({"orders": house.config()}, limits)
    await house.received(1)
    await house.clock.advance(REQUESTS_AN_ATTEMPT * 1000.0)
    assert house.meters().consecutive_failures.value == 0
    await house.clock.advance(10.0)
    assert house.broker.credential("orders").status().last_error == "timeout"


class Broken:
    """A source with a bug."""

    watches = False
    requests_sent = 0
    limits = LIMITS

    async def fetch(self) -> Any:
        raise ZeroDivisionError("canary-secret")

    def inputs_changed(self) -> bool:
        return False

    def close(self) -> None:
        pass


async def test_a_bug_in_an_attempt_is_reported_and_retried_with_backoff(house: House, log_lines: LogLines) -> None:
    credential = await house.run_one()
    credential._source = Broken()
    credential.request_refresh()
    await house.clock.advance(60.0)
    assert 3 <= len(house.crashes) <= 12
    assert all(isinstance(crash, ZeroDivisionError) for crash in house.crashes)
    assert credential.status().usable
    assert log_lines("token_refresh_failed")[0]["reason"] == "internal"
    house.crashes.clear()
