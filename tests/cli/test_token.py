"""``sidecar token``: where the token comes from, where it is not printed, and how it fails."""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.simulation.idp import Step
from sidecar.simulation.registration import Client, Refreshing
from tests.broker.store_kit import key_file
from tests.cli.token_command import ADMIN, SECONDS, admin, failed, run, usage, write
from tests.proxy.conftest import logs, rig, trust  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxy.rig import Rig

INVALID: Final = Step(status=401, body=b'{"error": "invalid_client"}', headers={"Content-Type": "application/json"})


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "admin-token"
    path.write_text(ADMIN + "\n")
    return path


# --- where it is printed ----------------------------------------------------------------------------------------------


def test_into_a_pipe_it_is_not_printed_unless_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for format_ in ("raw", "json", "header", "exec-credential"):
        message = usage(capsys, "orders", "--format", format_)
        assert "standard output is no terminal" in message
        assert "add --print" in message
    assert "add --print" in usage(capsys, "orders", "--format", "git-credential", "get")


async def test_to_a_terminal_it_is_printed(rig: Rig) -> None:
    write(rig)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sidecar", "token", "-c", str(rig.file), "orders"]
    process = await asyncio.to_thread(subprocess.run, command, stdout=theirs, timeout=SECONDS, check=False)
    os.close(theirs)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert (process.returncode, shown.strip()) == (0, rig.idp.issued[-1])


# --- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "CREDENTIAL"),
        (("orders", "--print", "--timeout", "0s"), "more than nothing and at most 10m"),
        (("orders", "--print", "--timeout", "11m"), "more than nothing and at most 10m"),
        (("orders", "--print", "--timeout", "soon"), "not a duration"),
        (("orders", "--print", "--format", "xml"), "invalid choice"),
        (("orders", "--print", "--from-running", "--from-idp"), "not allowed with"),
        (("orders", "get", "--print"), "'get' belongs to --format git-credential"),
        (("orders", "--host", "git.example.com", "--print"), "--host belongs to --format git-credential"),
        (("orders", "--username", "me", "--print"), "--username belongs to --format git-credential"),
        (("orders", "--print", "--format", "git-credential"), "get, store or erase"),
        (("orders", "get", "--print", "--format", "git-credential", "--host", "https://a"), "not HOST or HOST:PORT"),
        (("orders", "get", "--print", "--format", "git-credential", "--host", "a/b"), "not HOST or HOST:PORT"),
        (("orders", "get", "--print", "--format", "git-credential", "--username", "a\nb"), "line break"),
    ],
)
def test_wrong_use_says_what_is_wrong(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str) -> None:
    assert why in usage(capsys, *arguments)


async def test_an_unknown_credential_is_told_with_the_nearest_name(rig: Rig) -> None:
    write(rig)
    assert "did you mean 'orders'?" in failed(await run(rig, "--print", "order"), 2)
    assert "did you mean" not in failed(await run(rig, "--print", "something-else"), 2)


async def test_a_configuration_with_errors_exits_with_3(rig: Rig) -> None:
    rig.file.write_text("listeners: []\n")
    assert f"{rig.file}:1:" in failed(await run(rig, "--print", "orders"), 3)
    rig.file.unlink()
    failed(await run(rig, "--print", "orders"), 3)


# --- of the IdP -------------------------------------------------------------------------------------------------------


async def test_without_a_running_sidecar_it_asks_the_idp_once(rig: Rig, secret: Path) -> None:
    write(rig, admin=admin(rig, secret))
    done = await run(rig, "orders", "--print")
    assert (done.returncode, done.stdout, done.stderr) == (0, rig.idp.issued[-1] + "\n", "")
    assert len(rig.idp.token_requests) == 1


async def test_only_the_secrets_of_this_credential_have_to_be_there(rig: Rig, tmp_path: Path) -> None:
    absent = f"file:{tmp_path}/absent"
    credentials = {"orders": rig.credential(), "billing": rig.credential(client_secret=absent)}
    listeners = [{"name": "egress", "mode": "forward", "auth": {"proxy_password": absent}}]
    section = {"bind": f"127.0.0.1:{rig.port('admin')}", "token": absent}
    write(rig, credentials=credentials, listeners=listeners, admin=section)
    assert (await run(rig, "orders", "--print")).returncode == 0
    assert f"credentials.billing.client_secret: {absent}" in failed(await run(rig, "billing", "--print"), 4)


async def test_an_idp_that_refuses_is_6_with_the_next_step(rig: Rig) -> None:
    write(rig, credentials={"orders": rig.credential(client_secret="wrong")})
    message = failed(await run(rig, "orders", "--print"), 6)
    assert message == (
        "credential orders has no token: the IdP answered HTTP 401, invalid_client (invalid_client)\n"
        "  next: check client_id and client_auth, and that the IdP knows the client_secret (then basic_encoding), "
        "the key (then key_id, assertion_audience) or the certificate"
    )


async def test_an_idp_that_is_down_is_5_after_a_bounded_wait(rig: Rig) -> None:
    await rig.idp.stop()
    write(rig)
    message = failed(await run(rig, "orders", "--print", "--timeout", "3s"), 5)
    assert f"no connection to 127.0.0.1:{rig.idp.port}: Connection refused (connect)" in message
    assert "\n  next: check that the IdP is up" in message


async def test_an_idp_that_says_nothing_is_5(rig: Rig) -> None:
    rig.idp.script(Step(fault="hang"))
    write(rig)
    assert "nothing came in time" in failed(await run(rig, "orders", "--print", "--timeout", "1s"), 5)


async def test_a_failure_that_passes_is_waited_out(rig: Rig) -> None:
    rig.idp.script(Step(status=503, body=b""))
    write(rig)
    assert (await run(rig, "orders", "--print")).stdout.strip() == rig.idp.issued[-1]


