"""The pool: how many connections an origin may have, who waits in line, and whom it no longer trusts to keep any."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from sidecar.simulation.idp import Step
from tests.end_to_end.waiting import until
from tests.proxy.raw_client import Answer, RawClient, get
from tests.proxy.raw_origin import REFUSED_TOKEN, Connection, Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.conftest import Logs
    from tests.proxy.rig import Rig

URL: Final = f"http://{API}"


class Gate:
    """An origin's script that answers each request when it is let through."""

    def __init__(self, rig: Rig) -> None:
        self.waiting: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        self.under_way = 0
        self.most = 0
        rig.secure.always = self._serve

    async def _serve(self, request: Request) -> None:
        let = asyncio.Event()
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.waiting.put_nowait(let)
        await let.wait()
        self.under_way -= 1
        await request.connection.send(ok(request.target.encode()))

    async def open(self) -> None:
        """Let the next one through."""
        (await asyncio.wait_for(self.waiting.get(), 5)).set()


async def clients(rig: Rig, count: int) -> list[RawClient]:
    return [await rig.client() for _ in range(count)]


async def test_an_origin_has_no_more_connections_than_it_may(rig: Rig) -> None:
    gate = Gate(rig)
    await rig.start(limits={"upstream_connections": 2})
    asking = await clients(rig, 6)
    for number, client in enumerate(asking):
        await client.send(get(f"{URL}/{number}"))
        if number < 2:  # those that get a connection at once, one after the other
            await until(lambda number=number: gate.under_way == number + 1, "it is under way")
        else:
            await until(lambda number=number: rig.sidecar.gateway.pool._pending == number - 1, "it waits in line")
    answers: list[Answer] = []
    for client in asking:
        await gate.open()
        answers.append(await client.answer())
    assert [answer.body for answer in answers] == [b"/%d" % number for number in range(6)]  # in the order they came
    assert gate.most == 2
    assert len(rig.secure.connections) == 2  # those that were given back served the next in line


async def test_the_place_of_a_closed_connection_goes_to_the_next_in_line(rig: Rig) -> None:
    await rig.start(limits={"upstream_connections": 1})

    async def die(request: Request) -> None:
        await request.connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        request.connection.close()

    rig.secure.always = die
    asking = await clients(rig, 4)
    for client in asking:
        await client.send(get(f"{URL}/"))
    for client in asking:
        assert (await client.answer()).body == b"ok"
    assert len(rig.secure.connections) == 4


async def test_a_failed_dial_leaves_its_place(rig: Rig) -> None:
    await rig.start(limits={"upstream_connections": 1})
    await rig.secure.stop()
    client = await rig.client()
    for _ in range(3):
        assert (await client.ask(get(f"{URL}/"))).reason == "connect"
    await rig.secure.start()
    assert (await client.ask(get(f"{URL}/"))).status == 200


async def test_who_waits_too_long_in_line_gets_a_503(rig: Rig) -> None:
    gate = Gate(rig)
    await rig.start(limits={"upstream_connections": 1, "connect": "300ms"})
    first, second = await clients(rig, 2)
    await first.send(get(f"{URL}/first"))
    answer = await second.ask(get(f"{URL}/second"))
    assert (answer.status, answer.reason) == (503, "overloaded")
    assert answer.value("Retry-After")
    await gate.open()
    assert (await first.answer()).status == 200
    await second.send(get(f"{URL}/second"))
    await gate.open()
    assert (await second.answer()).status == 200


async def test_the_line_is_not_longer_than_it_may_be(rig: Rig) -> None:
    gate = Gate(rig)
    await rig.start(limits={"upstream_connections": 1, "pending": 1})
    first, second, third = await clients(rig, 3)
    await first.send(get(f"{URL}/1"))
    await until(lambda: gate.under_way == 1, "the first is under way")
    await second.send(get(f"{URL}/2"))
    await until(lambda: rig.sidecar.gateway.pool._pending == 1, "the second waits")
    answer = await third.ask(get(f"{URL}/3"))
    assert (answer.status, answer.reason) == (503, "overloaded")
    for client in (first, second):
        await gate.open()
        assert (await client.answer()).status == 200


