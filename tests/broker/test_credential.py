"""One credential's life against a provider on a real socket, in fake time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.broker.conftest import House


async def test_the_first_token_is_fetched_at_start_without_any_request(house: House) -> None:
    credential = await house.run_one()
    token = credential.usable(house.clock.now())
    assert token is not None
    assert token.header == f"Authorization: Bearer {house.idp.issued[0]}\r\n".encode()
    assert token.generation == 1
    assert house.meters().triggers["startup"].value == 1
