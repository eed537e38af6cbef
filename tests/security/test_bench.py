"""The bench is to be trusted: its pieces are reads of their own, and whatever a case gets wrong makes it fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from sidecar.proxy.connection import ClientConnection
from tests.proxy.raw_client import get, post
from tests.proxy.raw_origin import ok
from tests.security.bench import URL, Case, Gets, boundaries, leaves, refused, served

if TYPE_CHECKING:
    from tests.security.bench import Bench

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUEST: Final = get(f"{URL}/")
RIGHT: Final = Case(REQUEST, (served("GET /"),), (leaves("GET /"),))
WRONG: Final = {
    "another status": Case(REQUEST, (Gets(204),), (leaves("GET /"),)),
    "another body": Case(REQUEST, (served("GET /x"),), (leaves("GET /"),)),
    "an answer that is not the sidecar's own": Case(REQUEST, (refused(200, "bad_request"),), (leaves("GET /"),)),
    "another reason": Case(get("http://stranger.test/"), (refused(403, "route_mismatch"),)),
    "an answer too few": Case(REQUEST * 2, (served("GET /"),), (leaves("GET /"), leaves("GET /"))),
    "nothing that leaves": Case(REQUEST, (served("GET /"),)),
    "a line more": Case(REQUEST, (served("GET /"),), (leaves("GET /", "X: 1"),)),
    "a request more": Case(REQUEST, (served("GET /"),), (leaves("GET /"), leaves("GET /"))),
    "another body that leaves": Case(post(f"{URL}/", b"ab"), (served("POST /", 2),), (leaves("POST /", body=b"ac"),)),
    "whole, where it must break off": Case(
        post(f"{URL}/", b"ab"), (served("POST /", 2),), (leaves("POST /", body=b"ab", whole=False),)
    ),
    "an end that does not come": Case(REQUEST, (served("GET /"),), (leaves("GET /"),), ends=True, replies=(ok(b"no"),)),
}


async def test_a_case_that_is_right_passes(bench: Bench) -> None:
    await bench.prove(RIGHT)


@pytest.mark.parametrize("case", WRONG)
async def test_a_case_that_is_wrong_fails(bench: Bench, case: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        await bench.run(WRONG[case], [WRONG[case].sent])


async def test_pieces_are_read_one_by_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[bytes] = []
    receive = ClientConnection.data_received

    def counted(connection: ClientConnection, data: bytes) -> None:
        reads.append(data)
        receive(connection, data)

    monkeypatch.setattr(ClientConnection, "data_received", counted)
    variants = list(RIGHT.variants())
    assert len(variants) == len(REQUEST) + 1
    for pieces in variants:
        reads.clear()
        await bench.run(RIGHT, pieces)
        assert reads[:-1] == pieces


async def test_a_long_input_is_split_near_the_ends_of_its_lines(bench: Bench) -> None:
    sent = get(f"{URL}/{'x' * 1000}", "X: 1")
    ends = [at for at in range(len(sent)) if sent[at : at + 2] == b"\r\n"]
    assert {end + offset for end in ends for offset in (-1, 0, 1, 2)} - {len(sent)} <= set(boundaries(sent))
    assert len(boundaries(sent)) < 40
