"""The demo's API wants a valid token, says what it saw, and never shows the token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from sidecar.simulation.echo import Echo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GOOD: Final = "good-token-0123456789abcdef"


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with Echo(is_valid=lambda token: token == GOOD) as echo:
        yield echo


async def ask(echo: Echo, authorization: str | None, body: bytes = b"") -> tuple[aiohttp.ClientResponse, Any, str]:
    headers = {} if authorization is None else {"Authorization": authorization}
    url = f"http://127.0.0.1:{echo.port}/v1/orders?page=2"
    async with aiohttp.ClientSession() as session, session.post(url, headers=headers, data=body) as response:
        return response, await response.json(), await response.text()


async def test_it_tells_what_it_saw(echo: Echo) -> None:
    response, seen, _ = await ask(echo, f"Bearer {GOOD}", b"x" * 200_000)
    assert response.status == 200
    assert (seen["method"], seen["path"], seen["over_tls"]) == ("POST", "/v1/orders?page=2", False)
    assert seen["body_bytes"] == 200_000
    assert seen["token"]["valid"] is True
    assert (echo.served, echo.refused) == (1, 0)


async def test_a_token_is_recognisable_but_not_shown(echo: Echo) -> None:
    _, seen, text = await ask(echo, f"Bearer {GOOD}")
    assert seen["token"]["begins"] == "good-t..."
    assert len(seen["token"]["sha256"]) == 15
    assert GOOD not in text


async def test_a_token_that_is_not_valid_gets_the_401_of_rfc_6750(echo: Echo) -> None:
    response, seen, text = await ask(echo, "Bearer expired-token")
    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="echo", error="invalid_token"'
    assert seen["token"]["valid"] is False
    assert "expired-token" not in text
    assert (echo.served, echo.refused) == (0, 1)


@pytest.mark.parametrize("authorization", [None, "Basic dXNlcjpwYXNz", "Bearer ", ""])
async def test_no_token_at_all_gets_a_challenge_without_an_error(echo: Echo, authorization: str | None) -> None:
    response, seen, _ = await ask(echo, authorization)
    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="echo"'
    assert seen["token"] is None


async def test_a_token_that_is_bound_to_a_key_is_one_too(echo: Echo) -> None:
    response, seen, _ = await ask(echo, f"DPoP {GOOD}")
    assert (response.status, seen["token"]["valid"]) == (200, True)
