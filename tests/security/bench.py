"""The bench: bytes in at one end, every byte out at the other, and a sentinel after each case.

A case says what a client sends, what it must get, and which bytes must leave for the origin; everything between is the
real sidecar on real sockets. It is run whole, byte by byte, and split in two at every boundary, and after each run

- what reached the origin is compared byte for byte, and nothing else may have reached anybody;
- the answers are counted: not one more comes than was expected;
- a sentinel request gets its own answer, on the same connection if that goes on, on a new one if it had to end;
- the token was seen by its own origin, and by nobody else, the client included;
- an answer of the sidecar's own says so, with its status and its reason.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.proxy.raw_client import Answer, RawClient, get, path
from tests.proxy.rig import API

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.proxy.raw_origin import Reply, Request
    from tests.proxy.rig import Rig
    from tests.security.recording import RecordingOrigin

URL: Final = f"http://{API}"
KEEPING: Final = "keeping.example.test"
"""A route that keeps the app's own Authorization."""
REJECTING: Final = "rejecting.example.test"
"""A route that refuses it."""
PREFIXED: Final = "prefixed.example.test"
"""A route for what is below /v1/ only."""
SHORT: Final = 300
"""Up to so many bytes an input is split at each of them; beyond, near the ends of its lines."""
NEAR: Final = 2
MOST_SPLITS: Final = 120
"""Of an input with very many lines only some ends are tried."""
TURNS: Final = 3
"""Of the event loop between two pieces: one writes, the next one reads; ``test_bench`` looks whether they do."""


@dataclass(frozen=True, slots=True)
class Gets:
    """An answer as the client must get it.

    Attributes:
        reason: of an answer that the sidecar makes itself; None for the origin's.
        body: None leaves it open.
        has: complete field lines that stand in it.
        lacks: names of fields that do not.
        head_only: it answers a HEAD.
    """

    status: int
    body: bytes | None = None
    reason: str | None = None
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    interim: tuple[int, ...] = ()
    head_only: bool = False

    def check(self, answer: Answer) -> None:
        assert answer.status == self.status, answer
        assert answer.interim == list(self.interim), answer
        assert answer.is_own == (self.reason is not None), answer
        if self.reason is not None and not self.head_only:
            assert answer.reason == self.reason, answer
        if self.body is not None:
            assert answer.body == self.body, answer
        lines = answer.head.decode("latin-1").split("\r\n")
        for line in self.has:
            assert line in lines, f"no {line!r} in {answer.head!r}"
        for name in self.lacks:
            assert not answer.values(name), f"{name} in {answer.head!r}"


@dataclass(frozen=True, slots=True)
class Leaves:
    """A request as it must leave.

    Attributes:
        start: method and target.
        lines: the end-to-end field lines in their order.
        body: what follows the head, without framing.
        chunked: the body goes in chunks; else by its length, unless it is None.
        expects: ``Expect: 100-continue`` leaves too.
        upgrade: the protocol that is offered to the origin.
        hops: what leaves as Max-Forwards.
        own: the app's own Authorization line instead of the token's; empty for none at all.
        host: the origin's name, if it is another one of its names.
        whole: False for a request that breaks off: it may have begun, and must never look complete.
    """

    start: str
    lines: tuple[str, ...] = ()
    body: bytes | None = None
    chunked: bool = False
    expects: bool = False
    upgrade: str | None = None
    hops: int | None = None
    own: str | None = None
    host: str | None = None
    whole: bool = True


def leaves(start: str, *lines: str, **rest: Any) -> Leaves:
    return Leaves(start, lines, **rest)


def served(start: str, length: int = 0, **rest: Any) -> Gets:
    """The answer of the origin that tells which request it belongs to."""
    return Gets(200, f"{start} {length}".encode(), **rest)


