"""Sockets the app connects to: who may reach them, what happens to files, and the sweep that acts on deadlines."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.config.model import Bind
from sidecar.errors import CannotBind
from sidecar.proxy.listener import BACKLOG, SHORTEST_SWEEP_SECONDS, SWEEP_SECONDS, open_socket, sweep_interval
from tests.end_to_end.waiting import free_port, until
from tests.proxy.raw_client import RawClient, get
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.rig import Rig

URL = f"http://{API}"


async def test_a_unix_socket_serves_and_has_the_mode_of_the_configuration(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "proxy.sock"
    await rig.start(listeners=[{"name": "egress", "mode": "forward", "bind": {"unix": str(file), "mode": "0660"}}])
    assert stat.S_IMODE(file.stat().st_mode) == 0o660
    async with await RawClient.to_path(str(file)) as client:
        assert (await client.ask(get(f"{URL}/1"))).body == b"GET /1 0"
        assert (await client.ask(get(f"{URL}/2"))).body == b"GET /2 0"
        assert rig.value("connections_open", listener="egress") == 1
    await rig.stop()
    assert not file.exists()


async def test_a_unix_socket_is_for_its_owner_alone_by_default(tmp_path: Path) -> None:
    file = tmp_path / "proxy.sock"
    with open_socket(Bind(path=str(file)), "listener egress"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_unix_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "proxy.sock"
    open_socket(Bind(path=str(file)), "listener egress").close()
    assert file.is_socket()
    with open_socket(Bind(path=str(file)), "listener egress"):
        assert file.is_socket()


async def test_a_unix_socket_in_use_is_an_error_and_stays(tmp_path: Path) -> None:
    bind = Bind(path=str(tmp_path / "proxy.sock"))
    with open_socket(bind, "listener egress") as living:
        with pytest.raises(CannotBind, match=r"listener egress cannot listen on unix:.* in use by another process"):
            open_socket(bind, "listener egress")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(bind.path)
            living.accept()[0].close()


async def test_a_file_of_another_kind_is_never_removed(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "precious.txt"
    file.write_text("precious")
    with pytest.raises(CannotBind, match="another kind"):
        await rig.start_cold(listeners=[{"name": "egress", "mode": "forward", "bind": f"unix:{file}"}])
    assert file.read_text() == "precious"


async def test_a_failed_start_leaves_the_sockets_of_others_alone(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "proxy.sock"
    port = free_port()
    listeners = [
        {"name": "taken", "mode": "forward", "bind": f"127.0.0.1:{port}"},
        {"name": "unix", "mode": "forward", "bind": f"unix:{file}"},
    ]
    with open_socket(Bind(path=str(file)), "another sidecar"), socket.create_server(("127.0.0.1", port)):
        with pytest.raises(CannotBind, match=str(port)):
            await rig.start_cold(listeners=listeners)
        assert file.is_socket()


def test_an_unknown_group_is_said_and_leaves_no_file(tmp_path: Path) -> None:
    file = tmp_path / "proxy.sock"
    with pytest.raises(CannotBind, match="there is no group nobody-has-this"):
        open_socket(Bind(path=str(file), group="nobody-has-this"), "listener egress")
    assert not file.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to a group it is not in")
def test_the_group_of_a_unix_socket_is_set(tmp_path: Path) -> None:
    file = tmp_path / "proxy.sock"
    with open_socket(Bind(path=str(file), group="daemon", mode=0o660), "listener egress"):
        assert file.group() == "daemon"


def test_a_port_in_use_is_said_with_the_listeners_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = Bind(host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(CannotBind, match=rf"listener egress cannot listen on {bind}: .* in use"):
            open_socket(bind, "listener egress")


def test_an_address_of_another_machine_cannot_be_bound() -> None:
    with pytest.raises(CannotBind, match=r"192\.0\.2\.1"):
        open_socket(Bind(host="192.0.2.1", port=free_port()), "listener egress")


@pytest.mark.parametrize("host", ["::1", "localhost"])
async def test_other_spellings_of_loopback_serve(rig: Rig, host: str) -> None:
    port = rig.port("egress")
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        open_socket(Bind(host=host, port=port), "probe").close()
    except CannotBind:
        pytest.skip("this machine has no IPv6")
    await rig.start(listeners=[{"name": "egress", "mode": "forward", "bind": bind}])
    reader_writer = await asyncio.open_connection(host, port)
    async with RawClient(*reader_writer) as client:
        assert (await client.ask(get(f"{URL}/"))).status == 200


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        ({}, SWEEP_SECONDS),
        ({"first_byte": "4s"}, 0.5),
        ({"client_idle": "1ms"}, SHORTEST_SWEEP_SECONDS),
    ],
)
async def test_deadlines_are_looked_at_often_enough_for_the_shortest(
    rig: Rig, limits: dict[str, str], seconds: float
) -> None:
    await rig.start_cold(limits=limits)
    assert sweep_interval(rig.sidecar.gateway) == seconds


async def test_idle_connections_to_upstreams_are_closed_after_their_time(rig: Rig) -> None:
    await rig.start(limits={"upstream_idle": "200ms"})
    client = await rig.client()
    assert (await client.ask(get(f"{URL}/"))).status == 200
    connection = await rig.secure.next_connection()
    await until(connection.ended.is_set, "the idle connection is closed")
    assert len(rig.sidecar.gateway.pool._all) == 0
    assert (await client.ask(get(f"{URL}/"))).status == 200


async def test_a_reload_can_change_the_mode_of_a_socket_that_stays_open(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "proxy.sock"
    await rig.start(listeners=[{"name": "egress", "mode": "forward", "bind": {"unix": str(file), "mode": "0600"}}])
    listener = rig.sidecar.listeners[0]
    listener.adopt(Bind(path=str(file), mode=0o660))
    assert stat.S_IMODE(file.stat().st_mode) == 0o660
    with pytest.raises(CannotBind, match="there is no group"):
        listener.adopt(Bind(path=str(file), mode=0o660, group="no-such-group"))
    assert listener.bind == Bind(path=str(file), mode=0o660)


async def test_a_flood_of_connections_beyond_the_limit_is_not_waited_for(rig: Rig, monkeypatch: Any) -> None:
    monkeypatch.setattr("sidecar.proxy.gateway.MOST_LINGERING", 2)
    await rig.start(limits={"connections": 1})
    first = await rig.client()
    refused = [await rig.client() for _ in range(10)]
    for client in refused:
        received, _ = await client.rest()
        assert received.startswith(b"HTTP/1.1 503 ")
        await client.close()
    await until(lambda: rig.total("connections_open") == 1, "nobody lingers")
    assert (await first.ask(get(f"http://{API}/"))).status == 200


async def test_a_burst_of_connections_finds_room_to_wait(rig: Rig) -> None:
    """Serving listens again, and asyncio's own backlog is 100: beyond it a connection waits for its second SYN."""
    await rig.start()
    listening = rig.sidecar.listeners[0]._socket
    assert listening is not None
    information = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    most = int(Path("/proc/sys/net/core/somaxconn").read_text())  # noqa: ASYNC240 - a file without a disk
    room = struct.unpack_from("6I", information, 8)[5]  # tcpi_sacked of a listening socket (tcp(7))
    assert room == min(BACKLOG, most)
