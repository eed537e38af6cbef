"""Bursts: a thousand first requests without a token, and ten thousand in flight whose token was revoked.

``python -m benchmarks.bursts [--write]``. Both promise the same: one token request, and no app that notices. The
sidecar is a process on a core of its own; provider, origin and apps run in one event loop on the other, with real
sockets between all of them (``soaks.stage``).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib.metadata
import itertools
import os
import resource
import signal
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from benchmarks.machine import this_machine
from benchmarks.peers import sidecar_version
from benchmarks.processes import Core
from benchmarks.report import Target, between_markers
from benchmarks.scenarios import Upstream
from benchmarks.soaks import content, report
from benchmarks.soaks.client import Ask, Broken, Connection
from benchmarks.soaks.origin import UNAUTHORIZED
from benchmarks.soaks.report import Outcome
from benchmarks.soaks.stage import SoakFailed, Subject, bind_to, open_stage, transport_name
from sidecar.simulation.idp import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.soaks.origin import Exchange
    from benchmarks.soaks.stage import Stage

PAGE: Final = Path(__file__).parent.parent / "docs" / "benchmarks.md"
SECTION: Final = "bursts"
FIRST_REQUESTS: Final = 1_000
REVOKED_REQUESTS: Final = 10_000
REVOKED_REQUESTS_TLS: Final = 1_000
SPARE_DESCRIPTORS: Final = 100
DIAL_TOGETHER: Final = 250
IN_FLIGHT_SECONDS: Final = 30.0
SIZES: Final = (None, 0, 100, None, 5_000)
"""Of the bodies, by turns; None: a GET."""


class Revoked:
    """Refuses one token, but only when so many requests with it have arrived; echoes the others.

    Args:
        refused: the token; None refuses nothing.

    Attributes:
        held: those that waited for each other.
        refusals_at: when they were answered.
    """

    def __init__(self, refused: bytes | None = None, count: int = 0) -> None:
        self.held: list[Exchange] = []
        self.refused_later = 0
        self.refusals_at = 0.0
        self._refused = refused
        self._count = count

    def begins(self, exchange: Exchange) -> None:
        """Nothing to do before its end."""

    def continues(self, exchange: Exchange, data: bytes) -> None:
        exchange.body.append(data)

    def ends(self, exchange: Exchange) -> None:
        if exchange.fields[b"authorization"] != self._refused:
            exchange.answer(b"".join(exchange.body))
        elif self.refusals_at:
            self.refused_later += 1
            exchange.answer(b"revoked", status="401 Unauthorized", fields=UNAUTHORIZED)
        else:
            self._hold(exchange)

    def _hold(self, exchange: Exchange) -> None:
        self.held.append(exchange)
        if len(self.held) == self._count:
            self.refusals_at = time.monotonic()
            for each in self.held:
                each.answer(b"revoked", status="401 Unauthorized", fields=UNAUTHORIZED)


def asks(path: str, count: int) -> Iterator[Ask]:
    """GETs, and POSTs with small bodies."""
    for size in itertools.islice(itertools.cycle(SIZES), count):
        yield Ask(path) if size is None else Ask(path, "POST", size=size)


def token_requests(stage: Stage, upstream: Upstream) -> int:
    """How often the credential of that upstream has asked for a token."""
    return sum(client_of(each.headers["authorization"]) == upstream.value for each in stage.idp.token_requests)


def client_of(authorization: str) -> str:
    """The client's id in HTTP Basic."""
    return base64.b64decode(authorization.partition(" ")[2]).decode().partition(":")[0]


async def dial(port: int, count: int) -> list[Connection]:
    """So many connections to the sidecar."""
    made: list[Connection] = []
    while len(made) < count:
        together = min(DIAL_TOGETHER, count - len(made))
        made += await asyncio.gather(*(Connection.to(port) for _ in range(together)))
    return made


async def ask_all(connections: Sequence[Connection], path: str) -> asyncio.Future[list[str]]:
    """Send one request on each, all in one turn of the loop; to come is what became of each, in a word."""
    wanted = list(asks(path, len(connections)))
    for connection, ask in zip(connections, wanted, strict=True):
        connection.begin(ask)
        connection.write(ask.wire())
    return asyncio.gather(*(heard(one, ask) for one, ask in zip(connections, wanted, strict=True)))


async def heard(connection: Connection, ask: Ask) -> str:
    """``200``, another status, ``another body`` than was sent, or how the connection ended."""
    try:
        answer = await connection.answer()
    except Broken as exc:
        return str(exc)
    if answer.status == 200 and answer.body != content.body(ask.size or 0):
        return "another body"
    return str(answer.status)


