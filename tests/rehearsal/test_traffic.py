"""Requests leave at their moments, and each one's end is noted with its reason."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from sidecar.rehearsal.arrangement import Call
from sidecar.rehearsal.timeline import Timeline
from sidecar.rehearsal.traffic import traffic
from sidecar.runtime import SystemClock, Tasks
from tests.end_to_end.waiting import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ANSWERS: dict[str, Callable[[], web.Response]] = {
    "/good": web.Response,
    "/problem": lambda: web.Response(
        status=503, text=json.dumps({"reason": "token_unavailable"}), content_type="application/problem+json"
    ),
    "/odd": lambda: web.Response(status=503, text="[]", content_type="application/problem+json"),
    "/refused": lambda: web.Response(status=401, text="{}", content_type="application/json"),
    "/broken": lambda: web.Response(status=500),
}


@pytest.fixture
async def proxy() -> AsyncIterator[str]:
    """Answers by the path; a target in absolute form has it too."""

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        return ANSWERS[request.path]()

    runner = web.ServerRunner(web.Server(serve, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def sent(proxy: str, *paths: str, rate: float = 50, seconds: float = 0.1) -> Timeline:
    clock, crashed = SystemClock(), []
    tasks = Tasks(lambda _, error: crashed.append(error))
    timeline = Timeline(clock.now)
    calls = [Call(path, "GET", f"http://api.test{path}") for path in paths]
    await traffic(
        calls, proxy=proxy, rate=rate, seconds=seconds, patience=20, timeline=timeline, clock=clock, tasks=tasks
    )
    assert not crashed
    assert not len(tasks)
    return timeline


async def test_each_route_gets_its_rate_and_each_answer_its_reason(proxy: str) -> None:
    timeline = await sent(proxy, *ANSWERS)
    assert Counter((outcome.route, outcome.status, outcome.reason) for outcome in timeline.outcomes) == {
        ("/good", 200, None): 5,
        ("/problem", 503, "token_unavailable"): 5,
        ("/odd", 503, "status_503"): 5,
        ("/refused", 401, "upstream_401"): 5,
        ("/broken", 500, "upstream_500"): 5,
    }


async def test_no_answer_is_an_end_too() -> None:
    timeline = await sent(f"http://127.0.0.1:{free_port()}", "/good")
    assert {(outcome.status, outcome.reason) for outcome in timeline.outcomes} == {(0, "no_answer")}


async def test_a_rate_below_one_request_sends_none(proxy: str) -> None:
    assert not (await sent(proxy, "/good", rate=1, seconds=0.5)).outcomes
