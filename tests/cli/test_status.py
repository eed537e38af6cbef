"""``sidecar status``: whom it asks, its exit codes, and how it looks again."""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

import json
import re
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.cli import main
from sidecar.simulation.idp import Step
from tests.cli.terminal import Terminal
from tests.cli.token_command import SECONDS, ended, failed
from tests.end_to_end.programs import Program
from tests.end_to_end.waiting import free_port, until
from tests.proxy.conftest import rig, trust  # noqa: F401 - fixtures
from tests.proxy.raw_client import get

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.token_command import Done
    from tests.proxy.rig import Rig

INVALID: Final = Step(status=401, body=b'{"error": "invalid_client"}', headers={"Content-Type": "application/json"})
DOWN: Final = Step(status=503)


def command(rig: Rig, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "sidecar", "status", "-c", str(rig.file), *arguments]


async def run(rig: Rig, *arguments: str) -> Done:
    return await ended(command(rig, *arguments))


def admin(rig: Rig) -> dict[str, Any]:
    """The section, without a token: none is needed."""
    return {"bind": f"127.0.0.1:{rig.port('admin')}"}


# --- what it shows, and its exit code ---------------------------------------------------------------------------------


async def test_every_credential_stands_in_the_table_and_every_route_with_its_counts(rig: Rig) -> None:
    await rig.start(admin=admin(rig))
    async with await rig.client() as client:
        await client.ask(get(f"http://localhost:{rig.plain.port}/orders"))
    done = await run(rig)
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout.splitlines()
    assert text[0] == f"sidecar at 127.0.0.1:{rig.port('admin')}"
    assert re.match(r"orders +fresh +yes +1 +(?:59m \d+s|1h 0m) +\d+m \d+s +0$", text[3]), text
    assert re.search(r"^plain +1 +0 +0 +1 +0$", done.stdout, re.MULTILINE), text
    assert "\x1b" not in done.stdout
    assert rig.idp.issued[-1] not in done.stdout


async def test_a_credential_without_a_token_that_somebody_has_to_mend_exits_with_6(rig: Rig) -> None:
    rig.idp.always(INVALID)
    await rig.start_cold(admin=admin(rig))
    await until(lambda: rig.orders.status().last_error is not None, "it is refused")
    done = await run(rig)
    assert done.returncode == 6
    assert "orders: invalid_client: the IdP answered HTTP 401, invalid_client\n  next: check client_id" in done.stdout


async def test_a_credential_without_a_token_for_a_reason_that_passes_exits_with_5(rig: Rig) -> None:
    rig.idp.always(DOWN)
    await rig.start_cold(admin=admin(rig))
    await until(lambda: rig.orders.status().last_error is not None, "it fails")
    assert (await run(rig)).returncode == 5


async def test_of_two_the_worse_one_counts(rig: Rig) -> None:
    credentials = {"orders": rig.credential(), "billing": rig.credential(client_secret="wrong")}
    rig.idp.always(DOWN)
    sidecar = await rig.start_cold(admin=admin(rig), credentials=credentials, routes=[rig.route()])
    billing = sidecar.broker.credential("billing")
    await until(lambda: rig.orders.status().last_error is not None, "it fails")
    assert (await run(rig)).returncode == 5
    rig.idp.always(None)
    await until(lambda: billing.status().last_error == "invalid_client", "it is refused")
    assert (await run(rig)).returncode == 6


async def test_a_failure_while_the_token_is_good_is_shown_and_exits_with_0(rig: Rig) -> None:
    await rig.start(admin=admin(rig))
    rig.idp.always(DOWN)
    rig.orders.request_refresh()
    await until(lambda: rig.orders.status().consecutive_failures > 0, "the refresh fails")
    done = await run(rig)
    assert done.returncode == 0
    assert "orders: server_error" in done.stdout


async def test_for_programs_there_is_json(rig: Rig) -> None:
    await rig.start(admin=admin(rig))
    found = json.loads((await run(rig, "--json")).stdout)
    assert (found["reachable"], found["exit_code"]) == (True, 0)
    [orders] = found["credentials"]
    assert (orders["name"], orders["state"], orders["usable"]) == ("orders", "fresh", True)
    assert 3500 < orders["expires_in_seconds"] <= 3600
    assert {each["route"] for each in found["routes"]} >= {"api", "plain"}


# --- whom it asks -----------------------------------------------------------------------------------------------------


async def test_another_admin_listener_can_be_named(rig: Rig, tmp_path: Path) -> None:
    await rig.start(admin={"bind": f"unix:{tmp_path}/admin.sock"})
    bare = [sys.executable, "-m", "sidecar", "status", "--admin", f"unix:{tmp_path}/admin.sock"]
    done = await ended(bare, folder=tmp_path)
    assert done.returncode == 0, done
    assert "orders" in done.stdout
    assert "ROUTE" not in done.stdout, "nobody said where telemetry is"
    await rig.stop()
    await rig.start(admin=admin(rig))
    for url in (f"http://127.0.0.1:{rig.port('admin')}/", f"localhost:{rig.port('admin')}"):
        assert (await ended([*bare[:-1], url], folder=tmp_path)).returncode == 0


