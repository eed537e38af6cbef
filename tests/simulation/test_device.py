"""A device asks until its person has decided, not faster than it was told, and not for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.simulation.idp import Client, MockIdP, Refreshing, Step
from tests.simulation.parties import ask, basic, post, refresh

if TYPE_CHECKING:
    import aiohttp

    from tests.fake_clock import FakeClock

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


async def begin(session: aiohttp.ClientSession, idp: MockIdP, **fields: str) -> dict[str, Any]:
    status, answer = await post(session, f"{idp.issuer}/device_authorization", fields, basic())
    assert status == 200
    return answer


async def poll(session: aiohttp.ClientSession, idp: MockIdP, device: dict[str, Any]) -> dict[str, Any]:
    return (await ask(session, idp, {"grant_type": DEVICE_CODE, "device_code": device["device_code"]}))[1]


async def test_a_device_gets_its_tokens_once_somebody_approves(
    session: aiohttp.ClientSession, idp: MockIdP, clock: FakeClock
) -> None:
    idp.register("client", Client(refreshing=Refreshing()))
    device = await begin(session, idp, scope="read")
    assert device["verification_uri_complete"] == f"{idp.issuer}/device?user_code={device['user_code']}"
    assert (device["interval"], device["expires_in"]) == (5, 600)
    assert (await poll(session, idp, device))["error"] == "authorization_pending"
    idp.approve(device["user_code"].lower().replace("-", " "))
    clock.slip(5.0)
    fields = await poll(session, idp, device)
    assert idp.is_valid(fields["access_token"])
    assert fields["scope"] == "read"
    assert (await refresh(session, idp, fields["refresh_token"]))[0] == 200
    clock.slip(5.0)
    assert (await poll(session, idp, device))["error"] == "invalid_grant"


async def test_who_asks_too_fast_is_slowed_down(session: aiohttp.ClientSession, idp: MockIdP, clock: FakeClock) -> None:
    device = await begin(session, idp)
    await poll(session, idp, device)
    idp.approve(device["user_code"])
    clock.slip(4.9)
    assert (await poll(session, idp, device))["error"] == "slow_down"
    clock.slip(9.9)  # from now on every ten seconds (RFC 8628 section 3.5)
    assert (await poll(session, idp, device))["error"] == "slow_down"
    clock.slip(15.0)
    assert "access_token" in await poll(session, idp, device)


async def test_a_refusal_and_the_end_of_time_are_told(
    session: aiohttp.ClientSession, idp: MockIdP, clock: FakeClock
) -> None:
    denied, late = await begin(session, idp), await begin(session, idp)
    idp.deny(denied["user_code"])
    assert (await poll(session, idp, denied))["error"] == "access_denied"
    clock.slip(600.0)
    assert (await poll(session, idp, late))["error"] == "expired_token"
    with pytest.raises(LookupError):
        idp.approve(late["user_code"])


async def test_a_decision_is_made_once(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    device = await begin(session, idp)
    idp.deny(device["user_code"])
    with pytest.raises(LookupError):
        idp.approve(device["user_code"])


@pytest.mark.parametrize(("decision", "error"), [("approve", None), ("deny", "access_denied")])
async def test_a_person_decides_on_a_page_without_script(
    session: aiohttp.ClientSession, idp: MockIdP, decision: str, error: str | None
) -> None:
    device = await begin(session, idp)
    async with session.get(device["verification_uri_complete"]) as response:
        assert device["user_code"] in await response.text()
    form = {"user_code": device["user_code"], "decision": decision}
    for status in (200, 400):  # the second time nobody waits any more
        async with session.post(device["verification_uri"], data=form) as response:
            assert (response.status, response.content_type) == (status, "text/html")
    assert (await poll(session, idp, device)).get("error") == error


async def test_what_is_typed_in_is_never_markup(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    async with session.get(f"{idp.issuer}/device", params={"user_code": '"><script>'}) as response:
        assert "<script>" not in await response.text()
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]


async def test_a_device_code_belongs_to_its_client(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.register("other", Client(), secret="other-secret")
    device = await begin(session, idp)
    form = {"grant_type": DEVICE_CODE, "device_code": device["device_code"]}
    assert (await ask(session, idp, form, basic("other", "other-secret")))[1]["error"] == "invalid_grant"
    assert (await ask(session, idp, form | {"device_code": "made up"}))[1]["error"] == "invalid_grant"
    assert (await ask(session, idp, {"grant_type": DEVICE_CODE}))[1]["error"] == "invalid_request"


async def test_the_endpoint_wants_a_known_client_with_the_grant(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    url = f"{idp.issuer}/device_authorization"
    assert (await post(session, url, {}, basic(secret="wrong")))[1]["error"] == "invalid_client"
    idp.register("app", Client(auth=frozenset({"none"})))
    assert (await post(session, url, {"client_id": "app"}, {}))[0] == 200
    idp.register("app", Client(auth=frozenset({"none"}), grants=frozenset({"refresh_token"})))
    assert (await post(session, url, {"client_id": "app"}, {}))[1]["error"] == "unauthorized_client"


async def test_its_endpoint_has_a_script_too(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.script(Step(fields={"interval": None, "verification_uri_complete": None}), endpoint="device_authorization")
    assert (await begin(session, idp)).keys() == {"device_code", "user_code", "verification_uri", "expires_in"}
