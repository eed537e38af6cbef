"""The compose file keeps its promises: one namespace, loopback, secrets for the sidecar alone, a true health check."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import sidecar
from sidecar.config.load import parse
from tests.end_to_end.sidecar_process import SidecarProcess

COMPOSE: Final = Path(__file__).resolve().parent.parent / "deploy" / "compose"
FILE: Final = COMPOSE / "compose.yaml"
SECONDS: Final = 30


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


def configuration_text() -> str:
    return (COMPOSE / "config" / "config.yaml").read_text()


def mounts(service: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["target"]: mount for mount in service.get("volumes", [])}


def test_the_app_is_in_the_sidecar_s_network_namespace_and_waits_for_it() -> None:
    app = services()["app"]
    assert app["network_mode"] == "service:token-sidecar"
    assert app["depends_on"] == {"token-sidecar": {"condition": "service_healthy", "restart": True}}
    assert "ports" not in app


def test_ports_are_published_on_loopback_and_none_of_the_sidecar_s() -> None:
    configuration = parse(configuration_text(), "config.yaml")
    own = {bind.port for bind in (configuration.telemetry.bind, *(each.bind for each in configuration.listeners))}
    for port in services()["token-sidecar"]["ports"]:
        address, _, inside = port.rsplit(":", 2)
        assert address == "127.0.0.1"
        assert int(inside) not in own


def test_secrets_and_configuration_are_mounted_into_the_sidecar_alone_as_folders_that_it_cannot_write() -> None:
    assert mounts(services()["app"]) == {}
    sources = {mount["source"] for mount in mounts(services()["token-sidecar"]).values()}
    assert sources == {"./config", "./secrets"}
    for mount in mounts(services()["token-sidecar"]).values():
        assert mount["read_only"] is True
        assert mount["bind"] == {"create_host_path": False}


def test_the_configuration_reads_its_secrets_where_they_are_mounted() -> None:
    configuration = parse(configuration_text(), "config.yaml")
    folders = mounts(services()["token-sidecar"])
    assert "/etc/token-sidecar" in folders  # where the image looks for config.yaml
    for credential in configuration.credentials.values():
        name = str(credential.client_secret).removeprefix("file:")
        assert str(Path(name).parent) in folders


def test_the_app_s_variables_lead_to_the_forward_listener() -> None:
    (forward,) = [each for each in parse(configuration_text(), "config.yaml").listeners if each.mode == "forward"]
    variables = services()["app"]["environment"]
    assert variables["HTTP_PROXY"] == variables["http_proxy"] == f"http://{forward.bind}"
    assert variables["NO_PROXY"] == variables["no_proxy"]


def test_the_container_is_confined_and_its_image_is_the_dockerfile_s() -> None:
    service = services()["token-sidecar"]
    assert service["image"] == f"token-sidecar:{sidecar.__version__}"
    assert (FILE.parent / service["build"] / "Dockerfile").is_file()
    assert (service["user"], service["read_only"], service["cap_drop"]) == ("65532:65532", True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert float(service["stop_grace_period"][:-1]) > parse(configuration_text(), "config.yaml").limits.drain


async def test_the_health_check_is_red_until_the_sidecar_is_ready_and_then_green(tmp_path: Path) -> None:
    kind, python, *words = services()["token-sidecar"]["healthcheck"]["test"]
    assert kind == "CMD"
    assert f'"{python}"' in (COMPOSE.parent.parent / "Dockerfile").read_text()

    async def checked(process: SidecarProcess) -> int:
        own = [word.replace("6181", str(process.port("telemetry"))) for word in words]
        command = [sys.executable, *own]
        done = await asyncio.to_thread(
            subprocess.run, command, check=False, capture_output=True, timeout=SECONDS, env={}
        )
        return done.returncode

    process = SidecarProcess(tmp_path, {"listeners": [{"name": "egress"}]})
    assert await checked(process) == 1
    async with process:
        assert await checked(process) == 0


def test_docker_understands_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], check=False, capture_output=True).returncode:
        pytest.skip("docker compose is missing")
    command = [docker, "compose", "-f", str(FILE), "config", "--quiet"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
