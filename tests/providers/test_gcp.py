"""Google Cloud's ways to a token, against answers as its documentation has them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.oauth import keys
from tests.providers.conftest import parsed
from tests.providers.provider import Reply
from tests.providers.signed import read, unsigned

if TYPE_CHECKING:
    from tests.providers.conftest import Rig

CLOUD = "https://www.googleapis.com/auth/cloud-platform"

# --- service account keys --------------------------------------------------------------------------------------------

ACCOUNT = "761326798069-r5mljlln1rd4lrbhg75efgigp36m78j5@developer.gserviceaccount.com"
KEY_FILE = (
    "provider: gcp_service_account",
    f"client_id: {ACCOUNT}",
    "private_key: env:GCP_KEY",
    "scopes: [https://www.googleapis.com/auth/prediction]",
)

# https://developers.google.com/identity/protocols/oauth2/service-account#httprest
SUCCESS = """\
{
  "access_token": "1/8xbJqaOZXSUZbHLl5EOtu1pxz3fmmetKx9W8CV4t79M",
  "scope": "https://www.googleapis.com/auth/prediction",
  "token_type": "Bearer",
  "expires_in": 3600
}
"""
SKEWED = (
    '{"error":"invalid_grant","error_description":"Invalid JWT: Token must be a short-lived token (60 minutes) and in '
    'a reasonable timeframe. Check your iat and exp values in the JWT claim."}'
)
TOKEN = "1/8xbJqaOZXSUZbHLl5EOtu1pxz3fmmetKx9W8CV4t79M"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that the console gives out."""
    members = {
        "type": "service_account",
        "private_key_id": "370ab79b4513eb9bad7c9bd16a95cb76b5b2a56a",
        "private_key": keys.pem(keys.private("RSA")),
        "client_email": ACCOUNT,
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    monkeypatch.setenv("GCP_KEY", json.dumps(members))


async def test_a_service_account_signs_for_itself(rig: Rig) -> None:
    assert parsed(*KEY_FILE).token_url == "https://oauth2.googleapis.com/token"
    rig.answers(Reply(SUCCESS))
    assert await rig.obtains(*KEY_FILE) == (TOKEN, 3600.0)
    assert (rig.asked.method, rig.asked.path) == ("POST", "/token")
    form = rig.asked.form
    assert form.keys() == {"grant_type", "assertion"}
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    header, claims = read(form["assertion"], keys.private("RSA"), "RS256")
    assert header == {"alg": "RS256", "typ": "JWT", "kid": "370ab79b4513eb9bad7c9bd16a95cb76b5b2a56a"}
    assert claims["iss"] == ACCOUNT
    assert claims["scope"] == "https://www.googleapis.com/auth/prediction"
    assert claims["aud"] == rig.provider.origin + "/token"
    assert claims["iat"] <= rig.clock.wall() < claims["exp"] <= claims["iat"] + 3600
    assert "sub" not in claims


async def test_a_service_account_speaks_for_a_user_of_the_domain(rig: Rig) -> None:
    rig.answers(Reply(SUCCESS))
    await rig.obtains(*KEY_FILE, "assertion_subject: user@example.com")
    _, claims = read(rig.asked.form["assertion"], keys.private("RSA"), "RS256")
    assert claims["sub"] == "user@example.com"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        # https://developers.google.com/identity/protocols/oauth2/service-account#jwt_error_codes
        (
            '{"error":"unauthorized_client","error_description":"Unauthorized client or scope in request."}',
            401,
            "unauthorized_client",
        ),
        ('{"error":"access_denied","error_description":"Requested client not authorized."}', 400, "refused"),
        ('{"error":"invalid_client","error_description":"The OAuth client was not found."}', 401, "invalid_client"),
        ('{"error":"invalid_grant","error_description":"Not a valid email."}', 400, "invalid_grant"),
        (SKEWED, 400, "invalid_grant"),
        (
            '{"error":"invalid_scope","error_description":"Invalid OAuth scope or ID token audience provided."}',
            400,
            "invalid_scope",
        ),
        ('{"error":"disabled_client","error_description":"The OAuth client was disabled."}', 401, "refused"),
        # What Google's own library retries, also where the description says it.
        ('{"error":"internal_failure"}', 500, "server_error"),
        ('{"error":"invalid_grant","error_description":"internal_failure"}', 400, "server_error"),
    ],
)
async def test_google_s_token_errors(rig: Rig, body: str, status: int, reason: str) -> None:
    assert (await rig.fails(Reply(body, status), *KEY_FILE))[0] == reason


