"""Failures that other products were reported with, one test each, named after the failure.

They are what went wrong in real proxies, brokers and token libraries of this kind; each test puts a credential into the
situation and asks for what should have happened.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.errors import TokenUnavailable
from sidecar.simulation.idp import MockIdP, Step
from tests.broker.conftest import LIMITS, House

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.broker.credential import Credential

DOWN = Step(status=503)


def requests_in(house: House, since: float) -> int:
    return sum(received.at >= since for received in house.idp.token_requests)


async def test_the_refresh_loop_dies_on_its_first_failure(house: House) -> None:
    """A refresh that fails once ends the loop; the old token is injected for ever and readiness stays green."""
    house.idp.ttl = 60.0
    credential = await house.run_one(required_for_ready=True)
    house.idp.always(DOWN)
    await house.clock.advance(120.0)
    assert not credential.status().usable
    assert house.broker.ready() == ["orders"]
    house.idp.always(None)
    await house.clock.advance(30.0)
    assert credential.status().usable
    assert house.broker.ready() == []


async def test_refreshes_run_on_the_context_of_the_first_request(house: House) -> None:
    """The first request's cancellation reaches the token source, and every later refresh is "context canceled"."""
    release = asyncio.Event()
    house.idp.script(Step(hold=release))
    house.clock.idle = lambda: True
    await house.broker.apply({"orders": house.config()}, LIMITS)
    credential = house.broker.credential("orders")
    first = house.tasks.spawn("first request", credential.wait())
    await house.clock.settle()
    first.cancel()
    await house.clock.settle()
    release.set()
    house.clock.idle = lambda: not credential.status().fetching
    await house.clock.settle()
    assert credential.status().usable
    await house.clock.advance(3590.0)
    assert credential.status().usable
    assert credential.status().generation == 2


async def test_a_forced_refresh_after_a_401_does_not_force(house: House) -> None:
    """The refused token is "refreshed" only if it is near its expiry, so the same one is sent again."""
    credential = await house.run_one()
    house.idp.revoke(house.idp.issued[0])
    renewing = house.tasks.spawn("renewing", credential.renew_after_unauthorized(1, accepted_before=True))
    await house.clock.settle()
    renewed = await renewing
    assert renewed is not None
    assert renewed.header != f"Authorization: Bearer {house.idp.issued[0]}\r\n".encode()
    assert house.idp.is_valid(renewed.secret.reveal())


async def test_a_forced_refresh_needs_an_expires_in(house: House) -> None:
    """Without expires_in there is no moment that is near, and nothing is ever refreshed."""
    house.idp.always(Step(fields={"expires_in": None}))
    credential = await house.run_one(default_ttl=300.0)
    await house.clock.advance(3000.0)
    assert 10 <= credential.status().generation <= 17
    generation = credential.status().generation
    house.tasks.spawn("renewing", credential.renew_after_unauthorized(generation, accepted_before=True))
    await house.clock.settle()
    assert credential.status().generation == generation + 1


@pytest.mark.parametrize(
    "body", [b"", b"<html>please log in to the network</html>", b"{}", b"null", b'{"access_token":']
)
async def test_a_malformed_200_ends_refresh_until_restart(house: House, body: bytes) -> None:
    """An empty 200 from a middlebox counts as an answer, and is not retried."""
    credential = await house.run_one()
    house.idp.script(*[Step(body=body)] * 5)
    await house.clock.advance(3599.0)
    assert credential.status().usable
    assert credential.status().generation == 2
    assert house.meters().requests["malformed"].value == 5


async def test_an_expired_token_is_injected(house: House) -> None:
    """While the IdP is down the last token goes on being used past its end."""
    house.idp.ttl = 30.0
    credential = await house.run_one()
    house.idp.always(DOWN)
    for _ in range(600):
        token = credential.usable(house.clock.now())
        assert token is None or house.idp.is_valid(token.secret.reveal())
        await house.clock.advance(0.1)
    assert credential.usable(house.clock.now()) is None


@pytest.mark.parametrize(
    ("answer", "probed_quickly"),
    [
        (Step(status=500, body=b'{"error": "server_error"}'), True),
        (Step(status=403, body=b"<html>blocked by the firewall</html>"), True),
        (Step(status=403, body=b'{"error": "Forbidden"}'), True),
        (Step(status=429, body=b"Too Many Requests"), True),
        (Step(status=404, body=b"no healthy upstream"), True),
        (Step(status=302, headers={"Location": "https://login.test/"}, body=b""), True),
        (Step(status=401, body=b'{"error": "invalid_client"}'), False),
        (Step(status=400, body=b'{"error": "invalid_grant"}'), False),
    ],
)
async def test_transient_failures_are_taken_for_permanent_ones(
    house: House, answer: Step, probed_quickly: bool
) -> None:
    """5xx, a firewall's 403 or a 429 ends the credential for good; so does giving up after two minutes."""
    house.idp.always(answer)
    credential = await house.run_one()
    await house.clock.advance(600.0)
    assert (requests_in(house, 1000.0) > 10) is probed_quickly
    house.idp.always(None)
    await house.clock.advance(30.0 if probed_quickly else 360.0)
    assert credential.status().usable