async def in_flight(subject: Subject, upstream: Upstream, count: int) -> None:
    """Return when the sidecar has so many requests in work.

    Raises:
        SoakFailed: it does not come to that.
    """
    deadline = time.monotonic() + IN_FLIGHT_SECONDS
    while await subject.metric("tokensidecar_http_requests_in_flight", route=upstream.value) != count:
        if time.monotonic() > deadline:
            raise SoakFailed(f"there were never {count} requests in flight")
        await asyncio.sleep(0.05)


# --- the bursts ------------------------------------------------------------------------------------------------------


async def first_requests(upstream: Upstream, count: int) -> Outcome:
    """All of them are there before the provider answers the one token request."""
    release = asyncio.Event()
    async with open_stage(quick=False) as stage:
        stage.origins[upstream].serve("echo", Revoked())
        stage.idp.always(Step(hold=release))
        async with stage.sidecar(cold=True) as subject:
            connections = await dial(subject.ports[upstream], count)
            answers = await ask_all(connections, "/echo")
            await in_flight(subject, upstream, count)
            began = time.monotonic()
            release.set()
            said = Counter(await answers)
            seconds = time.monotonic() - began
            asked = token_requests(stage, upstream)
            close(connections)
    name = transport_name(upstream)
    return Outcome(
        "first requests",
        (
            Target(f"token requests for {count:,} first requests at once, {name}", "", 1, asked),
            Target(f"of these {count:,}, not answered 200 with their own body", "", 0, count - said["200"]),
        ),
        (f"{name}: from the token to the last answer {seconds:.2f} s; answers: {words(said)}.",),
    )


async def revoked_token(upstream: Upstream, count: int) -> Outcome:
    """All of them have reached the origin before it refuses the first."""
    limits = {"connections": count + 50, "upstream_connections": count + 50, "pending": count}
    async with open_stage(quick=False) as stage, stage.sidecar(limits=limits) as subject:
        token = next(each for each in reversed(stage.idp.issued) if f"-{upstream.value}-" in each)
        application = Revoked(f"Bearer {token}".encode(), count)
        stage.origins[upstream].serve("echo", application)
        before = token_requests(stage, upstream)
        connections = await dial(subject.ports[upstream], count)
        said = Counter(await (await ask_all(connections, "/echo")))
        seconds = time.monotonic() - application.refusals_at
        asked = token_requests(stage, upstream) - before
        recovered = await subject.metric(
            "tokensidecar_upstream_unauthorized_total", route=upstream.value, outcome="recovered"
        )
        rss = subject.rss()
        close(connections)
    name = transport_name(upstream)
    facts = (
        f"{name}: {len(application.held):,} held at the origin, {application.refused_later:,} refused later",
        f"{recovered or 0:,.0f} recovered, from the refusals to the last answer {seconds:.2f} s",
        f"RSS {rss:.0f} MiB with {count:,} connections on either side",
        f"answers: {words(said)}.",
    )
    return Outcome(
        "revoked token",
        (
            Target(f"token requests for {count:,} refusals at once, {name}", "", 1, asked),
            Target(f"of these {count:,}, 401 for the app", "", 0, said["401"]),
            Target(f"of these {count:,}, not answered 200 with their own body", "", 0, count - said["200"]),
        ),
        ("; ".join(facts),),
    )


def close(connections: Sequence[Connection]) -> None:
    for connection in connections:
        connection.close()


def words(said: Counter[str]) -> str:
    """What became of the requests, the commonest first."""
    return ", ".join(f"{what}: {count:,}" for what, count in said.most_common())


def most_at_once(wanted: int) -> int:
    """As many as each end can have connections on both sides, within the system's limit of descriptors."""
    return min(wanted, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE_DESCRIPTORS) // 2)


async def everything() -> list[Outcome]:
    """One after the other."""
    done = []
    for burst in (
        first_requests(Upstream.PLAIN, FIRST_REQUESTS),
        first_requests(Upstream.TLS, FIRST_REQUESTS),
        revoked_token(Upstream.PLAIN, most_at_once(REVOKED_REQUESTS)),
        revoked_token(Upstream.TLS, REVOKED_REQUESTS_TLS),
    ):
        began = time.monotonic()
        done.append(replace(await burst, seconds=time.monotonic() - began))
    return done


def main(argv: Sequence[str]) -> int:
    """Carry them out; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bursts", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    chosen = parser.parse_args(argv)
    bind_to(os.getpid(), Core.LOAD)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: nothing stays behind
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcomes = runner.run(everything())
    load = f"a generator of its own on uvloop {importlib.metadata.version('uvloop')}"
    text = report.full(this_machine([sidecar_version()], load=load), outcomes, kind="Burst")
    print(text)
    if chosen.write:
        PAGE.write_text(between_markers(PAGE.read_text(), text, section=SECTION))
    return 0 if all(outcome.succeeded for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
