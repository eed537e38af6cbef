"""Bursts of refusals in the running sidecar: each way of trying is one event, with who tried."""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from sidecar.broker.policy import Trigger
from sidecar.simulation.idp import Step
from sidecar.telemetry.abuse import THRESHOLDS, Kind
from tests.end_to_end.waiting import until
from tests.proxy.conftest import logs, rig, trust  # noqa: F401 - fixtures
from tests.proxy.raw_client import RawClient, get
from tests.proxy.rig import API

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxy.conftest import Logs
    from tests.proxy.rig import Rig

ADMIN: Final = "cn4ry-admin-token-of-the-test"
DENIED: Final = THRESHOLDS[Kind.DENIED_HOSTS].attempts
WRONG: Final = THRESHOLDS[Kind.PROXY_CREDENTIALS].attempts


def counted(rig: Rig, kind: Kind) -> float:
    return rig.value("suspected_abuse_total", kind=kind.value)


def on_socket(file: Path, **auth: Any) -> dict[str, Any]:
    return {"name": "egress", "mode": "forward", "bind": f"unix:{file}"} | ({"auth": auth} if auth else {})


async def test_a_scan_over_a_unix_socket_is_one_burst_with_its_user_and_process(
    rig: Rig, tmp_path: Path, logs: Logs
) -> None:
    file = tmp_path / "proxy.sock"
    await rig.start(listeners=[on_socket(file)])
    async with await RawClient.to_path(str(file)) as client:
        for number in range(DENIED + 5):
            assert (await client.ask(get(f"http://10.0.0.{number}/a?key=cn4ry"))).reason == "target_unmatched"
    [line] = logs("suspected_abuse")
    assert line["kind"] == "denied_hosts"
    assert (line["source"], line["uid"], line["pid"]) == ("egress", os.getuid(), os.getpid())
    assert line["count"] == DENIED
    assert line["hosts"] == [f"10.0.0.{number}" for number in range(5)]
    assert "cn4ry" not in str(line)
    assert counted(rig, Kind.DENIED_HOSTS) == 1

    rig.clock.ahead += 1000
    await until(lambda: len(logs("suspected_abuse")) == 2, "its end is told")
    assert logs("suspected_abuse")[1]["phase"] == "ended"
    assert logs("suspected_abuse")[1]["count"] == DENIED + 5


async def test_tunnels_paths_and_addresses_that_are_denied_count_too(rig: Rig, logs: Logs) -> None:
    await rig.start(unmatched="forward", routes=[rig.route(paths=["/v1/"])])
    rig.names["metadata.test"] = ["169.254.169.254"]
    for number in range(DENIED):
        client = await rig.client()
        match number % 4:
            case 0:
                assert (await client.ask(get(f"http://{API}/admin"))).reason == "route_mismatch"
            case 1:
                assert (await client.ask(b"CONNECT mail.test:25 HTTP/1.1\r\nHost: mail.test:25\r\n\r\n")).status == 403
            case 2:
                assert (await client.ask(get("http://metadata.test/"))).reason == "address_denied"
            case 3:
                head = b"CONNECT metadata.test:443 HTTP/1.1\r\nHost: metadata.test:443\r\n\r\n"
                assert (await client.ask(head)).reason == "address_denied"
    [line] = logs("suspected_abuse")
    assert line["hosts"] == [API, "mail.test:25", "metadata.test"]
    assert line["peer_port"] > 0


async def test_guessing_the_proxy_password_is_one_burst_however_many_connections_it_takes(
    rig: Rig, tmp_path: Path, logs: Logs
) -> None:
    secret = tmp_path / "proxy-password"
    secret.write_text("cn4ry-right-password")
    await rig.start(listeners=[{"name": "egress", "auth": {"proxy_password": f"file:{secret}"}}])
    for _ in range(WRONG * 2):
        client = await rig.client()
        assert (await client.ask(get(f"http://{API}/"))).reason == "proxy_auth_required"
    assert counted(rig, Kind.PROXY_CREDENTIALS) == 0, "to ask what is wanted is no attempt"
    for _ in range(WRONG * 2):
        client = await rig.client()
        field = "Proxy-Authorization: Basic YW55OmNuNHJ5LWd1ZXNz"
        assert (await client.ask(get(f"http://{API}/", field))).reason == "proxy_auth_required"
    [line] = logs("suspected_abuse")
    assert (line["kind"], line["source"], line["count"]) == ("proxy_credentials", "egress", WRONG)
    assert "cn4ry" not in str(line)


async def test_a_user_who_may_not_use_the_socket_is_named(rig: Rig, tmp_path: Path, logs: Logs) -> None:
    file = tmp_path / "proxy.sock"
    await rig.start(listeners=[on_socket(file, peer_uids=[os.getuid() + 1])])
    for _ in range(WRONG):
        async with await RawClient.to_path(str(file)) as client:
            assert (await client.answer()).reason == "peer_refused"
    [line] = logs("suspected_abuse")
    assert (line["kind"], line["uid"]) == ("proxy_credentials", os.getuid())


async def test_token_requests_that_are_forced_and_refused_are_a_burst_of_their_credential(rig: Rig, logs: Logs) -> None:
    sidecar = await rig.start()
    attempts = THRESHOLDS[Kind.TOKEN_REQUESTS].attempts
    rig.idp.script(*[Step(status=401, fields={"error": "invalid_client"}) for _ in range(attempts)])
    for number in range(attempts):
        sidecar.broker.credential("orders").request_refresh(Trigger.MANUAL)
        await until(lambda: rig.orders.status().consecutive_failures == number + 1, "it was refused")  # noqa: B023
    [line] = logs("suspected_abuse")
    assert (line["kind"], line["source"], line["count"]) == ("token_requests", "orders", attempts)


async def test_guessing_the_admin_token_is_a_burst(rig: Rig, tmp_path: Path, logs: Logs) -> None:
    secret = tmp_path / "admin-token"
    secret.write_text(ADMIN)
    await rig.start(admin={"bind": f"unix:{tmp_path}/admin.sock", "token": f"file:{secret}"})

    async def ask(*fields: str) -> int:
        lines = ["POST /v1/credentials/orders/token HTTP/1.1", "Host: localhost", *fields, "Connection: close", "", ""]
        async with await RawClient.to_path(f"{tmp_path}/admin.sock") as client:
            return (await client.ask("\r\n".join(lines).encode())).status

    for _ in range(THRESHOLDS[Kind.ADMIN_TOKEN].attempts):
        assert await ask() == 401
    assert counted(rig, Kind.ADMIN_TOKEN) == 0
    for number in range(THRESHOLDS[Kind.ADMIN_TOKEN].attempts):
        assert await ask(f"Authorization: Bearer cn4ry-wrong-{number}") == 401
    [line] = logs("suspected_abuse")
    assert (line["kind"], line["source"], line["uid"]) == ("admin_token", "admin", os.getuid())
    assert "cn4ry" not in str(line)


async def test_requests_that_are_served_are_no_business_of_it(rig: Rig, logs: Logs) -> None:
    await rig.start()
    client = await rig.client()
    for _ in range(DENIED * 2):
        assert (await client.ask(get(f"http://{API}/"))).status == 200
    assert not logs("suspected_abuse")
    assert rig.total("suspected_abuse_total") == 0
