"""Tokens on requests: what is sent without one, with an old one, and after the upstream has refused one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecar.simulation.idp import Step
from tests.end_to_end.waiting import until
from tests.proxy.raw_client import Answer, chunked, get, post
from tests.proxy.raw_origin import REFUSED_TOKEN, Request, ok
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.rig import Rig

URL = f"http://{API}"
DOWN = Step(status=500, body=b"down")


async def ask(rig: Rig, request: bytes = get(f"{URL}/")) -> Answer:
    """Ask on a connection of its own."""
    client = await rig.client()
    try:
        return await client.ask(request)
    finally:
        await client.close()


def injections(rig: Rig, result: str) -> float:
    return rig.value("injections_total", route="api", credential="orders", result=result)


def unauthorized(rig: Rig, outcome: str) -> float:
    return rig.value("upstream_unauthorized_total", route="api", outcome=outcome)


# --- no token, an old token -------------------------------------------------------------------------------------------


async def test_without_a_token_the_app_gets_503_with_retry_after_and_the_upstream_nothing(rig: Rig) -> None:
    rig.idp.always(DOWN)
    await rig.start_cold(limits={"token_wait": "200ms"})
    client = await rig.client()
    for request in (get(f"{URL}/"), post(f"{URL}/", b"body"), get(f"{URL}/", method="HEAD")):
        answer = await client.ask(request)
        assert answer.status == 503
        assert int(answer.value("Retry-After") or "0") >= 1
        assert answer.values("WWW-Authenticate") == []
    assert rig.secure.connections == []
    assert injections(rig, "no_token") == 3
    assert rig.value("http_requests_total", route="api", method="GET", code="503") == 1
    rig.idp.always(None)
    await rig.has_tokens()
    assert (await client.ask(get(f"{URL}/"))).status == 200


async def test_the_503_says_why_and_which_credential(rig: Rig) -> None:
    rig.idp.always(DOWN)
    await rig.start_cold(limits={"token_wait": "100ms"})
    answer = await ask(rig)
    assert answer.reason == "token_unavailable"
    assert b'"credential":"orders"' in answer.body


async def test_a_route_that_fails_open_sends_without_a_token(rig: Rig) -> None:
    rig.idp.always(DOWN)
    await rig.start_cold(limits={"token_wait": "100ms"}, routes=[rig.route(on_failure="open")])
    answer = await ask(rig, get(f"{URL}/", "Authorization: Bearer of-the-app"))
    assert answer.status == 200
    assert rig.secure.tokens == [None]
    assert injections(rig, "no_token") == 1


async def test_first_requests_wait_for_the_first_token_and_share_one_token_request(rig: Rig) -> None:
    hold = asyncio.Event()
    rig.idp.script(Step(hold=hold))
    await rig.start_cold()
    asking = [asyncio.ensure_future(ask(rig, post(f"{URL}/", b"body"))) for _ in range(20)]
    await until(lambda: rig.total("http_requests_in_flight", route="api") == 20, "all wait")
    assert rig.secure.requests == []
    hold.set()
    assert {answer.body for answer in await asyncio.gather(*asking)} == {b"POST / 4"}
    assert len(rig.idp.token_requests) == 1
    assert len(set(rig.secure.tokens)) == 1


async def test_a_client_that_leaves_while_it_waits_for_a_token_cancels_nothing(rig: Rig) -> None:
    hold = asyncio.Event()
    rig.idp.script(Step(hold=hold))
    await rig.start_cold()
    client = await rig.client()
    await client.send(get(f"{URL}/"))
    await until(lambda: rig.total("http_requests_in_flight", route="api") == 1, "it waits")
    client.reset()
    await rig.at_rest()
    hold.set()
    assert (await ask(rig)).status == 200
    assert len(rig.idp.token_requests) == 1
    assert len(rig.secure.requests) == 1


async def test_an_expired_token_is_sent_within_its_grace_and_counted_as_stale(rig: Rig) -> None:
    await rig.start(credentials={"orders": rig.credential(stale_for="30s")}, limits={"token_wait": "100ms"})
    token = rig.idp.issued[-1]
    rig.idp.always(DOWN)
    assert (await ask(rig)).status == 200
    rig.clock.ahead += 3610
    assert (await ask(rig)).status == 200
    assert rig.secure.tokens == [token, token]
    assert injections(rig, "injected") == 1
    assert injections(rig, "stale_token") == 1
    rig.clock.ahead += 30
    assert (await ask(rig)).reason == "token_unavailable"
    assert len(rig.secure.requests) == 2


async def test_answers_of_the_sidecar_carry_the_generation_and_never_the_token(rig: Rig) -> None:
    await rig.start()
    await rig.secure.stop()
    answer = await ask(rig)
    assert b'"generation":1' in answer.body
    assert rig.idp.issued[-1].encode() not in answer.head + answer.body


# --- the upstream refuses a token -------------------------------------------------------------------------------------


async def test_a_refused_token_is_renewed_once_and_the_request_sent_again(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))
    rig.secure.reply(REFUSED_TOKEN)
    answer = await client.ask(get(f"{URL}/again"))
    assert (answer.status, answer.body) == (200, b"GET /again 0")
    first, second = rig.idp.issued
    assert rig.secure.tokens == [first, first, second]
    assert unauthorized(rig, "recovered") == 1
    assert unauthorized(rig, "rejected") == 0
    assert rig.value("token_request_triggers_total", credential="orders", trigger="unauthorized") == 1
    assert rig.value("http_requests_total", route="api", method="GET", code="200") == 2
    assert rig.total("http_requests_total", route="api", code="401") == 0
    assert len(rig.secure.connections) == 1  # the 401 was read to its end, so its connection serves the second try


@pytest.mark.parametrize("framing", ["length", "chunks", "expect"])
async def test_a_refused_post_is_sent_again_with_its_body(rig: Rig, framing: str) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))
    rig.secure.reply(REFUSED_TOKEN)
    request = {
        "length": post(f"{URL}/", b"0123456789"),
        "chunks": get(f"{URL}/", "Transfer-Encoding: chunked", method="POST") + chunked(b"01234", b"56789"),
        "expect": post(f"{URL}/", b"0123456789", "Expect: 100-continue"),
    }[framing]
    answer = await client.ask(request)
    assert (answer.status, answer.body) == (200, b"POST / 10")
    assert [each.body for each in rig.secure.requests[1:]] == [b"0123456789"] * 2
    assert unauthorized(rig, "recovered") == 1


async def test_a_refused_body_over_the_limit_is_a_401_and_the_next_request_has_the_new_token(rig: Rig) -> None:
    await rig.start(limits={"replay_body": "1KiB"})
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))
    rig.secure.reply(REFUSED_TOKEN)
    answer = await client.ask(post(f"{URL}/", bytes(5000)))
    assert (answer.status, answer.body, answer.is_own) == (401, b"expired", False)
    assert unauthorized(rig, "rejected") == 1
    await until(lambda: len(rig.idp.issued) == 2, "the token is renewed")
    await rig.at_rest()
    assert (await client.ask(get(f"{URL}/"))).status == 200
    assert rig.secure.tokens[-1] == rig.idp.issued[-1]


async def test_an_identical_token_is_not_tried_again(rig: Rig) -> None:
    rig.idp.renews_within = 60
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))
    rig.secure.reply(REFUSED_TOKEN)
    answer = await client.ask(get(f"{URL}/"))
    assert (answer.status, answer.body) == (401, b"expired")
    assert len(rig.idp.token_requests) == 2
    assert len(rig.secure.requests) == 2
    assert unauthorized(rig, "rejected") == 1


@pytest.mark.parametrize(
    "reply",
    [
        ok(b"no", 'WWW-Authenticate: Bearer error="invalid_token"', status="403 Forbidden"),
        ok(b"no", 'WWW-Authenticate: Bearer error="invalid_token"', status="429 Too Many Requests"),
        ok(b"no", status="401 Unauthorized"),
        ok(b"no", "WWW-Authenticate: Bearer", status="401 Unauthorized"),
        ok(b"no", 'WWW-Authenticate: Bearer error="insufficient_scope"', status="401 Unauthorized"),
        ok(b"no", 'WWW-Authenticate: Basic realm="invalid_token"', status="401 Unauthorized"),
    ],
)
async def test_no_other_refusal_renews_the_token(rig: Rig, reply: bytes) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))
    rig.secure.reply(reply)
    answer = await client.ask(get(f"{URL}/"))
    assert (answer.status, answer.body) == (int(reply[9:12]), b"no")
    assert len(rig.idp.token_requests) == 1
    assert len(rig.secure.requests) == 2
    assert unauthorized(rig, "recovered") == 0


async def test_a_new_token_that_no_upstream_has_accepted_is_not_renewed(rig: Rig) -> None:
    await rig.start()
    rig.secure.always = REFUSED_TOKEN
    for _ in range(3):
        assert (await ask(rig)).status == 401
    assert len(rig.idp.token_requests) == 1


async def test_refused_tokens_are_renewed_at_most_once_in_ten_seconds(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))
    rig.secure.reply(REFUSED_TOKEN)
    assert (await client.ask(get(f"{URL}/"))).status == 200
    rig.secure.reply(REFUSED_TOKEN)
    assert (await client.ask(get(f"{URL}/"))).status == 401
    assert len(rig.idp.token_requests) == 2
    rig.clock.ahead += 11
    rig.secure.reply(REFUSED_TOKEN)
    assert (await client.ask(get(f"{URL}/"))).status == 200
    assert len(rig.idp.token_requests) == 3


async def test_a_token_that_stays_refused_is_relayed_after_one_new_try(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))
    rig.secure.reply(REFUSED_TOKEN, REFUSED_TOKEN)
    assert (await client.ask(get(f"{URL}/"))).status == 401
    assert len(rig.secure.requests) == 3
    assert len(rig.idp.token_requests) == 2
    assert unauthorized(rig, "rejected") == 1
    assert unauthorized(rig, "recovered") == 0


async def test_fifty_refusals_at_once_lead_to_one_token_request(rig: Rig) -> None:
    await rig.start()
    await ask(rig, get(f"{URL}/accepted"))
    revoked = rig.idp.issued[0]
    together = asyncio.Barrier(50)

    async def judge(request: Request) -> None:
        await request.connection.body(request)
        if request.token == revoked:
            await together.wait()
            await request.connection.send(REFUSED_TOKEN)
        else:
            await request.connection.send(ok(request.target.encode()))

    rig.secure.always = judge
    clients = [await rig.client() for _ in range(50)]
    asking = [client.ask(post(f"{URL}/{number}", b"body")) for number, client in enumerate(clients)]
    answers = await asyncio.gather(*asking)
    assert [answer.body for answer in answers] == [b"/%d" % number for number in range(50)]
    assert len(rig.idp.token_requests) == 2
    assert unauthorized(rig, "recovered") == 50


async def test_a_refusal_is_relayed_whole_when_the_provider_is_down(rig: Rig) -> None:
    await rig.start(limits={"token_wait": "200ms"})
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))
    rig.idp.always(DOWN)

    async def in_pieces(request: Request) -> None:
        head, _, body = REFUSED_TOKEN.partition(b"\r\n\r\n")
        await request.connection.send(head.replace(b"Content-Length: 7", b"Content-Length: 100007") + b"\r\n\r\n")
        await request.connection.send(bytes(100000) + body)

    rig.secure.reply(in_pieces)
    answer = await client.ask(get(f"{URL}/"))
    assert (answer.status, answer.body) == (401, bytes(100000) + b"expired")
    assert (await client.ask(get(f"{URL}/next"))).body == b"GET /next 0"


async def test_an_upstream_that_breaks_off_after_its_refusal_does_not_spoil_the_second_try(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))

    async def refuse_and_go(request: Request) -> None:
        await request.connection.send(REFUSED_TOKEN[:-3])
        request.connection.reset()

    rig.secure.reply(refuse_and_go)
    answer = await client.ask(get(f"{URL}/again"))
    assert (answer.status, answer.body) == (200, b"GET /again 0")


async def test_an_early_refusal_during_an_upload_is_recovered_with_the_whole_body(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))

    async def refuse_early(request: Request) -> None:
        await request.connection.send(REFUSED_TOKEN)
        await request.connection.read_to_the_end()

    rig.secure.reply(refuse_early)
    await client.send(get(f"{URL}/", "Content-Length: 10", method="POST") + b"01234")
    while len(rig.secure.requests) < 3:
        await rig.secure.next_request()
    await client.send(b"56789")
    answer = await client.answer()
    assert (answer.status, answer.body) == (200, b"POST / 10")
    assert rig.secure.requests[-1].body == b"0123456789"
    assert (await client.ask(get(f"{URL}/next"))).body == b"GET /next 0"


async def test_a_client_that_leaves_during_a_recovery_leaves_nothing_behind(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))
    hold = asyncio.Event()
    rig.idp.script(Step(hold=hold))
    rig.secure.reply(REFUSED_TOKEN)
    await client.send(get(f"{URL}/"))
    await until(lambda: len(rig.idp.token_requests) == 2, "the renewal began")
    client.reset()
    await rig.at_rest()
    hold.set()
    assert (await ask(rig, get(f"{URL}/next"))).body == b"GET /next 0"
    assert len(rig.idp.token_requests) == 2


# --- providers of another mind ----------------------------------------------------------------------------------------


async def test_a_refresh_that_kills_the_old_token_costs_a_request_on_its_way_nothing(rig: Rig) -> None:
    """GitHub and GitLab revoke the old access token with the refresh, whatever still travels with it."""
    await rig.start()
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))
    (old,) = rig.idp.issued
    arrived, refreshed = asyncio.Event(), asyncio.Event()

    async def judge(request: Request) -> None:
        await request.connection.body(request)
        if request.token == old:
            arrived.set()
            await refreshed.wait()
            await request.connection.send(REFUSED_TOKEN)
        else:
            await request.connection.send(ok(b"fine"))

    rig.secure.always = judge
    asking = asyncio.ensure_future(client.ask(post(f"{URL}/", b"body")))
    await arrived.wait()
    rig.orders.request_refresh()
    await until(lambda: rig.orders.status().generation == 2, "the token is refreshed")
    refreshed.set()
    answer = await asking
    assert (answer.status, answer.body) == (200, b"fine")
    assert len(rig.idp.token_requests) == 2
    assert unauthorized(rig, "recovered") == 1


async def test_a_provider_whose_apis_do_not_tell_is_believed_by_the_status(rig: Rig) -> None:
    bare = ok(b"Bad credentials", status="401 Unauthorized")
    await rig.start(credentials={"orders": rig.credential(dialect={"unauthorized": "any"})})
    client = await rig.client()
    await client.ask(get(f"{URL}/accepted"))
    rig.secure.reply(bare)
    assert (await client.ask(get(f"{URL}/"))).status == 200
    assert len(rig.idp.token_requests) == 2
