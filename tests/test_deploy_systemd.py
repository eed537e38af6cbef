"""The unit and its configuration do what they say, as far as that goes without a systemd that runs: its command is
started as the unit would, with credentials, state and sockets in folders of the test."""

from __future__ import annotations

import asyncio
import base64
import grp
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest
import yaml

from sidecar.cli import COMMANDS
from sidecar.config.load import parse
from sidecar.simulation.echo import Echo
from sidecar.simulation.idp import Client, MockIdP, Refreshing
from tests.end_to_end.programs import Program, clean_environment
from tests.end_to_end.waiting import free_port, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SYSTEMD: Final = Path(__file__).resolve().parent.parent / "deploy" / "systemd"
UNIT: Final = SYSTEMD / "token-sidecar.service"
DROP_IN: Final = SYSTEMD / "orders.service.d" / "token-sidecar.conf"
INSTALLED: Final = "/opt/token-sidecar/bin/sidecar"
SECONDS: Final = 30

KNOWN: Final = {
    "Unit": {"Description", "After", "Wants"},
    "Install": {"WantedBy"},
    "Service": {
        "AmbientCapabilities",
        "CapabilityBoundingSet",
        "DynamicUser",
        "Environment",
        "EnvironmentFile",
        "ExecReload",
        "ExecStart",
        "ExecStartPost",
        "LimitNOFILE",
        "LoadCredential",
        "LockPersonality",
        "MemoryDenyWriteExecute",
        "MemoryMax",
        "NoNewPrivileges",
        "PrivateDevices",
        "PrivateTmp",
        "ProtectClock",
        "ProtectControlGroups",
        "ProtectHome",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "ProtectProc",
        "ProtectSystem",
        "RemoveIPC",
        "Restart",
        "RestartPreventExitStatus",
        "RestartSec",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "RuntimeDirectory",
        "RuntimeDirectoryMode",
        "StateDirectory",
        "StateDirectoryMode",
        "SupplementaryGroups",
        "SystemCallArchitectures",
        "SystemCallErrorNumber",
        "SystemCallFilter",
        "TimeoutStartSec",
        "TimeoutStopSec",
        "Type",
        "UMask",
    },
}
"""By section, the directives of systemd.unit(5), systemd.service(5) and systemd.exec(5) that are used here."""

Sections = dict[str, dict[str, list[str]]]


def read(path: Path) -> Sections:
    sections: Sections = {}
    current: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            current = sections.setdefault(header[1], defaultdict(list))
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            current[name].append(value)
    return sections


def service(name: str) -> str:
    (value,) = read(UNIT)["Service"][name]
    return value


# --- the unit as such ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [UNIT, DROP_IN], ids=lambda path: path.name)
def test_every_directive_is_one_of_systemd_s(path: Path) -> None:
    for section, directives in read(path).items():
        assert directives.keys() <= KNOWN[section]


