"""The user at the other end of a socket, as the kernel tells it."""

from __future__ import annotations

import os
import socket
from typing import Any

from sidecar.proxy.peer import peer_uid


class Transport:
    """A transport that has this socket."""

    def __init__(self, sock: socket.socket | None) -> None:
        self.sock = sock

    def get_extra_info(self, name: str, default: object = None) -> Any:
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
