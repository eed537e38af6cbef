"""Asking a running sidecar for a token: over every kind of address, and from what is no sidecar."""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web

from sidecar.admin import client
from sidecar.admin.client import AdminClient, GivenToken, no_token
from sidecar.config import hosts
from sidecar.config.model import Bind
from sidecar.errors import (
    ConfigurationInvalid,
    InternalError,
    InvalidClient,
    SecretMissing,
    ServerError,
    StoreLocked,
    TokenConnect,
    TokenTimeout,
    UsageError,
)
from sidecar.oauth.dpop import new_key
from sidecar.secrets import Secret, SecretReference
from sidecar.simulation.idp import Step
from tests.admin.conftest import ADMIN, INVALID
from tests.proxy.conftest import logs, rig, trust  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sidecar.errors import SidecarError
    from tests.proxy.rig import Rig


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "admin-token"
    path.write_text(ADMIN + "\n")
    return path


def to(bind: str, secret: Path) -> AdminClient:
    return AdminClient(hosts.bind(bind), SecretReference.parse(f"file:{secret}"))


async def start(rig: Rig, secret: Path, bind: str = "", **changes: Any) -> AdminClient:
    """A running sidecar, token or not, and a client of it."""
    bind = bind or f"127.0.0.1:{rig.port('admin')}"
    await rig.start_cold(admin={"bind": bind, "token": f"file:{secret}"}, **changes)
    return to(bind, secret)


async def ask(asked: AdminClient, name: str = "orders", *, fresh: bool = False, timeout: float = 10.0) -> GivenToken:
    given = await asked.token(name, fresh=fresh, timeout=timeout)
    assert given is not None
    return given


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::]", "[::1]", "localhost"])
async def test_it_is_reached_wherever_it_listens(rig: Rig, secret: Path, host: str) -> None:
    asked = await start(rig, secret, f"{host}:{rig.port('admin')}")
    given = await ask(asked)
    assert (given.secret.reveal(), given.generation) == (rig.idp.issued[0], 1)
    assert given.expires_at is not None
    assert rig.clock.wall() + 3590 < given.expires_at <= rig.clock.wall() + 3600


async def test_it_is_reached_over_a_unix_socket(rig: Rig, secret: Path, tmp_path: Path) -> None:
    asked = await start(rig, secret, f"unix:{tmp_path}/admin.sock")
    assert (await ask(asked)).secret.reveal() == rig.idp.issued[0]


async def test_a_fresh_one_is_another_one(rig: Rig, secret: Path) -> None:
    asked = await start(rig, secret)
    assert (await ask(asked)).generation == 1
    assert (await ask(asked, fresh=True)).generation == 2


async def test_a_name_with_odd_signs_is_asked_for_as_it_is(rig: Rig, secret: Path) -> None:
    name = "team/a*[1]:x"
    asked = await start(rig, secret, credentials={"orders": rig.credential(), name: rig.credential()})
    await rig.has_tokens()
    published = rig.sidecar.broker.credential(name).published
    assert published is not None
    assert (await ask(asked, name)).secret == published.secret


async def test_a_token_that_never_expires_has_no_expiry(rig: Rig, secret: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("for-ever")
    asked = await start(rig, secret, credentials={"orders": {"grant": "static", "token_file": f"{tmp_path}/token"}})
    assert (await ask(asked)).expires_at is None


# --- what the sidecar says instead ------------------------------------------------------------------------------------


async def test_a_token_that_may_still_come_is_asked_for_again(rig: Rig, secret: Path) -> None:
    hold = asyncio.Event()
    rig.idp.script(Step(hold=hold))
    asked = await start(rig, secret, limits={"token_wait": "10ms"})
    asking = asyncio.Task(ask(asked))
    async with asyncio.timeout(10):
        while not rig.total("token_wait_seconds_count", credential="orders"):
            await asyncio.sleep(0.01)
    hold.set()
    assert (await asking).secret.reveal() == rig.idp.issued[0]


async def test_but_not_for_longer_than_the_timeout(rig: Rig, secret: Path) -> None:
    rig.idp.script(*[Step(status=503, body=b"")] * 100)
    asked = await start(rig, secret, limits={"token_wait": "10ms"})
    with pytest.raises((ServerError, TokenTimeout)) as caught:
        await ask(asked, timeout=0.5)
    assert caught.value.exit_code == 5


async def test_a_refusal_of_the_idp_is_not_waited_out(rig: Rig, secret: Path) -> None:
    rig.idp.script(*[INVALID] * 20)
    asked = await start(rig, secret)
    with pytest.raises(InvalidClient, match=r"(?s)orders has no token: .*\(invalid_client\).*next: check client_id"):
        await ask(asked, timeout=60)


async def test_another_admin_token_or_credential_is_another_configuration(rig: Rig, secret: Path) -> None:
    asked = await start(rig, secret)
    with pytest.raises(ConfigurationInvalid, match="has no credential billing"):
        await ask(asked, "billing")
    server = rig.sidecar.admin
    assert server is not None
    server.token = SecretReference("inline", "", Secret("another-admin-token-of-the-test"))
    with pytest.raises(ConfigurationInvalid, match=r"does not take the admin token of file:") as caught:
        await ask(asked)
    assert ADMIN not in str(caught.value)
    server.token = None
    with pytest.raises(ConfigurationInvalid, match="takes no admin token"):
        await ask(asked)


async def test_a_token_that_is_bound_to_the_sidecar_is_told(rig: Rig, secret: Path) -> None:
    asked = await start(rig, secret)
    await rig.has_tokens()
    assert rig.orders.published is not None
    rig.orders.published = replace(rig.orders.published, dpop=new_key())
    with pytest.raises(UsageError, match="bound to a key that stays in the sidecar"):
        await ask(asked)


async def test_the_scope_is_passed_on(rig: Rig, secret: Path) -> None:
    rig.idp.script(Step(fields={"scope": "orders.read"}))
    asked = await start(rig, secret)
    assert (await ask(asked)).scope == "orders.read"


async def test_an_admin_token_that_is_not_there_is_named(rig: Rig, secret: Path) -> None:
    await start(rig, secret)
    asked = to(f"127.0.0.1:{rig.port('admin')}", secret.with_name("absent"))
    with pytest.raises(SecretMissing, match="No such file"):
        await ask(asked)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("internal", InternalError), ("store_locked", StoreLocked), ("nonsense", TokenTimeout), (None, TokenTimeout)],
)
def test_every_reason_is_an_error_with_its_exit_code(reason: str | None, kind: type[SidecarError]) -> None:
    error = no_token("orders", reason)
    assert type(error) is kind
    assert error.detail.startswith("credential orders has no token: ")
    assert "nonsense" not in error.detail


