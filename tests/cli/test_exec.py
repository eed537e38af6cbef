"""``sidecar exec``: what the command gets, what it does not get, its signals and its exit code."""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.cli import main
from sidecar.cli.client_settings import ADDED, BUNDLES
from sidecar.cli.exec import NOT_FOUND, NOT_RUNNABLE
from sidecar.simulation.idp import Step
from tests.cli.terminal import Terminal
from tests.cli.token_command import SECONDS, Done, ended, write
from tests.end_to_end.programs import Program
from tests.end_to_end.waiting import until
from tests.proxy.conftest import rig, trust  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from tests.proxy.rig import Rig

INVALID: Final = Step(status=401, body=b'{"error": "invalid_client"}', headers={"Content-Type": "application/json"})
DOWN: Final = Step(status=503)
CA_VARIABLES: Final = (*BUNDLES, *ADDED)
SHOW: Final = "import json, os; print(json.dumps(dict(os.environ)))"
GET: Final = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"


def command(rig: Rig, *words: str, options: tuple[str, ...] = ()) -> list[str]:
    ours = [sys.executable, "-W", "error", "-m", "sidecar", "exec", "-c", str(rig.file)]
    return [*ours, "--log-level", "error", *options, "--", *words]


async def run(rig: Rig, *words: str, options: tuple[str, ...] = (), stdin: str = "", **environment: str) -> Done:
    return await ended(command(rig, *words, options=options), stdin=stdin, environment=environment)


async def environment_of(rig: Rig, **environment: str) -> dict[str, str]:
    """What a command finds in its environment."""
    done = await ended(command(rig, sys.executable, "-c", SHOW), environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, str] = json.loads(done.stdout)
    return found


# --- what it is for ---------------------------------------------------------------------------------------------------


async def test_the_command_calls_its_api_by_the_proxy_and_the_token_is_there(rig: Rig) -> None:
    write(rig)
    done = await run(rig, sys.executable, "-c", GET, f"http://localhost:{rig.plain.port}/orders")
    assert (done.returncode, done.stderr) == (0, "")
    assert "GET /orders" in done.stdout
    assert [request.token for request in rig.plain.requests] == [rig.idp.issued[-1]]


async def test_a_base_url_of_the_configuration_leads_to_its_upstream(rig: Rig) -> None:
    reverse = {"name": "or-ders.v1", "mode": "reverse", "upstream": f"http://localhost:{rig.plain.port}"}
    write(rig, listeners=[{"name": "egress"}, reverse])
    url = "os.environ['TOKEN_SIDECAR_OR_DERS_V1_URL'] + '/orders'"
    done = await run(rig, sys.executable, "-c", f"import os, urllib.request as r; print(r.urlopen({url}).status)")
    assert (done.returncode, done.stdout) == (0, "200\n"), done
    assert rig.plain.requests[-1].token == rig.idp.issued[-1]


async def test_a_base_url_on_a_unix_socket_is_named_by_its_path(rig: Rig, tmp_path: Path) -> None:
    reverse = {"name": "orders", "mode": "reverse", "upstream": f"http://localhost:{rig.plain.port}"}
    write(rig, listeners=[reverse | {"bind": f"unix:{tmp_path}/orders.sock"}])
    assert (await environment_of(rig))["TOKEN_SIDECAR_ORDERS_SOCKET"] == f"{tmp_path}/orders.sock"


async def test_two_names_that_make_one_variable_are_refused(rig: Rig) -> None:
    upstream = {"mode": "reverse", "upstream": f"http://localhost:{rig.plain.port}"}
    write(rig, listeners=[{"name": "a-b", **upstream}, {"name": "a.b", **upstream}])
    done = await run(rig, "true")
    assert done.returncode == 3
    assert "TOKEN_SIDECAR_A_B" in done.stderr


async def test_nobody_without_the_password_of_this_run_gets_a_token(rig: Rig) -> None:
    write(rig)
    lookup = f"http://localhost:{rig.plain.port}/"
    code = (
        "import os, re, urllib.request as r, urllib.error as e\n"
        "proxy = re.sub('//.*@', '//', os.environ['http_proxy'])\n"
        "try: r.build_opener(r.ProxyHandler({'http': proxy})).open('" + lookup + "')\n"
        "except e.HTTPError as error: print(error.code)"
    )
    done = await run(rig, sys.executable, "-c", code)
    assert done.stdout == "407\n"
    assert rig.plain.requests == []


async def test_it_runs_beside_a_sidecar_of_the_same_configuration(rig: Rig) -> None:
    await rig.start()
    done = await run(rig, "echo", "both")
    assert (done.returncode, done.stdout) == (8, "")  # the file names an address for its telemetry
    assert "telemetry cannot listen" in done.stderr
    text = json.loads(rig.file.read_text())
    del text["telemetry"]
    rig.file.write_text(json.dumps(text))
    done = await run(rig, "echo", "both")
    assert (done.returncode, done.stdout) == (0, "both\n"), done


