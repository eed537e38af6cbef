"""Amazon Web Services: Cognito by OAuth; what needs a signed request (SigV4) by AWS's own command line."""

from __future__ import annotations

from typing import Final

from sidecar.config.presets.preset import HOST, Param, Preset

_WORD: Final = r"[A-Za-z0-9][\x21-\x7e]*"
"""An argument of a command that is no option."""

ROWS: Final = (
    Preset(
        name="aws_cognito",
        title="Amazon Cognito, machine to machine",
        page="https://docs.aws.amazon.com/cognito/latest/developerguide/token-endpoint.html",
        keys={
            "grant": "client_credentials",
            "token_url": "https://{domain}/oauth2/token",
            "client_auth": "client_secret_basic",
        },
        params={"domain": Param("the user pool's domain", "orders.auth.eu-west-1.amazoncognito.com", HOST)},
        yours={
            "client_id": "djc98u3jiedmi283eu928",
            "client_secret": "file:/run/secrets/cognito/client-secret",
            "scopes": "[https://api.example.com/orders.read]",
        },
        note="The token has no `aud`; its `client_id` says whose it is.",
    ),
    Preset(
        name="aws_web_identity",
        title="AWS STS, a JWT for services outside AWS",
        page="https://docs.aws.amazon.com/cli/latest/reference/sts/get-web-identity-token.html",
        keys={
            "grant": "exec",
            "command": (
                *("aws", "sts", "get-web-identity-token", "--audience", "{audience}"),
                *("--signing-algorithm", "{algorithm}", "--duration-seconds", "{seconds}", "--output", "json"),
            ),
            "dialect": {"token_field": "WebIdentityToken"},
        },
        params={
            "audience": Param("for whom the token is", "https://api.example.com", _WORD),
            "algorithm": Param("how it is signed", "RS256", "RS256|ES384", "RS256"),
            "seconds": Param("how long it lives, 60 to 3600", "300", "[0-9]{2,4}", "300"),
        },
        note="Runs the `aws` command with the role and the region that it finds; a region is needed.",
    ),
    Preset(
        name="aws_codeartifact",
        title="AWS CodeArtifact",
        page="https://docs.aws.amazon.com/cli/latest/reference/codeartifact/get-authorization-token.html",
        keys={
            "grant": "exec",
            "command": (
                *("aws", "codeartifact", "get-authorization-token", "--domain", "{domain}"),
                *("--domain-owner", "{domain_owner}", "--output", "json"),
            ),
            "dialect": {"token_field": "authorizationToken"},
        },
        params={
            "domain": Param("the CodeArtifact domain", "packages", "[a-z][a-z0-9-]+"),
            "domain_owner": Param("the account that owns the domain", "111122223333", "[0-9]{12}"),
        },
        note="Tokens live for 12 hours, also when the role's session ends before.",
    ),
)