def refused(status: int, reason: str, **rest: Any) -> Gets:
    return Gets(status, None, reason, **rest)


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent, and all that must come of it.

    Attributes:
        ends: the client's connection ends after the answers; cleanly.
        replies: what the origin does, before it answers by itself again.
        listener: where it is sent.
        tail: bytes sent in any case in one piece with the end of ``sent``: a smuggled request, a large body.
        lead: bytes sent in one piece with the beginning of ``sent``: what other cases have cut up.
        splits: False where the pieces are the matter of the case itself.
    """

    sent: bytes
    gets: tuple[Gets, ...]
    leaves: tuple[Leaves, ...] = ()
    ends: bool = False
    replies: tuple[Reply, ...] = ()
    listener: str = "egress"
    tail: bytes = b""
    lead: bytes = b""
    splits: bool = True

    def variants(self) -> Iterator[list[bytes]]:
        """Whole, byte by byte, and split at every boundary."""
        lead, sent, tail = self.lead, self.sent, self.tail
        yield [lead + sent + tail]
        if not self.splits:
            return
        if 1 < len(sent) <= 4 * SHORT:
            single = [sent[at : at + 1] for at in range(len(sent))]
            yield [lead + single[0], *single[1:-1], single[-1] + tail]
        for at in boundaries(sent):
            yield [lead + sent[:at], sent[at:] + tail]


def boundaries(sent: bytes) -> list[int]:
    """Where an input is split in two."""
    if len(sent) <= SHORT:
        return list(range(1, len(sent)))
    ends = [at for at, byte in enumerate(sent) if byte in b"\r\n"]
    near = {end + offset for end in ends for offset in range(-NEAR, NEAR + 1)} | {1, len(sent) // 2, len(sent) - 1}
    places = sorted(at for at in near if 0 < at < len(sent))
    return places[:: len(places) // MOST_SPLITS + 1]


def refusal(sent: bytes | str, status: int, reason: str, *, begun: tuple[Leaves, ...] = (), **rest: Any) -> Case:
    """A request that is refused and ends its connection; the request behind it must not be taken for one."""
    raw = sent.encode("latin-1") if isinstance(sent, str) else sent
    answer = refused(status, reason, has=("Connection: close",))
    return Case(raw, (answer,), begun, ends=True, tail=get(f"{URL}/smuggled"), **rest)


@dataclass(slots=True)
class Bench:
    """A running sidecar and who is around it.

    Attributes:
        origin: the one that the token of ``orders`` is for.
        other: has a route of its own, with a credential of its own.
        stranger: has a name, and no route.
    """

    rig: Rig
    origin: RecordingOrigin
    other: RecordingOrigin
    stranger: RecordingOrigin
    _sentinels: int = 0
    _heard: list[Answer] = field(default_factory=list)

    async def prove(self, case: Case) -> None:
        """Run every variant of a case."""
        for pieces in case.variants():
            try:
                await self.run(case, pieces)
            except BaseException as error:
                error.add_note(f"sent as {_shown(pieces)}; at the origin: {self.origin.received()}")
                raise

    async def run(self, case: Case, pieces: Sequence[bytes]) -> None:
        """Run one variant, sentinel and all."""
        self.begin(*case.replies)
        async with await self.client(case.listener) as client:
            await self.send(client, pieces)
            for expected in case.gets:
                expected.check(await self.hear(client, head_only=expected.head_only))
            if case.ends:
                assert await client.closed_cleanly(), "reset instead of closed"
                sentinel = await self.sentinel_elsewhere()
            else:
                sentinel = await self.sentinel(client, case.listener)
                client.end()
                assert await client.closed_cleanly()
        self.assert_left(*case.leaves, sentinel)

    async def prove_answer(
        self, reply: bytes, gets: Gets, *, kept: bool, sent: bytes = b"", surplus: bytes = b""
    ) -> None:
        """Let the origin answer in every variant of pieces, to ``sent`` or a plain GET.

        Args:
            kept: whether the connection to the origin is used again.
            surplus: what comes with the end of the answer, and belongs to nothing.
        """
        request = sent or get(f"{URL}/")
        for pieces in Case(reply, (), tail=surplus).variants():
            try:
                self.begin(_in_pieces(pieces))
                async with await self.client() as client:
                    await self.send(client, [request])
                    gets.check(await self.hear(client, head_only=gets.head_only))
                    sentinel = await self.sentinel(client)
                    client.end()
                    assert await client.closed_cleanly()
                method, _, _ = request.decode().partition(" ")
                self.assert_left(leaves(f"{method} /"), sentinel)
                assert (len(self.origin.received()) == 1) is kept, "the connection to the origin"
            except BaseException as error:
                error.add_note(f"answered as {_shown(pieces)}")
                raise

    def begin(self, *replies: Reply) -> None:
        """Forget what was before."""
        for origin in (self.origin, self.other, self.stranger):
            origin.rewind()
        self._heard.clear()
        self.origin.reply(*replies)

    async def client(self, listener: str = "egress", **how: Any) -> RawClient:
        return await RawClient.to(self.rig.ports[listener], **how)

    async def send(self, client: RawClient, pieces: Sequence[bytes]) -> None:
        await _write(client.writer, pieces)

    async def hear(self, client: RawClient, *, head_only: bool = False) -> Answer:
        """Read an answer, in which no token may stand."""
        answer = await client.answer(head_only=head_only)
        assert self.token not in answer.head + answer.body
        self._heard.append(answer)
        return answer

    async def sentinel(self, client: RawClient, listener: str = "egress") -> Leaves:
        """A request that must get its own answer, on a connection that goes on."""
        self._sentinels += 1
        target = f"/sentinel-{self._sentinels}"
        client.writer.write(get(URL + target) if listener == "egress" else path(target))
        served(f"GET {target}").check(await self.hear(client))
        return leaves(f"GET {target}")

    async def sentinel_elsewhere(self) -> Leaves:
        """The same on a new connection."""
        async with await self.client() as client:
            return await self.sentinel(client)

    @property
    def last(self) -> Answer:
        """The last answer but the sentinel's."""
        return self._heard[-2]

    @property
    def token(self) -> bytes:
        """The token of ``orders``."""
        return self.authorization.partition(b"Bearer ")[2].strip()

    @property
    def authorization(self) -> bytes:
        """The complete line that is injected."""
        published = self.rig.orders.published
        assert published is not None
        return published.header

    def head_of(self, request: Leaves) -> bytes:
        """The head of a request that leaves, to the byte."""
        host = f"{request.host or API}:{self.origin.port}"
        lines = [f"{request.start} HTTP/1.1", f"Host: {host}", *request.lines]
        if request.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif request.body is not None:
            lines.append(f"Content-Length: {len(request.body)}")
        if request.expects:
            lines.append("Expect: 100-continue")
        if request.upgrade is not None:
            lines += ["Connection: Upgrade", f"Upgrade: {request.upgrade}"]
        if request.hops is not None:
            lines.append(f"Max-Forwards: {request.hops}")
        head = "".join(f"{line}\r\n" for line in lines).encode("latin-1") + self.rig.sidecar.gateway.via_request
        own = None if request.own is None else (f"{request.own}\r\n".encode() if request.own else b"")
        return head + (self.authorization if own is None else own) + b"\r\n"

    def assert_left(self, *expected: Leaves) -> None:
        """Exactly these requests left, in this order, for the origin, and nothing for anybody else."""
        assert self.rig.loop_errors == []
        assert not self.stranger.connections, "a host without a route was spoken to"
        assert not self.other.tape, "the origin of another credential was spoken to"
        tapes = self.origin.received()
        at = 0
        for request in expected:
            tape = tapes[at] if at < len(tapes) else b""
            rest = self._without(request, tape)
            if not request.whole:
                at += rest is not None
                continue
            assert rest is not None, f"not {self.head_of(request)!r} but {tape!r}"
            if rest:
                tapes[at] = rest
            else:
                at += 1
        assert tapes[at:] == [], "more left than was expected"

    def _without(self, request: Leaves, tape: bytes) -> bytes | None:
        """What follows a request on a tape; None if it does not begin with it."""
        head = self.head_of(request)
        if not tape.startswith(head):
            return None
        rest = tape[len(head) :]
        body = request.body or b""
        if not request.whole:
            content, ended, _ = _dechunked(rest) if request.chunked else (rest, len(rest) >= len(body), b"")
            assert not ended, f"a request that broke off looks complete: {tape!r}"
            assert body.startswith(content), f"not a part of {body!r}: {content!r}"
            return b""
        if request.chunked:
            content, ended, rest = _dechunked(rest)
            assert (content, ended) == (body, True)
            return rest
        assert rest[: len(body)] == body, f"not {body!r} but {rest!r}"
        return rest[len(body) :]


