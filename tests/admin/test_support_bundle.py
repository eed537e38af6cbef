"""The archive that goes along with a question: what is in it, and that no secret is."""

from __future__ import annotations

import io
import json
import time
import zipfile
from typing import TYPE_CHECKING

from sidecar.admin import support_bundle
from sidecar.admin.facts import Reload
from sidecar.admin.status import StatusReport
from sidecar.config.model import Admin, Bind, Configuration, Credential, Listener
from sidecar.secrets import Secret, SecretReference
from sidecar.telemetry import log
from tests.admin.conftest import ADMIN, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

import pytest

CANARIES = ("canary-inline-secret", "canary-in-a-log-line", "canary-in-a-path", "canary-in-a-problem")


@pytest.fixture(autouse=True)
def _keeping() -> Iterator[None]:
    log.keep_lines(True)
    yield
    log.keep_lines(False)


async def files_of(stage: Stage) -> dict[str, str]:
    report = StatusReport(broker=stage.broker, metrics=stage.metrics, clock=stage.clock, facts=stage.facts)
    return support_bundle.contents(report=report, metrics=stage.metrics, facts=stage.facts, wall=stage.clock.wall())


async def test_it_says_how_everything_stands(stage: Stage) -> None:
    await stage.run()
    await stage.has_token()
    stage.facts.configuration = Configuration(listeners=(Listener(name="egress", bind=Bind(host="::1", port=1)),))
    files = await files_of(stage)
    assert list(files) == [
        *("README.txt", "about.json", "configuration.json", "status.json", "metrics.txt", "log.jsonl"),
    ]
    assert json.loads(files["about.json"])["version"]
    assert json.loads(files["configuration.json"])["listeners"] == [{"name": "egress", "bind": "[::1]:1"}]
    assert json.loads(files["status.json"])["credentials"][0]["name"] == "orders"
    assert 'tokensidecar_token_up{credential="orders"} 1' in files["metrics.txt"]
    assert "token_refreshed" in [json.loads(line)["event"] for line in files["log.jsonl"].splitlines()]


async def test_no_canary_is_in_it_however_it_came_there(stage: Stage) -> None:
    await stage.run()
    await stage.has_token()
    log.get_logger("test").warning("odd", detail=CANARIES[1], value="Bearer abcdefghijkl")
    secrets = [Secret(each) for each in CANARIES]  # only now are they known as such
    inline = SecretReference.parse(CANARIES[0], allow_inline=True)
    stage.facts.configuration = Configuration(
        listeners=(),
        admin=Admin(token=inline),
        credentials={"orders": Credential(client_secret=inline, token_params={"k": CANARIES[0]})},
    )
    stage.facts.reload = Reload(at=1.0, problem=f"line of the file: {CANARIES[3]}")
    target = f"/reset/{CANARIES[2]}?key={CANARIES[2]}".encode()
    stage.facts.recent.note((time.perf_counter(), 0.1, b"GET", "api", b"h", target, 200, "injected", 1, ""))
    token = stage.broker.credential("orders").published
    assert token is not None
    for text in (await files_of(stage)).values():
        for canary in (*(each.reveal() for each in secrets), token.secret.reveal(), "client-secret", ADMIN, "abcdefgh"):
            assert canary not in text


def test_it_is_a_zip_archive_in_a_folder_of_its_own() -> None:
    wall = 1_700_000_000.0
    name = support_bundle.bundle_name(wall)
    assert name == "token-sidecar-support-20231114T221320Z"
    raw = support_bundle.archive({"about.json": "{}\n"}, name=name, wall=wall)
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        assert file.namelist() == [f"{name}/about.json"]
        assert file.read(file.namelist()[0]) == b"{}\n"
