"""Atlassian, Salesforce and Slack, against answers as their documentation has them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from tests.oauth import keys
from tests.providers.conftest import parsed
from tests.providers.provider import Reply
from tests.providers.signed import read

if TYPE_CHECKING:
    from tests.providers.conftest import Rig


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", "client-secret-0")
    monkeypatch.setenv("SLACK_REFRESH", "spent-refresh-token")
    monkeypatch.setenv("CLIENT_KEY", keys.pem(keys.private("RSA")))


# --- Atlassian -------------------------------------------------------------------------------------------------------

ATLASSIAN = (
    "provider: atlassian",
    "client_id: YOUR_CLIENT_ID",
    "client_secret: env:CLIENT_SECRET",
    "scopes: [read:jira-work, offline_access]",
    "redirect_uri: http://127.0.0.1:7171/callback",
)

# https://developer.atlassian.com/cloud/oauth/getting-started/refresh-tokens/: no token_type
ATLASSIAN_SUCCESS = """\
{
  "access_token": "eyJraWQiOiJhdXRoLmF0bGFzc2lhbi5jb20t",
  "refresh_token": "eyJraWQiOiI1MWE2YjE2MjRlMTQ5ZDFiYTdhM2Rm",
  "expires_in": 3600,
  "scope": "read:jira-work offline_access"
}
"""


async def test_atlassian_wants_json(rig: Rig) -> None:
    config = parsed(*ATLASSIAN)
    assert config.token_url == "https://auth.atlassian.com/oauth/token"
    assert config.authorization_url == "https://auth.atlassian.com/authorize?prompt=consent"
    assert config.audience == "api.atlassian.com"
    assert config.dialect.rotation_grace == 600.0
    rig.answers(Reply(ATLASSIAN_SUCCESS))
    assert await rig.obtains(*ATLASSIAN) == ("eyJraWQiOiJhdXRoLmF0bGFzc2lhbi5jb20t", 3600.0)
    assert rig.kept.refresh_token.reveal() == "eyJraWQiOiI1MWE2YjE2MjRlMTQ5ZDFiYTdhM2Rm"
    assert (rig.asked.method, rig.asked.path) == ("POST", "/oauth/token")
    assert rig.asked.json == {
        "grant_type": "refresh_token",
        "client_id": "YOUR_CLIENT_ID",
        "client_secret": "client-secret-0",
        "refresh_token": "spent-refresh-token",
    }


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ('{"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."}', 403, "invalid_grant"),
        ('{"error":"access_denied","error_description":"Unauthorized"}', 401, "invalid_client"),
        ('{"error":"too_many_requests"}', 429, "rate_limited"),
        ("<html>bad gateway</html>", 502, "server_error"),
    ],
)
async def test_atlassian_s_errors(rig: Rig, body: str, status: int, reason: str) -> None:
    assert (await rig.fails(Reply(body, status), *ATLASSIAN))[0] == reason


# --- Salesforce ------------------------------------------------------------------------------------------------------

SALESFORCE = (
    "provider: salesforce",
    "provider_params: {domain: example.my.salesforce.com}",
    "client_id: 3MVG9ExampleConsumerKey",
    "client_secret: env:CLIENT_SECRET",
)
SALESFORCE_JWT = (
    "provider: salesforce_jwt",
    "client_id: 3MVG9ExampleConsumerKey",
    "private_key: env:CLIENT_KEY",
    "assertion_subject: robot@example.com",
)

# https://help.salesforce.com/s/articleView?id=service.conversation_transcript_api_sample1.htm: no expires_in
SALESFORCE_SUCCESS = """\
{
    "access_token": "00Dxx0000001gPL!AR8AQJXg5oj8jXSgxJfA0lBog",
    "signature": "your_signature",
    "scope": "cdp_query_api cdp_ingest_api api cdp_profile_api",
    "instance_url": "https://example.my.salesforce.com",
    "id": "https://example.my.salesforce.com/id/00fdg000000dfgfgs/00gfd000000fsdghjr",
    "token_type": "Bearer",
    "issued_at": "4564564565767"
}
"""
SALESFORCE_TOKEN = "00Dxx0000001gPL!AR8AQJXg5oj8jXSgxJfA0lBog"


async def test_salesforce_does_not_say_how_long_a_token_lives(rig: Rig) -> None:
    assert parsed(*SALESFORCE).token_url == "https://example.my.salesforce.com/services/oauth2/token"
    rig.answers(Reply(SALESFORCE_SUCCESS))
    assert await rig.obtains(*SALESFORCE) == (SALESFORCE_TOKEN, 900.0)
    assert (rig.asked.method, rig.asked.path) == ("POST", "/services/oauth2/token")
    assert rig.asked.form == {
        "grant_type": "client_credentials",
        "client_id": "3MVG9ExampleConsumerKey",
        "client_secret": "client-secret-0",
    }


async def test_the_session_timeout_of_salesforce_is_the_user_s_to_say(rig: Rig) -> None:
    rig.answers(Reply(SALESFORCE_SUCCESS))
    assert (await rig.obtains(*SALESFORCE, "default_ttl: 2h"))[1] == 7200.0


async def test_salesforce_takes_an_assertion_for_a_user(rig: Rig) -> None:
    assert parsed(*SALESFORCE_JWT).token_url == "https://login.salesforce.com/services/oauth2/token"
    rig.answers(Reply(SALESFORCE_SUCCESS))
    assert await rig.obtains(*SALESFORCE_JWT) == (SALESFORCE_TOKEN, 900.0)
    form = rig.asked.form
    assert form.keys() == {"grant_type", "assertion"}
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    header, claims = read(form["assertion"], keys.private("RSA"), "RS256")
    assert header["alg"] == "RS256"
    assert (claims["iss"], claims["sub"]) == ("3MVG9ExampleConsumerKey", "robot@example.com")
    assert claims["aud"] == "https://login.salesforce.com"
    assert rig.clock.wall() < claims["exp"] <= rig.clock.wall() + 180


def test_a_sandbox_of_salesforce_is_another_host_and_audience() -> None:
    config = parsed(*SALESFORCE_JWT, "provider_params: {host: test.salesforce.com}")
    assert config.token_url == "https://test.salesforce.com/services/oauth2/token"
    assert config.assertion_audience == "https://test.salesforce.com"


@pytest.mark.parametrize("lines", [SALESFORCE, SALESFORCE_JWT])
def test_salesforce_s_own_401_counts(lines: tuple[str, ...]) -> None:
    # Its API answers [{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}] without a challenge.
    assert parsed(*lines).dialect.unauthorized == "any"


@pytest.mark.parametrize(
    ("error", "description", "reason"),
    [
        ("invalid_client_id", "client identifier invalid", "invalid_client"),
        ("invalid_client", "invalid client credentials", "invalid_client"),
        ("invalid_grant", "no client credentials user enabled", "invalid_grant"),
        ("invalid_grant", "user hasn't approved this consumer", "invalid_grant"),
        ("invalid_grant", "audience is invalid", "invalid_grant"),
        ("unsupported_grant_type", "grant type not supported", "refused"),
        ("inactive_user", "user is inactive", "unauthorized_client"),
        ("inactive_org", "organization is locked", "unauthorized_client"),
        ("rate_limit_exceeded", "number of logins exceeded", "server_error"),
    ],
)
async def test_salesforce_s_errors(rig: Rig, error: str, description: str, reason: str) -> None:
    reply = Reply(json.dumps({"error": error, "error_description": description}), 400)
    assert (await rig.fails(reply, *SALESFORCE))[0] == reason


# --- Slack -----------------------------------------------------------------------------------------------------------

SLACK = (
    "provider: slack",
    'client_id: "4123121235.9872358710"',
    "client_secret: env:CLIENT_SECRET",
    "refresh_token: env:SLACK_REFRESH",
)

# https://docs.slack.dev/reference/methods/oauth.v2.access: the response with token rotation enabled
SLACK_SUCCESS = """\
{
    "ok": true,
    "access_token": "xoxe.xoxb-1-..",
    "token_type": "%s",
    "scope": "commands,incoming-webhook",
    "bot_user_id": "U0KRQLJ9H",
    "app_id": "A0KRD7HC3",
    "expires_in": 43200,
    "refresh_token": "xoxe-1-...",
    "team": {
        "name": "Slack Softball Team",
        "id": "T9TK3CUKW"
    },
    "enterprise": {
        "name": "slack-sports",
        "id": "E12345678"
    },
    "authed_user": {
        "id": "U1234",
        "scope": "chat:write",
        "access_token": "xoxe.xoxp-1234",
        "expires_in": 43200,
        "refresh_token": "xoxe-1-...",
        "token_type": "user"
    }
}
"""


@pytest.mark.parametrize("kind", ["bot", "user"])
async def test_slack_has_words_of_its_own_for_bearer(rig: Rig, kind: str) -> None:
    assert parsed(*SLACK).token_url == "https://slack.com/api/oauth.v2.access"
    rig.answers(Reply(SLACK_SUCCESS % kind))
    found = await rig.obtains(*SLACK, "required_scopes: [commands, incoming-webhook]")
    assert found == ("xoxe.xoxb-1-..", 43200.0)
    assert rig.kept.refresh_token.reveal() == "xoxe-1-..."
    assert (rig.asked.method, rig.asked.path) == ("POST", "/api/oauth.v2.access")
    assert rig.asked.headers["authorization"] == (
        "Basic " + base64.b64encode(b"4123121235.9872358710:client-secret-0").decode()
    )
    assert rig.asked.form == {"grant_type": "refresh_token", "refresh_token": "spent-refresh-token"}


async def test_slack_s_token_of_the_person_stands_within_the_answer(rig: Rig) -> None:
    rig.answers(Reply(SLACK_SUCCESS % "bot"))
    found = await rig.obtains(*SLACK, "dialect: {token_field: authed_user.access_token}")
    assert found == ("xoxe.xoxp-1234", 43200.0)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        # https://docs.slack.dev/reference/methods/oauth.v2.access#errors: with status 200
        (Reply('{"ok":false,"error":"invalid_refresh_token"}'), "invalid_grant"),
        (Reply('{"ok":false,"error":"bad_client_secret"}'), "invalid_client"),
        (Reply('{"ok":false,"error":"invalid_client_id"}'), "invalid_client"),
        (Reply('{"ok":false,"error":"internal_error"}'), "server_error"),
        (Reply('{"ok":false,"error":"fatal_error"}'), "server_error"),
        (Reply('{"ok":false,"error":"service_unavailable"}', 503), "server_error"),
        (Reply('{"ok":false,"error":"ratelimited"}', 429, headers={"Retry-After": "30"}), "rate_limited"),
    ],
)
async def test_slack_s_errors_come_with_status_200(rig: Rig, reply: Reply, reason: str) -> None:
    assert (await rig.fails(reply, *SLACK))[0] == reason
