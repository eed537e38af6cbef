"""Bad input to a real process: one clear message, the exit code of the contract, no traceback, no secret."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.end_to_end.programs import Program, clean_environment
from tests.end_to_end.waiting import free_port
from tests.end_to_end.wire import exchange, status_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.end_to_end.origin import Authority
    from tests.end_to_end.sidecar_process import Configuration, SidecarProcess

SECRET: Final = "canary-bad-input-5ecre7"
SECONDS: Final = 20.0
IN_USE: Final = "the address is in use by another process"


def valid() -> dict[str, Any]:
    return {
        "listeners": [{"name": "egress", "mode": "forward", "bind": f"127.0.0.1:{free_port()}"}],
        "telemetry": {"bind": f"127.0.0.1:{free_port()}"},
        "credentials": {
            "orders": {
                "grant": "client_credentials",
                "token_url": "http://127.0.0.1:1/token",
                "client_id": "client",
                "client_secret": "env:ORDERS_SECRET",
            }
        },
        "routes": [{"host": "api.example.com", "credential": "orders"}],
    }


def changed(*path: str | int, to: Any) -> str:
    """A valid configuration with one value replaced."""
    configuration = valid()
    place: Any = configuration
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = to
    return json.dumps(configuration)


ORDERS: Final = ("credentials", "orders")
CASES: Final[dict[str, tuple[Callable[[], str], int, str]]] = {
    "broken YAML": (lambda: "listeners: [\n  - {name: egress", 3, "sidecar.yaml:"),
    "a tab in the indentation": (lambda: "listeners:\n\t- name: egress\n", 3, "sidecar.yaml:2"),
    "an unknown key": (lambda: changed("routs", to=[]), 3, "did you mean 'routes'"),
    "a duplicate key": (lambda: json.dumps(valid())[:-1] + ', "routes": []}', 3, "routes"),
    "a wrong type": (lambda: changed("listeners", to="egress"), 3, "listeners"),
    "a wrong choice": (lambda: changed("listeners", 0, "mode", to="foward"), 3, "forward"),
    "a number without its unit": (lambda: changed("limits", to={"connect": 5}), 3, "connect"),
    "a port out of range": (lambda: changed("listeners", 0, "bind", to="127.0.0.1:70000"), 3, "70000"),
    "an open listener": (lambda: changed("listeners", 0, "bind", to="0.0.0.0:6180"), 3, "beyond_loopback"),
    "an inline secret": (lambda: changed(*ORDERS, "client_secret", to=SECRET), 3, "client_secret"),
    "a token endpoint without TLS": (lambda: changed(*ORDERS, "token_url", to="http://idp.example/t"), 3, "token_url"),
    "a credential that is not there": (lambda: changed("routes", 0, "credential", to="order"), 3, "'orders'"),
    "a grant without its keys": (lambda: changed(*ORDERS, "grant", to="device_code"), 3, "device_authorization_url"),
    "a grant without a store": (lambda: changed(*ORDERS, "grant", to="refresh_token"), 3, "'store'"),
    "a grant that is refused": (lambda: changed(*ORDERS, "grant", to="password"), 3, "RFC 9700"),
    "a provider without a preset": (lambda: changed(*ORDERS, "provider", to="entra"), 3, "no preset"),
    "an unreadable CA": (lambda: changed("routes", 0, "ca_file", to="/nowhere/ca.pem"), 3, "/nowhere/ca.pem"),
    "a missing secret file": (lambda: changed(*ORDERS, "client_secret", to="file:/nowhere/s"), 4, "/nowhere/s"),
    "a missing secret variable": (lambda: changed(*ORDERS, "client_secret", to="env:NOT_THERE"), 4, "NOT_THERE"),
}


@pytest.mark.parametrize("case", CASES)
async def test_bad_input_is_one_clear_message_and_the_exit_code_of_the_contract(tmp_path: Path, case: str) -> None:
    text, code, said = CASES[case]
    program = start(tmp_path, text())
    assert await program.ended(seconds=SECONDS) == code
    assert said in program.stderr
    assert_clear(program)


async def test_a_port_in_use_is_one_clear_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        program = start(tmp_path, changed("listeners", 0, "bind", to=bind))
        assert await program.ended(seconds=SECONDS) == 8
    assert program.stderr == f"sidecar: listener egress cannot listen on {bind}: {IN_USE}\n"
    assert_clear(program)


def start(folder: Path, text: str) -> Program:
    file = folder / "sidecar.yaml"
    file.write_text(text)
    program = Program(
        "bad",
        [sys.executable, "-m", "sidecar", "run", "-c", str(file)],
        folder=folder,
        environment=clean_environment(ORDERS_SECRET=SECRET),
    )
    program.start()
    return program


def assert_clear(program: Program) -> None:
    assert program.stdout == ""
    assert "Traceback" not in program.stderr
    assert SECRET not in program.stderr
    assert program.stderr.startswith("sidecar: ")


# --- malformed HTTP ---------------------------------------------------------------------------------------------------

REQUESTS: Final[dict[str, tuple[bytes, int]]] = {
    "no Host": (b"GET http://localhost/ HTTP/1.1\r\n\r\n", 400),
    "a length and chunks": (
        (
            b"POST http://localhost/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        400,
    ),
    "another protocol": (b"\x16\x03\x01\x02\x00 a TLS hello\r\n\r\n", 400),
    "an unknown method": (b"BREW http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "a long target": (b"GET http://localhost/" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    "a long head": (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431),
    "an odd expectation": (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\n\r\n", 417),
}


async def test_malformed_http_is_a_4xx_of_the_contract_and_reaches_nobody(
    authority: Authority, start_sidecar: Callable[[Configuration], Awaitable[SidecarProcess]]
) -> None:
    reached = []

    async def origin(reader: object, writer: object) -> None:
        reached.append(writer)

    server = await asyncio.start_server(origin, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    configuration = valid() | {
        "routes": [{"host": "localhost", "port": port, "upstream_tls": "plain", "credential": "orders"}],
        "allow_inline_secrets": True,
    }
    configuration["credentials"]["orders"]["client_secret"] = SECRET
    del configuration["telemetry"], configuration["listeners"][0]["bind"]
    async with server:
        sidecar = await start_sidecar(configuration)
        for case, (request, status) in REQUESTS.items():
            request = request.replace(b"http://localhost/", f"http://localhost:{port}/".encode())
            answer = await exchange(sidecar.port("egress"), request + b"GET / HTTP/1.1\r\n\r\n")
            assert status_of(answer) == status, case
            assert answer.count(b"\r\nDate: ") == 1, case
            assert b"application/problem+json" in answer, case
        assert not reached
    assert await sidecar.stop() == 0