async def test_telemetry_is_served_where_the_file_says(rig: Rig) -> None:
    write(rig)
    url = f"http://127.0.0.1:{rig.port('telemetry')}/livez"
    done = await run(rig, sys.executable, "-c", GET, url, NO_PROXY="127.0.0.1")
    assert done.returncode == 0, done


# --- the environment --------------------------------------------------------------------------------------------------


async def test_the_proxy_stands_there_in_both_spellings_with_a_password_that_is_new_each_time(rig: Rig) -> None:
    write(rig)
    one, other = await environment_of(rig), await environment_of(rig)
    assert one["HTTP_PROXY"] == one["http_proxy"]
    found = re.fullmatch(r"http://sidecar:([\w-]{32})@127\.0\.0\.1:\d+", one["HTTP_PROXY"])
    assert found is not None
    assert found[1] not in other["HTTP_PROXY"]
    assert one["NO_PROXY"] == one["no_proxy"]
    assert "169.254.169.254" in one["NO_PROXY"].split(",")
    assert "localhost" not in one["NO_PROXY"].split(","), "a route's host"
    assert one.keys().isdisjoint({"HTTPS_PROXY", "https_proxy"})
    assert {name: one.get(name) for name in CA_VARIABLES} == {name: os.environ.get(name) for name in CA_VARIABLES}


async def test_a_proxy_for_https_that_was_there_stays(rig: Rig) -> None:
    write(rig)
    assert (await environment_of(rig, HTTPS_PROXY="http://corp:3128"))["HTTPS_PROXY"] == "http://corp:3128"


async def test_variables_with_secrets_are_taken_out(rig: Rig) -> None:
    write(rig, credentials={"orders": rig.credential(client_secret="env:ORDERS_SECRET")})
    found = await environment_of(rig, ORDERS_SECRET="client-secret", OTHER="kept")
    assert "ORDERS_SECRET" not in found
    assert "client-secret" not in json.dumps(found)
    assert found["OTHER"] == "kept"


async def test_a_token_of_the_platform_that_a_preset_names_is_taken_out_as_well(rig: Rig) -> None:
    credential = {"provider": "github_actions_oidc", "audience": "https://api.example.com"}
    write(rig, credentials={"orders": credential})
    words = command(rig, sys.executable, "-c", SHOW, options=("--no-wait",))
    platform = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{rig.idp.origin}/idtoken",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "token-of-the-platform",
    }
    done = await ended(words, environment=platform)
    assert done.returncode == 0, done
    assert "ACTIONS_ID_TOKEN_REQUEST_URL" in done.stdout
    assert "token-of-the-platform" not in done.stdout


async def test_the_environment_of_the_sidecar_cannot_be_read_by_its_command(rig: Rig) -> None:
    write(rig)
    code = "import os; print(os.stat(f'/proc/{os.getppid()}/environ').st_uid)"
    done = await run(rig, sys.executable, "-c", code)
    assert done.stdout == "0\n", "such files of a process that is not dumpable belong to root (proc(5))"


async def test_the_limits_of_the_command_are_those_it_would_have_without(rig: Rig) -> None:
    write(rig)
    code = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_CORE))"
    without = await ended([sys.executable, "-c", code])
    assert (await run(rig, sys.executable, "-c", code)).stdout == without.stdout


async def test_credentials_that_no_route_uses_need_no_secret(rig: Rig) -> None:
    unused = rig.credential(client_secret="env:ABSENT")
    write(rig, credentials={"orders": rig.credential(), "unused": unused})
    assert (await run(rig, "true")).returncode == 0


async def test_with_interception_https_goes_by_the_proxy_and_the_ca_is_trusted(rig: Rig) -> None:
    interception = rig.interception("localhost")
    write(rig, routes=[rig.route(host="localhost", intercept=True)], interception=interception)
    done = await run(rig, sys.executable, "-c", GET, f"https://localhost:{rig.secure.port}/orders")
    assert (done.returncode, done.stderr) == (0, ""), done
    assert rig.secure.requests[-1].token == rig.idp.issued[-1]


async def test_the_bundle_holds_what_was_trusted_before_and_is_gone_at_the_end(rig: Rig, tmp_path: Path) -> None:
    write(rig, routes=[rig.route(host="localhost", intercept=True)], interception=rig.interception("localhost"))
    before = tmp_path / "before.pem"
    before.write_text("# what was trusted before\n")
    code = "import os; print(os.environ['SSL_CERT_FILE'], open(os.environ['SSL_CERT_FILE']).read())"
    done = await run(rig, sys.executable, "-c", code, SSL_CERT_FILE=str(before))
    path, _, text = done.stdout.partition(" ")
    assert text.startswith("# what was trusted before\n")
    assert text.count("BEGIN CERTIFICATE") == 1
    assert not await asyncio.to_thread(Path(path).exists)


