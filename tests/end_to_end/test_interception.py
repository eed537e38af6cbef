"""Apps that call https through HTTPS_PROXY and trust the local CA: each gets its token without a change of its code.

The CA is made by ``sidecar ca`` from the configuration that ``sidecar run`` then serves.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.simulation.idp import MockIdP
from tests.end_to_end.origin import VALID, Authority, Origin
from tests.end_to_end.programs import Program, clean_environment
from tests.end_to_end.sidecar_process import SidecarProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE: Final = Path(__file__).parent
CURL, NODE, JAVA = shutil.which("curl"), shutil.which("node"), shutil.which("java")
UNDICI: Final = HERE / "node" / "node_modules" / "undici"
IN_CI: Final = bool(os.environ.get("CI"))
EXPECTED: Final = ["200 hello", "200 an order"]

WITH_REQUESTS: Final = """
import requests, sys
with requests.Session() as session:
    for answer in (session.get(sys.argv[1], timeout=30), session.post(sys.argv[1], data="an order", timeout=30)):
        print(answer.status_code, answer.text.strip())
"""
WITH_URLLIB: Final = """
import sys, urllib.request
for data in (None, b"an order"):
    with urllib.request.urlopen(sys.argv[1], data=data, timeout=30) as answer:
        print(answer.status, answer.read().decode().strip())
"""
WITH_UNDICI: Final = """
import { EnvHttpProxyAgent, request, setGlobalDispatcher } from 'undici';
setGlobalDispatcher(new EnvHttpProxyAgent());
for (const options of [{}, { method: 'POST', body: 'an order' }]) {
  const answer = await request(process.argv[2], options);
  console.log(answer.statusCode, (await answer.body.text()).trim());
}
process.exit(0);
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A running sidecar with an intercepted route, and what an app has to know of it."""

    sidecar: SidecarProcess
    origin: Origin
    ca_file: Path
    folder: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.origin.port}/orders"

    async def said(self, name: str, *command: str, **environment: str) -> list[str]:
        """The lines that an app prints, whose HTTPS_PROXY is the sidecar."""
        proxy = self.sidecar.url("egress")
        proxied = {"https_proxy": proxy, "HTTPS_PROXY": proxy, "no_proxy": "", "NO_PROXY": ""}
        program = Program(
            name, list(command), folder=self.folder, environment=clean_environment(**proxied, **environment)
        )
        async with program:
            code = await program.ended(seconds=120)
        assert code == 0, f"{name} ended with {code}:\n{program.stderr}"
        return program.stdout.splitlines()

    def script(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


@pytest.fixture
async def stage(authority: Authority, tmp_path: Path) -> AsyncIterator[Stage]:
    async with (
        MockIdP() as idp,
        Origin(lambda token: VALID if idp.is_valid(token) else "unknown", authority.server) as origin,
    ):
        configuration = _configuration(idp, origin, authority, tmp_path)
        sidecar = SidecarProcess(tmp_path, configuration)
        made = Program("ca", [sys.executable, "-m", "sidecar", "ca", "-c", str(sidecar.file)], folder=tmp_path)
        async with made:
            assert await made.ended(seconds=60) == 0, made.stderr
        async with sidecar:
            yield Stage(sidecar, origin, tmp_path / "local-ca.pem", tmp_path)
        assert all(line["level"] != "error" for line in sidecar.logs())


def _configuration(idp: MockIdP, origin: Origin, authority: Authority, folder: Path) -> dict[str, Any]:
    credential = {"grant": "client_credentials", "token_url": idp.token_url, "client_id": "client"}
    route = {"name": "orders", "host": "localhost", "port": origin.port, "ca_file": str(authority.ca_file)}
    return {
        "listeners": [{"name": "egress"}],
        "credentials": {"orders": credential | {"client_secret": "client-secret"}},
        "routes": [route | {"credential": "orders", "intercept": True}],
        "interception": {"certificate": str(folder / "local-ca.pem"), "key": f"file:{folder / 'local-ca-key.pem'}"},
        "allow_inline_secrets": True,
    }


def assert_all_had_tokens(stage: Stage) -> None:
    assert len(stage.origin.arrivals) == len(EXPECTED)
    assert stage.origin.invalid() == []


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
async def test_curl_gets_a_token_by_https_proxy(stage: Stage) -> None:
    curl = [str(CURL), "--silent", "--show-error"]
    lines: list[str] = []
    for data in ([], ["--data", "an order"]):
        lines += await stage.said(f"curl{len(lines)}", *curl, *data, stage.url, CURL_CA_BUNDLE=str(stage.ca_file))
    assert lines == ["hello", "an order"]
    assert_all_had_tokens(stage)


@pytest.mark.parametrize(("name", "text"), [("requests", WITH_REQUESTS), ("urllib", WITH_URLLIB)])
async def test_python_gets_a_token_by_https_proxy(stage: Stage, name: str, text: str) -> None:
    bundle = str(stage.ca_file)
    script = stage.script(f"{name}_app.py", text)
    trust = {"REQUESTS_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle}
    assert await stage.said(name, sys.executable, script, stage.url, **trust) == EXPECTED
    assert_all_had_tokens(stage)


@pytest.mark.node
@pytest.mark.skipif(NODE is None or not (UNDICI.exists() or IN_CI), reason="Node.js and its npm packages are missing")
async def test_node_gets_a_token_by_https_proxy(stage: Stage) -> None:
    modules = stage.folder / "node_modules"
    modules.symlink_to(UNDICI.parent)
    script = stage.script("app.mjs", WITH_UNDICI)
    assert await stage.said("node", str(NODE), script, stage.url, NODE_EXTRA_CA_CERTS=str(stage.ca_file)) == EXPECTED
    assert_all_had_tokens(stage)


@pytest.mark.skipif(JAVA is None or shutil.which("keytool") is None, reason="no JDK is installed")
async def test_java_gets_a_token_by_https_proxy(stage: Stage) -> None:
    store = stage.folder / "trust.p12"
    imported = ["-importcert", "-noprompt", "-alias", "sidecar", "-file", str(stage.ca_file)]
    await stage.said("keytool", "keytool", *imported, "-keystore", str(store), "-storepass", "changeit")
    properties = {
        "https.proxyHost": "127.0.0.1",
        "https.proxyPort": str(stage.sidecar.port("egress")),
        "http.nonProxyHosts": "",
        "javax.net.ssl.trustStore": str(store),
        "javax.net.ssl.trustStorePassword": "changeit",
    }
    options = [f"-D{key}={value}" for key, value in properties.items()]
    assert await stage.said("java", str(JAVA), *options, str(HERE / "clients" / "Client.java"), stage.url) == EXPECTED
    assert_all_had_tokens(stage)


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
async def test_a_client_that_does_not_trust_the_ca_fails_and_the_log_says_what_to_do(stage: Stage) -> None:
    proxy = stage.sidecar.url("egress")
    program = Program(
        "curl",
        [str(CURL), "--silent", "--show-error", "--noproxy", "", "--proxy", proxy, stage.url],
        folder=stage.folder,
    )
    async with program:
        assert await program.ended(seconds=60) == 60  # curl: the peer's certificate cannot be verified
    [line] = stage.sidecar.logs("request_failed")
    assert (line["reason"], line["route"]) == ("handshake", "orders")
    assert line["detail"].startswith("the client does not trust the local CA")
    assert stage.origin.arrivals == []
