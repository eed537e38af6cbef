"""The canary that watches over every other test does find what it looks for."""

from __future__ import annotations

from sidecar.simulation.idp import MockIdP
from sidecar.simulation.tokens import Ask
from tests.conftest import TOKEN


async def test_the_canary_knows_the_tokens_of_the_mock_provider() -> None:
    async with MockIdP(marker="demo.token") as idp:
        token = idp.tokens.issue(Ask(client_id="client"))["access_token"]
    assert TOKEN.search(f'{{"authorization":"Bearer {token}"}}')
    assert not TOKEN.search('{"event":"token_refreshed","credential":"orders","generation":1}')