# --- the metadata server ---------------------------------------------------------------------------------------------

METADATA = ("provider: gcp_metadata",)
IDENTITY = ("provider: gcp_metadata_identity", "audience: https://service-abc.a.run.app")
AT = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts"

# https://cloud.google.com/compute/docs/access/authenticate-workloads#applications
METADATA_SUCCESS = """\
{
      "access_token":"ya29.AHES6ZRN3-HlhAPya30GnW_bHSb_QtAi9NaQfbVk...",
      "expires_in":%d,
      "token_type":"Bearer"
 }
"""


async def test_the_metadata_server_is_asked_with_its_own_header(rig: Rig) -> None:
    assert parsed(*METADATA).token_url == f"{AT}/default/token"
    named = parsed(*METADATA, "provider_params: {account: orders@project.iam.gserviceaccount.com}")
    assert named.token_url == f"{AT}/orders@project.iam.gserviceaccount.com/token"
    rig.answers(Reply(METADATA_SUCCESS % 3599, headers={"Metadata-Flavor": "Google"}))
    assert await rig.obtains(*METADATA) == ("ya29.AHES6ZRN3-HlhAPya30GnW_bHSb_QtAi9NaQfbVk...", 3599.0)
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    assert (rig.asked.method, rig.asked.path, rig.asked.query) == ("GET", path, [])
    assert rig.asked.headers["metadata-flavor"] == "Google"


@pytest.mark.parametrize("lines", [METADATA, IDENTITY])
def test_the_metadata_server_is_asked_when_it_has_another_token(lines: tuple[str, ...]) -> None:
    # Its cache lets go of a token four minutes before the end; Google's own library asks 225 s before it.
    window = parsed(*lines).refresh
    earliest, latest = (3600 * (1 - window.at + by) for by in (window.jitter, -window.jitter))
    assert 120 < latest < earliest < 225


async def test_the_metadata_server_gives_an_identity_token_by_itself(rig: Rig) -> None:
    # https://cloud.google.com/compute/docs/instances/verifying-instance-identity#request_signature
    assert parsed(*IDENTITY).token_url == f"{AT}/default/identity"
    now = int(rig.clock.wall())
    token = unsigned(aud="https://service-abc.a.run.app", iss="https://accounts.google.com", iat=now, exp=now + 3600)
    rig.answers(Reply(token, type="text/html", headers={"Metadata-Flavor": "Google"}))
    found, lifetime = await rig.obtains(*IDENTITY)
    assert found == token
    assert lifetime == pytest.approx(3600.0, abs=1.0)
    assert dict(rig.asked.query) == {"audience": "https://service-abc.a.run.app", "format": "full"}
    assert rig.asked.headers["metadata-flavor"] == "Google"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("<!DOCTYPE html><html><title>404</title></html>", 404, "text/html"), "malformed"),
        (Reply("", 503, "text/html"), "server_error"),
        (Reply("service account not ready", 200, "text/plain"), "malformed"),
    ],
)
async def test_a_metadata_server_that_is_not_up_yet_is_asked_again_soon(rig: Rig, reply: Reply, reason: str) -> None:
    found, seconds = await rig.fails(reply, *METADATA)
    assert found == reason
    assert seconds < 30.0


# --- workload identity federation ------------------------------------------------------------------------------------

POOL = 'provider_params: {project_number: "123456789012", pool: clusters, provider: production%s}'
FEDERATED = ("provider: gcp_workload_identity", POOL % "", "subject_token: env:PLATFORM_TOKEN")
IMPERSONATED = (
    "provider: gcp_workload_identity_impersonation",
    POOL % ", service_account: orders@project.iam.gserviceaccount.com",
    "subject_token: env:PLATFORM_TOKEN",
)
AUDIENCE = (
    "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/clusters/providers/production"
)

