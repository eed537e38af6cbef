"""Okta, Auth0, Keycloak and Ping, against answers as their documentation has them."""

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

BASIC = "Basic " + base64.b64encode(b"0oab1c2d3e4f5g6h7i8j:client-secret-0").decode()
CLIENT = ("client_id: 0oab1c2d3e4f5g6h7i8j", "client_secret: env:CLIENT_SECRET")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", "client-secret-0")
    monkeypatch.setenv("CLIENT_KEY", keys.pem(keys.private("RSA")))


# --- Okta ------------------------------------------------------------------------------------------------------------

OKTA = (
    "provider: okta",
    "provider_params: {host: example.okta.com}",
    "client_id: 0oab1c2d3e4f5g6h7i8j",
    "private_key: env:CLIENT_KEY",
    "key_id: my_key_id",
    "scopes: [okta.users.read, okta.apps.read]",
)
OKTA_CUSTOM = ("provider: okta_custom", "provider_params: {host: example.okta.com}", *CLIENT, "scopes: [orders.read]")

# https://developer.okta.com/docs/guides/implement-oauth-for-okta-serviceapp/main/#get-an-access-token
OKTA_SUCCESS = """\
{
    "token_type": "Bearer",
    "expires_in": 3600,
    "access_token": "eyJraWQiOiJ1UmQ2c2lPdVlHSHJ",
    "scope": "okta.users.read okta.apps.read"
}
"""


async def test_okta_is_asked_with_a_signed_assertion(rig: Rig) -> None:
    assert parsed(*OKTA).token_url == "https://example.okta.com/oauth2/v1/token"
    rig.answers(Reply(OKTA_SUCCESS))
    assert await rig.obtains(*OKTA) == ("eyJraWQiOiJ1UmQ2c2lPdVlHSHJ", 3600.0)
    assert (rig.asked.method, rig.asked.path) == ("POST", "/oauth2/v1/token")
    form = rig.asked.form
    header, claims = read(form.pop("client_assertion"), keys.private("RSA"), "RS256")
    assert form == {
        "grant_type": "client_credentials",
        "scope": "okta.users.read okta.apps.read",
        "client_id": "0oab1c2d3e4f5g6h7i8j",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    assert header == {"alg": "RS256", "typ": "JWT", "kid": "my_key_id"}
    assert claims["aud"] == rig.provider.origin + "/oauth2/v1/token"
    assert (claims["iss"], claims["sub"]) == ("0oab1c2d3e4f5g6h7i8j", "0oab1c2d3e4f5g6h7i8j")
    assert claims["exp"] <= rig.clock.wall() + 3600


async def test_a_custom_server_of_okta_takes_a_secret(rig: Rig) -> None:
    # https://developer.okta.com/docs/guides/implement-grant-type/clientcreds/main/#request-for-token
    assert parsed(*OKTA_CUSTOM).token_url == "https://example.okta.com/oauth2/default/v1/token"
    rig.answers(
        Reply('{"access_token":"eyJhbG[...]1LQ","token_type":"Bearer","expires_in":3600,"scope":"orders.read"}')
    )
    assert await rig.obtains(*OKTA_CUSTOM) == ("eyJhbG[...]1LQ", 3600.0)
    assert rig.asked.headers["authorization"] == BASIC
    assert rig.asked.form == {"grant_type": "client_credentials", "scope": "orders.read"}


async def test_a_custom_server_of_okta_takes_a_key_as_well(rig: Rig) -> None:
    lines = (OKTA_CUSTOM[0], "provider_params: {host: example.okta.com, authorization_server: aus9o8wvkhockw9TL0h7}")
    more = (
        "client_id: 0oab1c2d3e4f5g6h7i8j",
        "client_auth: private_key_jwt",
        "private_key: env:CLIENT_KEY",
        "scopes: [orders.read]",
    )
    rig.answers(Reply(OKTA_SUCCESS))
    await rig.obtains(*lines, *more)
    assert rig.asked.path == "/oauth2/aus9o8wvkhockw9TL0h7/v1/token"
    assert "client_assertion" in rig.asked.form


async def test_okta_s_rate_limit_says_when_it_ends_in_a_field_of_its_own(rig: Rig) -> None:
    # https://developer.okta.com/docs/reference/rl-best-practices/: X-Rate-Limit-Reset in Unix time, no Retry-After
    body = """\
{
  "errorCode": "E0000047",
  "errorSummary": "API call exceeded rate limit due to too many requests.",
  "errorLink": "E0000047",
  "errorId": "sampleQPivGUj_ND5v78vbYWW",
  "errorCauses": []
}
"""
    limits = {"X-Rate-Limit-Limit": "600", "X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": "1800000045"}
    reason, seconds = await rig.fails(Reply(body, 429, headers=limits), *OKTA)
    assert reason == "rate_limited"
    assert seconds >= 45.0


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (
            '{"error":"invalid_client","error_description":"The client_assertion token is expired."}',
            401,
            "invalid_client",
        ),
        (
            '{"error":"invalid_scope","error_description":"One or more scopes are not configured."}',
            400,
            "invalid_scope",
        ),
        ('{"errorCode":"E0000011","errorSummary":"Invalid token provided","errorCauses":[]}', 401, "invalid_client"),
        ('{"errorCode":"E0000006","errorSummary":"You do not have permission"}', 403, "unauthorized_client"),
        ('{"errorCode":"E0000009","errorSummary":"Internal Server Error"}', 500, "server_error"),
        ('{"error":"invalid_dpop_proof","error_description":"The DPoP proof JWT header is missing."}', 400, "refused"),
    ],
)
async def test_okta_s_errors_come_in_two_forms(rig: Rig, body: str, status: int, reason: str) -> None:
    assert (await rig.fails(Reply(body, status), *OKTA))[0] == reason


