"""The IdP is away for longer than a token lives: how often it is asked, and how soon its return is noticed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from sidecar.errors import TokenUnavailable
from sidecar.simulation.idp import Step
from tests.broker.conftest import token_of

if TYPE_CHECKING:
    from sidecar.broker.credential import Credential
    from tests.broker.conftest import House

DOWN = Step(status=503, body=b"<html>down</html>", headers={"Content-Type": "text/html"})


class Load:
    """Requests that keep coming: always so many of them wait for the credential's token."""

    def __init__(self, house: House, credential: Credential, *, clients: int = 3, pause: float = 0.1) -> None:
        self.served: list[float] = []
        self.refusals: list[TokenUnavailable] = []
        self._house = house
        self._credential = credential
        self._pause = pause
        for number in range(clients):
            house.tasks.spawn(f"client:{number}", self._client())

    async def _client(self) -> None:
        clock = self._house.clock
        while True:
            now = clock.now()
            try:
                token = self._credential.usable(now) or await self._credential.wait()
            except TokenUnavailable as exc:
                self.refusals.append(exc)
            else:
                assert clock.now() < token.expires_at, "an expired token was handed out"
                self.served.append(clock.now())
            await clock.sleep_until(clock.now() + self._pause)


def attempts(house: House, since: float, until: float) -> int:
    return sum(since <= received.at <= until for received in house.idp.received)


@pytest.mark.parametrize("credentials", [1, 6])
async def test_an_outage_of_half_an_hour_costs_at_most_250_attempts(house: House, credentials: int) -> None:
    house.broker._uniform = random.Random(credentials).uniform
    house.idp.ttl = 60.0
    await house.run({f"c{number}": house.config(scopes=(f"s{number}",)) for number in range(credentials)})
    await house.clock.advance(1.0)
    for credential in house.broker.credentials():
        Load(house, credential, clients=1, pause=1.0)
    house.idp.always(DOWN)
    began_at = house.clock.now()
    await house.clock.advance(1800.0)
    assert 60 <= attempts(house, began_at, began_at + 1800.0) <= 250
    house.idp.always(None)
    await house.clock.advance(30.0)
    assert all(one.status().usable for one in house.broker.credentials())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("outage", "within"), [(3.0, 2.0), (20.0, 2.0), (58.0, 2.0), (600.0, 30.0)])
async def test_the_return_is_noticed_in_time(house: House, outage: float, within: float, seed: int) -> None:
    house.broker._uniform = random.Random(seed).uniform
    house.idp.ttl = 6.0
    credential = await house.run_one()
    load = Load(house, credential)
    await house.clock.advance(30.0)
    house.idp.always(DOWN)
    for token in house.idp.issued:
        house.idp.revoke(token)
    await house.clock.advance_until(lambda: not credential.status().usable, at_most=7.0)
    await house.clock.advance(outage)
    returned_at = house.clock.now()
    house.idp.always(None)
    await house.clock.advance_until(lambda: load.served[-1] > returned_at, at_most=within)


async def test_the_refresh_after_an_outage_spreads_as_the_first_does(house: House) -> None:
    house.chance.at = 0.0
    credential = await house.run_one()
    house.idp.script(DOWN)
    credential.request_refresh()
    await house.clock.advance_until(lambda: credential.status().generation == 2, at_most=1.0)
    for share in (0.3, 0.65):
        planned_at = credential.status().next_attempt_at
        assert planned_at - token_of(credential).obtained_at == pytest.approx(share * 3600.0)
        await house.clock.advance(planned_at - house.clock.now())


async def test_a_token_is_used_to_its_end_and_then_refused_with_retry_after(house: House) -> None:
    house.idp.ttl = 60.0
    credential = await house.run_one()
    await house.idp.stop()
    load = Load(house, credential)
    began_at = house.clock.now()
    await house.clock.advance(59.0)
    assert load.refusals == []
    await house.clock.advance(120.0)
    assert 59.0 <= max(load.served) - began_at < 60.0
    assert load.refusals
    assert all(exc.retry_after_seconds and exc.retry_after_seconds >= 1 for exc in load.refusals)


async def test_twenty_credentials_of_one_idp_share_its_breaker(house: House) -> None:
    await house.idp.stop()
    await house.run({f"c{number}": house.config(scopes=(f"s{number}",)) for number in range(20)})
    await house.clock.advance(120.0)
    sent = sum(
        one.value
        for number in range(20)
        for key, one in house.meters(f"c{number}").requests.items()
        if key == "connect"
    )
    assert sent <= 20 + 60 + 10
    await house.idp.start()
    await house.clock.advance(30.0)
    assert all(one.status().usable for one in house.broker.credentials())
