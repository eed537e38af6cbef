"""GitLab's ways to a token, against answers as its documentation has them: a refresh repeats the redirect URI."""

from __future__ import annotations

import pytest

from tests.providers.conftest import Rig, parsed
from tests.providers.provider import Reply
from tests.providers.signed import unsigned

USER = (
    "provider: gitlab",
    "client_id: APP_ID",
    "redirect_uri: http://127.0.0.1:7171/callback",
    "scopes: [read_api]",
)
DEVICE = ("provider: gitlab_device", "client_id: APP_ID", "scopes: [read_api]")
REFRESH = {"client_id": "APP_ID", "grant_type": "refresh_token", "refresh_token": "spent-refresh-token"}

# https://docs.gitlab.com/api/oauth2/#authorization-code-with-proof-key-for-code-exchange-pkce
SUCCESS = """\
{
  "access_token": "c97d1fe52119f38c7f67f0a14db68d60caa35ddc86fd12401718b649dcfa9c68",
  "token_type": "bearer",
  "expires_in": 7200,
  "refresh_token": "803c1fd487fec35562c205dac93e9d8e08f9d3652a24079d704df3039df1158f",
  "created_at": 1628711391
}
"""


async def test_a_refresh_repeats_the_redirect_uri(rig: Rig) -> None:
    config = parsed(*USER)
    assert config.token_url == "https://gitlab.com/oauth/token"
    assert config.authorization_url == "https://gitlab.com/oauth/authorize"
    assert config.revocation_url == "https://gitlab.com/oauth/revoke"
    rig.answers(Reply(SUCCESS))
    token = "c97d1fe52119f38c7f67f0a14db68d60caa35ddc86fd12401718b649dcfa9c68"
    assert await rig.obtains(*USER) == (token, 7200.0)
    assert rig.kept.refresh_token.reveal() == "803c1fd487fec35562c205dac93e9d8e08f9d3652a24079d704df3039df1158f"
    assert (rig.asked.method, rig.asked.path) == ("POST", "/oauth/token")
    assert rig.asked.form == {**REFRESH, "redirect_uri": "http://127.0.0.1:7171/callback"}


async def test_a_confidential_application_shows_its_secret(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_SECRET", "app-secret")
    rig.answers(Reply(SUCCESS))
    await rig.obtains(*USER, "client_secret: env:APP_SECRET", "client_auth: client_secret_post")
    assert rig.asked.form["client_secret"] == "app-secret"


async def test_a_token_by_device_code_had_no_redirect_uri(rig: Rig) -> None:
    # https://docs.gitlab.com/api/oauth2/#device-authorization-grant-flow
    assert parsed(*DEVICE).device_authorization_url == "https://gitlab.com/oauth/authorize_device"
    rig.answers(Reply(SUCCESS))
    await rig.obtains(*DEVICE)
    assert rig.asked.form == REFRESH


@pytest.mark.parametrize("lines", [USER, DEVICE])
def test_a_refresh_comes_late_because_it_ends_the_old_token(lines: tuple[str, ...]) -> None:
    config = parsed(*lines, "provider_params: {host: gitlab.example.com/git}")
    assert config.token_url == "https://gitlab.example.com/git/oauth/token"
    assert config.refresh.at - config.refresh.jitter >= 0.85
    assert config.dialect.unauthorized == "any"


# https://github.com/doorkeeper-gem/doorkeeper, which GitLab's page names: its texts of RFC 6749 section 5.2
REFUSED = (
    '{"error":"%s","error_description":"The provided authorization grant is invalid, expired, revoked, does not match '
    'the redirection URI used in the authorization request, or was issued to another client."}'
)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(REFUSED % "invalid_grant", 400), "invalid_grant"),  # also where two refresh at the same time
        (Reply(REFUSED % "invalid_client", 401), "invalid_client"),
        (Reply("Retry later\n", 429, "text/plain", {"Retry-After": "35"}), "rate_limited"),
    ],
)
async def test_gitlab_s_errors(rig: Rig, reply: Reply, reason: str) -> None:
    assert (await rig.fails(reply, *USER))[0] == reason


async def test_a_job_s_token_lives_as_long_as_it_says(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    # https://docs.gitlab.com/ci/secrets/id_token_authentication/#token-payload
    now = int(rig.clock.wall())
    token = unsigned(
        iss="https://gitlab.example.com", aud="https://api.example.com", iat=now, nbf=now - 5, exp=now + 3600
    )
    monkeypatch.setenv("API_ID_TOKEN", token)
    lines = ("provider: gitlab_ci", "provider_params: {variable: API_ID_TOKEN}")
    assert await rig.obtains(*lines) == (token, 3600.0)


async def test_a_job_s_token_proves_it_elsewhere(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    token = unsigned(iss="https://gitlab.com", aud="api://AzureADTokenExchange")
    monkeypatch.setenv("ID_TOKEN", token)
    rig.answers(Reply('{"token_type":"Bearer","expires_in":3599,"access_token":"eyJ0eXAi..."}'))
    await rig.obtains(
        "provider: entra_id_workload",
        "provider_params: {tenant: contoso, client_id: app}",
        "assertion: env:ID_TOKEN",
        "scopes: [https://graph.microsoft.com/.default]",
    )
    assert rig.asked.form["client_assertion"] == token
