"""What a login asks and keeps, whoever speaks to the person."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.broker import consent
from sidecar.broker.idp import IdP
from sidecar.config import model
from sidecar.errors import ConfigurationInvalid, LoginNeeded
from sidecar.oauth import interactive
from sidecar.oauth.endpoint import Endpoint
from sidecar.oauth.token import Token
from sidecar.secrets import Secret
from sidecar.simulation.idp import Client, MockIdP, Refreshing, Step
from sidecar.telemetry.metrics import Metrics
from tests.fake_clock import FakeClock

APP = Client(auth=frozenset({"none"}), refreshing=Refreshing())


def idp_of(config: model.Credential, endpoint: Endpoint, clock: FakeClock) -> IdP:
    meters = Metrics().credential("repository")
    return IdP(config, name="repository", clock=clock, endpoint=endpoint, meters=meters, limits=model.Limits())


def test_an_address_of_the_configuration_wins_and_one_has_to_be_somewhere() -> None:
    config = model.Credential(authorization_url="https://idp.example.com/authorize")
    assert consent.authorization_endpoint(config, None) == "https://idp.example.com/authorize"
    with pytest.raises(ConfigurationInvalid, match="authorization_endpoint"):
        consent.authorization_endpoint(model.Credential(), None)


async def test_a_device_waits_through_an_outage_until_the_person_agrees() -> None:
    clock = FakeClock()
    endpoint = Endpoint(clock)
    async with MockIdP(now=clock.now) as provider:
        provider.register("app", APP)
        config = model.Credential(grant="device_code", client_auth="none", client_id="app", issuer=provider.issuer)
        idp = idp_of(config, endpoint, clock)
        device = await consent.device_code(config, idp, await idp.metadata())
        provider.script(Step(status=503, body=b""))
        polling = interactive.Polling.begin(device, now=clock.now())
        fields = interactive.device_token_fields(device, config)
        polls = asyncio.create_task(consent.poll(polling, fields, idp, clock))
        clock.idle = lambda: polls.done() or bool(clock.sleepers)
        await clock.advance(6)
        provider.approve(device.user_code)
        assert await clock.advance_until(polls.done, at_most=60) == 9  # after the failure it waits twice as long
        assert (await polls).status == 200
    await endpoint.close()


def test_without_a_refresh_token_there_is_no_grant() -> None:
    clock = FakeClock()
    config = model.Credential(token_url="https://idp.example.com/token", client_id="app")
    idp = idp_of(config, Endpoint(clock), clock)
    token = Token(Secret("access"), sent_at=0.0, lifetime=3600.0)
    with pytest.raises(LoginNeeded, match="offline_access"):
        consent.grant_of(token, config, idp, obtained_at=1.0)


def test_a_grant_ends_when_its_refresh_token_does() -> None:
    clock = FakeClock()
    config = model.Credential(token_url="https://idp.example.com/token", client_id="app")
    idp = idp_of(config, Endpoint(clock), clock)
    token = Token(
        Secret("access"), sent_at=0.0, lifetime=3600.0, refresh_token=Secret("refresh"), refresh_token_lifetime=60.0
    )
    one, other = (consent.grant_of(token, config, idp, obtained_at=100.0) for _ in range(2))
    assert (one.refresh_token.reveal(), one.obtained_at, one.expires_at) == ("refresh", 100.0, 160.0)
    assert one.party == "client app at https://idp.example.com:443"
    assert one.lineage != other.lineage
