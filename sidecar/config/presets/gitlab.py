"""GitLab, on gitlab.com or a host of one's own: a person's consent, and the tokens of CI jobs."""

from __future__ import annotations

from typing import Any, Final

from sidecar.config.presets.preset import HOST_AND_PATH, Param, Preset
from sidecar.secrets import SecretReference

_PAGE: Final = "https://docs.gitlab.com/api/oauth2/"
_HOST: Final = Param("GitLab's host", "gitlab.example.com", HOST_AND_PATH, "gitlab.com")
_PERSON: Final[dict[str, Any]] = {
    "token_url": "https://{host}/oauth/token",
    "revocation_url": "https://{host}/oauth/revoke",
    # A refresh ends the old access token at once, also for requests that are under way: so as few as there can be.
    "refresh": {"at": 0.9, "jitter": 0.05},
}
_APP: Final = "0123456789abcdef"

ROWS: Final = (
    Preset(
        name="gitlab",
        title="GitLab, a person's token",
        page=_PAGE + "#authorization-code-with-proof-key-for-code-exchange-pkce",
        keys={
            **_PERSON,
            "grant": "authorization_code",
            "authorization_url": "https://{host}/oauth/authorize",
            "dialect": {"refresh_with": ("redirect_uri",), "unauthorized": "any"},
        },
        params={"host": _HOST},
        yours={"client_id": _APP, "redirect_uri": "http://127.0.0.1:7171/callback", "scopes": "[read_api]"},
        note="A refresh ends the old tokens at once, so it comes late, and it repeats the registered `redirect_uri`. A "
        "confidential application adds its `client_secret`.",
    ),
    Preset(
        name="gitlab_device",
        title="GitLab, a person's token by device code",
        page=_PAGE + "#device-authorization-grant-flow",
        keys={
            **_PERSON,
            "grant": "device_code",
            "device_authorization_url": "https://{host}/oauth/authorize_device",
            "dialect": {"refresh_with": (), "unauthorized": "any"},
        },
        params={"host": _HOST},
        yours={"client_id": _APP, "scopes": "[read_api]"},
        note="A refresh ends the old tokens at once, so it comes late.",
    ),
    Preset(
        name="gitlab_ci",
        title="GitLab CI, ID token of a job",
        page="https://docs.gitlab.com/ci/secrets/id_token_authentication/",
        keys={"grant": "static", "token": SecretReference("env", "{variable}")},
        params={
            "variable": Param(
                "the variable that `id_tokens` names in the job", "API_ID_TOKEN", "[A-Za-z_][A-Za-z0-9_]*", "ID_TOKEN"
            )
        },
        note="For an API that takes the job's own token. To exchange it, give it to another preset: "
        "`assertion: env:ID_TOKEN` for `entra_id_workload`, `subject_token: env:ID_TOKEN` for `gcp_workload_identity`.",
    ),
)
