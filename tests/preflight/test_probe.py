"""Upstreams that are called with the token, and what they say to it."""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from sidecar.preflight.kinds import Kind, Stage
from sidecar.simulation.echo import Echo
from sidecar.simulation.registration import Client
from tests.broker.store_kit import grant, open_store
from tests.preflight.kit import Bench, credential, found
from tests.preflight.servers import Authority, closed, listening
from tests.proxy.conftest import rig, trust  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from sidecar.preflight.findings import Report
    from sidecar.simulation.idp import MockIdP
    from tests.proxy.rig import Rig

PROBE = Stage.PROBE
KEY = "routes[0].probe"


def route(port: int, **changes: Any) -> dict[str, Any]:
    plain = {
        "host": "127.0.0.1",
        "port": port,
        "credential": "orders",
        "upstream_tls": "plain",
        "probe": "/health?a=b%20c",
    }
    return plain | changes


async def probed(bench: Bench, idp: MockIdP, *routes: dict[str, Any], **changes: Any) -> Report:
    return await bench.check(PROBE, credentials={"orders": credential(idp.token_url, **changes)}, routes=list(routes))


@asynccontextmanager
async def upstream(answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_an_upstream_that_takes_the_token_is_well(bench: Bench, idp: MockIdP) -> None:
    async with Echo(is_valid=idp.is_valid) as echo:
        report = await probed(bench, idp, route(echo.port))

    assert found(report, PROBE) == []
    assert [check.said for check in report.of(PROBE)] == ["HTTP 200"]
    assert (echo.served, report.exit_code) == (1, 0)


async def test_over_tls_the_route_s_own_ca_counts(bench: Bench, idp: MockIdP, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    bench.names["api.test"] = ["127.0.0.1"]
    async with Echo(is_valid=idp.is_valid, tls=authority.server("api.test")) as echo:
        over_tls = route(echo.port, host="api.test", upstream_tls="required", ca_file=authority.file)
        report = await probed(bench, idp, over_tls)

    assert (found(report, PROBE), echo.served) == ([], 1)


async def test_the_probe_is_a_get_as_it_is_written(bench: Bench, idp: MockIdP) -> None:
    seen: list[tuple[str, str, str]] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append((request.method, request.raw_path, request.headers["Authorization"]))
        return web.Response(status=204)

    async with upstream(answer) as port:
        await probed(bench, idp, route(port))
    assert seen == [("GET", "/health?a=b%20c", f"Bearer {idp.issued[-1]}")]


@pytest.mark.parametrize(
    ("status", "kinds", "code"),
    [
        (401, [Kind.PROBE_REFUSED], 7),
        (403, [Kind.PROBE_REFUSED], 7),
        (500, [Kind.PROBE_SERVER_ERROR], 7),
        (503, [Kind.PROBE_SERVER_ERROR], 7),
        (404, [Kind.PROBE_NOT_FOUND], 0),
        (405, [], 0),
    ],
)
async def test_each_answer_is_taken_for_what_it_says(
    bench: Bench, idp: MockIdP, status: int, kinds: list[Kind], code: int
) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, text=request.headers["Authorization"])

    async with upstream(answer) as port:
        report = await probed(bench, idp, route(port))
    assert found(report, PROBE) == [(kind, KEY) for kind in kinds]
    assert report.exit_code == code
    assert idp.issued[-1] not in repr(report)


async def test_a_redirect_is_not_followed(bench: Bench, idp: MockIdP) -> None:
    paths: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        paths.append(request.path)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with upstream(answer) as port:
        report = await probed(bench, idp, route(port))
    assert (paths, found(report, PROBE)) == (["/health"], [])


async def test_an_upstream_that_never_answers_is_told_in_time(bench: Bench, idp: MockIdP) -> None:
    bench.limits["first_byte"] = "200ms"
    async with listening() as port:
        report = await probed(bench, idp, route(port))
    assert found(report, PROBE) == [(Kind.PROBE_FAILED, KEY)]


async def test_an_upstream_that_answers_something_else_is_told(bench: Bench, idp: MockIdP) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with upstream(answer) as port:
        report = await probed(bench, idp, route(port))
    assert found(report, PROBE) == [(Kind.PROBE_FAILED, KEY)]


async def test_without_a_token_nothing_is_called(bench: Bench, idp: MockIdP) -> None:
    async with Echo(is_valid=idp.is_valid) as echo:
        report = await probed(bench, idp, route(echo.port), client_secret="wrong")

    assert [check.skipped for check in report.of(PROBE)] == ["there is no token of orders"]
    assert (echo.served, echo.refused, report.exit_code) == (0, 0, 6)


# --- tokens that rest on the store ---


def resting(idp: MockIdP, folder: Path, port: int, **sections: Any) -> dict[str, Any]:
    """A configuration whose token is renewed by a stored grant, and a probe with it."""
    store = open_store(folder)
    store.write("orders", grant())
    return {
        "credentials": {"orders": credential(idp.token_url, grant="refresh_token", refresh_token="seed")},
        "routes": [route(port)],
        "store": {"path": str(store.path), "key": f"file:{folder}/store-key"},
        **sections,
    }


async def test_a_grant_in_the_store_is_left_alone(bench: Bench, idp: MockIdP, tmp_path: Path) -> None:
    async with Echo(is_valid=idp.is_valid) as echo:
        alone = await bench.check(PROBE, **resting(idp, tmp_path, echo.port))
        admin = {"bind": f"127.0.0.1:{closed()}", "token": "admin-token-of-the-test"}
        silent = await bench.check(PROBE, **resting(idp, tmp_path, echo.port, admin=admin))

    assert "set `admin` with a token" in alone.of(PROBE)[0].skipped
    assert "no sidecar runs here" in silent.of(PROBE)[0].skipped
    assert (idp.token_requests, echo.refused, alone.exit_code) == ([], 0, 0)


async def test_the_sidecar_that_owns_it_is_asked(bench: Bench, rig: Rig, tmp_path: Path) -> None:
    admin = {"bind": f"127.0.0.1:{rig.port('admin')}", "token": "admin-token-of-the-test"}
    await rig.start(admin=admin)
    async with Echo(is_valid=rig.idp.is_valid) as echo:
        report = await bench.check(PROBE, **resting(rig.idp, tmp_path, echo.port, admin=admin))
        wrong = await bench.check(
            PROBE, **resting(rig.idp, tmp_path, echo.port, admin=admin | {"token": "another-token-of-the-test"})
        )

    assert [check.said for check in report.of(PROBE)] == ["HTTP 200"]
    assert wrong.of(PROBE)[0].skipped.startswith("the running sidecar gives no token of orders: ")
    assert (echo.served, len(rig.idp.token_requests)) == (1, 1)


async def test_an_upstream_that_was_not_reached_is_not_called_again(bench: Bench, idp: MockIdP) -> None:
    report = await probed(bench, idp, route(443, host="gone.test"))

    assert [check.skipped for check in report.of(PROBE)] == ["its upstream cannot be reached"]
    assert report.exit_code == 7


async def test_a_token_that_is_bound_to_a_key_comes_with_its_proof(bench: Bench, idp: MockIdP) -> None:
    idp.clients["client"] = Client(needs_dpop=True)
    proved: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        scheme, _, token = request.headers["Authorization"].partition(" ")
        assert scheme == "DPoP"
        if not proved:
            proved.append("asked for a nonce")
            return web.Response(status=401, headers={"DPoP-Nonce": "n1"})
        url = f"http://127.0.0.1:{port}/health"
        proved.append(idp.check_dpop(token, request.headers["DPoP"], "GET", url, nonce="n1"))
        return web.Response()

    async with upstream(answer) as port:
        report = await probed(bench, idp, route(port), dpop=True)
    assert (found(report, PROBE), len(proved)) == ([], 2)
