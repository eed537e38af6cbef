"""``sidecar token``: the forms of its answer, and what git, kubectl and curl make of them."""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shlex
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import yaml

from sidecar.cli import main, token
from tests.cli.token_command import ended, failed, run, usage, write
from tests.config.conftest import VALID
from tests.proxy.conftest import logs, rig, trust  # noqa: F401 - fixtures
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.cli.token_command import Done
    from tests.proxy.rig import Rig

PAGE: Final = Path(__file__).parents[2] / "docs" / "token.md"
ASKED: Final = "protocol=https\nhost=a.example\n\n"
GIT: Final = ("orders", "--print", "--format", "git-credential")


def shown(language: str) -> str:
    """The block of the documentation that is marked with this word."""
    [block] = re.findall(rf"(?ms)^```{language}\n(.*?)^```", PAGE.read_text())
    return str(block)


async def test_json_says_when_it_ends(rig: Rig) -> None:
    write(rig)
    before = time.time()
    answer = json.loads((await run(rig, "orders", "--print", "--format", "json")).stdout)
    assert (answer["access_token"], answer["token_type"]) == (rig.idp.issued[-1], "Bearer")
    assert 3500 < answer["expires_in"] <= 3600
    assert before + 3500 < datetime.fromisoformat(answer["expires_at"]).timestamp() <= time.time() + 3600
    assert "generation" not in answer


