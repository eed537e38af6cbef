"""Failures that other token proxies have had, on the data path: each test is named after the failure."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.simulation.idp import Step
from tests.proxy.raw_client import RawClient, get, post
from tests.proxy.raw_origin import REFUSED_TOKEN, Request, ok
from tests.proxy.rig import API, Rig

URL = f"http://{API}"
DOWN = Step(status=500, body=b"down")


async def test_a_force_refresh_that_does_not_force(rig: Rig) -> None:
    """A revoked token with most of its life before it was "refreshed" by looking at its expiry, and sent again."""
    await rig.start()
    client = await rig.client()

    async def judge(request: Request) -> None:
        await request.connection.body(request)
        await request.connection.send(ok() if rig.idp.is_valid(request.token or "") else REFUSED_TOKEN)

    rig.secure.always = judge
    assert (await client.ask(get(f"{URL}/"))).status == 200
    revoked = rig.idp.issued[-1]
    rig.idp.revoke(revoked)
    for request in (get(f"{URL}/"), post(f"{URL}/", b"body"), get(f"{URL}/")):
        assert (await client.ask(request)).status == 200
    assert rig.secure.tokens.count(revoked) == 2


async def test_a_token_without_expiry_that_is_never_refreshed_after_a_401(rig: Rig) -> None:
    """Without ``expires_in`` there was nothing to compare, so the revoked token stayed for ever."""
    rig.idp.always(Step(fields={"expires_in": None}))
    await rig.start()
    client = await rig.client()
    assert (await client.ask(get(f"{URL}/"))).status == 200
    rig.secure.reply(REFUSED_TOKEN)
    assert (await client.ask(get(f"{URL}/"))).status == 200
    assert rig.secure.tokens[-1] == rig.idp.issued[-1] != rig.secure.tokens[0]


async def test_a_leader_whose_disconnect_fails_the_waiters(rig: Rig) -> None:
    """The one request that fetched for all took the fetch with it when its client left."""
    rig.idp.script(hold := Step(hold=asyncio.Event()))
    await rig.start_cold()
    leader, waiter = await rig.client(), await rig.client()
    await leader.send(get(f"{URL}/leader"))
    await waiter.send(get(f"{URL}/waiter"))
    leader.reset()
    assert hold.hold is not None
    hold.hold.set()
    assert (await waiter.answer()).body == b"GET /waiter 0"
    assert len(rig.idp.token_requests) == 1


async def test_an_expired_token_injected(rig: Rig) -> None:
    """The old token was sent on while the provider was down, and the app got the upstream's 401."""
    await rig.start(limits={"token_wait": "100ms"})
    client = await rig.client()
    rig.idp.always(DOWN)
    rig.clock.ahead += 3599 - 5
    assert (await client.ask(get(f"{URL}/"))).status == 200  # valid to its last second
    rig.clock.ahead += 6
    for request in (get(f"{URL}/"), post(f"{URL}/", b"body")):
        answer = await client.ask(request)
        assert (answer.status, answer.reason) == (503, "token_unavailable")
    assert len(rig.secure.requests) == 1
    rig.idp.always(None)
    await rig.has_tokens()
    assert (await client.ask(get(f"{URL}/"))).status == 200


async def test_an_expired_token_injected_on_a_kept_connection(rig: Rig) -> None:
    """The expiry was looked at when the connection was opened, not when a request was sent."""
    await rig.start()
    client = await rig.client()
    assert (await client.ask(get(f"{URL}/"))).status == 200
    rig.clock.ahead += 3601
    assert (await client.ask(get(f"{URL}/"))).status == 200
    assert rig.secure.tokens == list(rig.idp.issued)
    assert len(rig.idp.issued) == 2


async def test_a_401_for_a_token_that_the_proxy_has_not(rig: Rig) -> None:
    """Clients took the proxy's 401 for the upstream's, and began an OAuth dance of their own."""
    rig.idp.always(Step(status=401, fields={"error": "invalid_client"}))
    await rig.start_cold(limits={"token_wait": "100ms"})
    client = await rig.client()
    answer = await client.ask(get(f"{URL}/"))
    assert (answer.status, answer.reason) == (503, "token_unavailable")
    assert int(answer.value("Retry-After") or "0") >= 1
    assert answer.values("WWW-Authenticate") == []
    assert rig.secure.connections == []


@pytest.mark.parametrize("authority", ["routed", "route's port 80", "unrouted", "malformed", "reverse"])
async def test_a_connect_answered_405(rig: Rig, authority: str) -> None:
    """Every agent broke as soon as HTTPS_PROXY was set."""
    upstream = f"https://{API}:{rig.secure.port}"
    reverse = {"name": "orders", "mode": "reverse", "upstream": upstream}
    await rig.start(listeners=[{"name": "egress", "mode": "forward"}, reverse])
    listener, target, status = {
        "routed": ("egress", f"{API}:{rig.secure.port}", 200),
        "route's port 80": ("egress", f"{API}:80", 200),
        "unrouted": ("egress", "elsewhere.test:443", 403),
        "malformed": ("egress", "elsewhere.test", 400),
        "reverse": ("orders", f"{API}:443", 400),
    }[authority]
    client: RawClient = await rig.client(listener)
    await client.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert int((await client.head())[9:12]) == status


async def test_an_expired_token_injected_after_a_slow_connect(rig: Rig) -> None:
    """The token was taken before the connection was made, and ran out while it was."""

    class SlowNames(dict[str, list[str] | None]):
        def get(self, name: str, default: object = None) -> list[str] | None:
            rig.clock.ahead += 3601
            rig.names = dict(self)
            return rig.names.get(name)

    await rig.start()
    rig.names = SlowNames(rig.names)
    client = await rig.client()
    assert (await client.ask(get(f"{URL}/"))).status == 200
    assert rig.secure.tokens == [rig.idp.issued[-1]]
    assert len(rig.idp.issued) == 2
