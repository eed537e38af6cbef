"""Amazon's ways to a token: Cognito's endpoint as its documentation has it, and a command in the place of `aws`."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.providers.conftest import parsed
from tests.providers.provider import Reply
from tests.providers.signed import unsigned

if TYPE_CHECKING:
    from pathlib import Path

    from tests.providers.conftest import Rig

COGNITO = (
    "provider: aws_cognito",
    "provider_params: {domain: mydomain.auth.us-east-1.amazoncognito.com}",
    "client_id: djc98u3jiedmi283eu928",
    "client_secret: env:COGNITO_SECRET",
    "scopes: [resourceServerIdentifier1/scope1, resourceServerIdentifier2/scope2]",
)

# https://docs.aws.amazon.com/cognito/latest/developerguide/token-endpoint.html
COGNITO_SUCCESS = """\
{
 "access_token":"eyJra1example",
 "token_type":"Bearer",
 "expires_in":3600
}
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COGNITO_SECRET", "abcdef01234567890")


async def test_cognito_is_asked_with_basic_credentials(rig: Rig) -> None:
    assert parsed(*COGNITO).token_url == "https://mydomain.auth.us-east-1.amazoncognito.com/oauth2/token"
    rig.answers(Reply(COGNITO_SUCCESS))
    assert await rig.obtains(*COGNITO) == ("eyJra1example", 3600.0)
    assert (rig.asked.method, rig.asked.path) == ("POST", "/oauth2/token")
    # The header that the page computes for this client and this secret.
    assert rig.asked.headers["authorization"] == "Basic ZGpjOTh1M2ppZWRtaTI4M2V1OTI4OmFiY2RlZjAxMjM0NTY3ODkw"
    assert base64.b64decode("ZGpjOTh1M2ppZWRtaTI4M2V1OTI4OmFiY2RlZjAxMjM0NTY3ODkw").startswith(
        b"djc98u3jiedmi283eu928:"
    )
    assert rig.asked.form == {
        "grant_type": "client_credentials",
        "scope": "resourceServerIdentifier1/scope1 resourceServerIdentifier2/scope2",
    }


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("invalid_request", "refused"),
        ("invalid_client", "invalid_client"),
        ("invalid_grant", "invalid_grant"),
        ("unauthorized_client", "unauthorized_client"),
        ("unsupported_grant_type", "refused"),
    ],
)
async def test_cognito_refuses_with_400(rig: Rig, error: str, reason: str) -> None:
    reply = Reply(f'{{\n"error":"{error}"\n}}', 400, "application/json;charset=UTF-8")
    assert (await rig.fails(reply, *COGNITO))[0] == reason


# --- by the command line ---------------------------------------------------------------------------------------------


@pytest.fixture
def aws(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called `aws` that notes its arguments, one a line, and prints the file `output`."""
    program = rig.folder / "aws"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {rig.folder}/arguments\ncat {rig.folder}/output\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{rig.folder}{os.pathsep}{os.environ['PATH']}")
    return program


def arguments(rig: Rig) -> list[str]:
    return (rig.folder / "arguments").read_text().splitlines()


WEB_IDENTITY = ("provider: aws_web_identity", 'provider_params: {audience: "https://api.example.com"}')


@pytest.mark.usefixtures("aws")
async def test_sts_signs_a_token_for_others(rig: Rig) -> None:
    # https://docs.aws.amazon.com/cli/latest/reference/sts/get-web-identity-token.html: its output
    token = unsigned(aud="https://api.example.com", sub="arn:aws:iam::111122223333:role/orders")
    end = datetime.fromtimestamp(rig.clock.wall() + 300, UTC).isoformat()
    rig.file("output", f'{{\n    "WebIdentityToken": "{token}",\n    "Expiration": "{end}"\n}}\n')
    assert await rig.obtains(*WEB_IDENTITY) == (token, 300.0)
    assert arguments(rig) == [
        *("sts", "get-web-identity-token", "--audience", "https://api.example.com"),
        *("--signing-algorithm", "RS256", "--duration-seconds", "300", "--output", "json"),
    ]


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("iso", [False, True])
async def test_codeartifact_tells_its_end_by_either_clock_of_the_command(rig: Rig, iso: bool) -> None:
    # https://docs.aws.amazon.com/codeartifact/latest/ug/tokens-authentication.html: `expiration` as a number; version 2
    # of the command writes it in ISO 8601.
    end = rig.clock.wall() + 43200
    stamp = f'"{datetime.fromtimestamp(end, UTC).isoformat()}"' if iso else f"{end:.1f}"
    rig.file("output", f'{{\n    "authorizationToken": "eyJ2I...viOw",\n    "expiration": {stamp}\n}}\n')
    lines = ("provider: aws_codeartifact", 'provider_params: {domain: my-domain, domain_owner: "111122223333"}')
    assert await rig.obtains(*lines) == ("eyJ2I...viOw", 43200.0)
    assert arguments(rig) == [
        *("codeartifact", "get-authorization-token", "--domain", "my-domain"),
        *("--domain-owner", "111122223333", "--output", "json"),
    ]


async def test_a_command_that_may_not_ask_is_tried_again(rig: Rig, aws: Path) -> None:
    # https://docs.aws.amazon.com/cli/latest/userguide/cli-usage-returncodes.html: 254 is an error of the service
    rig.file(aws.name, "#!/bin/sh\necho 'An error occurred (AccessDenied)' >&2\nexit 254\n")
    status = (await rig.run(*WEB_IDENTITY)).status()
    assert status.last_error == "server_error"


@pytest.mark.parametrize("value", ["--profile=other", "a b", ""])
def test_no_audience_becomes_an_option(value: str) -> None:
    with pytest.raises(Exception, match="audience"):
        parsed("provider: aws_web_identity", f'provider_params: {{audience: "{value}"}}')
