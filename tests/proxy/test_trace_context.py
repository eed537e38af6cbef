"""Trace context is the app's: without tracing of our own it passes byte for byte, odd and malformed values, too.

W3C Trace Context lets whoever does not take part in a trace pass ``traceparent`` and ``tracestate`` on as they are, and
so it is with ``baggage``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.proxy.raw_client import path
from tests.proxy.rig import API

if TYPE_CHECKING:
    import pytest

    from tests.proxy.raw_client import RawClient
    from tests.proxy.raw_origin import Origin
    from tests.proxy.rig import Rig

PARENT: Final = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CONTEXTS: Final[dict[str, list[bytes]]] = {
    "usual": [
        PARENT,
        b"tracestate: congo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
        b"baggage: userId=alice,isProduction=false",
    ],
    "not sampled": [PARENT[:-2] + b"00"],
    "random trace id": [PARENT[:-2] + b"03"],
    "reserved flags": [PARENT[:-2] + b"ff"],
    "a version to come": [b"traceparent: cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes-then"],
    "the forbidden version": [PARENT.replace(b"00-", b"ff-", 1)],
    "upper case": [PARENT.upper().replace(b"TRACEPARENT", b"TraceParent")],
    "no space, many spaces": [PARENT.replace(b": ", b":"), b"tracestate:\t  a=1 ,\t b=2", b"baggage:   k = v ; p"],
    "all zero": [b"traceparent: 00-00000000000000000000000000000000-0000000000000000-00"],
    "too short": [PARENT[:-1]],
    "too long": [PARENT + b"-more"],
    "empty": [b"traceparent:", b"tracestate:", b"baggage:"],
    "no trace at all": [b"traceparent: '; DROP TABLE spans; --"],
    "bytes beyond ASCII": [b"traceparent: \xff\xfe\x80", b"tracestate: caf\xc3\xa9=1", b"baggage: k=\xe9"],
    "state without parent": [b"tracestate: congo=t61rcWkgMzE"],
    "state in many lines": [PARENT, b"tracestate: a=1", b"tracestate: b=2", b"TRACESTATE: a=3"],
    "state beyond its limits": [PARENT, b"tracestate: " + b",".join(b"k%d=v" % number for number in range(64))],
    "parents that disagree": [PARENT, PARENT.replace(b"4bf9", b"5bf9"), PARENT],
    "baggage in many lines": [b"baggage: a=1", b"Baggage: a=2", b"baggage: c=%20%C3%A9,,;;"],
    "baggage beyond its limits": [b"baggage: " + b",".join(b"key%d=value" % number for number in range(200))],
}


def context_lines(head: bytes) -> list[bytes]:
    """The lines of trace context and baggage as they stand in a head."""
    names = (b"traceparent", b"tracestate", b"baggage")
    return [line for line in head.split(b"\r\n") if line.partition(b":")[0].lower() in names]


def request(target: str, host: str, lines: list[bytes]) -> bytes:
    """A request with these lines among others."""
    plain = path(target, "Accept: */*", "X-After: 1", host=host)
    before, accept, after = plain.partition(b"Accept: */*\r\n")
    return before + accept + b"".join(line + b"\r\n" for line in lines) + after


async def assert_untouched(origin: Origin, client: RawClient, target: str, host: str) -> None:
    arrived = {}
    for name, lines in CONTEXTS.items():
        assert (await client.ask(request(target, host, lines))).status == 200
        arrived[name] = context_lines((await origin.next_request()).raw)
    assert arrived == CONTEXTS


async def test_it_passes_a_forward_listener_untouched(rig: Rig) -> None:
    await rig.start()
    await assert_untouched(rig.secure, await rig.client(), f"http://{API}/v1?q=1", API)
    assert set(rig.secure.tokens) == {rig.idp.issued[-1]}


async def test_it_passes_a_reverse_listener_untouched(rig: Rig) -> None:
    upstream = f"https://{API}:{rig.secure.port}"
    await rig.start(listeners=[{"name": "base", "mode": "reverse", "upstream": upstream}], routes=[rig.route()])
    await assert_untouched(rig.secure, await rig.client("base"), "/v1?q=1", f"127.0.0.1:{rig.port('base')}")
    assert set(rig.secure.tokens) == {rig.idp.issued[-1]}


async def test_it_passes_an_intercepted_tunnel_untouched(rig: Rig) -> None:
    await rig.start(routes=[rig.route(intercept=True)], interception=rig.interception())
    await assert_untouched(rig.secure, await rig.intercepted(), "/v1?q=1", f"{API}:{rig.secure.port}")
    assert set(rig.secure.tokens) == {rig.idp.issued[-1]}


async def test_it_passes_to_a_host_without_a_route_untouched(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.proxy.resolver.reason_to_refuse", lambda address, routed: None)
    rig.names["other.test"] = ["127.0.0.1"]
    await rig.start(routes=[rig.route()], unmatched="forward")
    authority = f"other.test:{rig.plain.port}"
    await assert_untouched(rig.plain, await rig.client(), f"http://{authority}/v2", authority)
    assert set(rig.plain.tokens) == {None}


async def test_answers_keep_theirs_too(rig: Rig) -> None:
    await rig.start()
    lines = [b"traceresponse: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", b"Server-Timing: traceparent;x"]
    rig.secure.reply(b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(lines) + b"\r\nContent-Length: 0\r\n\r\n")
    answer = await (await rig.client()).ask(request(f"http://{API}/", API, []))
    assert [line for line in answer.head.split(b"\r\n") if line in lines] == lines


async def test_a_context_that_connection_names_ends_here(rig: Rig) -> None:
    # RFC 9110 section 7.6.1: what the app declares to be for this hop alone goes no further.
    await rig.start()
    lines = [PARENT, b"Connection: traceparent", b"baggage: a=1"]
    await (await rig.client()).ask(request(f"http://{API}/", API, lines))
    assert context_lines((await rig.secure.next_request()).raw) == [b"baggage: a=1"]
