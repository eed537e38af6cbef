"""The pytest plugin: the example of the documentation runs as it stands, and the fixtures keep what they promise."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import structlog

from sidecar.config.problems import ConfigurationErrors
from sidecar.errors import CannotBind
from sidecar.telemetry import log
from sidecar.testing import Background

if TYPE_CHECKING:
    from sidecar.testing import RunningIdP, StartSidecar

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "testing.md"
SECONDS: Final = 120


def get(url: str, proxy: str = "") -> int:
    """The status of an answer."""
    handler = urllib.request.ProxyHandler({"http": proxy} if proxy else {})
    try:
        with urllib.request.build_opener(handler).open(url, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as exc:
        exc.close()
        return exc.code


def test_the_example_of_the_documentation_passes_in_a_suite_of_its_own(tmp_path: Path) -> None:
    [example] = re.findall(r"(?ms)^```python\n(.*?)^```", PAGE.read_text())
    (tmp_path / "test_orders.py").write_text(example)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout
    assert f"{example.count('def test_')} passed" in done.stdout


def test_pytest_finds_the_fixtures_by_itself(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.hasplugin("token_sidecar")


def test_a_suite_that_does_not_use_it_pays_nothing_for_it() -> None:
    heavy = "{'aiohttp', 'asyncio', 'cryptography', 'structlog', 'uvloop', 'yaml', 'sidecar.app'}"
    code = f"import sys, pytest, sidecar.testing; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_an_app_behind_the_proxy_gets_its_token(token_sidecar: StartSidecar) -> None:
    sidecar = token_sidecar()
    assert get(f"{sidecar.api_url}/orders", proxy=sidecar.proxy_url) == 200
    assert get(f"{sidecar.base_url}/orders") == 200
    assert sidecar.api.served == 2
    assert set(sidecar.urls) == {"egress", "api"}


def test_faults_come_and_go_by_calls(token_sidecar: StartSidecar, mock_idp: RunningIdP) -> None:
    sidecar = token_sidecar()
    mock_idp.fail("invalid_client")
    sidecar.expire()
    assert sidecar.statuses()["api"].usable is False
    mock_idp.recover("invalid_client")
    sidecar.refresh()
    sidecar.has_tokens(generation=2)
    assert mock_idp.is_valid(mock_idp.issued[-1])
    with pytest.raises(ValueError, match="no fault has this name"):
        mock_idp.fail("nonsense")


def test_waiting_for_a_token_has_an_end(token_sidecar: StartSidecar, mock_idp: RunningIdP) -> None:
    mock_idp.fail("outage")
    sidecar = token_sidecar(wait=False)
    with pytest.raises(TimeoutError, match="credential api has no such token after"):
        sidecar.has_tokens(seconds=0.05)


@pytest.mark.parametrize("form", ["mapping", "text", "path"])
def test_a_configuration_of_ones_own_gets_free_ports(
    token_sidecar: StartSidecar, mock_idp: RunningIdP, tmp_path: Path, form: str
) -> None:
    mapping = {
        "listeners": [{"name": "egress"}],
        "credentials": {"orders": mock_idp.credential()},
        "routes": [{"host": "api.example.com", "credential": "orders"}],
    }
    text = f"""\
listeners: [{{name: egress, bind: 127.0.0.1:6180}}]
credentials:
  orders:
    grant: client_credentials
    token_url: {mock_idp.token_url}
    client_id: app-under-test
    client_secret: file:{tmp_path}/secret
routes: [{{host: api.example.com, credential: orders}}]
"""
    (tmp_path / "secret").write_text("secret-of-the-app-under-test")
    (tmp_path / "config.yaml").write_text(text)
    forms: dict[str, Any] = {"mapping": mapping, "text": text, "path": tmp_path / "config.yaml"}
    sidecars = [token_sidecar(forms[form]) for _ in range(2)]
    assert sidecars[0].proxy_url != sidecars[1].proxy_url
    assert get("http://other.example.com/", proxy=sidecars[0].proxy_url) == 403
    with pytest.raises(LookupError, match="mode: reverse"):
        _ = sidecars[0].base_url


def test_a_login_is_a_grant_too(token_sidecar: StartSidecar, mock_idp: RunningIdP, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o700)
    (tmp_path / "key").write_text("A" * 43 + "=\n")
    (tmp_path / "key").chmod(0o600)
    sidecar = token_sidecar(
        {
            "credentials": {
                "orders": mock_idp.credential(grant="refresh_token", refresh_token=mock_idp.login(scope="a"))
            },
            "routes": [{"host": "api.example.com", "credential": "orders"}],
            "store": {"path": str(tmp_path / "store"), "key": f"file:{tmp_path}/key"},
        }
    )
    assert sidecar.statuses()["orders"].usable


def test_a_wrong_configuration_is_told_as_the_command_tells_it(token_sidecar: StartSidecar) -> None:
    with pytest.raises(ConfigurationErrors, match="unknown key"):
        token_sidecar("listenrs: []\n")


def test_an_error_over_there_is_an_error_here(token_sidecar: StartSidecar, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    listener = {"name": "socket", "bind": f"unix:{tmp_path}/file/socket"}
    with pytest.raises(CannotBind):
        token_sidecar({"listeners": [listener]})


def test_what_is_done_to_the_process_is_undone() -> None:
    def state() -> list[Any]:
        root = logging.getLogger()
        return [
            *(sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning),
            *(list(root.handlers), root.level, logging.raiseExceptions, structlog.get_config()),
        ]

    structlog.configure(processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory())
    try:
        before = state()
        with log.borrowed("error"), Background() as background:
            assert background.call(_nothing()) is None
            assert state() != before
        assert state() == before
    finally:
        log.configure("info")


async def _nothing() -> None:
    """Runs over there."""
