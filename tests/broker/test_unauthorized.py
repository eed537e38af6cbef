"""What an upstream's 401 leads to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.broker.policy import State
from sidecar.simulation.idp import Step
from tests.broker.conftest import DOWN, House, token_of

if TYPE_CHECKING:
    from sidecar.broker.credential import Credential, PublishedToken


async def renew(
    house: House, credential: Credential, generation: int = 1, *, accepted: bool = True
) -> PublishedToken | None:
    renewing = house.tasks.spawn("renewing", credential.renew_after_unauthorized(generation, accepted_before=accepted))
    await house.clock.settle()
    async with asyncio.timeout(5):
        renewed: PublishedToken | None = await renewing
        return renewed


async def test_a_401_brings_a_new_token_at_once(house: House) -> None:
    credential = await house.run_one()
    renewed = await renew(house, credential)
    assert renewed is credential.published
    assert renewed is not None
    assert renewed.generation == 2
    assert house.meters().triggers["unauthorized"].value == 1


async def test_a_401_to_an_older_token_gets_the_newer_one_without_a_request(house: House) -> None:
    credential = await house.run_one()
    await renew(house, credential)
    assert await renew(house, credential) is credential.published
    assert len(house.idp.received) == 2


async def test_a_burst_of_401s_leads_to_one_request(house: House, held: asyncio.Event) -> None:
    held.set()
    credential = await house.run_one()
    await house.received(1)
    await house.clock.advance_until(lambda: credential.status().usable, at_most=1.0)
    held.clear()
    house.idp.script(Step(hold=held))
    renewing = [
        house.tasks.spawn(f"renew:{number}", credential.renew_after_unauthorized(1, accepted_before=True))
        for number in range(50)
    ]
    await house.received(2)
    held.set()
    async with asyncio.timeout(5):
        renewed = await asyncio.gather(*renewing)
    assert set(map(id, renewed)) == {id(credential.published)}
    assert len(house.idp.received) == 2


async def test_a_401_to_a_brand_new_token_is_relayed(house: House) -> None:
    credential = await house.run_one()
    assert await renew(house, credential, accepted=False) is None
    assert len(house.idp.received) == 1
    await house.clock.advance(31.0)
    assert await renew(house, credential, accepted=False) is not None


async def test_401s_cause_at_most_one_request_in_10_seconds_and_then_fewer(house: House) -> None:
    credential = await house.run_one()
    for _ in range(100):
        await renew(house, credential, token_of(credential).generation)
        await house.clock.advance(0.5)
    assert len(house.idp.received) == 4  # the first token, and renewals after 0, 10 and 30 s


async def test_the_same_token_after_a_401_is_no_renewal(house: House) -> None:
    house.idp.renews_within = 60.0
    credential = await house.run_one()
    assert await renew(house, credential) is None
    assert len(house.idp.received) == 2


async def test_a_failed_renewal_keeps_the_token_and_relays_the_401(house: House) -> None:
    credential = await house.run_one()
    house.idp.script(DOWN)
    assert await renew(house, credential) is None
    assert credential.status().usable
    assert credential.status().state is State.FAILING


async def test_a_401_while_the_idp_asked_for_quiet_is_relayed_at_once(house: House) -> None:
    credential = await house.run_one()
    house.idp.script(Step(status=429, headers={"Retry-After": "60"}))
    credential.request_refresh()
    await house.clock.settle()
    assert await renew(house, credential) is None
    assert len(house.idp.received) == 2


async def test_without_a_token_there_is_nothing_to_renew(house: House) -> None:
    house.idp.always(DOWN)
    credential = await house.run_one()
    assert await credential.renew_after_unauthorized(1, accepted_before=True) is None
