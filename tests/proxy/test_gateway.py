"""What all connections share: the generation a request is served under, the date, and how much is said of failures."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from sidecar.errors import SidecarError, UpstreamConnect, UpstreamReset
from sidecar.proxy import gateway as subject
from tests.end_to_end.waiting import until
from tests.proxy.raw_client import get, post
from tests.proxy.raw_origin import Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    import pytest

    from tests.proxy.conftest import Logs
    from tests.proxy.rig import Rig

URL = f"http://{API}"


async def test_a_request_keeps_the_generation_it_began_with_and_the_next_finds_the_new_one(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    release = asyncio.Event()

    async def slow(request: Request) -> None:
        await release.wait()
        await request.connection.send(ok(b"slow"))

    rig.secure.reply(slow)
    await client.send(get(f"{URL}/slow"))
    await rig.secure.next_request()
    rig.file.write_text(rig.text(rig.configuration(routes=[rig.plain_route()])))
    assert await rig.sidecar.reload(rig.file)
    release.set()
    assert (await client.answer()).body == b"slow"
    answer = await client.ask(get(f"{URL}/"))
    assert (answer.status, answer.reason) == (403, "target_unmatched")
    assert (await client.ask(get(f"http://localhost:{rig.plain.port}/"))).status == 200


async def test_work_that_is_cancelled_before_it_began_leaves_no_warning(rig: Rig) -> None:
    await rig.start()
    told: list[SidecarError] = []

    async def work() -> None:
        raise AssertionError("it never begins")

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        task = rig.sidecar.gateway.run("work", work(), told.append)
        task.cancel()
        await asyncio.wait([task])
        del task
        gc.collect()
    assert [str(each.message) for each in warned if each.category is RuntimeWarning] == []
    assert told == []


async def test_each_sidecar_has_a_name_of_its_own_in_via(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    names = []
    for _ in range(2):
        await client.ask(get(f"{URL}/"))
        names += rig.secure.requests[-1].values("Via")
        await rig.stop()
        await rig.start()
        client = await rig.client()
    assert len(set(names)) == 2
    assert all(name.startswith("1.1 token-sidecar-") for name in names)


async def test_the_date_is_a_valid_one_and_follows_the_clock(rig: Rig) -> None:
    await rig.start()
    gateway = rig.sidecar.gateway
    first = gateway.date()
    assert abs(parsedate_to_datetime(first.decode()).timestamp() - rig.clock.wall()) < 2
    rig.clock.ahead += 3600
    second = gateway.date()
    assert (parsedate_to_datetime(second.decode()) - parsedate_to_datetime(first.decode())).total_seconds() >= 3600


async def test_complaints_are_limited_by_route_and_reason_and_say_how_many_were_left_out(
    rig: Rig, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.start()
    gateway = rig.sidecar.gateway
    now = 1000.0
    monkeypatch.setattr(gateway, "loop_time", lambda: now)
    api, plain = (rig.sidecar.metrics.route(label, "orders") for label in ("api", "plain"))
    for _ in range(5):
        gateway.complain(api, UpstreamConnect("refused"))
    gateway.complain(api, UpstreamReset("closed"))
    gateway.complain(plain, UpstreamConnect("refused"))
    now += subject.COMPLAINT_INTERVAL_SECONDS
    gateway.complain(api, UpstreamConnect("refused"))
    lines = [(line["route"], line["reason"], line["left_out"]) for line in logs("request_failed")]
    assert lines == [("api", "connect", 0), ("api", "reset", 0), ("plain", "connect", 0), ("api", "connect", 4)]


async def test_the_warm_path_spawns_no_task(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/"))
    spawned: list[str] = []
    spawn = rig.sidecar.gateway.tasks.spawn

    def watched(name: str, coro: object) -> object:
        spawned.append(name)
        return spawn(name, coro)  # type: ignore[arg-type]

    monkeypatch.setattr(rig.sidecar.gateway.tasks, "spawn", watched)
    for _ in range(10):
        assert (await client.ask(get(f"{URL}/"))).status == 200
        assert (await client.ask(post(f"{URL}/", b"body"))).status == 200
    assert [name for name in spawned if not name.startswith(("sleep:", "refresh:"))] == []


async def test_times_and_flights_are_measured(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/"))
    hold = asyncio.Event()

    async def slow(request: Request) -> None:
        await hold.wait()
        await request.connection.send(ok())

    rig.secure.reply(slow)
    await client.send(get(f"{URL}/"))
    await until(lambda: rig.value("http_requests_in_flight", route="api") == 1, "it is in flight")
    hold.set()
    await client.answer()
    assert rig.value("http_requests_in_flight", route="api") == 0
    assert rig.value("http_request_duration_seconds_count", route="api") == 2
    assert rig.value("proxy_overhead_seconds_count") == 2
    assert 0 < rig.value("proxy_overhead_seconds_sum") < rig.value("http_request_duration_seconds_sum", route="api")


async def test_the_access_log_has_a_line_a_request_without_query_or_token(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    await rig.start(log={"access": True})
    client = await rig.client()
    await client.ask(post(f"{URL}/v1/x?secret=1", b"body"))
    await rig.stop()
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    [line] = [line for line in lines if line.get("event") == "request"]
    assert (line["route"], line["method"], line["path"], line["status"]) == ("api", "POST", "/v1/x", 200)
    assert (line["injection"], line["generation"], line["received_bytes"]) == ("injected", 1, 4)
    assert rig.idp.issued[-1] not in str(line)