# --- Auth0 -----------------------------------------------------------------------------------------------------------

AUTH0 = (
    "provider: auth0",
    "provider_params: {domain: example.eu.auth0.com}",
    *CLIENT,
    "audience: https://api.example.com/",
)

# https://auth0.com/docs/get-started/authentication-and-authorization-flow/client-credentials-flow/call-your-api-using-the-client-credentials-flow
AUTH0_SUCCESS = """\
{
  "access_token":"eyJz93a...k4laUWw",
  "token_type":"Bearer",
  "expires_in":86400
}
"""


async def test_auth0_is_told_the_audience(rig: Rig) -> None:
    assert parsed(*AUTH0).token_url == "https://example.eu.auth0.com/oauth/token"
    rig.answers(Reply(AUTH0_SUCCESS))
    assert await rig.obtains(*AUTH0) == ("eyJz93a...k4laUWw", 86400.0)
    assert (rig.asked.method, rig.asked.path) == ("POST", "/oauth/token")
    assert rig.asked.form == {
        "grant_type": "client_credentials",
        "client_id": "0oab1c2d3e4f5g6h7i8j",
        "client_secret": "client-secret-0",
        "audience": "https://api.example.com/",
    }


def test_auth0_without_an_audience_is_an_error() -> None:
    with pytest.raises(Exception, match="provider auth0 needs the key 'audience'"):
        parsed(*AUTH0[:-1])


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ('{"error":"access_denied","error_description":"Unauthorized"}', 401, "invalid_client"),
        (
            '{"error":"access_denied","error_description":"Client is not authorized to access \\"x\\"."}',
            403,
            "unauthorized_client",
        ),
        (
            '{"error":"unauthorized_client","error_description":"Grant type not allowed for the client."}',
            403,
            "unauthorized_client",
        ),
        ('{"error":"Too Many Requests","statusCode":429}', 429, "rate_limited"),
        ('{"error":"too_many_requests","error_description":"Global limit has been reached"}', 429, "rate_limited"),
    ],
)
async def test_auth0_s_words_for_errors(rig: Rig, body: str, status: int, reason: str) -> None:
    assert (await rig.fails(Reply(body, status), *AUTH0))[0] == reason