# --- of the running sidecar -------------------------------------------------------------------------------------------


async def test_a_running_sidecar_is_asked_and_not_the_idp(rig: Rig, secret: Path) -> None:
    await rig.start(admin=admin(rig, secret))
    for more in ((), ("--from-running",)):
        done = await run(rig, "orders", "--print", *more)
        assert (done.returncode, done.stdout, done.stderr) == (0, rig.idp.issued[0] + "\n", "")
    assert len(rig.idp.token_requests) == 1


async def test_force_has_it_ask_for_a_fresh_one(rig: Rig, secret: Path) -> None:
    await rig.start(admin=admin(rig, secret))
    done = await run(rig, "orders", "--print", "--format", "json", "--force")
    answer = json.loads(done.stdout)
    assert (answer["generation"], answer["access_token"]) == (2, rig.idp.issued[1])
    assert rig.orders.published is not None
    assert rig.orders.published.generation == 2


async def test_from_idp_passes_it_by(rig: Rig, secret: Path) -> None:
    await rig.start(admin=admin(rig, secret))
    done = await run(rig, "orders", "--print", "--from-idp")
    assert done.stdout.strip() == rig.idp.issued[1]
    assert rig.orders.published is not None
    assert rig.orders.published.generation == 1


async def test_its_trouble_ends_the_command_as_the_idps_would(rig: Rig, secret: Path) -> None:
    rig.idp.script(*[INVALID] * 20)
    await rig.start_cold(admin=admin(rig, secret))
    assert "(invalid_client)" in failed(await run(rig, "orders", "--print", "--from-running"), 6)
    await rig.idp.stop()


async def test_from_running_without_one_is_5_and_without_an_admin_token_3(rig: Rig, secret: Path) -> None:
    write(rig, admin=admin(rig, secret))
    message = failed(await run(rig, "orders", "--print", "--from-running"), 5)
    assert f"nobody listens at 127.0.0.1:{rig.port('admin')}" in message
    for section in (None, {"bind": f"127.0.0.1:{rig.port('admin')}"}):
        write(rig, admin=section)
        assert "set admin.token" in failed(await run(rig, "orders", "--print", "--from-running"), 3)
    assert not rig.idp.token_requests


async def test_without_an_admin_token_it_asks_the_idp_itself(rig: Rig) -> None:
    await rig.start(admin={"bind": f"127.0.0.1:{rig.port('admin')}"})
    assert (await run(rig, "orders", "--print")).stdout.strip() == rig.idp.issued[1]


async def test_a_sidecar_with_another_configuration_says_so_and_nothing_else_is_tried(rig: Rig, secret: Path) -> None:
    await rig.start(admin=admin(rig, secret))
    other = secret.with_name("other")
    other.write_text("another-admin-token-of-the-test")
    write(rig, admin=admin(rig, other))
    assert "does not take the admin token of file:" in failed(await run(rig, "orders", "--print"), 3)
    write(rig, admin=admin(rig, secret), credentials={"orders": rig.credential(), "new": rig.credential()})
    assert "has no credential new" in failed(await run(rig, "new", "--print"), 3)
    other.unlink()
    write(rig, admin=admin(rig, other))
    assert "No such file" in failed(await run(rig, "orders", "--print"), 4)
    assert len(rig.idp.token_requests) == 1


# --- a refresh token has one owner ------------------------------------------------------------------------------------


def consented(rig: Rig, tmp_path: Path) -> dict[str, Any]:
    """A credential that rests on a stored refresh token, and its store."""
    rig.idp.register("person", Client(refreshing=Refreshing()), secret="person-secret")
    (tmp_path / "seed").write_text(rig.idp.login("person"))
    credential = rig.credential(client_id="person", client_secret="person-secret", grant="refresh_token")
    store = {"path": str(tmp_path / "tokens"), "key": f"file:{key_file(tmp_path)}"}
    return {"credentials": {"orders": credential | {"refresh_token": f"file:{tmp_path}/seed"}}, "store": store}


async def test_beside_a_running_sidecar_its_refresh_token_is_not_touched(
    rig: Rig, secret: Path, tmp_path: Path
) -> None:
    changes = consented(rig, tmp_path)
    await rig.start(admin=admin(rig, secret), **changes)
    before = len(rig.idp.token_requests)
    assert (await run(rig, "orders", "--print")).stdout.strip() == rig.idp.issued[-1]
    message = failed(await run(rig, "orders", "--print", "--from-idp"), 8)
    assert "a running sidecar owns the refresh token of credential orders" in message
    assert "set admin with a token" in message
    assert len(rig.idp.token_requests) == before


async def test_without_one_it_is_spent_and_its_successor_kept(rig: Rig, tmp_path: Path) -> None:
    write(rig, **consented(rig, tmp_path))
    for _ in range(2):  # the second time with what the first one stored
        done = await run(rig, "orders", "--print")
        assert done.stdout.strip() == rig.idp.issued[-1], done.stderr
    assert len(rig.idp.token_requests) == 2


async def test_without_a_consent_that_holds_it_is_6(rig: Rig, tmp_path: Path) -> None:
    changes = consented(rig, tmp_path)
    (tmp_path / "seed").write_text("never-issued")
    write(rig, **changes)
    message = failed(await run(rig, "orders", "--print"), 6)
    assert "invalid_grant" in message or "login_needed" in message


async def test_a_token_that_is_bound_to_a_key_is_not_for_others(rig: Rig) -> None:
    write(rig, credentials={"orders": rig.credential(dpop=True)})
    assert "bound to a key that stays in the sidecar" in failed(await run(rig, "orders", "--print"), 2)
    assert not rig.idp.token_requests