# https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token#response-body
STS_SUCCESS = """\
{
  "access_token": "ya29.d.federated",
  "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
  "token_type": "Bearer",
  "expires_in": 3599
}
"""


@pytest.fixture(autouse=True)
def _platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_TOKEN", "platform.issued.token")


async def test_a_platform_s_token_is_exchanged(rig: Rig) -> None:
    assert parsed(*FEDERATED).token_url == "https://sts.googleapis.com/v1/token"
    rig.answers(Reply(STS_SUCCESS))
    assert await rig.obtains(*FEDERATED) == ("ya29.d.federated", 3599.0)
    assert (rig.asked.method, rig.asked.path) == ("POST", "/v1/token")
    assert rig.asked.form == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": AUDIENCE,
        "scope": CLOUD,
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token": "platform.issued.token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    }
    assert "authorization" not in rig.asked.headers


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        ("invalid_grant", 400, "invalid_grant"),
        ("invalid_target", 400, "refused"),
        ("invalid_request", 400, "refused"),
        ("unauthorized_client", 401, "unauthorized_client"),
    ],
)
async def test_the_token_service_s_errors(rig: Rig, error: str, status: int, reason: str) -> None:
    body = f'{{"error":"{error}","error_description":"The given credential is rejected by the attribute condition."}}'
    assert (await rig.fails(Reply(body, status), *FEDERATED))[0] == reason


def impersonation_success(rig: Rig) -> Reply:
    # https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
    end = datetime.fromtimestamp(rig.clock.wall() + 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Reply(f'{{\n  "accessToken": "ya29.c.impersonated",\n  "expireTime": "{end}"\n}}\n')


async def test_a_federated_token_asks_for_one_of_a_service_account(rig: Rig) -> None:
    lines = (*IMPERSONATED, "scopes: [https://www.googleapis.com/auth/devstorage.read_only]")
    assert parsed(*lines).impersonation_url == (
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/orders@project.iam.gserviceaccount.com"
        ":generateAccessToken"
    )
    rig.answers(Reply(STS_SUCCESS), impersonation_success(rig))
    token, lifetime = await rig.obtains(*lines)
    assert token == "ya29.c.impersonated"
    assert lifetime == pytest.approx(3600.0, abs=1.0)
    first, second = rig.provider.asked
    assert first.form["scope"] == CLOUD
    account = "orders@project.iam.gserviceaccount.com"
    assert (second.method, second.path) == ("POST", f"/v1/projects/-/serviceAccounts/{account}:generateAccessToken")
    assert second.headers["authorization"] == "Bearer ya29.d.federated"
    assert second.json == {"scope": ["https://www.googleapis.com/auth/devstorage.read_only"], "lifetime": "3600s"}


# https://cloud.google.com/apis/design/errors#http_mapping
DENIED = """\
{
  "error": {
    "code": 403,
    "message": "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
    "status": "PERMISSION_DENIED",
    "details": [
      {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "iam.googleapis.com",
        "metadata": {
          "permission": "iam.serviceAccounts.getAccessToken"
        }
      }
    ]
  }
}
"""


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(DENIED, 403), "unauthorized_client"),
        (Reply(DENIED.replace("403", "404").replace('PERMISSION_DENIED"', 'NOT_FOUND"'), 404), "refused"),
        (Reply(DENIED.replace("403", "429").replace('PERMISSION_DENIED"', 'RESOURCE_EXHAUSTED"'), 429), "rate_limited"),
        (Reply(DENIED.replace("403", "503").replace('PERMISSION_DENIED"', 'UNAVAILABLE"'), 503), "server_error"),
    ],
)
async def test_an_error_that_is_an_object_is_read(rig: Rig, reply: Reply, reason: str) -> None:
    rig.answers(Reply(STS_SUCCESS))
    assert (await rig.fails(reply, *IMPERSONATED))[0] == reason