@pytest.mark.parametrize(
    "headers",
    [
        {"Auth0-Client-Quota-Limit": "b=per_hour;q=10;r=0;t=240,b=per_day;q=50;r=40;t=43200"},
        {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1800000240"},
    ],
)
async def test_auth0_s_quota_is_waited_out(rig: Rig, headers: dict[str, str]) -> None:
    # https://auth0.com/docs/fine-grained-m2m-token-quotas, and for the others
    # https://auth0.com/docs/troubleshoot/customer-support/operational-policies/rate-limit-policy
    reply = Reply('{"error":"Too Many Requests","statusCode":429}', 429, headers=headers)
    assert (await rig.fails(reply, *AUTH0))[1] >= 240.0


# --- Keycloak, Ping --------------------------------------------------------------------------------------------------

KEYCLOAK = ("provider: keycloak", "provider_params: {host: sso.example.com, realm: production}", *CLIENT)

# https://www.keycloak.org/docs/latest/server_admin/index.html#_service_accounts
KEYCLOAK_SUCCESS = """\
{
    "access_token":"2YotnFZFEjr1zCsicMWpAA",
    "token_type":"bearer",
    "expires_in":60
}
"""


async def test_keycloak_is_asked_at_the_realm(rig: Rig) -> None:
    assert parsed(*KEYCLOAK).token_url == "https://sso.example.com/realms/production/protocol/openid-connect/token"
    more = {"refresh_expires_in": 0, "not-before-policy": 0, "scope": "email profile"}
    rig.answers(Reply(json.dumps({**json.loads(KEYCLOAK_SUCCESS), **more})))
    assert await rig.obtains(*KEYCLOAK) == ("2YotnFZFEjr1zCsicMWpAA", 60.0)
    assert rig.asked.path == "/realms/production/protocol/openid-connect/token"
    assert rig.asked.headers["authorization"] == BASIC
    assert rig.asked.form == {"grant_type": "client_credentials"}
    status = rig.broker.credential("api").status()
    assert 10.0 < status.next_attempt_at - rig.clock.now() < 60.0


def test_an_old_keycloak_has_a_path() -> None:
    url = parsed(KEYCLOAK[0], "provider_params: {host: sso.example.com:8443/auth, realm: a}", *CLIENT).token_url
    assert url == "https://sso.example.com:8443/auth/realms/a/protocol/openid-connect/token"


FEDERATE = ("provider: ping_federate", "provider_params: {host: sso.example.com:9031}", *CLIENT)
ONE = ("provider: ping_one", "provider_params: {environment_id: cd91070f-c371-480e-80b2-753c735f8aa1}", *CLIENT)


@pytest.mark.parametrize(
    ("lines", "url", "path"),
    [
        (FEDERATE, "https://sso.example.com:9031/as/token.oauth2", "/as/token.oauth2"),
        (
            ONE,
            "https://auth.pingone.com/cd91070f-c371-480e-80b2-753c735f8aa1/as/token",
            "/cd91070f-c371-480e-80b2-753c735f8aa1/as/token",
        ),
    ],
)
async def test_ping_is_asked_with_basic_credentials(rig: Rig, lines: tuple[str, ...], url: str, path: str) -> None:
    # https://developer.pingidentity.com/pingone-api/auth/openid-connect-oauth-2/token-admin-app-client_credentials.html
    assert parsed(*lines).token_url == url
    rig.answers(Reply('{"access_token":"eyJhbGciOiJSUzI1NiIs","token_type":"Bearer","expires_in":3600}'))
    assert await rig.obtains(*lines) == ("eyJhbGciOiJSUzI1NiIs", 3600.0)
    assert (rig.asked.method, rig.asked.path) == ("POST", path)
    assert rig.asked.headers["authorization"] == BASIC
    assert rig.asked.form == {"grant_type": "client_credentials"}


@pytest.mark.parametrize("lines", [KEYCLOAK, FEDERATE, ONE])
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        ("unauthorized_client", 401, "unauthorized_client"),  # what Keycloak says of a wrong secret
        ("invalid_client", 401, "invalid_client"),
        ("invalid_scope", 400, "invalid_scope"),
        ("invalid_grant", 400, "invalid_grant"),
    ],
)
async def test_errors_as_the_standard_has_them(
    rig: Rig, lines: tuple[str, ...], error: str, status: int, reason: str
) -> None:
    body = f'{{"error":"{error}","error_description":"Invalid client or Invalid client credentials"}}'
    assert (await rig.fails(Reply(body, status), *lines))[0] == reason
