"""A proxy with a password, as curl and Python requests use it, and its rotation under a running process."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.simulation.idp import MockIdP
from tests.end_to_end.programs import Program
from tests.end_to_end.waiting import until
from tests.proxy.raw_origin import Origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.end_to_end.sidecar_process import Configuration, SidecarProcess

CURL: Final = shutil.which("curl")
WITH_CURL: Final = pytest.mark.skipif(CURL is None, reason="curl is not installed")
USER: Final = "s0mebody"
PASSWORDS: Final = "first-p4ssword", "second-p4ssword"
WITH_REQUESTS: Final = """
import requests, sys
proxies = {"http": sys.argv[1]}
with requests.Session() as session:
    session.trust_env = False
    print(*(session.request(method, sys.argv[2], proxies=proxies, data=data, timeout=30).status_code
            for method, data in (("GET", None), ("POST", "an order"), ("GET", None))))
"""


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def sidecar(
    origin: Origin, tmp_path: Path, start_sidecar: Callable[[Configuration], Awaitable[SidecarProcess]]
) -> AsyncIterator[SidecarProcess]:
    (tmp_path / "password").write_text(PASSWORDS[0] + "\n")
    async with MockIdP() as idp:
        credential = {"grant": "client_credentials", "token_url": idp.token_url, "client_id": "client"}
        configuration: dict[str, Any] = {
            "listeners": [{"name": "egress", "auth": {"proxy_password": f"file:{tmp_path / 'password'}"}}],
            "credentials": {"orders": credential | {"client_secret": "client-secret"}},
            "routes": [{"host": "localhost", "port": origin.port, "upstream_tls": "plain", "credential": "orders"}],
            "allow_inline_secrets": True,
            "log": {"level": "debug", "access": True},
        }
        yield await start_sidecar(configuration)


async def said(folder: Path, name: str, *command: str) -> str:
    """What a program writes to standard output."""
    program = Program(name, list(command), folder=folder)
    before = len(program.stdout)
    async with program:
        await program.ended(seconds=60)
    return program.stdout[before:]


async def curl(folder: Path, proxy: str, url: str, *options: str) -> list[str]:
    """The statuses that curl sees, for one URL after the other on one connection."""
    common = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code} %{num_connects}\n", "--noproxy", ""]
    return (await said(folder, "curl", str(CURL), *common, "--proxy", proxy, *options, url)).splitlines()


def proxy_of(sidecar: SidecarProcess, credentials: str) -> str:
    return sidecar.url("egress").replace("http://", f"http://{credentials}@")


def assert_arrived_clean(origin: Origin, count: int) -> None:
    assert len(origin.requests) == count
    assert all(request.token and not request.values("Proxy-Authorization") for request in origin.requests)


@WITH_CURL
async def test_curl_uses_a_proxy_with_a_password(sidecar: SidecarProcess, origin: Origin, tmp_path: Path) -> None:
    url = f"http://localhost:{origin.port}/[1-2]"
    assert await curl(tmp_path, proxy_of(sidecar, f"any:{PASSWORDS[0]}"), url) == ["200 1", "200 0"]
    assert_arrived_clean(origin, 2)
    assert await curl(tmp_path, sidecar.url("egress"), url) == ["407 1", "407 0"]
    assert await curl(tmp_path, proxy_of(sidecar, "any:wrong"), url, "--proxy-anyauth") == ["407 1", "407 0"]
    assert_arrived_clean(origin, 2)
    metrics = await sidecar.metrics()
    assert metrics.value("denied_requests_total", reason="proxy_auth_required") >= 4


@WITH_CURL
async def test_curl_answers_the_challenge_on_the_connection_it_came_by(
    sidecar: SidecarProcess, origin: Origin, tmp_path: Path
) -> None:
    url = f"http://localhost:{origin.port}/"
    proxy = proxy_of(sidecar, f"any:{PASSWORDS[0]}")
    assert await curl(tmp_path, proxy, url, "--proxy-anyauth") == ["200 1"]
    assert_arrived_clean(origin, 1)
    assert (await sidecar.metrics()).value("denied_requests_total", reason="proxy_auth_required") == 1


@WITH_CURL
async def test_curl_needs_the_password_for_a_tunnel_too(
    sidecar: SidecarProcess, origin: Origin, tmp_path: Path
) -> None:
    url = f"http://localhost:{origin.port}/"
    assert await curl(tmp_path, proxy_of(sidecar, f"any:{PASSWORDS[0]}"), url, "--proxytunnel") == ["200 1"]
    assert_arrived_clean(origin, 1)
    for proxy in (sidecar.url("egress"), proxy_of(sidecar, "any:wrong")):
        assert await curl(tmp_path, proxy, url, "--proxytunnel") == ["000 1"]
    assert_arrived_clean(origin, 1)


async def test_requests_uses_a_proxy_with_a_password_and_a_rotation_needs_no_restart(
    sidecar: SidecarProcess, origin: Origin, tmp_path: Path
) -> None:
    url = f"http://localhost:{origin.port}/"

    async def statuses(password: str) -> str:
        proxy = proxy_of(sidecar, f"{USER}:{password}")
        return (await said(tmp_path, "requests", sys.executable, "-I", "-c", WITH_REQUESTS, proxy, url)).strip()

    assert await statuses(PASSWORDS[0]) == "200 200 200"
    assert await statuses("wrong") == "407 407 407"
    assert_arrived_clean(origin, 3)

    (tmp_path / "password").write_text(PASSWORDS[1] + "\n")

    async def reloaded() -> bool:
        return (await sidecar.metrics()).value("config_reloads_total", result="applied") == 1

    await until(reloaded, "the new password is noticed", seconds=15)
    assert await statuses(PASSWORDS[1]) == "200 200 200"
    assert await statuses(PASSWORDS[0]) == "407 407 407"
    assert await sidecar.stop() == 0
    for word in (*PASSWORDS, USER):
        assert word not in sidecar.stderr + sidecar.stdout