async def test_nobody_there_exits_with_5(rig: Rig) -> None:
    rig.file.write_text(rig.text(rig.configuration(admin=admin(rig))))
    done = await run(rig)
    assert f"nobody listens at 127.0.0.1:{rig.port('admin')}" in failed(done, 5)
    done = await run(rig, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["reachable"], found["exit_code"]) == (5, False, 5)


async def test_something_else_there_exits_with_5(rig: Rig) -> None:
    rig.file.write_text(rig.text(rig.configuration(admin={"bind": f"127.0.0.1:{rig.idp.port}"}, routes=[rig.route()])))
    done = await ended([*command(rig)[:-2], "--admin", f"127.0.0.1:{rig.plain.port}"])
    assert "does not answer as a sidecar's admin API" in failed(done, 5)


async def test_telemetry_that_cannot_be_reached_costs_the_counts_alone(rig: Rig) -> None:
    await rig.start(admin=admin(rig))
    text = json.loads(rig.file.read_text())
    rig.file.write_text(json.dumps(text | {"telemetry": {"bind": f"127.0.0.1:{free_port()}"}}))
    done = await run(rig)
    assert done.returncode == 0
    assert "ROUTE" not in done.stdout


# --- on a terminal ----------------------------------------------------------------------------------------------------


async def test_a_terminal_gets_colours_and_one_that_wants_none_does_not(rig: Rig) -> None:
    await rig.start(admin=admin(rig))
    async with Terminal(command(rig)) as terminal:
        await until(lambda: terminal.shows(r"\x1b\[32mfresh\x1b\[0m"), "the state is green", seconds=SECONDS)
        assert await terminal.exit_code(seconds=SECONDS) == 0
    async with Terminal(command(rig), NO_COLOR="1") as terminal:
        await until(lambda: terminal.shows(r"orders  +fresh"), "the state is there", seconds=SECONDS)


DRAWN: Final = r"\x1b\[Hsidecar at [^\n]*\n\x1b\[K\r\n.*fresh.*\x1b\[J"
"""From the first place of the screen on, without a line of trouble."""


async def test_watching_draws_in_place_and_survives_a_sidecar_that_goes_and_comes_back(rig: Rig) -> None:
    await rig.start(admin=admin(rig))
    async with Terminal(command(rig, "--watch", "100ms"), NO_COLOR="1") as terminal:
        await until(lambda: terminal.shows(DRAWN), "it draws", seconds=SECONDS)
        await until(lambda: terminal.shows(DRAWN), "it draws again", seconds=SECONDS)
        await rig.stop()
        gone = r"nobody listens.*what was seen last.*fresh"
        await until(lambda: terminal.shows(gone), "it is gone", seconds=SECONDS)
        await rig.start(admin=admin(rig))
        await until(lambda: terminal.shows(DRAWN), "it is back", seconds=SECONDS)
        terminal.type(b"\x03")
        assert await terminal.exit_code(seconds=SECONDS) == 0


async def test_watching_into_a_pipe_is_one_look_after_the_other(rig: Rig, tmp_path: Path) -> None:
    rig.idp.always(INVALID)
    await rig.start_cold(admin=admin(rig))
    await until(lambda: rig.orders.status().last_error is not None, "it is refused")
    async with Program("status", command(rig, "--watch", "100ms", "--json"), folder=tmp_path) as program:
        await until(lambda: program.stdout.count("\n") > 1, "it looked twice", seconds=SECONDS)
        program.send(signal.SIGINT)
        assert await program.ended(seconds=SECONDS) == 6, "as the last look"
        assert {json.loads(line)["exit_code"] for line in program.stdout.splitlines()} == {6}
    async with Program("text", command(rig, "--watch", "100ms"), folder=tmp_path) as program:
        await until(lambda: program.stdout.count("sidecar at") > 1, "it looked twice", seconds=SECONDS)
        assert "\x1b" not in program.stdout


# --- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("--watch", "0s"),
        ("--watch", "soon"),
        ("--watch", "2h"),
        ("--admin", "https://127.0.0.1:6182"),
        ("--admin", "http://127.0.0.1"),
        ("--admin", "http://127.0.0.1:99999"),
        ("--admin", "http://a:b@127.0.0.1:6182"),
        ("--admin", "http://127.0.0.1:6182/v1"),
        ("extra",),
    ],
)
def test_wrong_use_exits_with_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["status", *arguments])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("usage: sidecar status")


def test_a_configuration_without_admin_exits_with_3_and_says_what_to_add(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("listeners: [{name: egress, bind: 127.0.0.1:6180}]\n")
    assert main(["status", "-c", str(file)]) == 3
    assert "add 'admin: {bind: 127.0.0.1:6182}'" in capsys.readouterr().err
