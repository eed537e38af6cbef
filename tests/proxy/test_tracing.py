"""Tracing through the whole: whose child a request is, what the upstream is told, and what never leaves in a span."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.simulation.idp import Step
from tests.conftest import TOKEN
from tests.end_to_end.waiting import until
from tests.proxy.raw_client import get, path, post
from tests.proxy.raw_origin import REFUSED_TOKEN, Request, ok
from tests.proxy.rig import API
from tests.telemetry.collector import Collector, attributes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.proxy.rig import Rig

URL: Final = f"http://{API}"
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01"
ON: Final[dict[str, Any]] = {"tracing": {"enabled": True}}


@pytest.fixture
async def collector(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    async with Collector() as collector:
        collector.name_it(monkeypatch)
        yield collector
        await rig.stop()  # while there is somebody to take the last spans


async def reload(rig: Rig, **changes: Any) -> bool:
    rig.file.write_text(rig.text(rig.configuration(**changes)))
    return await rig.sidecar.reload(rig.file)


async def test_the_upstream_is_told_our_span_and_the_collector_the_apps(rig: Rig, collector: Collector) -> None:
    await rig.start(**ON)
    client = await rig.client()
    await client.ask(get(f"{URL}/v1/orders?q=1", PARENT, "tracestate: a=1", "baggage: k=v"))
    [request] = rig.secure.requests
    await rig.stop()
    [span] = collector.named("GET")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, "00f067aa0ba902b7")
    assert request.values("traceparent") == [f"00-{TRACE}-{span.span_id.hex()}-01"]
    assert (request.values("tracestate"), request.values("baggage")) == (["a=1"], ["k=v"])
    assert attributes(span) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": API,
        "server.port": rig.secure.port,
        "url.path": "/v1/orders",
        "tokensidecar.route": "api",
        "tokensidecar.injection": "injected",
    }


async def test_every_way_in_is_traced(rig: Rig, collector: Collector) -> None:
    upstream = f"https://{API}:{rig.secure.port}"
    listeners = [{"name": "egress"}, {"name": "base", "mode": "reverse", "upstream": upstream}]
    await rig.start(listeners=listeners, routes=[rig.route(intercept=True)], interception=rig.interception(API), **ON)
    await (await rig.client()).ask(post(f"{URL}/forward", b"abc", PARENT))
    await (await rig.client("base")).ask(path("/reverse", PARENT))
    await (await rig.intercepted()).ask(path("/intercepted", PARENT, host=f"{API}:{rig.secure.port}"))
    parents = [request.values("traceparent") for request in rig.secure.requests]
    await rig.stop()
    spans = [*collector.named("POST"), *collector.named("GET")]
    assert [attributes(span)["url.path"] for span in spans] == ["/forward", "/reverse", "/intercepted"]
    assert parents == [[f"00-{TRACE}-{span.span_id.hex()}-01"] for span in spans]


async def test_a_trace_begins_here_where_the_app_has_none(rig: Rig, collector: Collector) -> None:
    await rig.start(**ON)
    await (await rig.client()).ask(get(f"{URL}/", "traceparent: broken", "tracestate: of=nobody"))
    [request] = rig.secure.requests
    await rig.stop()
    [span] = collector.named("GET")
    [parent] = request.values("traceparent")
    assert parent.split("-")[1:3] == [span.trace_id.hex(), span.span_id.hex()]
    assert request.values("tracestate") == []
    assert not span.parent_span_id


async def test_what_is_not_sampled_passes_untouched_and_is_not_told(rig: Rig, collector: Collector) -> None:
    await rig.start(**ON)
    await (await rig.client()).ask(get(f"{URL}/", f"{PARENT[:-2]}00", "tracestate: a=1"))
    [request] = rig.secure.requests
    assert request.values("traceparent") == [f"00-{TRACE}-00f067aa0ba902b7-00"]
    assert request.values("tracestate") == ["a=1"]
    await rig.stop()
    assert collector.named("GET") == []


async def test_requests_that_waited_are_linked_to_the_fetch_and_others_are_not(rig: Rig, collector: Collector) -> None:
    held = asyncio.Event()
    rig.idp.script(Step(hold=held))
    await rig.start_cold(**ON)
    waiting = [await rig.client() for _ in range(2)]
    for client in waiting:
        await client.send(get(f"{URL}/waits"))
    await until(lambda: rig.value("http_requests_in_flight", route="api") == 2, "both are waiting")
    held.set()
    for client in waiting:
        assert (await client.answer()).status == 200
    await waiting[0].ask(get(f"{URL}/warm"))
    await rig.stop()
    [fetch] = collector.named("token fetch")
    assert attributes(fetch)["tokensidecar.credential"] == "orders"
    assert attributes(fetch)["tokensidecar.trigger"] == "startup"
    assert attributes(fetch)["tokensidecar.result"] == "success"
    links = {(attributes(span)["url.path"], link.span_id) for span in collector.named("GET") for link in span.links}
    assert links == {("/waits", fetch.span_id)}


async def test_a_refused_fetch_says_why_and_so_does_the_request(rig: Rig, collector: Collector) -> None:
    rig.idp.always(Step(status=401, fields={"error": "invalid_client"}))
    await rig.start_cold(**ON)
    assert (await (await rig.client()).ask(get(f"{URL}/"))).reason == "token_unavailable"
    await rig.stop()
    fetch, [span] = collector.named("token fetch")[0], collector.named("GET")
    assert attributes(fetch)["tokensidecar.result"] == "invalid_client"
    assert attributes(fetch)["http.response.status_code"] == 401
    assert attributes(span)["error.type"] == "token_unavailable"
    assert attributes(span)["tokensidecar.injection"] == "no_token"


async def test_a_401_that_was_mended_is_one_span_linked_to_the_renewal(rig: Rig, collector: Collector) -> None:
    await rig.start(**ON)
    rig.secure.reply(REFUSED_TOKEN)
    rig.clock.ahead += 60
    assert (await (await rig.client()).ask(get(f"{URL}/", PARENT))).status == 200
    first, second = rig.secure.requests
    assert first.values("traceparent") == second.values("traceparent")
    await rig.stop()
    [span] = collector.named("GET")
    renewal = collector.named("token fetch")[-1]
    assert attributes(renewal)["tokensidecar.trigger"] == "unauthorized"
    assert [link.span_id for link in span.links] == [renewal.span_id]


async def test_an_answer_that_was_cut_off_is_an_error(rig: Rig, collector: Collector) -> None:
    async def cut(request: Request) -> None:
        await request.connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        request.connection.close()

    await rig.start(**ON)
    rig.secure.reply(cut)
    client = await rig.client()
    await client.send(get(f"{URL}/"))
    await client.rest()
    await rig.at_rest()
    await rig.stop()
    [span] = collector.named("GET")
    assert attributes(span)["http.response.status_code"] == 200
    assert attributes(span)["error.type"] in ("reset", "protocol")


async def test_no_secret_leaves_in_a_span(rig: Rig, collector: Collector) -> None:
    await rig.start(**ON)
    client = await rig.client()
    token = rig.idp.issued[-1]
    own = "Authorization: Bearer canary-of-the-app"
    fields = (own, "X-Api-Key: canary-key", "Cookie: canary=1", "baggage: user=canary", "tracestate: canary=1", PARENT)
    await client.ask(post(f"{URL}/hook/{token}/client-secret?access_token=canary-query", b"canary-body", *fields))
    rig.secure.reply(ok(b"canary-answer", "Set-Cookie: canary=2", status="500 canary-phrase"))
    await client.ask(get(f"{URL}/?{token}", *fields))
    rig.idp.script(Step(status=400, fields={"error": "canary", "error_description": "canary-client-secret"}))
    rig.orders.request_refresh()
    await until(lambda: rig.orders.status().last_error is not None, "the refusal has arrived")
    await rig.stop()
    assert len(collector.spans) == 4
    raw = b"".join(request.raw + request.body for request in collector.requests).decode("latin-1")
    for secret in ("canary", token, "client-secret"):
        assert secret not in raw
    assert not TOKEN.search(raw)


async def test_a_collector_that_hangs_holds_up_no_request(
    rig: Rig, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "2")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    release = asyncio.Event()

    async def hang(request: Request) -> None:
        await release.wait()
        await request.connection.send(ok(b""))

    collector.always = hang
    await rig.start(**ON)
    client = await rig.client()
    for _ in range(20):
        assert (await client.ask(get(f"{URL}/"))).status == 200
    assert len(collector.requests) == 1
    release.set()


async def test_a_reload_switches_it_on_and_off(rig: Rig, collector: Collector) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/before"))
    assert await reload(rig, **ON)
    await client.ask(get(f"{URL}/on"))
    assert await reload(rig)
    await client.ask(get(f"{URL}/off"))
    assert await reload(rig, **ON)
    await client.ask(get(f"{URL}/again"))
    await rig.stop()
    assert [attributes(span)["url.path"] for span in collector.named("GET")] == ["/on", "/again"]
    assert [bool(request.values("traceparent")) for request in rig.secure.requests] == [False, True, False, True]


async def test_a_reload_to_a_tracing_that_cannot_be_leaves_everything_as_it_is(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.start()
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    assert not await reload(rig, **ON)
    assert (await (await rig.client()).ask(get(f"{URL}/"))).status == 200
