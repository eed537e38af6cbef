"""Names become addresses once, for everybody who waits, and only such as may be dialled."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING

import pytest

from sidecar.errors import AddressDenied, Overloaded, UpstreamDNS
from sidecar.proxy.addresses import OwnSockets
from sidecar.proxy.resolver import Resolver, system_lookup
from sidecar.runtime import Tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

METADATA = "169.254.169.254"


class ScriptedLookup:
    """Gives the answers in their order, the last one again and again; while ``open`` is clear everybody waits."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        await self.open.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    crashed: list[BaseException] = []
    tasks = Tasks(lambda _, error: crashed.append(error))
    yield tasks
    await tasks.close()
    assert crashed == []


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def resolver(tasks: Tasks, lookup: ScriptedLookup, *own: tuple[str, int]) -> Resolver:
    sockets = OwnSockets()
    sockets.replace(list(own))
    return Resolver(tasks=tasks, own_sockets=sockets, lookup=lookup)


async def resolve(
    resolver: Resolver, host: str = "a.example", *, routed: bool = True, ttl: float = 3600.0
) -> list[str]:
    return await resolver.resolve(host, 443, routed=routed, ttl=ttl)


async def test_a_burst_asks_once(tasks: Tasks) -> None:
    lookup = ScriptedLookup(["10.0.0.1", "10.0.0.2"])
    lookup.open.clear()
    names = resolver(tasks, lookup)
    waiting = [tasks.spawn("request", resolve(names)) for _ in range(50)]
    await settled()
    assert lookup.asked == ["a.example"]
    lookup.open.set()
    assert await asyncio.gather(*waiting) == [["10.0.0.1", "10.0.0.2"]] * 50
    assert lookup.asked == ["a.example"]


async def test_an_answer_is_remembered_for_its_time_and_no_longer(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup = ScriptedLookup(["10.0.0.1"], ["10.0.0.2"])
    names = resolver(tasks, lookup)
    now = 100.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    assert await resolve(names, ttl=5.0) == ["10.0.0.1"]
    now = 104.9
    assert await resolve(names, ttl=5.0) == ["10.0.0.1"]
    now = 105.0
    assert await resolve(names, ttl=5.0) == ["10.0.0.2"]


async def test_without_a_time_every_request_asks_anew(tasks: Tasks) -> None:
    lookup = ScriptedLookup(["10.0.0.1"], ["10.0.0.2"])
    names = resolver(tasks, lookup)
    assert await resolve(names, ttl=0.0) == ["10.0.0.1"]
    assert await resolve(names, ttl=0.0) == ["10.0.0.2"]


async def test_names_do_not_share_their_answers(tasks: Tasks) -> None:
    lookup = ScriptedLookup(["10.0.0.1"], ["10.0.0.2"])
    names = resolver(tasks, lookup)
    assert await resolve(names, "a.example") == ["10.0.0.1"]
    assert await resolve(names, "b.example") == ["10.0.0.2"]
    assert await resolve(names, "a.example") == ["10.0.0.1"]


@pytest.mark.parametrize(
    "failure",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        OSError("out of files"),
        UnicodeEncodeError("idna", "x", 0, 1, "label too long"),
    ],
)
async def test_a_failure_is_told_to_everybody_who_waits_and_not_remembered(tasks: Tasks, failure: Exception) -> None:
    lookup = ScriptedLookup(failure, ["10.0.0.1"])
    lookup.open.clear()
    names = resolver(tasks, lookup)
    waiting = [tasks.spawn("request", _outcome(names)) for _ in range(3)]
    await settled()
    lookup.open.set()
    assert await asyncio.gather(*waiting) == ["dns"] * 3
    assert await resolve(names) == ["10.0.0.1"]


async def _outcome(names: Resolver) -> str:
    try:
        await resolve(names)
    except UpstreamDNS as error:
        return error.reason
    return "resolved"


async def test_a_waiter_that_leaves_does_not_take_the_look_up_along(tasks: Tasks) -> None:
    lookup = ScriptedLookup(["10.0.0.1"])
    lookup.open.clear()
    names = resolver(tasks, lookup)
    first, second = tasks.spawn("first", resolve(names)), tasks.spawn("second", resolve(names))
    await settled()
    first.cancel()
    await settled()
    assert first.cancelled()
    lookup.open.set()
    assert await second == ["10.0.0.1"]
    assert await resolve(names) == ["10.0.0.1"]
    assert len(lookup.asked) == 1


async def test_when_all_waiters_leave_the_answer_still_serves_the_next(tasks: Tasks) -> None:
    lookup = ScriptedLookup(["10.0.0.1"])
    lookup.open.clear()
    names = resolver(tasks, lookup)
    only = tasks.spawn("only", resolve(names))
    await settled()
    only.cancel()
    lookup.open.set()
    await settled()
    assert await resolve(names) == ["10.0.0.1"]
    assert len(lookup.asked) == 1