async def test_one_that_leaves_the_line_takes_nothing_with_it(rig: Rig) -> None:
    gate = Gate(rig)
    await rig.start(limits={"upstream_connections": 1})
    first, second, third = await clients(rig, 3)
    await first.send(get(f"{URL}/1"))
    await until(lambda: gate.under_way == 1, "the first is under way")
    await second.send(get(f"{URL}/2"))
    await until(lambda: rig.sidecar.gateway.pool._pending == 1, "the second waits")
    await third.send(get(f"{URL}/3"))
    await until(lambda: rig.sidecar.gateway.pool._pending == 2, "the third waits")
    second.reset()
    await until(lambda: rig.sidecar.gateway.pool._pending == 1, "the second has left")
    await gate.open()
    assert (await first.answer()).body == b"/1"
    await gate.open()
    assert (await third.answer()).body == b"/3"
    await rig.at_rest()
    assert repr(rig.sidecar.gateway.pool) == "<UpstreamPool open=1 idle=1 pending=0>"


async def test_one_origin_s_line_is_not_another_s(rig: Rig) -> None:
    Gate(rig)
    await rig.start(limits={"upstream_connections": 1})
    first, second, other = await clients(rig, 3)
    await first.send(get(f"{URL}/"))
    await second.send(get(f"{URL}/"))
    await until(lambda: rig.sidecar.gateway.pool._pending == 1, "one waits")
    assert (await other.ask(get(f"http://localhost:{rig.plain.port}/"))).status == 200


async def test_an_origin_that_ends_too_many_connections_under_a_request_is_not_trusted_to_keep_any(
    rig: Rig, monkeypatch: Any
) -> None:
    monkeypatch.setattr("sidecar.proxy.budget.FEWEST", 4)
    await rig.start()
    client = await rig.client()

    async def end_under_the_second(request: Request) -> None:
        if len(request.connection.requests) > 1:
            request.connection.reset()
        else:
            await request.connection.send(ok())

    rig.secure.always = end_under_the_second
    statuses = [(await client.ask(get(f"{URL}/"))).status for _ in range(12)]
    # Two lost races are made good, and then, with half of the budget spent, nothing is kept any more.
    assert statuses == [200] * 12
    assert len(rig.secure.requests) == 12 + 2


async def test_a_process_without_descriptors_answers_503_and_goes_on(rig: Rig, monkeypatch: Any, logs: Logs) -> None:
    await rig.start()
    client = await rig.client()

    class NoSocket(socket.socket):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr("sidecar.proxy.pool.socket.socket", NoSocket)
        answer = await client.ask(get(f"{URL}/"))
    assert (answer.status, answer.reason) == (503, "overloaded")
    assert [line["reason"] for line in logs("request_failed")] == ["overloaded"]
    assert (await client.ask(get(f"{URL}/"))).status == 200


async def test_a_client_that_leaves_while_its_connection_is_made_leaves_the_place(rig: Rig) -> None:
    await rig.start(limits={"upstream_connections": 1}, routes=[rig.route(port=rig.plain.port)])
    release = asyncio.Event()

    async def never_shake_hands(connection: Connection) -> None:
        await release.wait()
        connection.close()

    rig.plain.instead_of_http = never_shake_hands
    client = await rig.client()
    await client.send(get(f"{URL}/"))
    await rig.plain.next_connection()
    client.reset()
    await rig.at_rest()
    assert repr(rig.sidecar.gateway.pool) == "<UpstreamPool open=0 idle=0 pending=0>"
    release.set()


async def test_a_connection_that_died_with_a_held_answer_is_not_given_back(rig: Rig) -> None:
    gate, renewed = Gate(rig), asyncio.Event()
    await rig.start(limits={"upstream_connections": 1})
    url = f"http://localhost:{rig.plain.port}/"
    client, first, second = await clients(rig, 3)
    assert (await client.ask(get(url))).status == 200
    await first.send(get(f"{URL}/1"))
    await until(lambda: gate.under_way == 1, "another origin is busy")
    await second.send(get(f"{URL}/2"))
    await until(lambda: rig.sidecar.gateway.pool._pending == 1, "and somebody waits for it")

    async def refuse_and_leave(request: Request) -> None:
        await request.connection.send(REFUSED_TOKEN)
        request.connection.close()

    rig.plain.reply(refuse_and_leave)
    rig.idp.script(Step(hold=renewed))
    await client.send(get(url))
    await until(lambda: "open=1" in repr(rig.sidecar.gateway.pool), "the refused request's connection is gone")
    renewed.set()
    assert (await client.answer()).status == 200
    for asking in (first, second):
        await gate.open()
        assert (await asking.answer()).status == 200
    await rig.at_rest()
    assert repr(rig.sidecar.gateway.pool) == "<UpstreamPool open=2 idle=2 pending=0>"
