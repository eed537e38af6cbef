"""The composition root: what a start needs, what a reload changes and what it carries over, and how it ends."""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

import asyncio
import contextlib
import socket
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.app import Sidecar
from sidecar.config import load
from sidecar.config.reload import Watched
from sidecar.errors import CannotBind, SecretMissing
from sidecar.simulation.idp import Step
from tests.config import authorities
from tests.end_to_end.waiting import free_port, until
from tests.proxy.conftest import logs, rig, trust  # noqa: F401 - fixtures
from tests.proxy.raw_client import RawClient, get, path
from tests.proxy.raw_origin import Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxy.conftest import Logs
    from tests.proxy.rig import Rig

URL = f"http://{API}"
FORWARD = {"name": "egress", "mode": "forward"}


async def reload(rig: Rig, **changes: Any) -> bool:
    """Write another configuration and take it over."""
    rig.file.write_text(rig.text(rig.configuration(**changes)))
    return await rig.sidecar.reload(rig.file)


async def refused(port: int) -> bool:
    """Whether nobody listens there."""
    with contextlib.suppress(ConnectionRefusedError):
        (await asyncio.open_connection("127.0.0.1", port))[1].close()
        return False
    return True


async def status(rig: Rig, page: str) -> int:
    """The status of a page of the telemetry listener."""
    async with await RawClient.to(rig.port("telemetry")) as client:
        return (await client.ask(path(page, "Connection: close"))).status


# --- start ------------------------------------------------------------------------------------------------------------


async def test_a_start_serves_every_listener_and_says_so(rig: Rig, logs: Logs) -> None:
    reverse = {"name": "orders", "mode": "reverse", "upstream": f"https://{API}:{rig.secure.port}"}
    await rig.start(listeners=[FORWARD, reverse])
    egress, orders = await rig.client("egress"), await rig.client("orders")
    assert (await egress.ask(get(f"{URL}/"))).status == 200
    assert (await orders.ask(path("/"))).status == 200
    assert [await status(rig, page) for page in ("/livez", "/startupz", "/readyz", "/metrics")] == [200] * 4
    assert rig.value("config_last_reload_successful") == 1
    [line] = logs("started")
    assert line["listeners"] == [f"{name} 127.0.0.1:{rig.port(name)}" for name in ("egress", "orders")]