# --- what is no sidecar -----------------------------------------------------------------------------------------------


async def test_where_nobody_listens_there_is_nothing_to_be_had(rig: Rig, secret: Path, tmp_path: Path) -> None:
    assert await to(f"127.0.0.1:{rig.port('admin')}", secret).token("orders", fresh=False, timeout=5) is None
    assert await to(f"unix:{tmp_path}/absent.sock", secret).token("orders", fresh=False, timeout=5) is None


async def test_a_socket_of_another_user_is_told(secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(asyncio.get_running_loop().__class__, "create_unix_connection", refused)
    asked = AdminClient(Bind(path=str(tmp_path / "admin.sock")), SecretReference.parse(f"file:{secret}"))
    with pytest.raises(TokenConnect, match="may not connect to unix:"):
        await ask(asked)


@contextlib.asynccontextmanager
async def impostor(port: int, *answers: web.Response) -> AsyncIterator[list[web.BaseRequest]]:
    """Another server at this port, with these answers in their order, then silence."""
    seen: list[web.BaseRequest] = []
    left, over = list(answers), asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.Response:
        seen.append(request)
        if not left:
            await over.wait()
            return web.Response()
        return left.pop(0)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield seen
    finally:
        over.set()
        await runner.cleanup()


LIST: Final = '{"credentials": []}'


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.json_response({"hello": "world"}),
        lambda: web.json_response({"credentials": 3}),
        lambda: web.Response(text="<h1>It works!</h1>", content_type="text/html"),
        lambda: web.json_response({"credentials": []}, status=500),
        lambda: web.Response(status=302, headers={"Location": "/elsewhere"}),
        lambda: web.Response(body=b"[" * 100),
        lambda: web.Response(body=b" " * (client.LARGEST_ANSWER + 1)),
    ],
)
async def test_what_else_listens_there_is_not_sent_the_admin_token(rig: Rig, secret: Path, answer: Any) -> None:
    async with impostor(rig.port("admin"), answer()) as seen:
        with pytest.raises(TokenConnect, match="does not answer as a sidecar's admin API"):
            await ask(to(f"127.0.0.1:{rig.port('admin')}", secret))
    assert [(request.method, "Authorization" in request.headers) for request in seen] == [("GET", False)]


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{}",
        '{"access_token": 3}',
        '{"access_token": "a\\nb"}',
        '{"access_token": "a\\u001b[2J"}',
        '{"access_token": ""}',
        '{"access_token": "a", "expires_at": "soon"}',
    ],
)
async def test_an_answer_that_holds_no_token_is_none(rig: Rig, secret: Path, body: str) -> None:
    answers = web.Response(text=LIST), web.Response(text=body)
    async with impostor(rig.port("admin"), *answers):
        with pytest.raises(TokenConnect, match="does not answer as a sidecar's admin API"):
            await ask(to(f"127.0.0.1:{rig.port('admin')}", secret))


async def test_an_answer_that_makes_no_sense_says_its_status_and_no_more(rig: Rig, secret: Path) -> None:
    answers = web.Response(text=LIST), web.json_response({"reason": "\x1b[2J"}, status=418)
    async with impostor(rig.port("admin"), *answers):
        with pytest.raises(ConfigurationInvalid, match="answered 418; does it run") as caught:
            await ask(to(f"127.0.0.1:{rig.port('admin')}", secret))
    assert "\x1b" not in str(caught.value)


async def test_one_that_accepts_and_says_nothing_is_given_up(rig: Rig, secret: Path) -> None:
    with socket.create_server(("127.0.0.1", rig.port("admin"))):
        with pytest.raises(TokenTimeout, match="did not answer in time"):
            await ask(to(f"127.0.0.1:{rig.port('admin')}", secret), timeout=0.2)


async def test_where_time_runs_out_the_trouble_that_was_told_last_is_the_reason(rig: Rig, secret: Path) -> None:
    told = web.json_response({"last_error": "server_error"}, status=503, headers={"Retry-After": "0"})
    async with impostor(rig.port("admin"), web.Response(text=LIST), told):
        with pytest.raises(ServerError, match=r"(?s)orders has no token: .*\(server_error\).*next: "):
            await ask(to(f"127.0.0.1:{rig.port('admin')}", secret), timeout=2)
