"""One fetch at a time, detached from whoever waits for it.

Decides what an attempt comes to: a token, or one of our errors, also when it has a bug, never ends, or brings a token
that expired on its way. Keeps the endpoint's breaker informed of what is under way. Leaves the consequences to
``credential``.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from sidecar.errors import (
    InternalError,
    SidecarError,
    TerminalTokenError,
    TokenMalformed,
    TokenTimeout,
    TransientTokenError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.broker.breaker import Breaker
    from sidecar.broker.source import Source
    from sidecar.oauth.token import Token
    from sidecar.runtime import Clock, Tasks

REQUESTS_AN_ATTEMPT: Final = 14
"""Two metadata addresses, then with the new secret and the old one each: a request, the same with the server's nonce,
and one that impersonates; all of it by either clock. So much an attempt can take, each with its own deadline."""


class Fetch:
    """The fetches of one credential.

    Args:
        on_end: told the outcome of each; whether that outcome closed the endpoint's open breaker comes second.
    """

    __slots__ = ("_breaker", "_clock", "_closed", "_name", "_on_end", "_sent_before", "_task", "_tasks", "began_at")

    def __init__(
        self,
        name: str,
        *,
        breaker: Breaker,
        clock: Clock,
        tasks: Tasks,
        on_end: Callable[[Token | SidecarError, bool], None],
    ) -> None:
        self._name = name
        self._breaker = breaker
        self._clock = clock
        self._tasks = tasks
        self._on_end = on_end
        self._task: asyncio.Task[Token | SidecarError] | None = None
        self._sent_before = 0
        self._closed = False
        self.began_at = math.inf

    @property
    def under_way(self) -> bool:
        return self._task is not None

    def begin(self, source: Source) -> None:
        """Ask the source for a token; the outcome goes to ``on_end``."""
        self.began_at = self._clock.now()
        self._sent_before = source.requests_sent
        self._breaker.begin()
        self._task = self._tasks.spawn(self._name, _attempt(source))
        self._task.add_done_callback(lambda task: self._end(task, source))

    def abandon_if_hung(self, request_seconds: float) -> None:
        """Give it up when it has taken longer than the deadlines of all its requests.

        Those deadlines are the event loop's and stand still with it; this looks at the clock that does not.
        """
        if self._task is not None and self._clock.now() > self.began_at + REQUESTS_AN_ATTEMPT * request_seconds:
            self._task.cancel()

    def _end(self, task: asyncio.Task[Token | SidecarError], source: Source) -> None:
        now = self._clock.now()
        self._task = None
        self._breaker.end(now)
        if self._closed:
            return
        outcome = _outcome(task, now)
        self._on_end(outcome, self._tell_breaker(outcome, now, source.requests_sent - self._sent_before))

    def _tell_breaker(self, outcome: Token | SidecarError, now: float, requests: int) -> bool:
        """Whether the outcome closed the open breaker. A failure before any request says nothing about the endpoint."""
        if isinstance(outcome, SidecarError):
            self._breaker.charge(now, requests)
        if isinstance(outcome, TransientTokenError) and requests:
            self._breaker.failed(now)
        answered = isinstance(outcome, TerminalTokenError) or not isinstance(outcome, SidecarError)
        return answered and self._breaker.answered()

    async def close(self) -> None:
        """End what is under way; ``on_end`` hears nothing of it."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


async def _attempt(source: Source) -> Token | SidecarError:
    try:
        return await source.fetch()
    except SidecarError as exc:
        return exc


def _outcome(task: asyncio.Task[Token | SidecarError], now: float) -> Token | SidecarError:
    if task.cancelled():
        return TokenTimeout("the attempt did not end by itself and was given up")
    if (crash := task.exception()) is not None:
        return InternalError(f"unexpected {type(crash).__name__}")
    outcome = task.result()
    if not isinstance(outcome, SidecarError) and outcome.sent_at + outcome.lifetime <= now:
        return TokenMalformed("the token had expired before the answer arrived")
    return outcome
