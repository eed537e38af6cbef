"""The user at the other end of a socket, as the kernel tells it."""

from __future__ import annotations

import os
import socket
from typing import Any

from sidecar.proxy.peer import peer_uid, source_of
from sidecar.telemetry.abuse import Source


class Transport:
    """A transport that has this socket."""

    def __init__(self, sock: socket.socket | None) -> None:
        self.sock = sock

    def get_extra_info(self, name: str, default: object = None) -> Any:
        if name == "peername" and self.sock is not None:
            return self.sock.getpeername()
        return self.sock if name == "socket" else default


def test_a_unix_socket_tells_the_user_of_its_peer() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_uid(Transport(one)) == os.getuid()


def test_what_has_no_such_peer_tells_no_user_that_a_configuration_can_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert peer_uid(Transport(client)) in (None, (1 << 32) - 1)


def test_a_socket_that_is_closed_tells_nothing() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    one.close()
    other.close()

    assert peer_uid(Transport(one)) is None
    assert peer_uid(Transport(None)) is None
    assert source_of(Transport(None), "egress") == Source("egress")


def test_a_source_is_the_user_and_process_of_a_unix_socket() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        source = source_of(Transport(one), "egress")
    assert (source.name, source.uid, source.pid, source.port) == ("egress", os.getuid(), os.getpid(), None)


def test_a_source_on_tcp_is_no_more_than_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, peer = server.accept()
        with accepted:
            source = source_of(Transport(accepted), "egress")
        assert client.getsockname() == peer
    assert (source.name, source.uid, source.pid, source.port) == ("egress", None, None, peer[1])
