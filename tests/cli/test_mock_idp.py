"""``sidecar mock-idp``: a provider as a process, its first lines, and faults while it runs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.cli import main
from sidecar.config import load
from tests.simulation.parties import basic

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS: Final = 60


@contextmanager
def running(*arguments: str) -> Iterator[dict[str, Any]]:
    """The command as a process; what its first line said, and the process itself as ``process``."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = [sys.executable, "-W", "error", "-m", "sidecar", "mock-idp", "--format", "json", *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield json.loads(line) | {"process": process}
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=SECONDS)
    assert "Traceback" not in errors
    assert process.returncode == 0


def ask(url: str, form: dict[str, str] | None = None, **headers: str) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    data = None if form is None else urllib.parse.urlencode(form).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data, headers), timeout=SECONDS) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as exc:
        with exc:
            exc.read()
        return exc.code, None


def control(told: dict[str, Any], method: str, below: str = "", body: str = "") -> Any:
    headers = {"Authorization": f"Bearer {told['control_key']}"}
    request = urllib.request.Request(told["control_url"] + below, body.encode() or None, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=SECONDS) as response:
        return json.load(response)


def token(told: dict[str, Any], **form: str) -> tuple[int, Any]:
    [client] = told["clients"]
    fields = {"grant_type": "client_credentials", "client_id": "client", "client_secret": client["client_secret"]}
    return ask(told["token_url"], fields | form)


def test_its_first_line_says_all_that_a_client_needs() -> None:
    with running("--ttl", "20s", "--jwt", "RS256") as told:
        status, answer = token(told)
        assert (status, answer["expires_in"]) == (200, 20)
        assert answer["access_token"].count(".") == 2
        status, metadata = ask(f"{told['issuer']}/.well-known/openid-configuration")
        assert metadata["token_endpoint"] == told["token_url"]
        [key] = ask(metadata["jwks_uri"])[1]["keys"]
        assert key["alg"] == "RS256"


def test_its_configuration_is_one_that_the_loader_takes() -> None:
    with running() as told:
        whole = told["configuration"] + "listeners: [{name: egress, bind: 127.0.0.1:6180}]\n"
        loaded = load.parse(whole, "config.yaml").credentials["client"]
        assert (loaded.issuer, str(loaded.client_secret)) == (told["issuer"], "env:CLIENT_SECRET")


def test_a_secret_of_the_command_line_is_not_repeated() -> None:
    with running("--client", "one:of-the-test", "--client", "two") as told:
        assert "of-the-test" not in json.dumps({**told, "process": None})
        one, two = told["clients"]
        assert "client_secret" not in one
        assert two["client_secret"]
        assert ask(told["token_url"], {"grant_type": "client_credentials"}, **basic("one", "of-the-test"))[0] == 200


def test_refresh_tokens_rotate_where_it_is_asked_for() -> None:
    with running("--rotate", "--grace", "1h") as told:
        seed = told["clients"][0]["refresh_token"]
        spent = {"grant_type": "refresh_token", "refresh_token": seed}
        assert token(told, **spent)[1]["refresh_token"] != seed
        assert token(told, **spent)[0] == 200, "within the grace"
    with running() as told:
        seed = told["clients"][0]["refresh_token"]
        assert "refresh_token" not in token(told, grant_type="refresh_token", refresh_token=seed)[1]


def test_its_own_jwts_are_good_assertions_and_its_tokens_good_subjects() -> None:
    with running("--jwt", "ES256") as told:
        issued = token(told)[1]["access_token"]
        jwt_bearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
        assert token(told, grant_type=jwt_bearer, assertion=issued)[0] == 200
        exchange = "urn:ietf:params:oauth:grant-type:token-exchange"
        kind = "urn:ietf:params:oauth:token-type:access_token"
        assert token(told, grant_type=exchange, subject_token=issued, subject_token_type=kind)[0] == 200


def test_faults_come_from_the_command_line_and_while_it_runs() -> None:
    with running("--fault", "429x1", "--control") as told:
        assert token(told)[0] == 429
        assert token(told)[0] == 200
        assert control(told, "POST", body="503=7s")["active"] == ["503=7s"]
        assert token(told)[0] == 503
        control(told, "DELETE", "/503")
        assert token(told)[0] == 200
        control(told, "POST", body="outage")
        with pytest.raises(urllib.error.URLError):
            token(told)
        control(told, "DELETE")
        assert token(told)[0] == 200


def test_without_being_asked_there_is_no_control() -> None:
    with running() as told:
        assert "control_key" not in told


def test_for_people_it_says_the_same_in_lines() -> None:
    command = [sys.executable, "-m", "sidecar", "mock-idp", "--control"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(9)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert re.fullmatch(r"issuer (http://127\.0\.0\.1:\d+) token_url \1/token\n", lines[0])
    assert re.fullmatch(r"control http://127\.0\.0\.1:\d+/_control/faults key \S+\n", lines[1])
    assert re.fullmatch(r"export CLIENT_SECRET=\S+\n", lines[2])
    assert lines[5] == "credentials:\n"
    assert process.returncode == 0


def test_a_reader_that_has_seen_enough_does_not_trouble_it() -> None:
    with running("--port", "0") as told:
        told["process"].stdout.close()
        assert token(told)[0] == 200


def test_a_port_in_use_exits_with_8(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["mock-idp", "--port", str(port)]) == 8
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--fault", "nonsense"),
        ("--fault", "latency"),
        ("--port", "70000"),
        ("--port", "-1"),
        ("--client", ":secret"),
        ("--client", "id:"),
        ("--client", "one", "--client", "one:x"),
        ("--ttl", "0s"),
        ("--ttl", "soon"),
        ("--grace", "30s"),
        ("--jwt", "none"),
        ("extra",),
    ],
)
def test_wrong_use_exits_with_2_and_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    try:
        code: Any = main(["mock-idp", *arguments])
    except SystemExit as exc:
        code = exc.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("sidecar")


def test_help_comes_without_loading_the_provider() -> None:
    imports = "import sys; from sidecar.cli import mock_idp, simulate"
    code = f"{imports}; print({{'aiohttp', 'cryptography'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