async def test_a_name_that_moves_to_the_metadata_service_is_refused_at_its_next_look_up(tasks: Tasks) -> None:
    names = resolver(tasks, ScriptedLookup(["93.184.216.34"], [METADATA]))
    assert await resolve(names, ttl=0.0) == ["93.184.216.34"]
    with pytest.raises(AddressDenied):
        await resolve(names, ttl=0.0)


@pytest.mark.parametrize(
    ("found", "routed", "allowed"),
    [
        (["10.0.0.1", METADATA, "2001:db8::1"], True, ["10.0.0.1", "2001:db8::1"]),
        ([METADATA, "::ffff:169.254.169.254", "10.0.0.1"], True, ["10.0.0.1"]),
        (["127.0.0.1", "10.0.0.1"], False, ["10.0.0.1"]),
        (["127.0.0.1", "10.0.0.1"], True, ["127.0.0.1", "10.0.0.1"]),
        (["fe80::1%eth0", "2001:db8::1"], True, ["2001:db8::1"]),
    ],
)
async def test_of_a_mixed_answer_only_what_may_be_dialled_is_left(
    tasks: Tasks, found: list[str], routed: bool, allowed: list[str]
) -> None:
    assert await resolve(resolver(tasks, ScriptedLookup(found)), routed=routed) == allowed


async def test_a_remembered_answer_is_judged_anew_for_every_request(tasks: Tasks) -> None:
    names = resolver(tasks, ScriptedLookup(["127.0.0.1"]))
    assert await resolve(names, routed=True) == ["127.0.0.1"]
    with pytest.raises(AddressDenied):
        await resolve(names, routed=False)


@pytest.mark.parametrize("host", [METADATA, "0.0.0.0", "fe80::1", "::ffff:169.254.169.254"])
async def test_an_address_is_judged_without_a_look_up(tasks: Tasks, host: str) -> None:
    lookup = ScriptedLookup(["10.0.0.1"])
    with pytest.raises(AddressDenied):
        await resolve(resolver(tasks, lookup), host)
    assert lookup.asked == []


async def test_an_address_that_may_be_dialled_needs_no_look_up(tasks: Tasks) -> None:
    lookup = ScriptedLookup(["10.9.9.9"])
    assert await resolve(resolver(tasks, lookup), "10.0.0.1") == ["10.0.0.1"]
    assert lookup.asked == []


@pytest.mark.parametrize(
    ("bound", "found"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.5"), ("::", "127.0.0.1"), ("127.0.0.1", "::ffff:127.0.0.1")],
)
async def test_the_sidecar_is_never_its_own_upstream(tasks: Tasks, bound: str, found: str) -> None:
    names = resolver(tasks, ScriptedLookup([found]), (bound, 443))
    with pytest.raises(AddressDenied):
        await resolve(names)
    assert await names.resolve("a.example", 444, routed=True, ttl=1.0) == [str(ipaddress.ip_address(found))]


async def test_a_wildcard_listener_does_not_shut_out_other_machines(tasks: Tasks) -> None:
    names = resolver(tasks, ScriptedLookup(["203.0.113.9"]), ("0.0.0.0", 443))
    assert await resolve(names) == ["203.0.113.9"]


async def test_memory_of_names_and_of_addresses_is_bounded(tasks: Tasks) -> None:
    names = resolver(tasks, ScriptedLookup([f"10.0.0.{number}" for number in range(100)]))
    for number in range(1000):
        assert len(await resolve(names, f"h{number}.example")) <= 8
    assert len(names._cache) <= 256
    assert names._pending == {}


async def test_the_system_s_look_up_gives_each_address_once() -> None:
    found = await system_lookup("localhost")
    assert set(found) <= {"127.0.0.1", "::1"}
    assert len(found) == len(set(found)) > 0


async def test_names_without_a_route_never_take_all_the_threads(tasks: Tasks) -> None:
    lookup = ScriptedLookup(["192.0.2.1"])
    lookup.open.clear()
    names = resolver(tasks, lookup)
    slow = [asyncio.create_task(names.resolve(f"slow{i}.test", 443, routed=False, ttl=5)) for i in range(2)]
    await settled()
    with pytest.raises(Overloaded):
        await names.resolve("slow2.test", 443, routed=False, ttl=5)
    routed = asyncio.create_task(names.resolve("api.test", 443, routed=True, ttl=5))
    await settled()
    assert lookup.asked == ["slow0.test", "slow1.test", "api.test"]
    lookup.open.set()
    assert [await each for each in (*slow, routed)] == [["192.0.2.1"]] * 3


async def test_a_name_without_addresses_does_not_resolve_and_is_asked_for_again(tasks: Tasks) -> None:
    names = resolver(tasks, ScriptedLookup([], ["no address"], ["192.0.2.1"]))
    for _ in range(2):
        with pytest.raises(UpstreamDNS):
            await names.resolve("api.test", 443, routed=True, ttl=5)
    assert await names.resolve("api.test", 443, routed=True, ttl=5) == ["192.0.2.1"]
