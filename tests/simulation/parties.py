"""Who talks to the mock provider in its tests: a client with a secret, and one without."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import aiohttp

if TYPE_CHECKING:
    from sidecar.simulation.idp import MockIdP

FORM: Final = {"grant_type": "client_credentials"}
Fields = dict[str, str] | list[tuple[str, str]]


def basic(client: str = "client", secret: str = "client-secret") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()}


async def ask(
    session: aiohttp.ClientSession, idp: MockIdP, form: Fields = FORM, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """A token request, as the client with its secret unless headers are given."""
    data = aiohttp.FormData(list(form.items()) if isinstance(form, dict) else form)
    async with session.post(idp.token_url, data=data, headers=basic() if headers is None else headers) as response:
        return response.status, await response.json()


async def refresh(
    session: aiohttp.ClientSession, idp: MockIdP, token: str, **fields: str
) -> tuple[int, dict[str, Any]]:
    return await ask(session, idp, {"grant_type": "refresh_token", "refresh_token": token} | fields)
