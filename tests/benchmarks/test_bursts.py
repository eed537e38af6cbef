"""The parts of the bursts that decide what is counted."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from typing import TYPE_CHECKING

from benchmarks import bursts
from benchmarks.report import between_markers
from benchmarks.soaks import content
from benchmarks.soaks.client import Ask, Connection
from benchmarks.soaks.origin import Origin
from sidecar.simulation.idp import MockIdP
from tests.end_to_end.waiting import free_port

if TYPE_CHECKING:
    from benchmarks.soaks.origin import Application, Exchange


def test_the_page_has_a_place_for_the_figures() -> None:
    page = bursts.PAGE.read_text()
    assert between_markers(page, "figures", section=bursts.SECTION) != page


def test_requests_are_of_every_kind() -> None:
    kinds = Counter((ask.method, ask.size) for ask in bursts.asks("/echo", 10))
    assert kinds == {("GET", None): 4, ("POST", 0): 2, ("POST", 100): 2, ("POST", 5_000): 2}


def test_a_client_is_known_by_its_basic_credentials() -> None:
    assert bursts.client_of("Basic " + base64.b64encode(b"plain:secret:with:colons").decode()) == "plain"


async def asked(application: Application, *wanted: Ask, idp: MockIdP) -> list[str]:
    async with Origin(free_port(), idp) as origin:
        origin.serve("echo", application)
        connections = await bursts.dial(origin.port, len(wanted))
        for connection, ask in zip(connections, wanted, strict=True):
            connection.begin(ask)
            connection.write(ask.wire())
        said = await asyncio.gather(*map(bursts.heard, connections, wanted))
        bursts.close(connections)
        return list(said)


class Always(MockIdP):
    """Takes every token."""

    def is_valid(self, token: str, now: float | None = None) -> bool:
        return True


def carrying(token: str, size: int) -> Ask:
    return Ask("/echo", "POST", size=size, fields=f"Authorization: Bearer {token}\r\n")


async def test_nobody_is_refused_before_all_are_there() -> None:
    application = bursts.Revoked(b"Bearer old", 3)
    said = await asked(
        application, carrying("old", 10), carrying("new", 20), carrying("old", 0), carrying("old", 30), idp=Always()
    )
    assert said == ["401", "200", "401", "401"]
    assert len(application.held) == 3
    assert application.refusals_at > 0


async def test_an_answer_with_another_body_is_not_one() -> None:
    class Wrong(bursts.Revoked):
        def ends(self, exchange: Exchange) -> None:
            exchange.answer(content.body(7))

    assert await asked(Wrong(), carrying("new", 10), carrying("new", 7), idp=Always()) == ["another body", "200"]


async def test_a_connection_that_ends_says_how() -> None:
    async def hangs_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hangs_up, "127.0.0.1", 0) as server:
        connection = await Connection.to(server.sockets[0].getsockname()[1])
        ask = Ask("/echo")
        connection.begin(ask)
        assert await bursts.heard(connection, ask) == "closed"
        connection.close()