async def test_a_start_that_cannot_bind_leaves_nothing_open(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listeners = [FORWARD, {"name": "taken", "mode": "forward", "bind": f"127.0.0.1:{taken.getsockname()[1]}"}]
        with pytest.raises(CannotBind, match="listener taken"):
            await rig.start_cold(listeners=listeners)
    assert await refused(rig.port("egress"))
    assert await refused(rig.port("telemetry"))
    assert not rig.idp.received


async def test_a_start_does_not_need_the_provider(rig: Rig) -> None:
    await rig.idp.stop()
    await rig.start_cold(limits={"token_wait": "50ms"})
    assert [await status(rig, page) for page in ("/livez", "/startupz", "/readyz")] == [200] * 3
    client = await rig.client()
    assert (await client.ask(get(f"{URL}/"))).reason == "token_unavailable"


async def test_readiness_waits_for_the_tokens_it_was_told_to(rig: Rig) -> None:
    hold = asyncio.Event()
    rig.idp.script(Step(hold=hold))
    await rig.start_cold(credentials={"orders": rig.credential(required_for_ready=True)})
    assert await status(rig, "/readyz") == 503
    assert await status(rig, "/startupz") == 200
    hold.set()
    await rig.has_tokens()
    assert await status(rig, "/readyz") == 200


# --- a reload that is applied -----------------------------------------------------------------------------------------


async def test_a_kept_connection_sees_new_routes_with_its_next_request(rig: Rig, logs: Logs) -> None:
    await rig.start(routes=[rig.route()])
    client = await rig.client()
    plain = f"http://localhost:{rig.plain.port}/"
    assert (await client.ask(get(plain))).status == 403
    assert await reload(rig)
    assert (await client.ask(get(plain))).status == 200
    assert rig.plain.tokens == [rig.idp.issued[-1]]
    assert rig.value("config_reloads_total", result="applied") == 1
    assert rig.value("config_last_reload_successful") == 1
    assert len(logs("reload_applied")) == 1


async def test_a_kept_reverse_connection_sees_new_routes_too(rig: Rig) -> None:
    reverse = {"name": "orders", "mode": "reverse", "upstream": f"https://{API}:{rig.secure.port}"}
    await rig.start(listeners=[reverse], routes=[rig.route(paths=["/v1/"])])
    client = await rig.client("orders")
    assert (await client.ask(path("/v2/"))).status == 403
    assert await reload(rig, listeners=[reverse], routes=[rig.route(paths=["/v2/"])])
    assert (await client.ask(path("/v2/"))).status == 200
    assert (await client.ask(path("/v1/"))).status == 403


async def test_a_credential_that_did_not_change_carries_over_and_the_others_do_not(rig: Rig) -> None:
    rig.idp.secrets["billing"] = {"billing-secret"}
    billing = rig.credential(client_id="billing", client_secret="billing-secret")
    await rig.start(credentials={"orders": rig.credential(), "billing": billing})
    orders = rig.orders
    published = orders.published
    changed = billing | {"scopes": ["more"]}
    assert await reload(rig, credentials={"orders": rig.credential(), "billing": changed})
    await rig.has_tokens()
    assert rig.orders is orders
    assert orders.published is published
    renewed = rig.sidecar.broker.credential("billing").published
    assert renewed is not None
    assert renewed.generation == 2  # numbers go on, so that a generation means one token for ever
    assert len(rig.idp.token_requests) == 3
    assert rig.value("token_up", credential="orders") == 1


async def test_a_credential_that_is_gone_takes_its_metrics_along(rig: Rig) -> None:
    await rig.start(credentials={"orders": rig.credential(), "old": rig.credential()})
    assert rig.total("token_up", credential="old") == 1
    assert await reload(rig)
    assert 'credential="old"' not in rig.metrics().text
    assert 'route="plain"' in rig.metrics().text
    assert await reload(rig, routes=[rig.route()])
    assert 'route="plain"' not in rig.metrics().text


async def test_a_listener_with_the_same_bind_keeps_its_connections_also_under_a_new_name(rig: Rig) -> None:
    bind = f"127.0.0.1:{rig.port('egress')}"
    await rig.start(listeners=[FORWARD | {"bind": bind}])
    client = await rig.client()
    await client.ask(get(f"{URL}/"))
    assert await reload(rig, listeners=[FORWARD | {"name": "out", "bind": bind}])
    assert (await client.ask(get(f"{URL}/"))).status == 200
    assert rig.value("connections_open", listener="out") == 1
    assert 'listener="egress"' not in rig.metrics().text


async def test_listeners_come_and_go(rig: Rig) -> None:
    second = {"name": "second", "mode": "forward"}
    await rig.start()
    assert await reload(rig, listeners=[FORWARD, second])
    client = await rig.client("second")
    assert (await client.ask(get(f"{URL}/"))).status == 200
    assert await reload(rig)
    assert await client.closed_cleanly()
    assert await refused(rig.port("second"))
    assert 'listener="second"' not in rig.metrics().text
    assert await reload(rig, listeners=[FORWARD, second])
    again = await rig.client("second")
    assert (await again.ask(get(f"{URL}/"))).status == 200


async def test_a_request_on_a_listener_that_goes_is_answered_first(rig: Rig) -> None:
    second = {"name": "second", "mode": "forward"}
    await rig.start(listeners=[FORWARD, second])
    client = await rig.client("second")
    release = asyncio.Event()

    async def slow(request: Request) -> None:
        await release.wait()
        await request.connection.send(ok(b"slow"))

    rig.secure.reply(slow)
    await client.send(get(f"{URL}/"))
    await rig.secure.next_request()
    assert await reload(rig)
    release.set()
    assert (await client.answer()).body == b"slow"
    assert await client.closed_cleanly()


async def test_a_request_on_a_listener_that_went_still_has_its_deadline(rig: Rig) -> None:
    second = {"name": "second", "mode": "forward"}
    limits = {"first_byte": "500ms"}
    await rig.start(listeners=[FORWARD, second], limits=limits)
    client = await rig.client("second")

    async def never(request: Request) -> None:
        await request.connection.read_to_the_end()

    rig.secure.reply(never)
    await client.send(get(f"{URL}/"))
    await rig.secure.next_request()
    assert await reload(rig, limits=limits)
    assert (await client.answer()).reason == "timeout"
    assert await client.closed_cleanly()


async def test_a_unix_socket_that_goes_is_removed_and_may_come_back(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "proxy.sock"
    unix = {"name": "unix", "mode": "forward", "bind": f"unix:{file}"}
    await rig.start(listeners=[FORWARD, unix])
    assert await reload(rig)
    assert not file.exists()
    assert await reload(rig, listeners=[FORWARD, unix])
    async with await RawClient.to_path(str(file)) as client:
        assert (await client.ask(get(f"{URL}/"))).status == 200


async def test_the_telemetry_listener_may_move(rig: Rig) -> None:
    await rig.start()
    old = rig.ports.pop("telemetry")
    assert await reload(rig)
    assert rig.port("telemetry") != old
    assert await status(rig, "/metrics") == 200
    assert await refused(old)


async def test_own_sockets_are_refused_as_upstreams_wherever_they_are_after_a_reload(rig: Rig) -> None:
    rig.names["self.test"] = ["127.0.0.1"]
    await rig.start()
    port = rig.port("second")
    route = rig.plain_route(name="self", host="self.test", port=port)
    assert await reload(rig, listeners=[FORWARD, {"name": "second", "mode": "forward"}], routes=[route])
    client = await rig.client()
    assert (await client.ask(get(f"http://self.test:{port}/"))).reason == "address_denied"


async def test_limits_hold_from_the_next_request_on(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    long = get(f"{URL}/", "X: " + "y" * 3000)
    assert (await client.ask(long)).status == 200
    assert await reload(rig, limits={"head": "2KiB", "target": "1KiB"})
    assert (await client.ask(long)).reason == "head_too_large"


async def test_a_changed_file_is_noticed_and_taken_over(rig: Rig) -> None:
    await rig.start(routes=[rig.route()])
    rig.sidecar.watch(rig.file, Watched((rig.file,)), asyncio.Event())
    client = await rig.client()
    rig.file.write_text(rig.text(rig.configuration()))
    rig.clock.ahead += 6
    await until(lambda: rig.value("config_reloads_total", result="applied") == 1, "it is read again")
    assert (await client.ask(get(f"http://localhost:{rig.plain.port}/"))).status == 200
    rig.clock.ahead += 60
    await client.ask(get(f"{URL}/"))
    assert rig.value("config_reloads_total", result="applied") == 1


async def test_a_changed_local_ca_is_noticed_and_taken_over(rig: Rig, tmp_path: Path) -> None:
    key = authorities.new_key()
    certificate, key_file = authorities.write(tmp_path, key, *authorities.constrained(key, [API]))
    section = {"certificate": str(certificate), "key": f"file:{key_file}"}
    await rig.start(routes=[rig.route(intercept=True)], interception=section)
    rig.sidecar.watch(rig.file, Watched((rig.file, certificate, key_file)), asyncio.Event())

    successor = authorities.new_key()
    authorities.write(tmp_path, successor, *authorities.constrained(successor, [API]))
    rig.clock.ahead += 6

    await until(lambda: rig.value("config_reloads_total", result="applied") == 1, "the new CA is taken over")


async def test_a_reload_can_be_asked_for_again_after_one_that_failed(rig: Rig) -> None:
    await rig.start(routes=[rig.route()])
    asked = asyncio.Event()
    rig.sidecar.watch(rig.file, Watched((rig.file,)), asked)
    for junk in (b"\xff\xfe\0", b"", b"[]", b"a: &a [*a]", b"{" * 5000):
        rejected = rig.value("config_reloads_total", result="rejected")
        rig.file.write_bytes(junk)
        asked.set()
        await until(lambda: rig.value("config_reloads_total", result="rejected") > rejected, "it is refused")  # noqa: B023
    rig.file.unlink()
    rejected = rig.value("config_reloads_total", result="rejected")
    asked.set()
    await until(lambda: rig.value("config_reloads_total", result="rejected") > rejected, "it is refused")
    rig.file.write_text(rig.text(rig.configuration()))
    asked.set()
    await until(lambda: rig.value("config_reloads_total", result="applied") == 1, "it is taken over")


# --- the secrets of listeners -----------------------------------------------------------------------------------------


def guarded(secret: Path) -> list[dict[str, Any]]:
    return [FORWARD | {"auth": {"proxy_password": f"file:{secret}"}}]


def with_password(password: str) -> bytes:
    return get(f"{URL}/", f"Proxy-Authorization: Basic {b64encode(f'any:{password}'.encode()).decode()}")


async def test_a_start_without_a_listener_s_secret_names_it_and_leaves_nothing_open(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(SecretMissing, match=r"^listeners\.egress\.auth: file:.* No such file"):
        await rig.start_cold(listeners=guarded(tmp_path / "absent"))
    assert await refused(rig.port("egress"))


async def test_a_reload_reads_the_secret_of_a_listener_again(rig: Rig, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("first\n")
    await rig.start(listeners=guarded(secret))
    client = await rig.client()
    assert (await client.ask(with_password("first"))).status == 200
    secret.write_text("second\n")
    assert (await client.ask(with_password("first"))).status == 200
    assert await reload(rig, listeners=guarded(secret))
    assert (await client.ask(with_password("first"))).reason == "proxy_auth_required"
    assert (await client.ask(with_password("second"))).status == 200
    assert await reload(rig)
    assert (await client.ask(get(f"{URL}/"))).status == 200


async def test_a_listener_whose_secret_is_gone_keeps_the_old_one(rig: Rig, logs: Logs, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("first")
    await rig.start(listeners=guarded(secret))
    secret.unlink()
    assert not await reload(rig, listeners=guarded(secret))
    client = await rig.client()
    assert (await client.ask(with_password("first"))).status == 200
    assert (await client.ask(get(f"{URL}/"))).status == 407
    [line] = logs("reload_rejected")
    assert line["reason"] == "secret_missing"
    assert "listeners.egress.auth.proxy_password" in line["detail"]


async def test_a_changed_secret_of_a_listener_is_noticed_and_taken_over(rig: Rig, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("one")
    second.write_text("two")
    await rig.start(listeners=guarded(first))
    rig.sidecar.watch(rig.file, Watched((rig.file, first)), asyncio.Event())
    client = await rig.client()

    async def passes(password: str, reloads: int) -> None:
        rig.clock.ahead += 6
        await until(lambda: rig.value("config_reloads_total", result="applied") == reloads, "it is read again")
        assert (await client.ask(with_password(password))).status == 200

    first.write_text("one, changed")
    await passes("one, changed", 1)
    rig.file.write_text(rig.text(rig.configuration(listeners=guarded(second))))
    await passes("two", 2)
    second.write_text("two, changed")
    await passes("two, changed", 3)


# --- a reload that is rejected ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        ({"routs": []}, "configuration_invalid", "routs"),
        ({"unmatched": "perhaps"}, "configuration_invalid", "perhaps"),
        ({"credentials": {}}, "configuration_invalid", "orders"),
        ({"secret": "file:/nowhere/secret"}, "secret_missing", "/nowhere/secret"),
        ({"bind": True}, "cannot_bind", "in use"),
    ],
)
async def test_a_reload_that_fails_leaves_everything_as_it_is_and_says_why(
    rig: Rig, logs: Logs, change: dict[str, Any], reason: str, said: str
) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        if change.get("bind"):
            fresh = {"name": "fresh", "mode": "forward"}
            busy = {"name": "busy", "mode": "forward", "bind": f"127.0.0.1:{taken.getsockname()[1]}"}
            change = {"listeners": [FORWARD, fresh, busy]}
        if secret := change.get("secret"):
            change = {"credentials": {"orders": rig.credential(client_secret=secret)}}
        assert not await reload(rig, routes=[rig.plain_route()], **change)
    assert (await client.ask(get(f"{URL}/"))).status == 200
    assert len(rig.idp.token_requests) == 1
    assert rig.value("config_reloads_total", result="rejected") == 1
    assert rig.value("config_last_reload_successful") == 0
    [line] = logs("reload_rejected")
    assert line["reason"] == reason
    assert said in line["detail"]
    if "fresh" in rig.ports:
        assert await refused(rig.port("fresh"))
        assert 'listener="fresh"' not in rig.metrics().text
    assert await reload(rig)
    assert rig.value("config_last_reload_successful") == 1


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_a_drain_shows_on_readyz_and_on_answers_and_goes_on_accepting(rig: Rig) -> None:
    await rig.start(limits={"drain": "10s"})
    kept = await rig.client()
    assert (await kept.ask(get(f"{URL}/"))).value("Connection") is None
    draining = asyncio.ensure_future(rig.sidecar.drain())
    await until(lambda: rig.sidecar.health.draining, "it drains")
    assert await status(rig, "/readyz") == 503
    assert [await status(rig, page) for page in ("/livez", "/metrics")] == [200, 200]
    answer = await kept.ask(get(f"{URL}/"))
    assert (answer.status, answer.value("Connection")) == (200, "close")
    assert await kept.closed_cleanly()
    fresh = await rig.client()
    answer = await fresh.ask(get("http://elsewhere.test/"))
    assert (answer.status, answer.value("Connection")) == (403, "close")
    async with asyncio.timeout(8):
        await draining  # two seconds after the last request


async def test_a_drain_waits_for_what_is_in_work_but_not_beyond_its_limit(rig: Rig) -> None:
    await rig.start(limits={"drain": "500ms"})
    client = await rig.client()

    async def never(request: Request) -> None:
        await request.connection.read_to_the_end()

    rig.secure.reply(never)
    await client.send(get(f"{URL}/"))
    await rig.secure.next_request()
    began_at = asyncio.get_running_loop().time()
    async with asyncio.timeout(5):
        await rig.sidecar.drain()
    assert asyncio.get_running_loop().time() - began_at >= 0.45
    await rig.stop()
    assert await client.closed_cleanly() is False


async def test_closing_leaves_no_task_and_no_socket(rig: Rig) -> None:
    sidecar = await rig.start()
    clients = [await rig.client() for _ in range(3)]
    for client in clients:
        await client.ask(get(f"{URL}/"))
    await rig.stop()
    assert len(sidecar._tasks) == 0
    for client in clients:
        assert (await client.rest())[0] == b""
    await until(lambda: all(each.ended.is_set() for each in rig.secure.connections), "the pool is empty")
    assert await refused(rig.port("egress"))
    assert await refused(rig.port("telemetry"))


async def test_two_sidecars_live_side_by_side_in_one_loop(rig: Rig, tmp_path: Path) -> None:
    await rig.start()
    ports = {name: free_port() for name in ("telemetry", "egress")}
    text = rig.text(
        rig.configuration(
            telemetry={"bind": f"127.0.0.1:{ports['telemetry']}"},
            listeners=[FORWARD | {"bind": f"127.0.0.1:{ports['egress']}"}],
            routes=[rig.plain_route()],
        )
    )
    other = Sidecar(load.parse(text, "other.yaml"))
    await other.start()
    try:
        async with await RawClient.to(ports["egress"]) as client:
            assert (await client.ask(get(f"http://localhost:{rig.plain.port}/"))).status == 200
        mine = await rig.client()
        assert (await mine.ask(get(f"{URL}/"))).status == 200
        assert rig.total("http_requests_total") == 1
    finally:
        await other.close()
