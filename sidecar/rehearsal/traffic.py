"""The requests of an app that knows nothing: so many a second to each route, through the proxy, each one's end noted.

It opens no gap behind a slow answer: requests leave at their moments, whatever became of those before them.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

import aiohttp

from sidecar.rehearsal.scenario import NO_ANSWER, UPSTREAM_401
from sidecar.rehearsal.timeline import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.rehearsal.arrangement import Call
    from sidecar.rehearsal.timeline import Timeline
    from sidecar.runtime import Clock, Tasks

PROBLEM: Final = "application/problem+json"


async def traffic(
    calls: Sequence[Call],
    *,
    proxy: str,
    rate: float,
    seconds: float,
    patience: float,
    timeline: Timeline,
    clock: Clock,
    tasks: Tasks,
) -> None:
    """Send it, and return when the last answer is there.

    Args:
        rate: requests a second to each of ``calls``.
        seconds: for so long.
        patience: how long an answer is waited for.
    """
    timeout = aiohttp.ClientTimeout(total=patience)
    under_way: set[asyncio.Task[None]] = set()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        began_at = clock.now()
        for number in range(int(rate * seconds)):
            await clock.sleep_until(began_at + number / rate)
            for call in calls:
                task = tasks.spawn(f"request to {call.route}", _request(session, call, proxy, timeline))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        if under_way:
            await asyncio.wait(under_way)


async def _request(session: aiohttp.ClientSession, call: Call, proxy: str, timeline: Timeline) -> None:
    at = timeline.now()
    try:
        async with session.request(call.method, call.url, proxy=proxy) as response:
            body = await response.read()
            reason = None if response.status == 200 else _reason(response, body)
            timeline.came_to(Outcome(at, call.route, response.status, reason))
    except (aiohttp.ClientError, TimeoutError, OSError):
        timeline.came_to(Outcome(at, call.route, 0, NO_ANSWER))


def _reason(response: aiohttp.ClientResponse, body: bytes) -> str:
    """The word of the sidecar's own answer; else it is the API's."""
    if response.content_type != PROBLEM:
        return UPSTREAM_401 if response.status == 401 else f"upstream_{response.status}"
    try:
        return str(json.loads(body)["reason"])
    except (ValueError, KeyError, TypeError):
        return f"status_{response.status}"