async def test_a_proxy_without_a_token_answers_401(house: House) -> None:
    """The app takes the proxy's 401 for the upstream's and begins an OAuth flow of its own."""
    house.idp.always(DOWN)
    credential = await house.run_one()
    await house.clock.advance(300.0)
    waiting = house.tasks.spawn("waiting", credential.wait())
    await house.clock.advance(LIMITS.token_wait)
    error = waiting.exception()
    assert isinstance(error, TokenUnavailable)
    assert error.status == 503
    assert error.retry_after_seconds is not None
    assert error.retry_after_seconds >= 1
    house.crashes.clear()


async def test_every_waiting_request_calls_the_idp(house: House) -> None:
    """Retry storms: each request retries by itself, under a lock, while the IdP is down."""
    house.idp.always(DOWN)
    credential = await house.run_one()

    async def impatient() -> None:
        while True:
            try:
                await credential.wait()
            except TokenUnavailable:
                await house.clock.sleep_until(house.clock.now() + 1.0)

    for number in range(100):
        house.tasks.spawn(f"request:{number}", impatient())
    await house.clock.advance(60.0)
    assert requests_in(house, 1000.0) <= 70
    began_at = house.clock.now()
    await house.clock.advance(120.0)
    assert requests_in(house, began_at) <= 20


async def test_a_fleet_refreshes_in_step(house: House) -> None:
    """Replicas that start together ask together ever after: spikes at the IdP, every lifetime one."""
    moments: list[float] = []
    for replica in range(40):
        house.chance.at = (replica + 0.5) / 40
        credential = await house.run_one(audience=str(replica))
        moments.append(credential.status().next_attempt_at - house.clock.now())
    assert min(moments) < 0.35 * 3600
    assert max(moments) > 0.8 * 3600
    for start in range(1080, 3060, 180):
        assert sum(start <= at < start + 180 for at in moments) <= 5


async def test_tokens_of_different_audiences_share_a_cache_entry(house: House) -> None:
    """The cache knows client id and scopes only: two credentials that differ otherwise get each other's token."""
    async with MockIdP(now=house.clock.now, marker="canary-other") as other:
        await house.run(
            {
                "orders": house.config(scopes=("read",), audience="https://orders.test"),
                "billing": house.config(scopes=("read",), audience="https://billing.test"),
                "elsewhere": house.config(scopes=("read",), token_url=other.token_url),
            }
        )
        await house.clock.advance(1.0)
        tokens = {one.name: one.published for one in house.broker.credentials()}
        assert len({token.header for token in tokens.values() if token}) == 3
        assert tokens["elsewhere"] is not None
        assert b"canary-other" in tokens["elsewhere"].header
    assert {received.field("audience") for received in house.idp.received} == {
        "https://orders.test",
        "https://billing.test",
    }


async def test_a_transient_error_drops_the_credential(house: House) -> None:
    """A passing error deletes the token that is still good."""
    credential = await house.run_one()
    token = credential.published
    house.idp.script(Step(fault="reset"), Step(status=502), Step(body=b""), Step(status=400, body=b"?"))
    for _ in range(4):
        credential.request_refresh()
        await house.clock.settle()
        assert credential.usable(house.clock.now()) is token
    await house.clock.advance(30.0)
    assert credential.status().generation == 2


async def test_the_first_refresh_on_a_cold_connection_is_an_eof(house: House) -> None:
    """The IdP closes idle connections; the first refresh writes into a dead one and fails."""
    house.idp.ttl = 600.0
    await house.run_one()
    for _ in range(5):
        await house.clock.advance(600.0)
    assert house.meters().consecutive_failures.value == 0
    assert sum(cell.value for result, cell in house.meters().requests.items() if result != "success") == 0
    ports = [received.peer_port for received in house.idp.token_requests]
    assert len(set(ports)) == len(ports) > 5


async def test_a_starved_timer_lets_the_token_expire(house: House) -> None:
    """Under CPU throttling the refresh timer does not fire in time, and nothing else looks."""
    credential = await house.run_one()
    house.clock.slip(4000.0)
    assert credential.usable(house.clock.now()) is None
    waiting = house.tasks.spawn("waiting", credential.wait())
    await house.clock.settle()
    async with asyncio.timeout(5):
        token = await waiting
    assert house.idp.is_valid(token.secret.reveal())


async def test_a_request_that_only_looks_wakes_a_starved_loop(house: House) -> None:
    """The same, for a route that forwards without a token rather than waits."""
    credential = await house.run_one()
    house.clock.slip(4000.0)
    assert credential.usable(house.clock.now()) is None
    await house.clock.settle()
    assert credential.usable(house.clock.now()) is not None


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_the_idps_body_is_logged(
    house: House, status: int, log_lines: Callable[[str], list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The token endpoint's body goes to the log, on a parse error of a 200 too: tokens in logs."""
    body = b'{"access_token": "canary-in-a-broken-body", "error_description": "canary for client-secret"'
    house.idp.always(Step(status=status, body=body))
    await house.run_one()
    await house.clock.advance(60.0)
    lines = capsys.readouterr().err
    assert "token_refresh_failed" in lines
    assert "canary" not in lines
    assert log_lines("token_refresh_failed") == []  # all were read just now


async def test_a_secret_that_rotates_under_a_running_refresh_breaks_it(house: House) -> None:
    """A credential file is replaced a moment before the IdP knows the new secret."""
    credential: Credential = await house.run_one()
    house.secret_file.write_text("next-secret")
    await house.clock.advance(3599.0)
    assert credential.status().usable
    assert house.meters().consecutive_failures.value == 0
