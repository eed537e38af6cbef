"""Steady load from inside a test, each answer kept with its moment, for tests that ask when a status changed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as the app saw it; instants are ``time.monotonic()``; status 0 is a broken connection."""

    asked_at: float
    at: float
    status: int
    headers: dict[str, str]
    body: str


@dataclass(slots=True)
class Traffic:
    """What came back so far."""

    answers: list[Answer] = field(default_factory=list)

    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.answers)

    def since(self, at: float) -> list[Answer]:
        """Answers to requests sent at or after the instant."""
        return [answer for answer in self.answers if answer.asked_at >= at]


@contextlib.asynccontextmanager
async def steady_traffic(url: str, *, workers: int = 4, every: float = 0.05) -> AsyncIterator[Traffic]:
    """Ask for the URL again and again until the block ends."""
    traffic = Traffic()
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        tasks = [asyncio.create_task(_ask(session, url, traffic, every)) for _ in range(workers)]
        try:
            yield traffic
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _ask(session: aiohttp.ClientSession, url: str, traffic: Traffic, every: float) -> None:
    while True:
        asked_at = time.monotonic()
        try:
            async with session.get(url) as answer:
                body = await answer.text()
                status, headers = answer.status, dict(answer.headers)
        except aiohttp.ClientError as exc:
            status, headers, body = 0, {}, repr(exc)
        traffic.answers.append(Answer(asked_at, time.monotonic(), status, headers, body))
        await asyncio.sleep(every)
