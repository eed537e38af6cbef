"""The admin listener over real sockets: what it shows, whom it gives a token, and whom not."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from sidecar.admin import admin_server
from sidecar.admin.admin_server import TELL_SECONDS
from sidecar.config import model
from sidecar.config.model import Bind
from sidecar.oauth.dpop import new_key
from sidecar.simulation.idp import Step
from tests.admin.conftest import ADMIN, INVALID, ORDERS, Stage, problem
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# --- what everybody sees ----------------------------------------------------------------------------------------------


async def test_the_list_says_how_each_credential_stands_and_nothing_secret(stage: Stage) -> None:
    await stage.run("orders", "billing")
    await stage.has_token()
    orders, billing = await stage.get()
    assert (orders["name"], billing["name"]) == ("orders", "billing")
    assert orders["state"] == "fresh"
    assert (orders["usable"], orders["generation"], orders["consecutive_failures"]) == (True, 1, 0)
    assert orders["expires_at"].endswith("Z")
    assert orders["expires_at"] > orders["next_attempt_at"]
    assert (orders["last_error"], orders["next"]) == (None, None)
    token = stage.broker.credential("orders").published
    assert token is not None
    assert token.secret.reveal() not in json.dumps([orders, billing])


async def test_the_list_says_what_failed_and_what_to_do(stage: Stage) -> None:
    stage.idp.script(*[INVALID] * 5)
    await stage.run()
    await until(lambda: stage.failed, "an attempt failed")
    [orders] = await stage.get()
    assert (orders["usable"], orders["generation"], orders["expires_at"]) == (False, 0, None)
    assert (orders["last_error"], orders["consecutive_failures"]) == ("invalid_client", 1)
    assert "client_secret" in orders["next"]


async def test_the_list_needs_no_token_and_a_head_no_body(stage: Stage) -> None:
    assert await stage.get() == []
    said = await stage.ask("HEAD", "/v1/credentials", token=None)
    assert (said.status, said.body) == (200, None)
    assert said.headers["Cache-Control"] == "no-store"
    assert said.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in said.headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in said.headers


# --- a token ----------------------------------------------------------------------------------------------------------


async def test_whoever_has_the_admin_token_gets_the_token_and_the_log_says_so(
    stage: Stage, logs: Callable[[str], list[dict[str, Any]]]
) -> None:
    await stage.run()
    said = await stage.ask("POST", f"{ORDERS}/token")
    assert said.status == 200
    assert said.body["access_token"] == stage.idp.issued[-1]
    assert (said.body["token_type"], said.body["generation"]) == ("Bearer", 1)
    assert 3590 <= said.body["expires_in"] <= 3600
    assert said.body["expires_at"].endswith("Z")
    assert said.headers["Cache-Control"] == "no-store"
    [line] = logs("token_given")
    assert (line["credential"], line["generation"]) == ("orders", 1)
    assert said.body["access_token"] not in json.dumps(line)


async def test_a_token_that_never_expires_says_no_expiry(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("opaque-and-for-ever")
    partner = model.Credential(grant="static", token_file=str(tmp_path / "token"))
    await stage.broker.apply({"orders": partner}, model.Limits())
    said = await stage.ask("POST", f"{ORDERS}/token")
    assert (said.status, said.body["access_token"]) == (200, "opaque-and-for-ever")
    assert (said.body["expires_in"], said.body["expires_at"]) == (None, None)


async def test_what_the_idp_says_of_the_scope_is_passed_on(stage: Stage) -> None:
    stage.idp.script(Step(fields={"scope": "orders.read orders.write"}))
    await stage.run()
    assert (await stage.ask("POST", f"{ORDERS}/token")).body["scope"] == "orders.read orders.write"


async def test_a_token_that_is_bound_to_a_key_of_the_sidecar_is_not_given(stage: Stage) -> None:
    await stage.run()
    await stage.has_token()
    orders = stage.broker.credential("orders")
    assert orders.published is not None
    orders.published = replace(orders.published, dpop=new_key())
    said = await stage.ask("POST", f"{ORDERS}/token")
    assert (said.status, problem(said), said.body["credential"]) == (403, "token_bound", "orders")
    assert orders.published.secret.reveal() not in json.dumps(said.body)


async def test_the_first_token_is_waited_for(stage: Stage) -> None:
    hold = asyncio.Event()
    stage.idp.script(Step(hold=hold))
    await stage.run()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(stage.ask("POST", f"{ORDERS}/token"))
        await until(lambda: bool(stage.idp.received), "the provider is asked")
        hold.set()
    assert asking.result().status == 200


async def test_without_a_token_in_time_it_is_503_with_the_cause_and_the_next_step(stage: Stage) -> None:
    stage.idp.script(*[INVALID] * 5)
    await stage.run(token_wait=0.05)
    await until(lambda: stage.failed, "an attempt failed")
    said = await stage.ask("POST", f"{ORDERS}/token")
    assert (said.status, problem(said)) == (503, "token_unavailable")
    assert 1 <= int(said.headers["Retry-After"]) <= 3600
    assert (said.body["credential"], said.body["last_error"]) == ("orders", "invalid_client")
    assert "client_secret" in said.body["next"]


async def test_the_wait_has_a_bound_of_its_own(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "WAIT_SECONDS", 0.05)
    stage.idp.script(Step(fault="hang"))
    await stage.run(token_wait=3600)
    assert problem(await stage.ask("POST", f"{ORDERS}/token")) == "token_unavailable"
    assert problem(await stage.ask("POST", f"{ORDERS}/token?fresh=true")) == "token_unavailable"


async def test_a_fresh_token_is_another_one(stage: Stage) -> None:
    await stage.run()
    first = await stage.ask("POST", f"{ORDERS}/token")
    assert (await stage.ask("POST", f"{ORDERS}/token?fresh=false")).body["access_token"] == first.body["access_token"]
    second = await stage.ask("POST", f"{ORDERS}/token?fresh=true")
    assert (second.status, second.body["generation"]) == (200, 2)
    assert second.body["access_token"] == stage.idp.issued[-1] != first.body["access_token"]


async def test_an_idp_that_gives_the_same_token_again_has_answered_too(stage: Stage) -> None:
    stage.idp.renews_within = 60.0
    await stage.run()
    first = await stage.ask("POST", f"{ORDERS}/token")
    again = await stage.ask("POST", f"{ORDERS}/token?fresh=true")
    assert (again.status, again.body["generation"]) == (200, 1)
    assert again.body["access_token"] == first.body["access_token"]
    assert len(stage.idp.received) == 2


async def test_a_fresh_token_that_does_not_come_is_503_and_the_old_one_stays(stage: Stage) -> None:
    await stage.run()
    await stage.has_token()
    stage.idp.script(*[Step(status=503, body=b"")] * 50)
    said = await stage.ask("POST", f"{ORDERS}/token?fresh=true")
    assert (said.status, problem(said), said.body["last_error"]) == (503, "token_unavailable", "server_error")
    assert (await stage.ask("POST", f"{ORDERS}/token")).body["generation"] == 1


async def test_a_refresh_is_asked_for_and_not_waited_for(stage: Stage) -> None:
    await stage.run()
    await stage.has_token()
    said = await stage.ask("POST", f"{ORDERS}/refresh")
    assert (said.status, said.body["name"]) == (202, "orders")
    await until(lambda: stage.broker.credential("orders").status().generation == 2, "there is another token")
    assert stage.metrics.credential("orders").triggers["manual"].value == 1


# --- addresses --------------------------------------------------------------------------------------------------------


async def test_a_name_is_percent_decoded(stage: Stage) -> None:
    await stage.run("team/a*[1]:x", "orders")
    said = await stage.ask("POST", "/v1/credentials/team%2Fa%2A%5B1%5D%3Ax/token")
    published = stage.broker.credential("team/a*[1]:x").published
    assert published is not None
    assert (said.status, said.body["access_token"]) == (200, published.secret.reveal())


@pytest.mark.parametrize("name", ["nobody", "Orders", "orders%00", "%ff%fe", "..", "orders%2F", "%2e%2e"])
async def test_an_unknown_name_is_not_found(stage: Stage, name: str) -> None:
    await stage.run()
    for action in ("token", "refresh"):
        said = await stage.ask("POST", f"/v1/credentials/{name}/{action}")
        assert (said.status, problem(said)) == (404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/metrics",
            "/v1",
            "/v1/events/",
            "/index.html",
            "/callback",
            "/v1/credentials/",
            "/v1/credentials/orders",
            "/v1/credentials//token",
        ),
        *("/v1/credentials/orders/token/", "/v2/credentials", "/v1/credentials/orders/secret", "//v1/credentials"),
    ],
)
async def test_every_other_address_is_not_found(stage: Stage, path: str) -> None:
    await stage.run()
    for method in ("GET", "POST"):
        said = await stage.ask(method, path)
        assert (said.status, problem(said)) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/credentials", "GET, HEAD"),
        ("OPTIONS", "/v1/credentials", "GET, HEAD"),
        ("GET", f"{ORDERS}/token", "POST"),
        ("PUT", f"{ORDERS}/token", "POST"),
        ("OPTIONS", f"{ORDERS}/token", "POST"),
        ("GET", f"{ORDERS}/refresh", "POST"),
    ],
)
async def test_another_method_is_not_allowed(stage: Stage, method: str, path: str, allowed: str) -> None:
    await stage.run()
    said = await stage.ask(method, path)
    assert (said.status, problem(said), said.headers["Allow"]) == (405, "method_not_allowed", allowed)


# --- who may not ------------------------------------------------------------------------------------------------------


async def test_without_the_right_token_nothing_is_given_and_nothing_is_learned(stage: Stage) -> None:
    await stage.run()
    await stage.has_token()
    for path in (f"{ORDERS}/token", f"{ORDERS}/refresh", "/v1/credentials/nobody/token"):
        for token in (None, "wrong", ADMIN[:-1], ADMIN + "x"):
            said = await stage.ask("POST", path, token=token)
            assert (said.status, problem(said)) == (401, "admin_token_refused")
            assert said.headers["WWW-Authenticate"].startswith("Bearer ")
            assert ADMIN[:-1] not in json.dumps(said.body)
    assert len(stage.idp.received) == 1


async def test_refusals_are_one_line_in_a_while_with_their_number(
    stage: Stage, logs: Callable[[str], list[dict[str, Any]]]
) -> None:
    await stage.run()
    for _ in range(20):
        await stage.ask("POST", f"{ORDERS}/token", token="wrong")
    assert [line["count"] for line in logs("admin_token_refused")] == [1]
    stage.clock.ahead += TELL_SECONDS
    await stage.ask("POST", f"{ORDERS}/token", token="wrong")
    lines = logs("admin_token_refused")
    assert [line["count"] for line in lines] == [1, 20]
    assert "wrong" not in json.dumps(lines)


async def test_a_rotated_admin_token_counts_at_once(stage: Stage) -> None:
    await stage.run()
    stage.admin_file.write_text("another-admin-token-of-the-test\n")
    assert (await stage.ask("POST", f"{ORDERS}/token")).status == 401
    assert (await stage.ask("POST", f"{ORDERS}/token", token="another-admin-token-of-the-test")).status == 200


@pytest.mark.parametrize("content", [None, "", "short", "two words of text that is long enough"])
async def test_an_admin_token_that_cannot_be_used_any_more_lets_nobody_in(
    stage: Stage, logs: Callable[[str], list[dict[str, Any]]], content: str | None
) -> None:
    await stage.run()
    if content is None:
        stage.admin_file.unlink()
    else:
        stage.admin_file.write_text(content)
    for token in (None, ADMIN, content or ""):
        said = await stage.ask("POST", f"{ORDERS}/token", token=token)
        assert (said.status, problem(said)) == (403, "admin_read_only")
        assert str(stage.admin_file) not in json.dumps(said.body)
    [line] = logs("admin_token_unusable")
    assert line["reference"] == f"file:{stage.admin_file}"


async def test_without_a_token_in_the_configuration_it_is_read_only_and_says_so(stage: Stage) -> None:
    await stage.run()
    stage.server.token = None
    for token in (None, ADMIN, ""):
        said = await stage.ask("POST", f"{ORDERS}/token", token=token)
        assert (said.status, problem(said)) == (403, "admin_read_only")
        assert "admin.token" in said.body["detail"]
    assert (await stage.ask("GET", "/v1/credentials")).status == 200


async def test_a_foreign_host_or_page_gets_nothing_whatever_it_knows(stage: Stage) -> None:
    await stage.run()
    origin = f"http://127.0.0.1:{stage.server.port}"
    for fields, reason in (
        ({"Host": "evil.example"}, "host_unknown"),
        ({"Origin": "http://evil.example"}, "origin_foreign"),
        ({"Origin": "null"}, "origin_foreign"),
        ({"Sec-Fetch-Site": "cross-site"}, "origin_foreign"),
        ({"Origin": origin, "Sec-Fetch-Site": "same-site"}, "origin_foreign"),
    ):
        for method, path in (
            *(("GET", "/v1/credentials"), ("GET", "/v1/status"), ("GET", "/v1/events"), ("POST", f"{ORDERS}/token")),
            *(("POST", f"{ORDERS}/login"), ("POST", f"{ORDERS}/refresh"), ("POST", "/v1/support-bundle")),
        ):
            said = await stage.ask(method, path, **fields)
            assert (said.status, problem(said)) == (403, reason)
    assert stage.metrics.denied["host_unknown"].value == 7
    assert stage.metrics.denied["origin_foreign"].value == 28
    assert (await stage.ask("POST", f"{ORDERS}/token", Origin=origin)).status == 200


# --- what is no request -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "status", "reason"),
    [
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"GET /v1/credentials HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET /v1/credentials HTTP/1.0\r\n\r\n", 403, "host_unknown"),
        (
            b"POST /v1/credentials/orders/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
            400,
            "bad_request",
        ),
        (
            b"GET http://localhost/v1/credentials HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            404,
            "not_found",
        ),
        (b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n", 404, "not_found"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 33_000 + b"\r\n\r\n", 431, "head_too_large"),
        (b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "target_too_long"),
    ],
)
async def test_what_is_malformed_is_a_problem_too(stage: Stage, raw: bytes, status: int, reason: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.server.port)
    writer.write(raw)
    async with asyncio.timeout(5):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert json.loads(body)["reason"] == reason
    assert b"xxx" not in body


async def test_a_bug_shows_nothing_of_itself(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, logs: Callable[[str], list[dict[str, Any]]]
) -> None:
    await stage.run()

    def crash(*_: object) -> None:
        raise RuntimeError("cn4ry-internal-detail")

    monkeypatch.setattr(stage.server, "_status", crash)
    monkeypatch.setattr(stage.server, "_token", crash)
    for method, path in (("GET", "/v1/credentials"), ("POST", f"{ORDERS}/refresh"), ("POST", f"{ORDERS}/token")):
        said = await stage.ask(method, path)
        assert (said.status, problem(said)) == (500, "internal")
        assert "cn4ry" not in json.dumps(said.body)
    assert len(logs("admin_failed")) == 3


# --- the socket -------------------------------------------------------------------------------------------------------


async def test_a_unix_socket_answers_to_any_host_and_still_wants_the_token(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    await stage.run()
    server = stage.serving(Bind(path=str(path), mode=0o600), stage.server.token)
    await server.serve()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        url = "http://whatever.example/v1/credentials"
        async with session.get(url) as listed, session.post(f"{url}/orders/token") as refused:
            assert (listed.status, refused.status) == (200, 401)
        headers = {"Authorization": f"Bearer {ADMIN}"}
        async with session.post(f"{url}/orders/token", headers=headers) as given:
            assert given.status == 200
    await server.close()
    assert not path.exists()


async def test_on_a_wildcard_the_address_that_was_dialled_is_its_own(stage: Stage) -> None:
    server = stage.serving(Bind(host="0.0.0.0", port=0), stage.server.token)
    await server.serve()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.2:{server.port}/v1/credentials") as known:
            assert known.status == 200
        headers = {"Host": f"127.0.0.3:{server.port}"}
        async with session.get(f"http://127.0.0.2:{server.port}/v1/credentials", headers=headers) as foreign:
            assert foreign.status == 403
    await server.close()


# --- tokens that end on command ---------------------------------------------------------------------------------------

EXPIRE = "/v1/simulation/orders/expire"
REVOKE = "/v1/simulation/orders/revoke-token"


@pytest.mark.parametrize(("path", "action"), [(EXPIRE, "expire"), (REVOKE, "revoke-token")])
async def test_a_token_ends_on_command_and_the_log_says_so_loudly(
    stage: Stage, logs: Callable[[str], list[dict[str, Any]]], path: str, action: str
) -> None:
    stage.server.simulation = True
    await stage.run()
    await stage.has_token()
    assert (await stage.ask("POST", path)).status == 202
    await until(lambda: stage.broker.credential("orders").status().generation == 2, "a new token came")
    [line] = logs("token_expired_on_command")
    assert (line["level"], line["credential"], line["action"]) == ("warning", "orders", action)
    assert line["had_token"] is True


@pytest.mark.parametrize("path", [EXPIRE, REVOKE])
async def test_where_nothing_is_simulated_the_address_does_not_exist(stage: Stage, path: str) -> None:
    await stage.run()
    await stage.has_token()
    said = await stage.ask("POST", path)
    assert (said.status, problem(said)) == (404, "not_found")
    assert "simulation.enabled" in said.body["detail"]
    assert stage.broker.credential("orders").status().generation == 1


async def test_ending_a_token_needs_the_admin_token(stage: Stage) -> None:
    stage.server.simulation = True
    await stage.run()
    await stage.has_token()
    assert problem(await stage.ask("POST", EXPIRE, token=None)) == "admin_token_refused"
    stage.server.token = None
    assert problem(await stage.ask("POST", EXPIRE)) == "admin_read_only"
    assert stage.broker.credential("orders").status().generation == 1


async def test_addresses_of_the_simulation_are_as_strict_as_the_others(stage: Stage) -> None:
    stage.server.simulation = True
    await stage.run()
    for path in ("/v1/simulation/orders/token", "/v1/simulation/other/expire", "/v1/credentials/orders/expire"):
        assert (await stage.ask("POST", path)).status == 404
    said = await stage.ask("GET", EXPIRE)
    assert (said.status, said.headers["Allow"]) == (405, "POST")
