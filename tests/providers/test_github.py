"""GitHub's ways to a token, against answers as its documentation has them: errors with 200, scopes with commas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.oauth import keys
from tests.providers.conftest import parsed
from tests.providers.provider import Reply
from tests.providers.signed import read, unsigned

if TYPE_CHECKING:
    from tests.providers.conftest import Rig

APP = (
    "provider: github_app",
    'provider_params: {installation_id: "12345678"}',
    "client_id: Iv23liAbCdEfGh",
    "private_key: env:APP_KEY",
)

# https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app
APP_SUCCESS = """\
{
  "token": "ghs_16C7e42F292c6912E7710c838347Ae178B4a",
  "expires_at": "2027-01-15T09:00:00Z",
  "permissions": {
    "issues": "write",
    "contents": "read"
  },
  "repository_selection": "selected"
}
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_KEY", keys.pem(keys.private("RSA")))
    monkeypatch.setenv("GITHUB_SECRET", "github-client-secret")


async def test_an_app_signs_for_its_installation(rig: Rig) -> None:
    # https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
    assert parsed(*APP).token_url == "https://api.github.com/app/installations/12345678/access_tokens"
    rig.answers(Reply(APP_SUCCESS, 201))
    token, lifetime = await rig.obtains(*APP)
    assert token == "ghs_16C7e42F292c6912E7710c838347Ae178B4a"
    assert lifetime == pytest.approx(3600.0, abs=1.0)
    assert (rig.asked.method, rig.asked.path) == ("POST", "/app/installations/12345678/access_tokens")
    assert rig.asked.headers["accept"] == "application/vnd.github+json"
    assert rig.asked.headers["x-github-api-version"] == "2022-11-28"
    assert rig.asked.headers["user-agent"].startswith("token-sidecar/")
    assert rig.asked.json == {}
    scheme, _, jwt = rig.asked.headers["authorization"].partition(" ")
    assert scheme == "Bearer"
    header, claims = read(jwt, keys.private("RSA"), "RS256")
    assert header == {"alg": "RS256", "typ": "JWT"}
    assert claims["iss"] == "Iv23liAbCdEfGh"
    assert claims["iat"] == rig.clock.wall() - 60
    assert rig.clock.wall() < claims["exp"] <= rig.clock.wall() + 600
    assert not {"sub", "aud"} & claims.keys()


async def test_an_app_asks_for_less_than_its_installation_may(rig: Rig) -> None:
    rig.answers(Reply(APP_SUCCESS, 201))
    less = "token_params: {repositories: [orders, billing], repository_ids: ['1296269'], permissions.contents: read}"
    await rig.obtains(*APP, less)
    assert rig.asked.json == {
        "repositories": ["orders", "billing"],
        "repository_ids": [1296269],
        "permissions": {"contents": "read"},
    }


def test_an_enterprise_server_has_its_api_below_a_path() -> None:
    server = 'provider_params: {installation_id: "7", api: github.example.com/api/v3}'
    url = parsed(APP[0], server, *APP[2:]).token_url
    assert url == "https://github.example.com/api/v3/app/installations/7/access_tokens"


def rest_error(message: str, status: int) -> str:
    page = "https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app"
    return json.dumps({"message": message, "documentation_url": page, "status": str(status)}, indent=2)


@pytest.mark.parametrize(
    ("message", "status", "reason"),
    [
        ("A JSON web token could not be decoded", 401, "invalid_client"),
        ("Bad credentials", 401, "invalid_client"),
        ("Not Found", 404, "refused"),
        ("There is at least one repository that does not exist", 422, "refused"),
        ("This installation has been suspended", 403, "server_error"),
        ("Server Error", 502, "server_error"),
    ],
)
async def test_the_api_s_errors_are_known_by_their_status(rig: Rig, message: str, status: int, reason: str) -> None:
    assert (await rig.fails(Reply(rest_error(message, status), status), *APP))[0] == reason


@pytest.mark.parametrize("status", [403, 429])
async def test_the_api_s_rate_limit_is_waited_out(rig: Rig, status: int) -> None:
    # https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
    limits = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000120"}
    body = rest_error("API rate limit exceeded for installation ID 12345678.", status)
    reason, seconds = await rig.fails(Reply(body, status, headers=limits), *APP)
    assert reason == ("rate_limited" if status == 429 else "server_error")
    assert seconds >= 120.0


# --- a person's token ------------------------------------------------------------------------------------------------

USER = ("provider: github_user", "client_id: Iv23liAbCdEfGh", "client_secret: env:GITHUB_SECRET")
DEVICE = ("provider: github_device", "client_id: Iv23liAbCdEfGh")
REFRESH = {"client_id": "Iv23liAbCdEfGh", "grant_type": "refresh_token", "refresh_token": "spent-refresh-token"}

# https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens:
# its parameters with the values that they always have
USER_FIELDS = {
    "access_token": "ghu_16C7e42F292c6912E7710c838347Ae178B4a",
    "expires_in": 28800,
    "refresh_token": "ghr_1B4a2e77838347a7E420ce178F2E7c6912E169246c34E1ccbF66C46812d16D5B1A9Dc86A1498",
    "refresh_token_expires_in": 15811200,
    "scope": "",
    "token_type": "bearer",
}
FORM = (
    "access_token=ghu_16C7e42F292c6912E7710c838347Ae178B4a&expires_in=28800&refresh_token=ghr_1B4a2e77&"
    "refresh_token_expires_in=15811200&scope=&token_type=bearer"
)


