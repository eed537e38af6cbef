"""GitHub: installations of an app, a person's consent, and the tokens of Actions."""

from __future__ import annotations

from typing import Any, Final

from sidecar.config.presets.preset import HOST, HOST_AND_PATH, URL, Param, Preset
from sidecar.secrets import SecretReference

_HOST: Final = Param("GitHub's host", "github.com", HOST, "github.com")
_LATE: Final = {"at": 0.9, "jitter": 0.05}
"""A refresh ends the old access token at once, also for requests that are under way: so as few as there can be."""
_OAUTH: Final[dict[str, Any]] = {
    "scope_separator": "comma",
    "refresh_with": (),
    "unauthorized": "any",
    "errors": {
        # https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors
        "bad_refresh_token": "invalid_grant",
        "bad_verification_code": "invalid_grant",
        "incorrect_client_credentials": "invalid_client",
        "incorrect_device_code": "invalid_grant",
        "device_flow_disabled": "unauthorized_client",
    },
}
_PERSON: Final[dict[str, Any]] = {
    "token_url": "https://{host}/login/oauth/access_token",
    "refresh": _LATE,
    "dialect": _OAUTH,
}
_ENDS: Final = "A refresh ends the old token at once, so it comes late. The app has to let its user tokens expire."

ROWS: Final = (
    Preset(
        name="github_app",
        title="GitHub App, installation",
        page="https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app",
        keys={
            "grant": "workload",
            "token_url": "https://{api}/app/installations/{installation_id}/access_tokens",
            "assertion_algorithm": "RS256",
            "dialect": {
                "body": "json",
                "headers": {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"},
                "integers": ("repository_ids",),
                "token_field": "token",
                "unauthorized": "any",
                # The API's errors are no OAuth errors. 403 is a rate limit, most of the time.
                "errors": {"401": "invalid_client", "403": "transient", "404": "refused", "422": "refused"},
            },
        },
        params={
            "installation_id": Param("the installation's number", "12345678", "[0-9]+"),
            "api": Param("the API's host", "api.github.com", HOST_AND_PATH, "api.github.com"),
        },
        yours={"client_id": "Iv23liAbCdEfGh", "private_key": "file:/run/secrets/github/app.pem"},
        note="Less than the whole installation: `token_params: {repositories: [orders], permissions.contents: read}`. "
        "Enterprise Server: `api: HOST/api/v3`.",
    ),
    Preset(
        name="github_user",
        title="GitHub App, a person's token",
        page="https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens",
        keys={
            **_PERSON,
            "grant": "authorization_code",
            "authorization_url": "https://{host}/login/oauth/authorize",
            "client_auth": "client_secret_post",
        },
        params={"host": _HOST},
        yours={"client_id": "Iv23liAbCdEfGh", "client_secret": "file:/run/secrets/github/client-secret"},
        note=_ENDS,
    ),
    Preset(
        name="github_device",
        title="GitHub App, a person's token by device code",
        page="https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-user-access-token-for-a-github-app",
        keys={
            **_PERSON,
            "grant": "device_code",
            "device_authorization_url": "https://{host}/login/device/code",
            "client_auth": "none",
        },
        params={"host": _HOST},
        yours={"client_id": "Iv23liAbCdEfGh"},
        note=f"{_ENDS} Device flow has to be switched on in the app's settings.",
    ),
    Preset(
        name="github_actions_oidc",
        title="GitHub Actions, OpenID Connect token of a job",
        page="https://docs.github.com/actions/reference/security/oidc",
        keys={
            "grant": "workload",
            "token_url": "{url}",
            "subject_token": SecretReference("env", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
            "dialect": {"method": "GET", "token_field": "value"},
        },
        params={
            "url": Param(
                "the job's token service",
                "https://run-actions-1-azure-eastus.actions.githubusercontent.com/idtoken?api-version=2.0",
                URL,
                env="ACTIONS_ID_TOKEN_REQUEST_URL",
            )
        },
        yours={"audience": "https://api.example.com"},
        note="The job needs `permissions: {id-token: write}`; the runner then sets both variables.",
    ),
)
