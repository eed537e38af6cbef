"""Failing on purpose: a script of answers that are wrong, late, broken or never come.

It decides what happens to an answer, not what the answer would have been. Faults with names stand in ``catalogue``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
import struct
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlencode

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.simulation.exchange import Reply


@dataclass(frozen=True, slots=True)
class Step:
    """One scripted answer; what is not given is as it would be without a script.

    Args:
        fields: merged into the JSON of the answer, or into the parameters of a redirect; None takes a field out.
        hold: answer only when this is set.
        delay: answer only after so many seconds.
        fault: ``reset`` closes the connection with RST, ``close`` without a word; ``hang`` never answers; ``drip``
            sends the body byte by byte, for ever.
        commits: do what was asked before holding and failing, so that it is only the answer that is late or lost.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    fields: Mapping[str, object] | None = None
    hold: asyncio.Event | None = None
    delay: float = 0.0
    fault: Literal["reset", "close", "hang", "drip"] | None = None
    commits: bool = False


_AS_USUAL: Final = Step()


@dataclass(slots=True, eq=False)
class Standing:
    """A step that holds for every answer of some endpoints until it is lifted, or for so many answers.

    Args:
        left: how many answers it is good for; None for any number.
    """

    step: Step
    endpoints: frozenset[str]
    left: int | None = None

    @property
    def spent(self) -> bool:
        return self.left == 0


class Faults:
    """The scripts of all endpoints, by name, and the answers that are held back."""

    def __init__(self) -> None:
        self._scripts: defaultdict[str, deque[Step]] = defaultdict(deque)
        self._always: dict[str, Step] = {}
        self._hanging: set[asyncio.Event] = set()
        self._standing: list[Standing] = []

    def script(self, endpoint: str, *steps: Step) -> None:
        self._scripts[endpoint].extend(steps)

    def always(self, endpoint: str, step: Step | None) -> None:
        self._always[endpoint] = step or Step()

    def impose(self, standing: Standing) -> None:
        """Let it hold beside those that hold already; where two say different things, the newer one counts."""
        self._standing.append(standing)

    def lift(self, standing: Standing) -> None:
        """End it, if it has not ended."""
        with contextlib.suppress(ValueError):
            self._standing.remove(standing)

    def release(self) -> None:
        """Let go of everything that hangs."""
        for hanging in self._hanging:
            hanging.set()

    def step(self, endpoint: str) -> Step:
        """The next step of an endpoint's script, and what holds beside it."""
        script = self._scripts[endpoint]
        step = script.popleft() if script else self._always.get(endpoint, _AS_USUAL)
        for standing in [each for each in self._standing if endpoint in each.endpoints]:
            step = _together(step, standing.step)
            if standing.left is not None:
                standing.left -= 1
        self._standing = [each for each in self._standing if not each.spent]
        return step

    async def answer(self, endpoint: str, request: web.BaseRequest, decide: Callable[[], Reply]) -> web.StreamResponse:
        """What ``decide`` says, as the next step has it."""
        step = self.step(endpoint)
        reply = decide() if step.commits else None
        if step.hold is not None:
            await self._until(step.hold)
        if step.delay:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(step.delay):
                    await self._until(asyncio.Event())
        if step.fault is not None:
            return await self._fail(step.fault, request)
        return _response(reply or decide(), step)

    async def _until(self, event: asyncio.Event) -> None:
        """Wait for the event, or for ``release``."""
        self._hanging.add(event)
        try:
            await event.wait()
        finally:
            self._hanging.discard(event)

    async def _fail(self, fault: str, request: web.BaseRequest) -> web.StreamResponse:
        match fault:
            case "hang":
                await self._until(asyncio.Event())
            case "drip":
                await self._drip(request)
            case "reset" if request.transport is not None:
                # No lingering: the kernel sends RST instead of FIN (socket(7), SO_LINGER).
                connection = request.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    async def _drip(self, request: web.BaseRequest) -> None:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        stopped = asyncio.Event()
        self._hanging.add(stopped)
        try:
            while not stopped.is_set() and request.transport is not None:
                await response.write(b" ")
                await asyncio.sleep(0.01)
        except ConnectionError:
            return
        finally:
            self._hanging.discard(stopped)


def _together(step: Step, other: Step) -> Step:
    """Both; of what only one can be, the other's."""
    said = {
        each.name: value
        for each in dataclasses.fields(Step)
        if (value := getattr(other, each.name)) != getattr(_AS_USUAL, each.name)
    }
    if "headers" in said:
        said["headers"] = {**step.headers, **other.headers}
    return dataclasses.replace(step, **said)


def redirect(reply: Reply, step: Step) -> str | None:
    """The URL that an answer sends a browser to, if it does."""
    if reply.location is None:
        return None
    separator = "&" if "?" in reply.location else "?"
    return reply.location + separator + urlencode(_changed(reply, step))


def _response(reply: Reply, step: Step) -> web.Response:
    content_type = "application/json" if reply.page is None else "text/html; charset=utf-8"
    headers = {"Cache-Control": "no-store", "Content-Type": content_type, **reply.headers}
    if (url := redirect(reply, step)) is not None:
        headers["Location"] = url
    body = _body(reply, step) if step.body is None else step.body
    return web.Response(status=step.status or reply.status, headers={**headers, **step.headers}, body=body)


def _body(reply: Reply, step: Step) -> bytes:
    if reply.page is not None:
        return reply.page.encode()
    return b"" if reply.location is not None else json.dumps(_changed(reply, step)).encode()


def _changed(reply: Reply, step: Step) -> dict[str, object]:
    changes = step.fields or {}
    return {
        name: value for name, value in {**reply.fields, **changes}.items() if value is not None or name not in changes
    }
