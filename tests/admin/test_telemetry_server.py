"""The telemetry listener over real sockets: what each probe means, and what a stranger can and cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.admin import page_server
from sidecar.admin.page_server import CONNECTIONS, HEAD_BYTES, HEAD_SECONDS, IDLE_SECONDS
from sidecar.admin.telemetry_server import TelemetryServer
from sidecar.config.model import Bind
from sidecar.errors import CannotBind
from sidecar.runtime import Tasks
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Health:
    """A health that says what the test wants."""

    def __init__(self) -> None:
        self.started = True
        self.draining = False
        self.missing: list[str] = []
        self.broken = False

    def not_ready(self) -> list[str]:
        if self.broken:
            raise RuntimeError("cn4ry-internal-detail")
        return self.missing


class Served:
    """A running server and everything that it was given."""

    def __init__(self, server: TelemetryServer, health: Health, metrics: Metrics, tasks: Tasks) -> None:
        self.server = server
        self.health = health
        self.metrics = metrics
        self.tasks = tasks
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self._writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        for writer in self._writers:
            await hang_up(writer)
        await self.server.close()
        await self.tasks.close()

    async def get(self, path: str, method: str = "GET", **fields: str) -> tuple[int, Any, dict[str, str]]:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        url = f"http://127.0.0.1:{self.server.port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, headers=headers, allow_redirects=False) as response,
        ):
            text = await response.text()
            is_json = response.content_type == "application/json" and text
            return response.status, json.loads(text) if is_json else text, dict(response.headers)

    async def send(self, raw: bytes) -> bytes:
        """Send bytes, and read until the server closes."""
        reader, writer = await self.connect()
        writer.write(raw)
        async with asyncio.timeout(5):
            return await reader.read()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def is_cut_off(reader: asyncio.StreamReader) -> bool:
    """Wait until the server has ended the connection; whatever it still sent is thrown away."""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 20):
                pass
    return True


def crash(name: str, error: BaseException) -> None:
    raise AssertionError(f"task {name} crashed") from error


@contextlib.asynccontextmanager
async def serving(bind: Bind) -> AsyncIterator[Served]:
    tasks = Tasks(crash)
    health, metrics = Health(), Metrics()
    server = TelemetryServer(bind, metrics=metrics, health=health, tasks=tasks)
    await server.serve()
    served = Served(server, health, metrics, tasks)
    try:
        yield served
    finally:
        await served.close()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(Bind(host="127.0.0.1", port=0)) as served:
        yield served


# --- what the probes mean ---


async def test_livez_is_green_whatever_else_is_wrong(served: Served) -> None:
    served.health.started = False
    served.health.draining = True
    served.health.missing = ["orders"]
    served.health.broken = True
    assert (await served.get("/livez"))[:2] == (200, {"ok": True, "missing": []})


async def test_startupz_is_green_once_the_listeners_are_open_and_stays_so(served: Served) -> None:
    served.health.started = False
    assert (await served.get("/startupz"))[:2] == (503, {"ok": False, "missing": ["listeners"]})
    served.health.started = True
    served.health.draining = True
    served.health.missing = ["orders"]
    assert (await served.get("/startupz"))[:2] == (200, {"ok": True, "missing": []})


async def test_readyz_names_what_is_missing(served: Served) -> None:
    assert (await served.get("/readyz"))[:2] == (200, {"ok": True, "missing": []})
    served.health.missing = ["orders", "crm"]
    assert (await served.get("/readyz"))[:2] == (503, {"ok": False, "missing": ["orders", "crm"]})
    served.health.missing = [f"c{number}" for number in range(1000)]
    assert len((await served.get("/readyz"))[1]["missing"]) < 100


async def test_readyz_is_red_while_draining_and_before_the_start(served: Served) -> None:
    served.health.draining = True
    assert (await served.get("/readyz"))[:2] == (503, {"ok": False, "missing": ["draining"]})
    served.health.draining = False
    served.health.started = False
    assert (await served.get("/readyz"))[:2] == (503, {"ok": False, "missing": ["listeners"]})


async def test_metrics_are_served_in_the_format_asked_for(served: Served) -> None:
    status, text, headers = await served.get("/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "tokensidecar_build_info" in {
        sample.name for f in text_string_to_metric_families(text) for sample in f.samples
    }
    status, text, headers = await served.get("/metrics", Accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")


async def test_the_lag_of_the_loop_is_measured_while_the_server_runs(served: Served) -> None:
    assert "event loop lag" in repr(served.tasks)
    await served.server.close()
    async with asyncio.timeout(5):
        while len(served.tasks):
            await asyncio.sleep(0)


# --- what it answers otherwise ---


async def test_head_is_get_without_the_body(served: Served) -> None:
    _, _, full = await served.get("/livez")
    status, body, headers = await served.get("/livez", "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, "", full["Content-Length"])


@pytest.mark.parametrize("path", ["/", "/metrics/", "/debug/pprof", "/..%2fetc/passwd", "//metrics"])
async def test_every_other_path_is_not_found(served: Served, path: str) -> None:
    answer = await served.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")


async def test_a_query_does_not_matter(served: Served) -> None:
    assert (await served.get("/livez?verbose=1"))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_every_other_method_is_refused(served: Served, method: str) -> None:
    answer = await served.send(f"{method} /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET, HEAD\r\n" in answer


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"BREW /livez HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GET /livez HTTP/3.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /" + b"x" * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"x" * HEAD_BYTES, 431),
    ],
)
async def test_a_malformed_request_is_refused_closed_and_not_logged(
    served: Served, raw: bytes, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await served.send(raw)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"\r\nConnection: close\r\n" in answer
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
    assert (await served.get("/livez"))[0] == 200


async def test_a_failure_inside_shows_nothing_of_itself(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.health.broken = True
    status, body, _ = await served.get("/readyz")
    assert (status, body) == (500, "internal error\n")
    assert json.loads(capsys.readouterr().err)["event"] == "telemetry_failed"


# --- connections ---


async def test_a_connection_serves_many_requests(served: Served) -> None:
    reader, writer = await served.connect()
    for _ in range(3):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Connection: close" not in head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)


async def test_a_head_may_come_byte_by_byte(served: Served) -> None:
    reader, writer = await served.connect()
    for byte in b"GET /livez HTTP/1.0\r\n\r\n":
        writer.write(bytes([byte]))
        await writer.drain()
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")


async def test_who_sends_on_before_the_answer_gets_one_answer_only(served: Served) -> None:
    answer = await served.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert b"\r\nConnection: close\r\n" in answer


async def test_who_does_not_read_is_cut_off_and_costs_one_answer_of_memory(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.metrics, "render", lambda accept: (b"x" * 20_000_000, "text/plain"))
    reader, writer = await served.connect()
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readexactly(100)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await is_cut_off(reader)


async def test_whoever_fills_the_listener_with_idle_connections_keeps_no_probe_out(served: Served) -> None:
    opened = [await served.connect() for _ in range(CONNECTIONS)]
    reader, writer = opened[0]
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert (await served.get("/livez"))[0] == 200
    async with asyncio.timeout(5):
        while len(served.server._connections) >= CONNECTIONS:
            await asyncio.sleep(0)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")  # one that speaks is not the one that makes room
    await reader.readuntil(b"}\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    closed = [await is_cut_off(each) for each, _ in opened[1:2]]
    assert closed == [True]


async def test_a_head_that_does_not_end_is_given_up(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(b"GET /livez")
    async with asyncio.timeout(5):
        while not served.server._connections:
            await asyncio.sleep(0)
    now = asyncio.get_running_loop().time()
    served.server.sweep(now)
    assert len(served.server._connections) == 1
    served.server.sweep(now + HEAD_SECONDS + 1)
    assert await is_cut_off(reader)


async def test_an_idle_connection_outlives_a_scrape_interval_and_then_ends(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"}\n")
    now = asyncio.get_running_loop().time()
    served.server.sweep(now + 60)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"}\n")
    served.server.sweep(now + IDLE_SECONDS + 10)
    assert await is_cut_off(reader)


# --- the socket ---


async def test_an_address_in_use_is_one_clear_message(served: Served) -> None:
    bind = Bind(host="127.0.0.1", port=served.server.port)
    second = TelemetryServer(bind, metrics=served.metrics, health=served.health, tasks=served.tasks)
    with pytest.raises(CannotBind, match=rf"telemetry cannot listen on {bind}: .*in use") as caught:
        second.open()
    assert caught.value.exit_code == 8
    await second.close()
    assert (await served.get("/livez"))[0] == 200


async def test_a_unix_socket_has_its_mode_and_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.sock"
    async with serving(Bind(path=str(path), mode=0o660)) as served:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert (served.server.port, served.server.address) == (0, None)
        connector = aiohttp.UnixConnector(str(path))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://localhost/readyz") as response,
        ):
            assert response.status == 200
    assert not path.exists()


async def test_all_interfaces_means_ipv4_and_ipv6() -> None:
    async with serving(Bind(host="::", port=0)) as served:
        assert (await served.get("/livez"))[0] == 200


async def test_a_server_that_was_only_opened_lets_go_of_its_port() -> None:
    tasks = Tasks(crash)
    bind = Bind(host="127.0.0.1", port=0)
    first = TelemetryServer(bind, metrics=Metrics(), health=Health(), tasks=tasks)
    first.open()
    port = first.port
    assert first.address == ("127.0.0.1", port)
    await first.close()
    second = TelemetryServer(Bind(host="127.0.0.1", port=port), metrics=Metrics(), health=Health(), tasks=tasks)
    second.open()
    await second.close()


async def test_a_closed_server_breaks_its_connections_off(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"}\n")
    port = served.server.port
    await served.server.close()
    assert await is_cut_off(reader)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert served.server.address is None


async def test_overdue_connections_are_looked_for_without_being_asked(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.server.close()
    monkeypatch.setattr(page_server, "SWEEP_SECONDS", 0.001)
    monkeypatch.setattr(page_server, "HEAD_SECONDS", 0.001)
    async with serving(Bind(host="127.0.0.1", port=0)) as quick:
        reader, _ = await quick.connect()
        assert await is_cut_off(reader)
