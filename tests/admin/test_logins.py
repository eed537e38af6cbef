"""Logins on the status page, with a provider, a store and a running credential: who may, and how they end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import pytest
from yarl import URL

from sidecar.admin import logins
from sidecar.config import model
from sidecar.config.model import Store
from sidecar.secrets import SecretReference
from sidecar.simulation.idp import Client, Refreshing, Step
from tests.admin.conftest import ORDERS, Said, Stage, problem
from tests.broker.store_kit import key_file
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOGIN: Final = f"{ORDERS}/login"
CALLBACK: Final = "http://127.0.0.1/callback"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(path=str(tmp_path / "tokens"), key=SecretReference("file", str(key_file(tmp_path))))


async def run(stage: Stage, store: Store, grant: str, **changes: Any) -> None:
    """A credential that nobody has logged in for yet."""
    app = Client(auth=frozenset({"none"}), redirect_uris=(CALLBACK,), any_loopback_port=True, refreshing=Refreshing())
    stage.idp.register("app", app)
    stage.idp.device_interval = 0.05
    config: dict[str, Any] = {"grant": grant, "client_auth": "none", "client_id": "app", "issuer": stage.idp.issuer}
    await stage.broker.apply({"orders": model.Credential(**(config | changes))}, model.Limits(), store)
    await until(lambda: state(stage) == "login_needed", "somebody has to log in")


def state(stage: Stage) -> str:
    return stage.broker.credential("orders").status().state.value


async def login_state(stage: Stage) -> Any:
    said = await stage.ask("GET", "/v1/status", token=None)
    return said.body["credentials"][0]["login_state"]


async def fails(stage: Stage) -> bool:
    return bool((await login_state(stage))["problem"])


# --- by a device's code -----------------------------------------------------------------------------------------------


async def test_a_device_code_that_is_confirmed_ends_in_a_token(stage: Stage, store: Store) -> None:
    await run(stage, store, "device_code")
    said = await stage.ask("POST", LOGIN)
    assert (said.status, said.body["how"]) == (200, "device")
    assert said.body["url"] == f"{stage.idp.issuer}/device"
    assert await login_state(stage) == {"waits": True, "done": False, "problem": None}
    stage.idp.approve(said.body["user_code"])
    await until(lambda: state(stage) == "fresh", "the credential takes the grant up")
    assert await login_state(stage) == {"waits": False, "done": True, "problem": None}


async def test_only_whoever_began_it_sees_the_code(
    stage: Stage, store: Store, logs: Callable[[str], list[dict[str, Any]]]
) -> None:
    await run(stage, store, "device_code")
    code = (await stage.ask("POST", LOGIN)).body["user_code"]
    for path in ("/v1/status", "/v1/credentials"):
        assert code not in json.dumps((await stage.ask("GET", path, token=None)).body)
    assert code not in json.dumps(logs("login_begun"))
    assert (await stage.ask("POST", LOGIN, token=None)).status == 401


async def test_asking_again_while_one_waits_says_the_same(stage: Stage, store: Store) -> None:
    await run(stage, store, "device_code")
    first = await stage.ask("POST", LOGIN)
    assert (await stage.ask("POST", LOGIN)).body == first.body


async def test_a_person_who_says_no_is_told_and_may_begin_again(stage: Stage, store: Store) -> None:
    await run(stage, store, "device_code")
    first = (await stage.ask("POST", LOGIN)).body["user_code"]
    stage.idp.deny(first)
    await until(lambda: fails(stage), "the login fails")
    assert "access_denied" in (await login_state(stage))["problem"]
    assert (await stage.ask("POST", LOGIN)).body["user_code"] != first


async def test_a_provider_in_trouble_is_told_with_its_cause(stage: Stage, store: Store) -> None:
    await run(stage, store, "device_code")
    refusal = Step(status=400, fields={"error": "invalid_scope"})
    stage.idp.script(refusal, endpoint="device_authorization")
    said = await stage.ask("POST", LOGIN)
    assert (said.status, problem(said)) == (502, "login_failed")
    assert "invalid_scope" in said.body["detail"]


# --- by a link --------------------------------------------------------------------------------------------------------


async def get(url: str) -> Said:
    """What the browser gets that a provider sends on: it says that it comes from another site, and knows no token."""
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    async with aiohttp.ClientSession() as session, session.get(URL(url, encoded=True), headers=headers) as response:
        return Said(response.status, await response.text(), response.headers)


def answered(stage: Stage, said: Said) -> str:
    """Where the provider sends the browser of somebody who agrees."""
    return stage.idp.consent(said.body["url"])


async def test_a_link_comes_back_to_the_listener_and_ends_in_a_token(stage: Stage, store: Store) -> None:
    await run(stage, store, "authorization_code")
    said = await stage.ask("POST", LOGIN)
    assert (said.status, said.body["how"]) == (200, "link")
    asked = dict(parse_qsl(urlsplit(said.body["url"]).query))
    assert asked["redirect_uri"] == f"http://127.0.0.1:{stage.server.port}/callback"
    assert asked["code_challenge_method"] == "S256"
    seen = await get(answered(stage, said))
    assert (seen.status, seen.headers["Referrer-Policy"]) == (200, "no-referrer")
    assert "script" not in seen.headers["Content-Security-Policy"]
    assert "The answer has arrived" in seen.body
    await until(lambda: state(stage) == "fresh", "the credential takes the grant up")


async def test_a_forwarded_port_is_the_one_the_browser_comes_back_to(stage: Stage, store: Store) -> None:
    await run(stage, store, "authorization_code")
    said = await stage.ask("POST", LOGIN, Host="localhost:8080")
    assert "redirect_uri=http%3A%2F%2F127.0.0.1%3A8080%2Fcallback" in said.body["url"]
    target = urlsplit(answered(stage, said))
    back = await stage.ask("GET", f"{target.path}?{target.query}", token=None, Host="localhost:8080")
    assert back.status == 404  # the redirect URI names the address, and nothing else will do
    back = await stage.ask("GET", f"{target.path}?{target.query}", token=None, Host="127.0.0.1:8080")
    assert back.status == 200


@pytest.mark.parametrize("changed", [{"state": "forged"}, {"state": ""}])
async def test_an_answer_with_another_state_is_refused_and_the_login_goes_on(
    stage: Stage, store: Store, changed: dict[str, str]
) -> None:
    await run(stage, store, "authorization_code")
    said = await stage.ask("POST", LOGIN)
    right = answered(stage, said)
    parts = urlsplit(right)
    forged = parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | changed)).geturl()
    assert (await get(forged)).status == 400
    assert (await get(right)).status == 200
    assert (await get(right)).status in (400, 403)  # it counts once
    await until(lambda: state(stage) == "fresh", "the credential takes the grant up")


async def test_an_answer_of_another_issuer_ends_the_login(stage: Stage, store: Store) -> None:
    await run(stage, store, "authorization_code")
    parts = urlsplit(answered(stage, await stage.ask("POST", LOGIN)))
    query = urlencode(dict(parse_qsl(parts.query)) | {"iss": "https://evil.example"})
    assert (await get(parts._replace(query=query).geturl())).status == 200
    assert "another issuer" in (await login_state(stage))["problem"]
    assert not [each for each in stage.idp.token_requests if each.field("code")]


async def test_a_link_has_its_time(stage: Stage, store: Store) -> None:
    await run(stage, store, "authorization_code")
    right = answered(stage, await stage.ask("POST", LOGIN))
    stage.clock.ahead += logins.PATIENCE_SECONDS
    assert (await get(right)).status == 403
    assert (await login_state(stage))["problem"] == "nobody answered in time"


async def test_nothing_is_waited_for_before_a_login_begins(stage: Stage, store: Store) -> None:
    await run(stage, store, "authorization_code")
    assert (await get(f"http://127.0.0.1:{stage.server.port}/callback?code=a&state=b")).status == 403
    assert await login_state(stage) is None


@pytest.mark.parametrize(
    "redirect_uri",
    ["https://app.example.com/callback", "http://127.0.0.1:1/callback", "http://127.0.0.1/", "http://127.0.0.1/v1/x"],
)
async def test_where_no_browser_can_come_back_the_command_is_named(
    stage: Stage, store: Store, redirect_uri: str
) -> None:
    await run(stage, store, "authorization_code", redirect_uri=redirect_uri)
    said = await stage.ask("POST", LOGIN)
    assert said.body == {"how": "command", "command": "sidecar login orders"}
    assert await login_state(stage) is None


# --- who may not ------------------------------------------------------------------------------------------------------


async def test_a_grant_that_nobody_logs_in_for_has_no_login(stage: Stage) -> None:
    await stage.run()
    said = await stage.ask("POST", LOGIN)
    assert (said.status, problem(said)) == (404, "not_found")


async def test_nobody_is_asked_for_what_could_not_be_kept(stage: Stage, store: Store, tmp_path: Path) -> None:
    await run(stage, store, "device_code")
    (tmp_path / "store-key").write_text("no key")
    said = await stage.ask("POST", LOGIN)
    assert (said.status, problem(said)) == (502, "login_failed")
    assert not [each for each in stage.idp.received if each.path.endswith("device_authorization")]
