"""Every fault an upstream can have, over each transport and by each way in: what the app is told, and what is left.

After each, the upstream connection that had the fault is never used again, and the next request is served.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from tests.end_to_end.waiting import until
from tests.proxy.raw_origin import Connection, Origin, Request, ok
from tests.proxy.rig import API, Trust
from tests.security.ways import WAYS, Site, Way

if TYPE_CHECKING:
    import ssl

    from tests.proxy.conftest import Logs
    from tests.proxy.raw_client import Answer, RawClient
    from tests.proxy.rig import Rig

NOW: Final = datetime.datetime.now(datetime.UTC)
DRIP_SECONDS: Final = 0.02
"""Between two bytes of an answer that drips."""


# --- what can become of a request -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer of the sidecar's own, with this reason, which the metric counts, too."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The upstream's answer, broken off so that nobody takes it for whole; the metric counts the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Whole:
    """The upstream's answer with this body, and nothing counted."""

    body: bytes = b"hello"


# --- the faults -------------------------------------------------------------------------------------------------------

Behaviour = Callable[[Connection, asyncio.Event], Awaitable[None]]
"""What an upstream does; the event is set when the app has read what it can: the head, or the whole answer."""
Certificate = Callable[[Trust, Trust], "ssl.SSLContext"]
PLAIN, TLS = "plain", "TLS"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which an upstream fails.

    Attributes:
        transports: what it makes sense on.
        below: what is done with a TCP connection, before any TLS; None leaves it to the following.
        answer: what is done after a request's head was read.
        certificate: instead of a good one, from the routes' CA and a stranger's.
        kept: it happens to a connection that has served a request before.
        listens: there is somebody to connect to.
    """

    name: str
    outcome: Refused | Broken | Whole
    answer: Behaviour | None = None
    below: Behaviour | None = None
    transports: tuple[str, ...] = (PLAIN, TLS)
    certificate: Certificate | None = None
    limits: dict[str, str] = field(default_factory=dict)
    kept: bool = False
    listens: bool = True


def sends(data: bytes, *, then: Callable[[Connection], None]) -> Behaviour:
    async def act(connection: Connection, seen: asyncio.Event) -> None:
        await connection.send(data)
        then(connection)

    return act


def begins(data: bytes, rest: bytes = b"", *, then: Callable[[Connection], None]) -> Behaviour:
    """The rest only when the app has seen the beginning, so that there is no way back."""

    async def act(connection: Connection, seen: asyncio.Event) -> None:
        await connection.send(data)
        await seen.wait()
        await connection.send(rest)
        then(connection)

    return act


async def reset(connection: Connection, seen: asyncio.Event) -> None:
    connection.reset()


async def nothing(connection: Connection, seen: asyncio.Event) -> None:
    await connection.read_to_the_end()


async def reset_in_the_handshake(connection: Connection, seen: asyncio.Event) -> None:
    await connection.reader.readexactly(5)
    connection.reset()


async def alert(connection: Connection, seen: asyncio.Event) -> None:
    """handshake_failure, as a server says it that likes none of the ciphers (RFC 8446 section 6)."""
    await connection.reader.readexactly(5)
    await connection.send(b"\x15\x03\x03\x00\x02\x02\x28")
    await connection.read_to_the_end()


async def drip(connection: Connection, seen: asyncio.Event) -> None:
    """A head that comes byte by byte, and would take for ever."""
    gone = asyncio.ensure_future(connection.read_to_the_end())
    try:
        await connection.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not gone.done() and not connection.writer.is_closing():
            connection.writer.write(b"x")
            await asyncio.wait((gone,), timeout=DRIP_SECONDS)
    finally:
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)


async def stall(connection: Connection, seen: asyncio.Event) -> None:
    await connection.send(ok(b"hello")[:-2])
    await connection.read_to_the_end()


async def surplus(connection: Connection, seen: asyncio.Event) -> None:
    await connection.send(ok(b"hello") + ok(b"poison"))
    await connection.read_to_the_end()


async def chatter(connection: Connection, seen: asyncio.Event) -> None:
    """An answer, and when it has been taken, another one that nobody asked for."""
    await connection.send(ok(b"hello"))
    await seen.wait()
    await connection.send(ok(b"poison"))
    await connection.read_to_the_end()


HEAD: Final = b"HTTP/1.1 200 OK\r\n"
LENGTH: Final = HEAD + b"Content-Length: 10\r\n\r\nhello"
CHUNKS: Final = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
OPEN_END: Final = HEAD + b"\r\nhello"
FIN, CUT, RST = Connection.close, Connection.cut, Connection.reset
RESET: Final = Refused(502, "reset")
TIMEOUT: Final = Refused(504, "timeout")
UNVERIFIED: Final = Refused(502, "tls")
GARBAGE: Final = Refused(502, "protocol")
SHORT_CONNECT: Final = {"connect": "300ms"}
SHORT_ANSWER: Final = {"first_byte": "300ms"}

FAULTS: Final = (
    Fault("the connection is refused", Refused(502, "connect"), listens=False),
    Fault("a reset right after the accept", RESET, below=reset),
    Fault("a reset in the TLS handshake", RESET, below=reset_in_the_handshake, transports=(TLS,)),
    Fault("a reset after the request's head", RESET, reset),
    Fault("an end after the request's head", RESET, sends(b"", then=FIN)),
    Fault("a reset in the answer's head", RESET, sends(HEAD, then=RST)),
    Fault("an end in the answer's head", RESET, sends(HEAD, then=FIN)),
    Fault("a reset in the answer's body", Broken("reset"), begins(LENGTH, then=RST)),
    Fault("a black hole", TIMEOUT, below=nothing, transports=(PLAIN,), limits=SHORT_ANSWER),
    Fault("a black hole instead of TLS", TIMEOUT, below=nothing, transports=(TLS,), limits=SHORT_CONNECT),
    Fault("a black hole behind TLS", TIMEOUT, nothing, transports=(TLS,), limits=SHORT_ANSWER),
    Fault("an alert instead of TLS", UNVERIFIED, below=alert, transports=(TLS,)),
    Fault("an end instead of TLS", RESET, below=sends(b"", then=FIN), transports=(TLS,)),
    Fault("plain HTTP instead of TLS", UNVERIFIED, below=sends(ok(), then=FIN), transports=(TLS,)),
    Fault("a certificate of another CA", UNVERIFIED, certificate=lambda _, other: other.server(API), transports=(TLS,)),
    Fault(
        "a certificate for another name", UNVERIFIED, certificate=lambda ca, _: ca.server("x.test"), transports=(TLS,)
    ),
    Fault(
        "a certificate that has expired",
        UNVERIFIED,
        certificate=lambda ca, _: ca.server(API, not_after=NOW - datetime.timedelta(hours=1)),
        transports=(TLS,),
    ),
    Fault("a body shorter than its length", Broken("reset"), begins(LENGTH, then=FIN)),
    Fault(
        "a body shorter than its length, cut below TLS", Broken("reset"), begins(LENGTH, then=CUT), transports=(TLS,)
    ),
    Fault("a chunked body without its last chunk", Broken("reset"), begins(CHUNKS, then=FIN)),
    Fault("a chunked body that ends in a chunk", Broken("reset"), begins(CHUNKS, b"5\r\nhe", then=FIN)),
    Fault("a chunked body without its last chunk, reset", Broken("reset"), begins(CHUNKS, then=RST)),
    Fault("a chunked body with a size that is none", Broken("protocol"), begins(CHUNKS, b"x\r\n", then=FIN)),
    Fault("a body that the close ends", Whole(), sends(OPEN_END, then=FIN)),
    Fault("a body that the close would end, reset", Broken("reset"), begins(OPEN_END, then=RST)),
    Fault(
        "a body that the close would end, cut below TLS", Broken("reset"), begins(OPEN_END, then=CUT), transports=(TLS,)
    ),
    Fault("a head that drips", TIMEOUT, drip, limits=SHORT_ANSWER),
    Fault("a body that stalls", Broken("timeout"), stall, limits={"response_idle": "300ms"}),
    Fault("garbage instead of a status line", GARBAGE, sends(b"nonsense\r\n\r\n", then=FIN)),
    Fault(
        "two framings", GARBAGE, sends(LENGTH.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"), then=FIN)
    ),
    Fault(
        "a switch of protocols that nobody asked for", GARBAGE, sends(HEAD.replace(b"200", b"101") + b"\r\n", then=FIN)
    ),
    Fault("more bytes than the answer has", Whole(), surplus),
    Fault("an answer that nobody asked for", Whole(), chatter),
    Fault("a kept connection that ends under the request", Whole(b"GET /fault 0"), sends(b"", then=FIN), kept=True),
    Fault("a kept connection that is reset under the request", Whole(b"GET /fault 0"), reset, kept=True),
    Fault("a kept connection that is reset in the answer's head", RESET, sends(HEAD, then=RST), kept=True),
)
CASES: Final = [
    pytest.param(fault, transport, way, id=f"{fault.name} - {transport} - {way.name}")
    for fault in FAULTS
    for transport in fault.transports
    for way in WAYS
]


# --- the matrix -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Upstream:
    """An origin with a fault, that is mended afterwards."""

    origin: Origin
    fault: Fault
    good: ssl.SSLContext | None
    seen: asyncio.Event = field(default_factory=asyncio.Event)

    async def break_it(self, other: Trust, trust: Trust) -> None:
        """From now on it has the fault."""
        origin, fault = self.origin, self.fault
        if not fault.listens:
            await origin.stop()
        elif fault.below is not None or fault.certificate is not None:
            await self._restart(fault.certificate(trust, other) if fault.certificate is not None else None)
            origin.instead_of_http = self._below if fault.below is not None else None
        else:
            origin.reply(self._answer)

    async def _answer(self, request: Request) -> None:
        assert self.fault.answer is not None
        await self.fault.answer(request.connection, self.seen)
        await request.connection.read_to_the_end()

    async def _below(self, connection: Connection) -> None:
        assert self.fault.below is not None
        await self.fault.below(connection, self.seen)

    async def mend(self) -> None:
        """It is well again, on the same port."""
        if self.origin.tls is not self.good or self.origin.instead_of_http is not None or not self.fault.listens:
            await self._restart(self.good)

    async def _restart(self, tls: ssl.SSLContext | None) -> None:
        await self.origin.stop()
        self.origin.tls, self.origin.instead_of_http = tls, None
        await self.origin.start()


@pytest.mark.parametrize(("fault", "transport", "way"), CASES)
async def test_a_fault_is_told_once_counted_once_and_over(
    rig: Rig, logs: Logs, fault: Fault, transport: str, way: Way
) -> None:
    good = rig.trust.server(API) if transport == TLS else None
    async with Origin(good) as origin:
        upstream = Upstream(origin, fault, good)
        site = Site(rig, origin.port, transport == TLS, fault.limits)
        await way.start(site)
        client = await way.open(site)
        if fault.kept:
            assert (await client.ask(way.request(site, "/before"))).status == 200
        await upstream.break_it(Trust.found(rig.folder, "stranger"), rig.trust)
        await client.send(way.request(site, "/fault"))
        answer = await outcome(client, fault.outcome, upstream.seen)
        await counted(rig, fault.outcome, answered=1 + fault.kept)
        faulty = origin.connections[:1] if fault.kept else list(origin.connections)
        await spent(rig, fault)
        site.unhurried()
        await upstream.mend()
        await next_is_served(site, way, client if answer and answer.value("Connection") != "close" else None)
        assert not [
            request for request in origin.requests if request.target == "/next" and request.connection in faulty
        ]
        await rig.at_rest()
    assert [logs(event) for event in ("request_crashed", "task_crashed", "loop_error")] == [[], [], []]


async def outcome(client: RawClient, expected: Refused | Broken | Whole, seen: asyncio.Event) -> Answer | None:
    """Read what comes, and see that it is what was expected; None if it was broken off."""
    if isinstance(expected, Broken):
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        seen.set()
        body, clean = await client.rest()
        assert not clean
        assert not body.endswith(b"0\r\n\r\n")
        return None
    answer = await client.answer()
    seen.set()
    if isinstance(expected, Refused):
        assert (answer.status, answer.reason) == (expected.status, expected.reason)
    else:
        assert (answer.status, answer.body, answer.is_own) == (200, expected.body, False)
    return answer


async def counted(rig: Rig, expected: Refused | Broken | Whole, *, answered: int) -> None:
    """One error with its reason, or none; and every request by its status."""
    reason = "" if isinstance(expected, Whole) else expected.reason
    status = str(expected.status) if isinstance(expected, Refused) else "200"
    await rig.at_rest()
    assert rig.total("upstream_errors_total", route="api") == bool(reason)
    if reason:
        assert rig.value("upstream_errors_total", route="api", reason=reason) == 1
    assert rig.total("http_requests_total", route="api", method="GET") == answered
    assert rig.value("http_requests_total", route="api", method="GET", code=status) >= 1


async def spent(rig: Rig, fault: Fault) -> None:
    """The connection with the fault is gone; the second one of a request that was sent twice may be kept."""
    pool = rig.sidecar.gateway.pool
    left = 1 if fault.kept and isinstance(fault.outcome, Whole) else 0
    await until(lambda: len(pool._all) == left, f"{left} upstream connections are left")


async def next_is_served(site: Site, way: Way, client: RawClient | None) -> None:
    """On the same connection, if it is one that goes on."""
    if client is None:
        client = await way.open(site)
    answer = await client.ask(way.request(site, "/next"))
    assert (answer.status, answer.body) == (200, b"GET /next 0")


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(isinstance(fault.outcome, Refused | Broken | Whole) for fault in FAULTS)