async def _write(writer: asyncio.StreamWriter, pieces: Sequence[bytes]) -> None:
    """Write each piece, and let the loop turn so that it is read before the next one is there."""
    for piece in pieces:
        writer.write(piece)
        if len(pieces) > 1:
            for _ in range(TURNS):
                await asyncio.sleep(0)


def _in_pieces(pieces: Sequence[bytes]) -> Reply:
    async def answer(request: Request) -> None:
        await request.connection.body(request)
        await _write(request.connection.writer, pieces)

    return answer


def _dechunked(data: bytes) -> tuple[bytes, bool, bytes]:
    """Content so far, whether the last chunk is among it, and what follows; strict, and without trailers."""
    content = b""
    while True:
        line, newline, rest = data.partition(b"\r\n")
        if not newline:
            return content, False, b""
        size = int(line, 16)
        assert line == b"%x" % size, f"not a size as it is written here: {line!r}"
        if size == 0:
            return content, rest.startswith(b"\r\n"), rest[2:]
        content += rest[:size]
        if len(rest) < size + 2:
            return content, False, b""
        assert rest[size : size + 2] == b"\r\n"
        data = rest[size + 2 :]


def _shown(pieces: Sequence[bytes]) -> str:
    if len(pieces) > 2:
        return f"{len(pieces)} single bytes"
    return " | ".join(repr(piece[:200]) for piece in pieces)