async def test_a_token_that_never_ends_has_no_expiry_in_any_form(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("for-ever")
    write(rig, credentials={"orders": {"grant": "static", "token_file": f"{tmp_path}/token"}})
    answer = json.loads((await run(rig, "orders", "--print", "--format", "json")).stdout)
    assert (answer["access_token"], answer["expires_in"], answer["expires_at"]) == ("for-ever", None, None)
    credential = json.loads((await run(rig, "orders", "--print", "--format", "exec-credential")).stdout)
    assert credential["status"] == {"token": "for-ever"}
    done = await run(rig, *GIT, "--host", "a.example", "get", stdin=ASKED)
    assert done.stdout == "username=x-access-token\npassword=for-ever\n\n"


# --- curl -------------------------------------------------------------------------------------------------------------


async def test_curl_takes_the_header_from_a_pipe(rig: Rig) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not there")
    write(rig)
    words = [sys.executable, "-m", "sidecar", "token", "-c", str(rig.file), "orders", "--print", "--format", "header"]
    url = f"http://127.0.0.1:{rig.plain.port}/"
    done = await ended(["/bin/sh", "-c", f"{shlex.join(words)} | curl -sS --noproxy '*' -o /dev/null -H @- {url}"])
    assert (done.returncode, done.stderr) == (0, "")
    assert rig.plain.tokens == [rig.idp.issued[-1]]


def test_every_line_that_is_documented_is_right_use() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    token.add_arguments(parser)
    lines = re.findall(r"sidecar token ([^|#)\n]+)", shown("sh"))
    assert len(lines) == 3
    for line in lines:
        assert token.parse_arguments(parser, shlex.split(line)).credential == "orders"


# --- kubectl ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["", "v1", "v1beta1"])
async def test_exec_credential_has_the_version_that_kubectl_wants(rig: Rig, version: str) -> None:
    write(rig)
    asked = {"apiVersion": f"client.authentication.k8s.io/{version}", "kind": "ExecCredential", "spec": {}}
    environment = {"KUBERNETES_EXEC_INFO": json.dumps(asked)} if version else {}
    done = await run(rig, "orders", "--print", "--format", "exec-credential", **environment)
    credential = json.loads(done.stdout)
    assert credential["apiVersion"] == f"client.authentication.k8s.io/{version or 'v1'}"
    assert credential["kind"] == "ExecCredential"
    assert credential["status"]["token"] == rig.idp.issued[-1]
    ends_at = datetime.strptime(credential["status"]["expirationTimestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert time.time() + 3500 < ends_at.timestamp() <= time.time() + 3600


@pytest.mark.parametrize(
    "info",
    [
        *("nonsense", "[]", "{}", '"v1"', '{"apiVersion": 1}'),
        '{"apiVersion": "client.authentication.k8s.io/v1alpha1"}',
    ],
)
def test_exec_credential_refuses_what_it_does_not_know(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, info: str
) -> None:
    monkeypatch.setenv("KUBERNETES_EXEC_INFO", info)
    assert "KUBERNETES_EXEC_INFO" in usage(capsys, "orders", "--print", "--format", "exec-credential")


async def test_the_kubeconfig_that_is_documented_runs(rig: Rig, tmp_path: Path) -> None:
    write(rig, credentials={"orders": rig.credential(), "cluster": rig.credential()})
    section = yaml.safe_load(shown("kubeconfig"))["users"][0]["user"]["exec"]
    words = [str(rig.file) if word == "/etc/sidecar/config.yaml" else word for word in section["args"]]
    done = await ended([str(command_in(tmp_path) / section["command"]), *words])
    credential = json.loads(done.stdout)
    assert credential["apiVersion"] == section["apiVersion"]
    assert credential["status"]["token"] == rig.idp.issued[-1]


# --- git --------------------------------------------------------------------------------------------------------------


async def test_git_gets_user_password_and_expiry(rig: Rig) -> None:
    write(rig)
    done = await run(rig, *GIT, "--host", "a.example", "get", stdin=ASKED)
    lines = done.stdout.split("\n")
    assert lines[:2] == ["username=x-access-token", f"password={rig.idp.issued[-1]}"]
    name, _, expiry = lines[2].partition("=")
    assert name == "password_expiry_utc"
    assert time.time() + 3500 < int(expiry) <= time.time() + 3600
    assert lines[3:] == ["", ""]


@pytest.mark.parametrize(
    ("arguments", "attributes", "user"),
    [
        ((), "username=bob\n", "bob"),
        (("--username", "oauth2"), "", "oauth2"),
        (("--username", "a"), "username=b\n", "a"),
    ],
)
async def test_git_gets_the_user_that_was_named(
    rig: Rig, arguments: tuple[str, ...], attributes: str, user: str
) -> None:
    write(rig)
    done = await run(rig, *GIT, "--host", "a.example", *arguments, "get", stdin=attributes + ASKED)
    assert done.stdout.startswith(f"username={user}\npassword=")


@pytest.mark.parametrize(
    "asked",
    [
        "protocol=https\nhost=evil.example\n",
        "protocol=https\nhost=b.a.example\n",
        "protocol=https\nhost=a.example.evil.example\n",
        "protocol=https\nhost=a.example:8443\n",
        "protocol=https\nhost=a.example\r\n",
        "protocol=http\nhost=a.example\n",
        "protocol=ftp\nhost=a.example\n",
        "protocol=https\nhost=user@a.example\n",
        "protocol=https\nhost=a.example/x\n",
        "host=a.example\n",
        "protocol=https\n",
        "protocol=https\n\nhost=a.example\n",
        "nonsense\n",
        "\n",
        "",
        "protocol=https\nhost=\xff\n",
        "x=" + "y" * 100_000 + "\n",
        "a=b\n" * 1000 + ASKED,
    ],
    ids=lambda asked: repr(asked)[:40],
)
def test_git_gets_nothing_for_any_other_host(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: str
) -> None:
    (tmp_path / "sidecar.yaml").write_text(VALID)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(asked.encode("latin-1"))))
    assert main(["token", "-c", str(tmp_path / "sidecar.yaml"), *GIT, "--host", "a.example", "get"]) == 0
    assert capsys.readouterr() == ("", "")


async def test_without_a_named_host_git_gets_it_for_the_hosts_of_its_routes(rig: Rig) -> None:
    write(rig, routes=[rig.route(), rig.route(name="more", host="*.more.test", port=443)])
    for host, is_given in (
        (f"{API}:{rig.secure.port}", True),
        ("git.more.test", True),
        (API, False),
        ("more.test", False),
        ("git.more.test:8443", False),
    ):
        done = await run(rig, *GIT, "get", stdin=f"protocol=https\nhost={host}\n\n")
        assert (done.returncode, bool(done.stdout), done.stderr) == (0, is_given, "")
    write(rig, routes=[])
    assert "name git's host with --host" in failed(await run(rig, *GIT, "get", stdin=ASKED), 2)


@pytest.mark.parametrize("operation", ["store", "erase", "capability"])
def test_git_can_store_and_erase_nothing_here(capsys: pytest.CaptureFixture[str], operation: str) -> None:
    assert main(["token", *GIT, "--host", "a.example", operation]) == 0
    assert capsys.readouterr() == ("", "")


def command_in(folder: Path) -> Path:
    """A folder with the command ``sidecar``, as an installation has it."""
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    (place / "sidecar").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sidecar "$@"\n')
    (place / "sidecar").chmod(0o755)
    return place


async def git(folder: Path, configuration: str, operation: str, description: str) -> Done:
    """``git credential``, of a git that knows this configuration, the command, and nothing of this machine."""
    (folder / "gitconfig").write_text(configuration)
    environment = {
        "HOME": str(folder),
        "GIT_CONFIG_GLOBAL": f"{folder}/gitconfig",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "PATH": f"{command_in(folder)}:{os.environ['PATH']}",
    }
    return await ended(["git", "credential", operation], stdin=description, folder=folder, environment=environment)


@pytest.mark.parametrize("order", ["as documented", "credential first"])
async def test_git_itself_takes_the_answer(rig: Rig, tmp_path: Path, order: str) -> None:
    write(rig, credentials={"orders": rig.credential(), "git": rig.credential()})
    configuration = shown("gitconfig").replace("/etc/sidecar/config.yaml", shlex.quote(str(rig.file)))
    if order == "credential first":  # an option then stands before what git appends
        configuration = configuration.replace(" token ", " token git ").replace(' git"', '"')
    asked = ASKED.replace("a.example", "git.example.com")
    filled = await git(tmp_path, configuration, "fill", asked)
    assert filled.returncode == 0, filled.stderr
    answer = dict(line.split("=", 1) for line in filled.stdout.splitlines())
    assert (answer["host"], answer["username"]) == ("git.example.com", "x-access-token")
    assert answer["password"] == rig.idp.issued[-1]
    for operation in ("approve", "reject"):
        done = await git(tmp_path, configuration, operation, filled.stdout)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    everywhere = configuration.replace(' "https://git.example.com"', "")
    other = await git(tmp_path, everywhere, "fill", ASKED.replace("a.example", "evil.example"))
    assert other.returncode != 0
    assert (await git(tmp_path, everywhere, "fill", asked)).returncode == 0
    assert len(rig.idp.token_requests) == 2
