"""What a request is counted and logged by."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.proxy.raw_client import get, post
from tests.proxy.raw_origin import Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    import pytest

    from tests.proxy.rig import Rig

URL = f"http://{API}"


async def test_every_request_is_counted_once_with_its_method_and_status(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/"))
    await client.ask(post(f"{URL}/", b"abc"))
    rig.secure.reply(ok(status="404 Not Found"))
    await client.ask(get(f"{URL}/"))
    await rig.at_rest()
    assert rig.value("http_requests_total", route="api", method="GET", code="200") == 1
    assert rig.value("http_requests_total", route="api", method="POST", code="200") == 1
    assert rig.value("http_requests_total", route="api", method="GET", code="404") == 1
    assert rig.value("http_request_duration_seconds_count", route="api") == 3
    assert rig.value("proxy_overhead_seconds_count") == 3
    assert rig.value("http_requests_in_flight", route="api") == 0


async def test_the_time_of_others_is_no_overhead(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    release = asyncio.Event()

    async def slow(request: Request) -> None:
        await release.wait()
        await request.connection.send(ok())

    rig.secure.reply(slow)
    await client.send(get(f"{URL}/"))
    await rig.secure.next_request()
    assert rig.value("http_requests_in_flight", route="api") == 1
    asyncio.get_running_loop().call_later(0.3, release.set)
    await client.answer()
    assert rig.value("http_request_duration_seconds_sum", route="api") >= 0.3
    assert rig.value("proxy_overhead_seconds_sum") < 0.3


async def test_the_access_log_has_the_same_facts_in_a_line(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    log: dict[str, Any] = {"access": True}
    await rig.start(log=log)
    client = await rig.client()
    await client.ask(post(f"{URL}/some?secret=x", b"abc"))
    await rig.stop()
    [line] = [line for line in capfd.readouterr().out.splitlines() if '"status"' in line]
    for fact in ('"status":200', '"method":"POST"', '"route":"api"', '"injection":"injected"', '"generation":1'):
        assert fact in line
    assert "secret" not in line