@pytest.mark.parametrize(
    "reply", [Reply(json.dumps(USER_FIELDS)), Reply(FORM, type="application/x-www-form-urlencoded; charset=utf-8")]
)
async def test_a_person_s_token_is_refreshed(rig: Rig, reply: Reply) -> None:
    assert parsed(*USER).token_url == "https://github.com/login/oauth/access_token"
    assert parsed(*USER).authorization_url == "https://github.com/login/oauth/authorize"
    rig.answers(reply)
    assert await rig.obtains(*USER) == ("ghu_16C7e42F292c6912E7710c838347Ae178B4a", 28800.0)
    assert rig.kept.refresh_token.reveal().startswith("ghr_1B4a2e77")
    assert rig.kept.expires_at == rig.clock.wall() + 15811200
    assert (rig.asked.method, rig.asked.path) == ("POST", "/login/oauth/access_token")
    assert rig.asked.headers["accept"] == "application/json"
    assert rig.asked.form == {**REFRESH, "client_secret": "github-client-secret"}


async def test_a_token_by_device_code_is_refreshed_without_a_secret(rig: Rig) -> None:
    assert parsed(*DEVICE).device_authorization_url == "https://github.com/login/device/code"
    rig.answers(Reply(json.dumps(USER_FIELDS)))
    await rig.obtains(*DEVICE)
    assert rig.asked.form == REFRESH
    assert "authorization" not in rig.asked.headers


@pytest.mark.parametrize("lines", [USER, DEVICE])
def test_a_refresh_comes_late_because_it_ends_the_old_token(lines: tuple[str, ...]) -> None:
    config = parsed(*lines)
    assert config.refresh.at - config.refresh.jitter >= 0.85
    assert config.dialect.unauthorized == "any"


def test_an_enterprise_server_is_a_host_of_its_own() -> None:
    url = parsed(*USER, "provider_params: {host: github.example.com}").token_url
    assert url == "https://github.example.com/login/oauth/access_token"


def refused(error: str) -> str:
    # https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors
    page = f"https://docs.github.com/apps/managing-oauth-apps/troubleshooting-oauth-app-access-token-request-errors/#{error}"
    return json.dumps(
        {"error": error, "error_description": "The refresh token passed is incorrect.", "error_uri": page}
    )


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(refused("bad_refresh_token")), "invalid_grant"),
        (Reply(refused("bad_verification_code")), "invalid_grant"),
        (Reply(refused("incorrect_client_credentials")), "invalid_client"),
        (Reply(refused("device_flow_disabled")), "unauthorized_client"),
        (Reply(refused("unsupported_grant_type")), "refused"),
        (
            Reply("error=bad_refresh_token&error_description=x", type="application/x-www-form-urlencoded"),
            "invalid_grant",
        ),
        (Reply("<html>Whoa there!</html>", 429, "text/html", {"Retry-After": "60"}), "rate_limited"),
        (Reply("<html>Unicorn!</html>", 503, "text/html"), "server_error"),
    ],
)
async def test_errors_come_with_status_200(rig: Rig, reply: Reply, reason: str) -> None:
    assert (await rig.fails(reply, *USER))[0] == reason


# --- Actions ---------------------------------------------------------------------------------------------------------

ACTIONS = ("provider: github_actions_oidc", "audience: https://api.example.com")


@pytest.fixture
def _job(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{rig.provider.origin}/idtoken/1/2?api-version=2.0")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "job.request.token")


@pytest.mark.usefixtures("_job")
async def test_a_job_asks_for_a_token_of_its_own(rig: Rig) -> None:
    # https://docs.github.com/actions/reference/security/oidc#methods-for-requesting-the-oidc-token
    now = int(rig.clock.wall())
    token = unsigned(iss="https://token.actions.githubusercontent.com", iat=now, exp=now + 300)
    rig.answers(Reply(f'{{"value":"{token}"}}'))
    found, lifetime = await rig.obtains(*ACTIONS)
    assert found == token
    assert lifetime == pytest.approx(300.0, abs=1.0)
    assert (rig.asked.method, rig.asked.path) == ("GET", "/idtoken/1/2")
    assert dict(rig.asked.query) == {"api-version": "2.0", "audience": "https://api.example.com"}
    assert rig.asked.headers["authorization"] == "Bearer job.request.token"


@pytest.mark.usefixtures("_job")
@pytest.mark.parametrize(("status", "reason"), [(401, "malformed"), (429, "rate_limited"), (500, "server_error")])
async def test_a_token_service_that_fails_is_asked_again(rig: Rig, status: int, reason: str) -> None:
    assert (await rig.fails(Reply("{}", status), *ACTIONS))[0] == reason


def test_outside_of_a_job_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_URL", raising=False)
    with pytest.raises(Exception, match="ACTIONS_ID_TOKEN_REQUEST_URL"):
        parsed(*ACTIONS)
