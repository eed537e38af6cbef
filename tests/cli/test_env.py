"""``sidecar env``: what it prints is what the client needs, in each form, and never a secret."""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from sidecar.cli import main
from sidecar.cli.client_settings import ALIASES, CLIENTS
from sidecar.cli.env import FORMATS, PASSWORD
from tests.cli.token_command import ended, write
from tests.proxy.conftest import rig, trust  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxy.rig import Rig

EGRESS: Final = {"name": "egress", "bind": "127.0.0.1:6180"}
ORDERS: Final = {"name": "orders", "mode": "reverse", "bind": "127.0.0.1:6190", "upstream": "https://api.example.com"}
NOWHERE: Final = {"certificate": "/etc/sidecar/ca.pem", "key": "file:/etc/sidecar/ca-key.pem"}
REQUESTS: Final = "import requests; print(requests.get('{url}').status_code)"
AIOHTTP: Final = """
import asyncio, aiohttp
async def get():
    async with aiohttp.ClientSession(trust_env=True) as session, session.get('{url}') as answer:
        print(answer.status)
asyncio.run(get())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and nothing in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("SIDECAR_CONFIG", "no_proxy", "NO_PROXY", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write_config(folder: Path, *listeners: dict[str, Any], **changes: Any) -> None:
    route = {"host": "api.example.com", "credential": "orders"}
    configuration = {
        "listeners": listeners or (EGRESS, ORDERS),
        "credentials": {"orders": {"grant": "static", "token_file": "/absent"}},
        "routes": [route | changes.pop("route", {})],
    }
    (folder / "config.yaml").write_text(json.dumps(configuration | changes))


def printed(capsys: pytest.CaptureFixture[str], language: str, *arguments: str) -> str:
    assert main(["env", "--for", language, *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def environment(capsys: pytest.CaptureFixture[str], language: str, *arguments: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(printed(capsys, language, "--format", "json", *arguments))["environment"]
    return found


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", CLIENTS)
def test_every_client_has_the_proxy_its_exceptions_and_its_trap(
    capsys: pytest.CaptureFixture[str], folder: Path, language: str
) -> None:
    write_config(folder)
    found = json.loads(printed(capsys, language, "--format", "json"))
    text = json.dumps(found["environment"])
    assert "127.0.0.1" in text
    assert "6180" in text
    assert "169.254.169.254" in text
    assert found["environment"]["TOKEN_SIDECAR_ORDERS_URL"] == "http://127.0.0.1:6190"
    assert any(note.startswith("trap: ") for note in found["notes"])
    assert any("call http://, not https://" in note for note in found["notes"])
    assert "https_proxy" not in text.lower()


@pytest.mark.parametrize(("name", "language"), ALIASES.items())
def test_a_client_has_the_names_that_people_give_it(
    capsys: pytest.CaptureFixture[str], name: str, language: str
) -> None:
    assert printed(capsys, name) == printed(capsys, language)


def test_curl_gets_the_lower_case_and_go_the_capitals(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    write_config(folder)
    assert environment(capsys, "curl")["http_proxy"] == "http://127.0.0.1:6180"
    assert environment(capsys, "go")["HTTP_PROXY"] == "http://127.0.0.1:6180"
    assert environment(capsys, "node")["NODE_USE_ENV_PROXY"] == "1"
    assert environment(capsys, "php")["HTTP_PROXY"] == "http://127.0.0.1:6180"


def test_java_gets_system_properties(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    write_config(folder)
    assert environment(capsys, "java")["JAVA_TOOL_OPTIONS"] == (
        "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=6180 "
        "-Dhttp.nonProxyHosts=localhost|127.0.0.1|[::1]|169.254.169.254|*.svc|*.cluster.local"
    )


def test_a_wildcard_is_reached_by_loopback(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    for bind, url in (("0.0.0.0:6180", "http://127.0.0.1:6180"), ("[::]:6180", "http://[::1]:6180")):
        write_config(folder, EGRESS | {"bind": bind, "beyond_loopback": True})
        assert environment(capsys, "curl")["http_proxy"] == url


def test_interception_brings_the_proxy_for_https_and_the_ca(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    write_config(folder, route={"intercept": True}, interception=NOWHERE)
    found = environment(capsys, "python-requests")
    assert found["https_proxy"] == found["http_proxy"]
    assert found["REQUESTS_CA_BUNDLE"] == "/etc/sidecar/ca.pem"
    assert environment(capsys, "go")["HTTPS_PROXY"] == "http://127.0.0.1:6180"
    assert "-Dhttps.proxyHost=127.0.0.1" in environment(capsys, "java")["JAVA_TOOL_OPTIONS"]
    assert "keytool -importcert" in printed(capsys, "java")


def test_a_proxy_password_is_a_place_to_fill_in(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "password").write_text("of-the-test")
    write_config(folder, EGRESS | {"auth": {"proxy_password": f"file:{folder}/password"}})
    shown = {form: printed(capsys, "curl", "--format", form) for form in FORMATS}
    assert not any("of-the-test" in text for text in shown.values())
    assert f"http://sidecar:${{{PASSWORD}}}@127.0.0.1:6180" in shown["dotenv"]
    assert f"http://sidecar:$({PASSWORD})@127.0.0.1:6180" in shown["kubernetes"]
    assert f'http://sidecar:"${{{PASSWORD}}}"@127.0.0.1:6180' in shown["shell"]
    assert f"{PASSWORD} holds what auth.proxy_password names" in shown["shell"]


def test_without_a_forward_listener_there_are_base_urls_alone(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    write_config(folder, ORDERS, ORDERS | {"name": "local", "bind": "unix:/run/orders.sock"})
    assert environment(capsys, "curl") == {
        "TOKEN_SIDECAR_ORDERS_URL": "http://127.0.0.1:6190",
        "TOKEN_SIDECAR_LOCAL_SOCKET": "/run/orders.sock",
    }


def test_of_several_forward_listeners_one_can_be_named(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    write_config(folder, EGRESS, {"name": "other", "bind": "127.0.0.1:6280"})
    assert environment(capsys, "curl")["http_proxy"].endswith(":6180")
    assert environment(capsys, "curl", "--listener", "other")["http_proxy"].endswith(":6280")


def test_without_a_configuration_the_usual_address_is_told_and_that_it_is_a_guess(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = printed(capsys, "curl")
    assert "# there is no config.yaml" in text
    assert "export http_proxy=http://127.0.0.1:6180\n" in text


# --- forms ------------------------------------------------------------------------------------------------------------


def test_the_kubernetes_form_is_a_list_of_variables(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    write_config(folder)
    listed = yaml.safe_load(printed(capsys, "node", "--format", "kubernetes"))
    found = {each["name"]: each["value"] for each in listed}
    assert found["NODE_USE_ENV_PROXY"] == "1"
    assert found["no_proxy"].endswith(",$(KUBERNETES_SERVICE_HOST)")


def test_the_dotenv_form_is_quoted_lines(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    write_config(folder)
    lines = [line for line in printed(capsys, "java", "--format", "dotenv").splitlines() if not line.startswith("#")]
    assert lines[0].startswith('JAVA_TOOL_OPTIONS="-Dhttp.proxyHost=127.0.0.1 ')


@pytest.mark.parametrize(
    ("language", "code"), [("python-requests", REQUESTS), ("aiohttp", AIOHTTP)], ids=["requests", "aiohttp"]
)
async def test_a_client_that_is_told_so_gets_its_token(rig: Rig, folder: Path, language: str, code: str) -> None:
    password = folder / "password"
    password.write_text("p%2Fw")
    auth = {"proxy_password": f"file:{password}"}
    await rig.start(listeners=[{"name": "egress", "auth": auth}])
    (folder / "get.py").write_text(code.format(url=f"http://localhost:{rig.plain.port}/orders"))
    script = f'eval "$({sys.executable} -m sidecar env --for {language} -c {rig.file})" && {sys.executable} get.py'
    done = await ended(["sh", "-c", script], folder=folder, environment={PASSWORD: "p%252Fw"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "200\n", "")
    assert rig.plain.requests[-1].token == rig.idp.issued[-1]


async def test_the_file_may_stand_elsewhere_than_what_it_names(rig: Rig) -> None:
    write(rig, routes=[rig.route(ca_file="/absent/ca.pem")])
    done = await ended([sys.executable, "-m", "sidecar", "env", "--for", "go", "-c", str(rig.file)])
    assert done.returncode == 0


# --- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "--for"),
        (("--for", "pyton"), "nothing is known about 'pyton'; did you mean 'python'?"),
        (("--for", "cobol"), "there are curl python-requests"),
        (("--for", "go", "--format", "xml"), "invalid choice"),
    ],
)
def test_wrong_use_exits_with_2_and_says_how(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["env", *arguments])
    assert exit_.value.code == 2
    assert why in capsys.readouterr().err


def test_a_listener_that_is_not_there_or_no_port_exits_with_2(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    write_config(folder)
    assert main(["env", "--for", "go", "--listener", "egres"]) == 2
    assert "did you mean 'egress'?" in capsys.readouterr().err
    write_config(folder, EGRESS | {"bind": "unix:/run/proxy.sock"})
    assert main(["env", "--for", "go"]) == 2
    assert "which HTTP_PROXY cannot name" in capsys.readouterr().err


def test_a_configuration_with_errors_exits_with_3(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "config.yaml").write_text("listeners: []\n")
    assert main(["env", "--for", "go"]) == 3
    assert "config.yaml:1:" in capsys.readouterr().err