def test_systemd_has_nothing_to_say_about_the_unit_and_the_drop_in(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is missing (Debian: systemd)")
    (tmp_path / UNIT.name).write_text(UNIT.read_text().replace(INSTALLED, "/bin/true"))
    (tmp_path / "orders.service").write_text("[Service]\nExecStart=/bin/true\n")
    shutil.copytree(DROP_IN.parent, tmp_path / "orders.service.d")
    units = [str(tmp_path / name) for name in (UNIT.name, "orders.service")]
    done = subprocess.run([analyze, "verify", *units], check=False, capture_output=True, text=True, timeout=SECONDS)
    ours = [line for line in done.stderr.splitlines() if "token-sidecar" in line or "orders" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_its_command_and_its_arguments_exist() -> None:
    program, command, *rest = shlex.split(service("ExecStart"))
    assert program == INSTALLED
    assert command in COMMANDS
    assert rest == ["-c", "/etc/token-sidecar/config.yaml"]
    assert INSTALLED.removesuffix("/bin/sidecar") in (SYSTEMD / "README.md").read_text()


def test_a_drain_has_time_to_end_and_a_reload_is_a_hangup() -> None:
    configuration = parse((SYSTEMD / "config.yaml").read_text(), "config.yaml")
    assert configuration.limits.drain < float(service("TimeoutStopSec").removesuffix("s"))
    assert service("ExecReload") == "/bin/kill -HUP $MAINPID"


def test_every_secret_of_the_configuration_is_a_credential_that_the_unit_loads() -> None:
    loaded = {value.partition(":")[0] for value in read(UNIT)["Service"]["LoadCredential"]}
    text = (SYSTEMD / "config.yaml").read_text()
    assert set(re.findall(r"\bcred:([a-z-]+)", text)) == loaded
    assert not re.search(r"\b(file|env):", text)


def test_the_configuration_writes_only_where_the_unit_lets_it() -> None:
    configuration = parse((SYSTEMD / "config.yaml").read_text(), "config.yaml")
    assert configuration.store is not None
    assert configuration.store.path.startswith(f"/var/lib/{service('StateDirectory')}/")
    (socket,) = [each.bind for each in configuration.listeners if each.bind.is_unix]
    assert socket.path.startswith(f"/run/{service('RuntimeDirectory')}/")
    assert socket.group == service("SupplementaryGroups")
    assert socket.mode == 0o660


def test_the_group_of_the_socket_is_made_and_the_app_is_a_member_of_it() -> None:
    group = service("SupplementaryGroups")
    assert f"\ng {group} -\n" in (SYSTEMD / "token-sidecar.sysusers.conf").read_text()
    assert read(DROP_IN)["Service"]["SupplementaryGroups"] == [group]
    assert read(DROP_IN)["Unit"] == {"Wants": [UNIT.name], "After": [UNIT.name]}


def test_the_app_s_variables_lead_to_the_proxy_with_its_password() -> None:
    (forward,) = [
        each for each in parse((SYSTEMD / "config.yaml").read_text(), "config.yaml").listeners if each.mode == "forward"
    ]
    lines = (SYSTEMD / "orders.env").read_text().split()
    assert lines == [f"{name}=http://orders:PASSWORD@{forward.bind}" for name in ("HTTP_PROXY", "http_proxy")]
    assert read(DROP_IN)["Service"]["EnvironmentFile"] == ["/etc/token-sidecar/orders.env"]


# --- the unit at work ------------------------------------------------------------------------------------------------


@pytest.fixture
async def idp() -> AsyncIterator[MockIdP]:
    async with MockIdP(clients={"orders-worker": "a-client-secret"}) as provider:
        refreshing = Refreshing()
        methods = frozenset({"client_secret_basic", "none"})
        provider.register("orders-worker", Client(auth=methods, refreshing=refreshing))
        yield provider


@pytest.fixture
async def api(idp: MockIdP) -> AsyncIterator[Echo]:
    async with Echo(is_valid=idp.is_valid) as echo:
        yield echo


class Machine:
    """The folders that systemd would make, and the unit's command started in them."""

    def __init__(self, folder: Path, idp: MockIdP, api: Echo) -> None:
        self.folder = folder
        self.credentials, self.state, self.runtime = (folder / name for name in ("credentials", "state", "run"))
        for path in (self.credentials, self.state, self.runtime):
            path.mkdir(mode=0o700)
        self.ports = {"6180": free_port(), "6181": free_port()}
        contents = {
            "client-secret": "a-client-secret",
            "proxy-password": "a-proxy-password",
            "refresh-token": idp.login("orders-worker"),
            "store-key": base64.b64encode(os.urandom(32)).decode(),
        }
        for name, content in contents.items():
            (self.credentials / name).write_text(content)
            (self.credentials / name).chmod(0o400)
        self.file = folder / "config.yaml"
        self.file.write_text(self._configuration(idp, api))

    def _configuration(self, idp: MockIdP, api: Echo) -> str:
        text = (SYSTEMD / "config.yaml").read_text()
        for port, free in self.ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
        text = text.replace("/run/token-sidecar", str(self.runtime)).replace("/var/lib/token-sidecar", str(self.state))
        text = text.replace("group: token-sidecar-clients", f"group: {grp.getgrgid(os.getgid()).gr_name}")
        text = text.replace("https://api.example.com", f"http://localhost:{api.port}")
        parsed = yaml.safe_load(text)
        for credential in parsed["credentials"].values():
            credential["token_url"] = idp.token_url
        for route in parsed["routes"]:
            route |= {"host": "localhost", "port": api.port, "upstream_tls": "plain"}
        return yaml.safe_dump(parsed)

    def program(self) -> Program:
        words = shlex.split(service("ExecStart").replace("/etc/token-sidecar/config.yaml", str(self.file)))
        command = [sys.executable, "-m", "sidecar", *words[1:]]
        environment = clean_environment(CREDENTIALS_DIRECTORY=str(self.credentials))
        return Program("unit", command, folder=self.folder, environment=environment)

    async def waited(self, process: int) -> int:
        """What the unit's ExecStartPost ends with."""
        words = shlex.split(service("ExecStartPost").replace("6181", str(self.ports["6181"])))
        environment = clean_environment(MAINPID=str(process))
        done = await asyncio.to_thread(
            subprocess.run, words, check=False, env=environment, capture_output=True, timeout=SECONDS
        )
        return done.returncode


@pytest.fixture
def machine(tmp_path: Path, idp: MockIdP, api: Echo) -> Machine:
    return Machine(tmp_path, idp, api)


async def test_the_socket_is_for_one_group_and_its_requests_get_their_token(machine: Machine, api: Echo) -> None:
    async with machine.program() as unit:
        assert await machine.waited(unit.pid) == 0, unit.stderr
        socket = machine.runtime / "orders.sock"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o660
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session:
            async with session.get("http://localhost/v1/orders") as answer:
                assert answer.status == 200, await answer.text()
        assert api.served == 1


async def test_the_proxy_wants_the_password_that_the_app_s_variables_hold(machine: Machine, api: Echo) -> None:
    async with machine.program() as unit:
        assert await machine.waited(unit.pid) == 0, unit.stderr
        line = (SYSTEMD / "orders.env").read_text().split()[0].partition("=")[2]
        proxy = line.replace("PASSWORD", "a-proxy-password").replace("6180", str(machine.ports["6180"]))
        url = f"http://localhost:{api.port}/v1/orders"
        async with aiohttp.ClientSession() as session:
            async with session.get(url, proxy=proxy) as answer:
                assert answer.status == 200
            async with session.get(url, proxy=proxy.replace("a-proxy", "another")) as answer:
                assert answer.status == 407


async def test_the_refresh_token_s_successor_is_kept_in_the_state_folder(machine: Machine, api: Echo) -> None:
    async with machine.program() as unit:
        await until(lambda: any((machine.state / "tokens").glob("*repository*")), "the store is written")
        assert "store" not in "".join(line for line in unit.stderr.splitlines() if '"error"' in line)
    for path in (machine.state / "tokens").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


async def test_whoever_waits_for_a_sidecar_that_did_not_start_does_not_wait_for_long(machine: Machine) -> None:
    (machine.credentials / "client-secret").unlink()
    async with machine.program() as unit:
        assert await unit.ended(seconds=SECONDS) == 4
        assert await machine.waited(unit.pid) == 1
    assert "4" in service("RestartPreventExitStatus").split()