async def test_without_a_folder_for_the_ca_nothing_is_begun(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(rig, routes=[rig.route(host="localhost", intercept=True)], interception=rig.interception("localhost"))
    monkeypatch.setattr(tempfile, "tempdir", "/absent")
    assert await asyncio.to_thread(main, ["exec", "-c", str(rig.file), "--", "true"]) == 2
    assert "TMPDIR" in capsys.readouterr().err


async def test_a_configuration_of_base_urls_alone_has_a_proxy_all_the_same(rig: Rig) -> None:
    write(rig, listeners=[{"name": "exec", "mode": "reverse", "upstream": f"http://localhost:{rig.plain.port}"}])
    found = await environment_of(rig)
    assert found["HTTP_PROXY"].rpartition(":")[2] != found["TOKEN_SIDECAR_EXEC_URL"].rpartition(":")[2]


# --- its end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 42, 255])
async def test_the_exit_code_is_the_commands(rig: Rig, code: int) -> None:
    write(rig)
    done = await run(rig, "sh", "-c", f"exit {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


async def test_a_command_that_a_signal_ends_gives_128_and_its_number(rig: Rig) -> None:
    write(rig)
    assert (await run(rig, "sh", "-c", "kill -KILL $$")).returncode == 128 + signal.SIGKILL


async def test_input_and_output_are_its_own(rig: Rig) -> None:
    write(rig)
    done = await run(rig, "sh", "-c", "cat; echo told >&2", stdin="a line\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a line\n", "told\n")


async def test_the_arguments_of_the_command_are_left_alone(rig: Rig) -> None:
    write(rig)
    done = await run(rig, "echo", "-c", "--", "--timeout", "$HOME")
    assert done.stdout == "-c -- --timeout $HOME\n"


async def test_a_command_that_is_not_there_or_no_program_ends_as_in_a_shell(rig: Rig, tmp_path: Path) -> None:
    write(rig)
    done = await run(rig, "no-such-command-here")
    assert (done.returncode, done.stderr) == (NOT_FOUND, "sidecar: no-such-command-here: there is no such command\n")
    done = await run(rig, str(tmp_path))
    assert (done.returncode, done.stderr) == (NOT_RUNNABLE, f"sidecar: {tmp_path}: Permission denied\n")


WAITER: Final = """
import signal, sys
def tell(number, frame):
    print(signal.Signals(number).name, flush=True)
    sys.exit(7)
for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(each, tell)
print("ready", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_signals_reach_the_command_and_it_decides(rig: Rig, tmp_path: Path, number: signal.Signals) -> None:
    write(rig)
    words = command(rig, sys.executable, "-c", WAITER)
    async with Program("exec", words, folder=tmp_path) as program:
        await until(lambda: program.stdout == "ready\n", "the command runs", seconds=SECONDS)
        program.send(number)
        assert await program.ended(seconds=SECONDS) == 7
        assert program.stdout == f"ready\n{number.name}\n"


async def test_a_signal_that_is_ignored_from_the_start_stays_so(rig: Rig, tmp_path: Path) -> None:
    write(rig)
    code = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    words = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command(rig, sys.executable, "-c", code)]
    async with Program("exec", words, folder=tmp_path) as program:
        assert await program.ended(seconds=SECONDS) == 0
        assert program.stdout == "True\n"


async def test_ctrl_c_on_a_terminal_reaches_the_command_once(rig: Rig, tmp_path: Path) -> None:
    write(rig)
    told = tmp_path / "told"
    counting = (
        "import signal, sys\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
        f"out = open({str(told)!r}, 'w', buffering=1)\n"
        "print('ready', file=out)\n"
        "signal.pause()\n"
        "print('end', len(seen) + (signal.sigtimedwait({signal.SIGINT}, 0.3) is not None), file=out)"
    )
    async with Terminal(command(rig, sys.executable, "-c", counting)) as terminal:
        await until(lambda: told.exists() and "ready" in told.read_text(), "the command runs", seconds=SECONDS)
        terminal.type(b"\x03")
        assert await terminal.exit_code(seconds=SECONDS) == 0
        assert told.read_text() == "ready\nend 1\n"


ORPHANED: Final = """
import asyncio, ctypes, os, subprocess
from sidecar.cli.exec import reap_orphans
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: as the first process of a container has it
subprocess.run(["sh", "-c", "sh -c 'exit 3' & exit 0"])
async def main():
    reaping = asyncio.ensure_future(reap_orphans(0, every_seconds=0.01))
    while True:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            break
        await asyncio.sleep(0.01)
    reaping.cancel()
asyncio.run(main())
print("buried")
"""


async def test_as_the_first_process_of_a_container_it_buries_whom_the_command_leaves_behind() -> None:
    done = await ended([sys.executable, "-c", ORPHANED])
    assert (done.returncode, done.stdout) == (0, "buried\n"), done


# --- no token ---------------------------------------------------------------------------------------------------------


async def test_a_refusal_ends_it_at_once_with_6_its_reason_and_the_next_step(rig: Rig, tmp_path: Path) -> None:
    write(rig)
    rig.idp.always(INVALID)
    done = await run(rig, "touch", str(tmp_path / "begun"))
    assert (done.returncode, done.stdout) == (6, "")
    message = done.stderr.splitlines()[-2:]
    assert message[0].startswith("sidecar: credential orders has no token:")
    assert "(invalid_client)" in message[0]
    assert message[1].startswith("  next: check client_id")
    assert not (tmp_path / "begun").exists()


async def test_an_idp_that_is_down_ends_it_with_5_after_the_timeout(rig: Rig, tmp_path: Path) -> None:
    write(rig)
    rig.idp.always(DOWN)
    done = await run(rig, "touch", str(tmp_path / "begun"), options=("--timeout", "1s"))
    assert done.returncode == 5
    assert "(server_error)" in done.stderr
    assert not (tmp_path / "begun").exists()


async def test_an_idp_that_comes_back_in_time_is_waited_for(rig: Rig) -> None:
    write(rig)
    rig.idp.script(DOWN, DOWN)
    assert (await run(rig, "echo", "begun")).stdout == "begun\n"


async def test_the_log_is_quiet_but_for_warnings(rig: Rig) -> None:
    write(rig)
    done = await run(rig, "true", options=("--log-level", "warning"))
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["configuration_advice"]


async def test_of_two_failures_both_are_told_and_the_worse_one_counts(rig: Rig) -> None:
    two = {"orders": rig.credential(), "billing": rig.credential(client_secret="wrong")}
    write(rig, credentials=two, routes=[rig.route(), rig.plain_route(credential="billing")])
    rig.idp.script(DOWN, DOWN, DOWN)
    done = await run(rig, "true")
    assert done.returncode == 6
    assert "credential billing has no token" in done.stderr


async def test_without_waiting_the_command_begins_and_is_answered_503(rig: Rig) -> None:
    write(rig, limits={"token_wait": "0s"})
    rig.idp.always(DOWN)
    code = GET.replace("print(", "\ntry: print(") + "\nexcept Exception as error: print(error.code)"
    words = (sys.executable, "-c", code, f"http://localhost:{rig.plain.port}/")
    done = await run(rig, *words, options=("--no-wait", "--log-level", "error"))
    assert (done.returncode, done.stdout) == (0, "503\n"), done


async def test_a_signal_before_the_command_ends_the_wait(rig: Rig, tmp_path: Path) -> None:
    write(rig)
    rig.idp.always(DOWN)
    async with Program("exec", command(rig, "touch", "begun"), folder=tmp_path) as program:
        await until(lambda: bool(rig.idp.token_requests), "it waits for a token", seconds=SECONDS)
        program.send(signal.SIGTERM)
        assert await program.ended(seconds=SECONDS) == 128 + signal.SIGTERM
        assert not (tmp_path / "begun").exists()


# --- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "the command is missing: -- CMD"),
        (("--",), "the command is missing: -- CMD"),
        (("curl", "http://api"), "unrecognized arguments: curl http://api (the command stands behind --)"),
        (("--timeout", "soon", "--", "true"), "not a duration"),
        (("--timeout", "1s", "--no-wait", "--", "true"), "not allowed with"),
        (("--log-level", "loud", "--", "true"), "invalid choice"),
    ],
)
def test_wrong_use_exits_with_2_and_says_how(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["exec", *arguments])
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert why in err


def test_a_configuration_that_is_not_there_exits_with_3_and_a_missing_secret_with_4(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["exec", "-c", str(tmp_path / "absent.yaml"), "--", "true"]) == 3
    file = tmp_path / "sidecar.yaml"
    credential: dict[str, Any] = {"grant": "static", "token_file": str(tmp_path / "absent")}
    route = {"host": "api.example.com", "credential": "orders"}
    listeners = [{"name": "egress", "bind": "127.0.0.1:6180"}]
    file.write_text(json.dumps({"listeners": listeners, "credentials": {"orders": credential}, "routes": [route]}))
    assert main(["exec", "-c", str(file), "--", "true"]) == 4
    assert "credentials.orders.token_file" in capsys.readouterr().err
