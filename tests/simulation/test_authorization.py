"""A code stands for one consent, goes to one registered address, and is exchanged once by who can prove it asked."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from sidecar.simulation.dpop import thumbprint
from sidecar.simulation.idp import Client, MockIdP, Refreshing, Step
from tests.simulation.parties import (
    FORM,
    ask,
    authorization_url,
    basic,
    new_key,
    parameters,
    proof,
    public,
    redeeming,
    refresh,
)

if TYPE_CHECKING:
    import aiohttp

    from tests.fake_clock import FakeClock

CALLBACK = "http://127.0.0.1/callback"


@pytest.fixture(autouse=True)
def client(idp: MockIdP) -> None:
    idp.register("client", Client(redirect_uris=(CALLBACK,), refreshing=Refreshing()))


async def test_a_person_consents_without_script_and_the_client_gets_its_tokens(
    session: aiohttp.ClientSession, idp: MockIdP
) -> None:
    url = authorization_url(idp, scope="read <b>write</b>")
    async with session.get(url) as response:
        assert (response.status, response.content_type) == (200, "text/html")
        page = await response.text()
    assert "<b>" not in page
    form = [
        (html.unescape(name), html.unescape(value))
        for name, value in re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', page)
    ]
    approved = [*form, ("decision", "approve")]
    async with session.post(url, data=approved, allow_redirects=False) as response:
        assert response.status == 303
        back = response.headers["Location"]
    answer = parameters(back)
    assert back.startswith(f"{CALLBACK}?")
    assert (answer["state"], answer["iss"]) == ("a state & more", idp.issuer)
    status, fields = await ask(session, idp, redeeming(answer["code"]))
    assert (status, fields["scope"], fields["token_type"]) == (200, "read <b>write</b>", "Bearer")
    assert idp.is_valid(fields["access_token"])
    assert (await refresh(session, idp, fields["refresh_token"]))[0] == 200


async def test_a_code_used_again_ends_what_it_brought(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    code = parameters(idp.consent(authorization_url(idp)))["code"]
    _, fields = await ask(session, idp, redeeming(code))
    assert (await ask(session, idp, redeeming(code)))[1]["error"] == "invalid_grant"
    assert not idp.is_valid(fields["access_token"])
    assert (await refresh(session, idp, fields["refresh_token"]))[1]["error"] == "invalid_grant"


async def test_a_code_lives_a_minute(session: aiohttp.ClientSession, idp: MockIdP, clock: FakeClock) -> None:
    code = parameters(idp.consent(authorization_url(idp)))["code"]
    clock.slip(60.0)
    assert (await ask(session, idp, redeeming(code)))[1]["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": "v" * 42}, "invalid_request"),
        ({"code_verifier": ""}, "invalid_request"),
        ({"redirect_uri": "http://127.0.0.1/other"}, "invalid_grant"),
        ({"redirect_uri": ""}, "invalid_request"),
        ({"code": "made up"}, "invalid_grant"),
        ({"code": ""}, "invalid_request"),
    ],
)
async def test_who_cannot_prove_it_asked_gets_nothing(
    session: aiohttp.ClientSession, idp: MockIdP, changes: dict[str, str], error: str
) -> None:
    code = parameters(idp.consent(authorization_url(idp)))["code"]
    assert (await ask(session, idp, redeeming(code, **changes)))[1]["error"] == error
    assert (await ask(session, idp, redeeming(code)))[0] == 200


async def test_a_code_belongs_to_its_client(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.register("other", Client(redirect_uris=(CALLBACK,)), secret="other-secret")
    code = parameters(idp.consent(authorization_url(idp)))["code"]
    answer = await ask(session, idp, redeeming(code), basic("other", "other-secret"))
    assert answer[1]["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": None},
        {"redirect_uri": "http://127.0.0.1/callback/"},
        {"redirect_uri": "http://127.0.0.1:4711/callback"},
        {"redirect_uri": "https://evil.test/"},
        {"redirect_uri": None},
    ],
)
async def test_a_browser_is_never_sent_to_an_address_that_is_not_registered(
    session: aiohttp.ClientSession, idp: MockIdP, changes: dict[str, str | None]
) -> None:
    url = authorization_url(idp, **changes)
    for method in ("GET", "POST"):
        async with session.request(method, url, allow_redirects=False) as response:
            assert (response.status, response.content_type) == (400, "text/html")
    with pytest.raises(ValueError, match="nowhere to go"):
        idp.consent(url)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
    ],
)
async def test_a_client_is_told_what_is_wrong_with_its_request(
    session: aiohttp.ClientSession, idp: MockIdP, changes: dict[str, str | None], error: str
) -> None:
    async with session.get(authorization_url(idp, **changes), allow_redirects=False) as response:
        answer = parameters(response.headers["Location"])
    assert answer == {"error": error, "state": "a state & more", "iss": idp.issuer}
    assert parameters(idp.consent(authorization_url(idp, **changes)))["error"] == error


async def test_a_client_without_the_grant_gets_no_code(idp: MockIdP) -> None:
    idp.register("client", Client(redirect_uris=(CALLBACK,), grants=frozenset({"client_credentials"})))
    assert parameters(idp.consent(authorization_url(idp)))["error"] == "unauthorized_client"


async def test_a_person_can_refuse(idp: MockIdP) -> None:
    answer = parameters(idp.consent(authorization_url(idp), approve=False))
    assert answer == {"error": "access_denied", "state": "a state & more", "iss": idp.issuer}


async def test_no_state_comes_back_where_none_went(idp: MockIdP) -> None:
    assert parameters(idp.consent(authorization_url(idp, state=None))).keys() == {"code", "iss"}


async def test_the_way_back_can_be_wrong_on_purpose(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    steps: list[dict[str, str | None]] = [
        {"iss": "https://evil.test"},
        {"iss": None},
        {"state": "other"},
        {"code": None, "error": "access_denied"},
    ]
    idp.script(*(Step(fields=fields) for fields in steps), endpoint="consent")
    url = authorization_url(idp)
    form = parameters(url) | {"decision": "approve"}
    answers = [parameters(idp.consent(url)) for _ in steps[:2]]
    for _ in steps[2:]:
        async with session.post(url.partition("?")[0], data=form, allow_redirects=False) as response:
            answers.append(parameters(response.headers["Location"]))
    assert answers[0]["iss"] == "https://evil.test"
    assert "iss" not in answers[1]
    assert answers[2]["state"] == "other"
    assert answers[3].keys() == {"error", "state", "iss"}


async def test_a_loopback_port_may_vary_if_registered_so(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.register("client", Client(redirect_uris=(CALLBACK,), any_loopback_port=True))
    uri = "http://127.0.0.1:4711/callback"
    back = idp.consent(authorization_url(idp, redirect_uri=uri))
    assert urlsplit(back).port == 4711
    code = parameters(back)["code"]
    assert (await ask(session, idp, redeeming(code)))[1]["error"] == "invalid_grant"
    assert (await ask(session, idp, redeeming(code, redirect_uri=uri)))[0] == 200


async def test_a_query_of_the_redirect_uri_stays(idp: MockIdP) -> None:
    idp.register("client", Client(redirect_uris=(f"{CALLBACK}?app=1",)))
    assert parameters(idp.consent(authorization_url(idp, redirect_uri=f"{CALLBACK}?app=1")))["app"] == "1"


async def test_a_public_client_needs_no_more_than_its_verifier(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.register("app", Client(auth=frozenset({"none"}), redirect_uris=(CALLBACK,)))
    code = parameters(idp.consent(authorization_url(idp, client_id="app")))["code"]
    status, fields = await ask(session, idp, redeeming(code, client_id="app"), {})
    assert status == 200
    assert "refresh_token" not in fields


async def test_a_code_can_be_bound_to_a_key(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    key = new_key()
    code = parameters(idp.consent(authorization_url(idp, dpop_jkt=thumbprint(public(key)))))["code"]
    assert (await ask(session, idp, redeeming(code)))[1]["error"] == "invalid_grant"
    shown = basic() | {"DPoP": proof(idp, key)}
    assert (await ask(session, idp, redeeming(code), shown))[1]["token_type"] == "DPoP"


async def test_only_known_scopes_are_consented_to(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.scopes = frozenset({"read"})
    code = parameters(idp.consent(authorization_url(idp, scope="read admin")))["code"]
    assert (await ask(session, idp, redeeming(code)))[1]["scope"] == "read"
    assert (await ask(session, idp, FORM))[0] == 200
