"""Microsoft's ways to a token, against answers as its documentation has them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.oauth.jws import base64url
from tests.oauth import keys
from tests.providers.conftest import parsed
from tests.providers.provider import Reply
from tests.providers.signed import read, unsigned

if TYPE_CHECKING:
    from tests.providers.conftest import Rig

APP = "535fb089-9ff3-47b6-9bfb-4f1264799865"
ASKED = ("provider_params: {tenant: contoso.onmicrosoft.com}", f"client_id: {APP}")
SCOPE = ("scopes: [https://graph.microsoft.com/.default]",)
SECRET = ("provider: entra_id", *ASKED, *SCOPE, "client_secret: env:ENTRA_SECRET")
CERTIFICATE = ("provider: entra_id_certificate", *ASKED, *SCOPE)
WORKLOAD = ("provider: entra_id_workload", *SCOPE)
ENDPOINT = "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

# https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#successful-response
SUCCESS = """\
{
  "token_type": "Bearer",
  "expires_in": 3599,
  "access_token": "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsIng1dCI6Ik1uQ19WWmNBVGZNNXBP..."
}
"""
TOKEN = json.loads(SUCCESS)["access_token"]

# https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#error-response
REFUSED = r"""
{
  "error": "%s",
  "error_description": "AADSTS70011: The provided value for the input parameter 'scope' is not valid. The scope https://foo.microsoft.com/.default is not valid.\r\nTrace ID: 255d1aef-8c98-452f-ac51-23d051240864\r\nCorrelation ID: fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7\r\nTimestamp: 2016-01-09 02:02:12Z",
  "error_codes": [
    70011
  ],
  "timestamp": "YYYY-MM-DD HH:MM:SSZ",
  "trace_id": "255d1aef-8c98-452f-ac51-23d051240864",
  "correlation_id": "fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7"
}
"""  # noqa: E501 - as it stands there


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTRA_SECRET", "sampleCredentials")


async def test_entra_is_asked_with_a_secret_in_the_form(rig: Rig) -> None:
    assert parsed(*SECRET).token_url == ENDPOINT
    rig.answers(Reply(SUCCESS))
    assert await rig.obtains(*SECRET) == (TOKEN, 3599.0)
    assert (rig.asked.method, rig.asked.path) == ("POST", "/contoso.onmicrosoft.com/oauth2/v2.0/token")
    assert rig.asked.form == {
        "client_id": APP,
        "scope": "https://graph.microsoft.com/.default",
        "client_secret": "sampleCredentials",
        "grant_type": "client_credentials",
    }
    assert "authorization" not in rig.asked.headers


@pytest.mark.parametrize(
    "lines", [(SECRET[0], *SECRET[2:]), ("provider: entra_id_workload", *SECRET[2:-1], "assertion: env:A")]
)
def test_a_national_cloud_is_another_host(lines: tuple[str, ...]) -> None:
    # https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud#microsoft-entra-authentication-endpoints
    url = parsed(*lines, "provider_params: {tenant: contoso, host: login.microsoftonline.us}").token_url
    assert url == "https://login.microsoftonline.us/contoso/oauth2/v2.0/token"


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("invalid_scope", 400, "invalid_scope"),
        ("invalid_client", 401, "invalid_client"),
        ("unauthorized_client", 400, "unauthorized_client"),
        ("invalid_grant", 400, "invalid_grant"),  # AADSTS50196, the loop detection, says so too
        ("invalid_request", 400, "refused"),
        ("temporarily_unavailable", 503, "server_error"),
    ],
)
async def test_entra_s_errors_with_line_breaks_in_them_are_read(rig: Rig, code: str, status: int, reason: str) -> None:
    assert (await rig.fails(Reply(REFUSED % code, status), *SECRET))[0] == reason


async def test_entra_s_plain_text_throttling_is_waited_out(rig: Rig) -> None:
    # https://learn.microsoft.com/entra/identity-platform/reference-service-limits-restrictions: 429, Retry-After
    throttled = Reply("Too Many Requests", 429, "text/plain", {"Retry-After": "60"})
    reason, seconds = await rig.fails(throttled, *SECRET)
    assert reason == "rate_limited"
    assert seconds >= 60.0


async def test_entra_may_say_when_a_token_is_to_be_renewed(rig: Rig) -> None:
    rig.answers(Reply(json.dumps({**json.loads(SUCCESS), "expires_in": 86399, "refresh_in": 43199})))
    status = (await rig.run(*SECRET)).status()
    wait = status.next_attempt_at - rig.clock.now()
    assert 43199.0 <= wait <= 43199.0 + 0.2 * 86399  # not before, and not all at the same moment


async def test_entra_finds_the_key_by_the_certificate(rig: Rig) -> None:
    # https://learn.microsoft.com/entra/identity-platform/certificate-credentials#assertion-format
    key = keys.private("RSA")
    certificate = keys.certificate(key)
    lines = (
        *CERTIFICATE,
        f"private_key: file:{rig.file('key.pem', keys.pem(key))}",
        f"certificate: {rig.file('certificate.pem', certificate.public_bytes(Encoding.PEM).decode())}",
    )
    assert parsed(*lines).token_url == ENDPOINT
    rig.answers(Reply(SUCCESS))
    assert await rig.obtains(*lines) == (TOKEN, 3599.0)
    form = rig.asked.form
    header, claims = read(form.pop("client_assertion"), key, "PS256")
    assert form == {
        "scope": "https://graph.microsoft.com/.default",
        "client_id": APP,
        "client_assertion_type": ASSERTION,
        "grant_type": "client_credentials",
    }
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    assert header == {"alg": "PS256", "typ": "JWT", "x5t#S256": base64url(digest)}
    assert claims["aud"] == rig.provider.origin + "/contoso.onmicrosoft.com/oauth2/v2.0/token"
    assert (claims["iss"], claims["sub"]) == (APP, APP)
    assert claims["nbf"] <= rig.clock.wall() < claims["exp"] <= claims["nbf"] + 600
    assert claims["jti"]


async def test_entra_takes_the_token_that_the_platform_keeps_fresh(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    # https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html
    first, second = (unsigned(sub="system:serviceaccount:orders:orders", n=n) for n in (1, 2))
    file = rig.file("azure-identity-token", first)
    for name, value in (("TENANT_ID", "contoso"), ("CLIENT_ID", APP), ("FEDERATED_TOKEN_FILE", file)):
        monkeypatch.setenv(f"AZURE_{name}", value)
    assert parsed(*WORKLOAD).token_url == "https://login.microsoftonline.com/contoso/oauth2/v2.0/token"
    rig.answers(Reply(SUCCESS), Reply(SUCCESS))
    assert await rig.obtains(*WORKLOAD) == (TOKEN, 3599.0)
    assert rig.asked.form == {
        "client_id": APP,
        "scope": "https://graph.microsoft.com/.default",
        "client_assertion_type": ASSERTION,
        "client_assertion": first,
        "grant_type": "client_credentials",
    }
    rig.file("azure-identity-token", second)
    await rig.clock.advance(3400.0)
    assert rig.provider.asked[1].form["client_assertion"] == second


# --- managed identities ----------------------------------------------------------------------------------------------

IMDS = ("provider: azure_managed_identity", "provider_params: {resource: https://management.azure.com/}")

# https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#get-a-token-using-http
IMDS_SUCCESS = """\
{
  "access_token": "eyJ0eXAi...",
  "refresh_token": "",
  "expires_in": "3599",
  "expires_on": "1506484173",
  "not_before": "1506480273",
  "resource": "https://management.azure.com/",
  "token_type": "Bearer"
}
"""


async def test_a_machine_s_identity_is_asked_for_by_query(rig: Rig) -> None:
    assert parsed(*IMDS).token_url == "http://169.254.169.254/metadata/identity/oauth2/token"
    rig.answers(Reply(IMDS_SUCCESS))
    assert await rig.obtains(*IMDS) == ("eyJ0eXAi...", 3599.0)
    assert (rig.asked.method, rig.asked.path) == ("GET", "/metadata/identity/oauth2/token")
    assert dict(rig.asked.query) == {"api-version": "2018-02-01", "resource": "https://management.azure.com/"}
    assert rig.asked.headers["metadata"] == "true"
    assert rig.asked.body == b""
    assert "authorization" not in rig.asked.headers


async def test_one_of_several_identities_is_named(rig: Rig) -> None:
    rig.answers(Reply(IMDS_SUCCESS))
    await rig.obtains(*IMDS, f"client_id: {APP}")
    assert dict(rig.asked.query)["client_id"] == APP


async def test_a_cached_token_is_not_asked_for_in_a_loop(rig: Rig) -> None:
    shorter = IMDS_SUCCESS.replace('"3599"', '"899"')
    rig.answers(Reply(IMDS_SUCCESS), Reply(shorter), Reply(shorter))
    await rig.obtains(*IMDS)
    await rig.clock.advance(2700.0)
    assert len(rig.provider.asked) == 2
    await rig.clock.advance(600.0)
    assert len(rig.provider.asked) <= 3


def imds_error(code: str) -> str:
    return json.dumps({"error": code, "error_description": "Required metadata header not specified"})


@pytest.mark.parametrize(
    ("reply", "reason", "at_least"),
    [
        # https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#error-handling
        (Reply("", 404), "malformed", 0.0),
        (Reply("", 410), "malformed", 70.0),
        (Reply(imds_error("too_many_requests"), 429), "rate_limited", 0.0),
        (Reply(imds_error("unknown"), 500), "server_error", 0.0),
        (Reply(imds_error("bad_request_102"), 400), "refused", 240.0),
        (Reply(imds_error("invalid_resource"), 400), "refused", 240.0),
        (Reply(imds_error("unknown_source"), 401), "refused", 240.0),
        (Reply(imds_error("unauthorized_client"), 400), "unauthorized_client", 240.0),
    ],
)
async def test_the_metadata_service_s_errors(rig: Rig, reply: Reply, reason: str, at_least: float) -> None:
    found, seconds = await rig.fails(reply, *IMDS)
    assert found == reason
    assert seconds >= at_least
    assert at_least or seconds < 30.0


APP_SERVICE = ("provider: azure_app_service", "provider_params: {resource: https://vault.azure.net}")

# https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
APP_SERVICE_SUCCESS = """\
{
    "access_token": "eyJ0eXAi…",
    "expires_on": "1800085199",
    "resource": "https://vault.azure.net",
    "token_type": "Bearer",
    "client_id": "00001111-aaaa-2222-bbbb-3333cccc4444"
}
""".replace("…", "...")


@pytest.fixture
def app_service(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{rig.provider.origin}/MSI/token/")
    monkeypatch.setenv("IDENTITY_HEADER", "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a")


@pytest.mark.usefixtures("app_service")
async def test_app_service_is_asked_where_its_variables_say(rig: Rig) -> None:
    rig.answers(Reply(APP_SERVICE_SUCCESS))
    token, lifetime = await rig.obtains(*APP_SERVICE)
    assert token == "eyJ0eXAi..."
    assert lifetime == pytest.approx(85199.0, abs=1.0)
    assert (rig.asked.method, rig.asked.path) == ("GET", "/MSI/token/")
    assert dict(rig.asked.query) == {"api-version": "2019-08-01", "resource": "https://vault.azure.net"}
    assert rig.asked.headers["x-identity-header"] == "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a"
    assert "authorization" not in rig.asked.headers


@pytest.mark.usefixtures("app_service")
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        # As Microsoft's own libraries describe it: a resource that does not exist is an error of the service.
        (
            Reply('{"statusCode":500,"message":"An unexpected error occured while fetching the AAD Token."}', 500),
            "server_error",
        ),
        (Reply('{"StatusCode":400,"Message":"No Managed Identity found for specified ClientId"}', 400), "malformed"),
    ],
)
async def test_app_service_s_errors_are_tried_again(rig: Rig, reply: Reply, reason: str) -> None:
    found, seconds = await rig.fails(reply, *APP_SERVICE)
    assert found == reason
    assert seconds < 30.0
