"""What the status page asks the admin listener for, over real sockets: the file, the data, the stream, the actions."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from sidecar.admin.event_stream import MOST_STREAMS
from sidecar.config import model
from sidecar.config.model import Bind
from tests.admin.conftest import Stage, problem
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_the_page_comes_under_a_policy_of_its_own(stage: Stage) -> None:
    said = await stage.ask("GET", "/", token=None)
    assert (said.status, said.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = said.headers["Content-Security-Policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert {"connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} <= set(policy)
    assert not [each for each in policy if "unsafe" in each or "*" in each]
    assert said.headers["Cache-Control"] == "no-store"
    assert said.headers["X-Content-Type-Options"] == "nosniff"
    assert said.headers["Referrer-Policy"] == "no-referrer"


async def test_a_link_from_elsewhere_may_lead_to_the_page_and_to_nothing_else(stage: Stage) -> None:
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await stage.ask("GET", "/", token=None, **linked)).status == 200
    assert (await stage.ask("GET", "/v1/status", token=None, **linked)).status == 403
    assert (await stage.ask("GET", "/", token=None, Origin="http://evil.example")).status == 403
    assert (await stage.ask("GET", "/", token=None, Host="evil.example")).status == 403


async def test_the_status_is_for_everybody_and_says_whether_there_are_actions(stage: Stage) -> None:
    await stage.run()
    await stage.has_token()
    said = await stage.ask("GET", "/v1/status", token=None)
    assert said.body["about"]["writable"] is True
    assert said.body["now"] == pytest.approx(stage.clock.wall(), abs=5)
    assert [card["name"] for card in said.body["credentials"]] == ["orders"]
    stage.server.token = None
    assert (await stage.ask("GET", "/v1/status", token=None)).body["about"]["writable"] is False


async def events(stream: aiohttp.StreamReader) -> dict[str, Any]:
    """The parts of the next update."""
    async with asyncio.timeout(10):
        while not (line := await stream.readline()).startswith(b"data: "):
            assert line, "the stream ended"
    parts: dict[str, Any] = json.loads(line.removeprefix(b"data: "))["parts"]
    return parts


async def test_a_stream_tells_everything_and_then_what_changes(stage: Stage) -> None:
    await stage.run()
    await stage.has_token()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{stage.server.port}/v1/events") as stream,
    ):
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert stream.headers["Cache-Control"] == "no-store"
        assert (await events(stream.content))["credentials/orders"]["generation"] == 1
        stage.broker.credential("orders").request_refresh()
        while (await events(stream.content)).get("credentials/orders", {}).get("generation") != 2:
            pass
    await until(lambda: not stage.server.events._sinks, "the stream is given up")


async def test_there_is_room_for_some_streams_and_then_503(stage: Stage) -> None:
    url = f"http://127.0.0.1:{stage.server.port}/v1/events"
    async with aiohttp.ClientSession() as session:
        open_streams = [await session.get(url) for _ in range(MOST_STREAMS)]
        assert [each.status for each in open_streams] == [200] * MOST_STREAMS
        said = await stage.ask("GET", "/v1/events", token=None)
        assert (said.status, problem(said)) == (503, "overloaded")
        for each in open_streams:
            each.close()
    await until(lambda: not stage.server.events._sinks, "the streams are given up")
    assert (await stage.ask("HEAD", "/v1/events", token=None)).status == 200


async def test_a_url_is_explained(stage: Stage) -> None:
    stage.facts.configuration = model.Configuration(
        listeners=(model.Listener(name="egress", bind=Bind(host="127.0.0.1", port=6180)),),
        credentials={"orders": model.Credential()},
        routes=(model.Route(host="api.example.com", credential="orders", paths=("/v1/",)),),
    )
    said = await stage.ask("GET", "/v1/explain?method=POST&url=http%3A%2F%2Fapi.example.com%2Fv1%2Fa", token=None)
    assert (said.status, said.body["outcome"], said.body["credential"]) == (200, "token", "orders")
    said = await stage.ask("GET", "/v1/explain?url=http://api.example.com/v2", token=None)
    assert (said.body["outcome"], said.body["reason"]) == ("denied", "route_mismatch")


@pytest.mark.parametrize("query", ["", "?url=", "?url=ftp://a/", "?url=http://a/%00", "?method=&url=/", "?a&b=" * 20])
async def test_what_cannot_be_explained_is_a_problem(stage: Stage, query: str) -> None:
    said = await stage.ask("GET", f"/v1/explain{query}", token=None)
    assert (said.status, problem(said)) == (400, "bad_request")


async def test_a_support_bundle_is_for_whoever_has_the_admin_token(
    stage: Stage, logs: Callable[[str], list[dict[str, Any]]]
) -> None:
    await stage.run()
    assert (await stage.ask("POST", "/v1/support-bundle", token=None)).status == 401
    assert (await stage.ask("GET", "/v1/support-bundle")).status == 405
    said = await stage.ask("POST", "/v1/support-bundle")
    assert (said.status, said.headers["Content-Type"]) == (200, "application/zip")
    assert said.headers["Content-Disposition"].startswith('attachment; filename="token-sidecar-support-')
    assert said.body.startswith(b"PK")
    assert len(logs("support_bundle_given")) == 1
