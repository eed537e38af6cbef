"""The whole check, from a file to its exit code."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.config import load
from sidecar.errors import UsageError
from sidecar.preflight import checkup
from sidecar.preflight.checkup import Options
from sidecar.preflight.formats import github, json_text, junit, sarif, text
from sidecar.preflight.kinds import Kind, Stage
from sidecar.simulation.echo import Echo
from tests.config.conftest import VALID
from tests.preflight.kit import FILE, Bench, credential, kinds

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.simulation.idp import MockIdP


def test_a_configuration_with_errors_is_a_report_with_their_places() -> None:
    with pytest.raises(load.ConfigurationErrors) as caught:
        load.parse("listeners: []\nroutes: 7\n", FILE)
    report = checkup.invalid(FILE, caught.value, Options(Stage.PROBE))

    assert kinds(report, Stage.OFFLINE) == {Kind.CONFIGURATION_INVALID}
    assert [each.span.line for _, each in report.findings if each.span] == [0, 1]
    assert report.exit_code == 3
    assert "  1 | listeners: []" in text.render(report)


async def test_offline_needs_no_network(bench: Bench) -> None:
    report = await bench.check(Stage.OFFLINE, credentials={"orders": credential("https://idp.test/token")})

    assert {check.stage for check in report.checks} == {Stage.OFFLINE}
    assert report.exit_code == 0


async def test_every_stage_includes_those_before_it(bench: Bench, idp: MockIdP) -> None:
    for depth in Stage:
        report = await bench.check(depth, credentials={"orders": credential(idp.token_url)})
        reached = {check.stage for check in report.checks}
        assert reached == set(report.stages) - {Stage.PROBE}, "there is nothing to probe"


async def test_only_the_named_credentials_and_their_routes_are_checked(bench: Bench, idp: MockIdP) -> None:
    sections: dict[str, Any] = {
        "credentials": {
            "orders": credential(idp.token_url),
            "other": credential("https://gone.test/token", client_secret="file:/nowhere/at/all"),
        },
        "routes": [{"host": "gone.test", "credential": "other"}],
    }
    loaded = load.parse_with_places(bench.text(**sections), FILE)
    options = Options(Stage.LIVE, only=frozenset({"orders"}))
    report = await checkup.check(loaded, FILE, options, around=bench.around())

    assert report.exit_code == 0
    assert [check.name for check in report.of(Stage.LIVE)] == ["credentials.orders"]
    assert kinds(report, Stage.OFFLINE) == {Kind.UNUSED_CREDENTIAL, Kind.IDP_OVER_PLAIN_HTTP}


async def test_a_name_that_does_not_exist_is_wrong_use(bench: Bench) -> None:
    loaded = load.parse_with_places(VALID, FILE)
    with pytest.raises(UsageError, match="no credential ordres; did you mean 'orders'"):
        await checkup.check(loaded, FILE, Options(only=frozenset({"ordres"})), around=bench.around())


async def test_files_that_are_elsewhere_are_left_out(bench: Bench) -> None:
    loaded = load.parse_with_places(VALID, FILE)
    report = await checkup.check(loaded, FILE, Options(Stage.OFFLINE, files=False), around=bench.around())

    assert report.exit_code == 0
    assert any(check.skipped for check in report.checks)


async def test_nothing_secret_is_in_any_output(bench: Bench, idp: MockIdP, tmp_path: Path) -> None:
    secret = "s3cr3t-canary-of-the-test "
    idp.secrets["client"] = {secret}
    path = tmp_path / "secret"
    path.touch(0o644)
    path.write_text(secret)
    path.chmod(0o644)
    async with Echo(is_valid=lambda _: False) as echo:
        report = await bench.check(
            Stage.PROBE,
            credentials={"orders": credential(idp.token_url, client_secret=f"file:{path}")},
            routes=[
                {
                    "host": "127.0.0.1",
                    "port": echo.port,
                    "credential": "orders",
                    "upstream_tls": "plain",
                    "probe": "/",
                }
            ],
        )
    assert kinds(report, Stage.PROBE) == {Kind.PROBE_REFUSED}
    assert Kind.SECRET_TRAILING_BLANK in kinds(report, Stage.OFFLINE)
    for form in (text, json_text, junit, sarif, github):
        said = form.render(replace(report, strict=True))
        assert "s3cr3t-canary" not in said
        assert idp.issued[-1] not in said
    assert "s3cr3t-canary" not in repr(report)


def test_a_lint_loads_nothing_that_speaks_to_a_network() -> None:
    code = """
import asyncio, sys
from sidecar.config import load
from sidecar.cli import check
from sidecar.preflight.checkup import Options, check as checkup
from sidecar.preflight.kinds import Stage
loaded = load.parse_with_places(sys.argv[1], "config.yaml")
asyncio.run(checkup(loaded, "config.yaml", Options(Stage.OFFLINE, files=False)))
print([name for name in ("aiohttp", "authlib", "cryptography", "joserfc") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, VALID], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
