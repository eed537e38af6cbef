"""What a client says of earlier hops, where it is believed, and a TRACE that goes no further.

Lines 13 and 48 of the checklist, under configurations of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.proxy.raw_client import get, path
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.rig import Rig

FORWARDED: Final = ("Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1", "x-forwarded-proto: https")
SPELLED: Final = ("X_Forwarded_For: 192.0.2.2", "X.Forwarded.Host: a")
ALIASES: Final = ("Content_Length: 5", "Transfer.Encoding: chunked", "Proxy_Authorization: Basic YTpi")


def lines(raw: bytes) -> list[str]:
    """The field lines of a head."""
    return raw.decode().split("\r\n")[1:-2]


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback may stand for any other host."""
    monkeypatch.setattr("sidecar.proxy.resolver.reason_to_refuse", lambda address, routed: None)


async def test_a_listener_that_trusts_its_clients_passes_on_what_they_say(rig: Rig) -> None:
    upstream = f"https://{API}:{rig.secure.port}"
    await rig.start(
        listeners=[
            {"name": "egress", "mode": "forward", "trust_forwarded": True},
            {"name": "orders", "mode": "reverse", "upstream": upstream, "trust_forwarded": True},
            {"name": "wary", "mode": "reverse", "upstream": upstream},
        ]
    )
    fields = (*FORWARDED, *SPELLED, *ALIASES)
    for listener, request in (("egress", get(f"http://{API}/", *fields)), ("orders", path("/", *fields))):
        assert (await (await rig.client(listener)).ask(request)).status == 200
        sent = lines(rig.secure.requests[-1].raw)
        assert [line for line in sent if "orwarded" in line] == [*FORWARDED, *SPELLED]
        assert not set(ALIASES) & set(sent)
        assert rig.idp.is_valid(rig.secure.requests[-1].token or "")
    client = await rig.client("orders")
    await client.ask(path("/", "Connection: X-Forwarded-For", *FORWARDED))
    assert rig.secure.requests[-1].values("X-Forwarded-For") == []
    assert (await (await rig.client("wary")).ask(path("/", *fields))).status == 200
    assert not [line for line in lines(rig.secure.requests[-1].raw) if "orwarded" in line]


@pytest.mark.usefixtures("anywhere")
async def test_what_gets_no_token_keeps_what_its_client_says(rig: Rig) -> None:
    rig.names["other.test"] = ["127.0.0.1"]
    await rig.start(routes=[rig.route()], unmatched="forward")
    client = await rig.client()
    await client.ask(get(f"http://other.test:{rig.plain.port}/", *FORWARDED, *ALIASES))
    sent = lines(rig.plain.requests[0].raw)
    assert set(FORWARDED) <= set(sent)
    assert not set(ALIASES) & set(sent)
    assert rig.plain.requests[0].token is None


@pytest.mark.usefixtures("anywhere")
async def test_a_trace_that_ends_here_shows_its_way_and_nothing_secret(rig: Rig) -> None:
    rig.names["other.test"] = ["127.0.0.1"]
    await rig.start(routes=[rig.route()], unmatched="forward")
    client = await rig.client()
    url = f"http://other.test:{rig.plain.port}/x"
    secret = (
        "Cookie: a=secret",
        "Authorization: Bearer secret",
        "Proxy-Authorization: Basic c2VjcmV0",
        "X-Key: secret",
    )
    answer = await client.ask(get(url, "Via: 1.1 before", "Max-Forwards: 0", *secret, method="TRACE"))
    assert (answer.status, answer.value("Content-Type")) == (200, "message/http")
    assert answer.body.decode().split("\r\n") == [
        f"TRACE {url} HTTP/1.1",
        f"Host: other.test:{rig.plain.port}",
        "Via: 1.1 before",
        "Max-Forwards: 0",
        "",
        "",
    ]
    assert rig.plain.connections == []
    assert (await client.ask(get(url, "Max-Forwards: 2", method="TRACE"))).status == 200
    assert rig.plain.requests[-1].values("Max-Forwards") == ["1"]
    answer = await client.ask(get(f"http://{API}/", "Max-Forwards: 0", method="TRACE"))
    assert (answer.status, answer.reason) == (403, "route_mismatch")
    assert rig.secure.connections == []
