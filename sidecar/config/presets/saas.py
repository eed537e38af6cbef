"""Services with an authorization server of their own: Atlassian, Salesforce, Slack."""

from __future__ import annotations

from typing import Any, Final

from sidecar.config.presets.preset import HOST, Param, Preset

_SALESFORCE: Final[dict[str, Any]] = {
    # No answer says how long the token lives: that is the session timeout of the organisation, at least 15 minutes.
    "default_ttl": 900.0,
    "dialect": {
        "unauthorized": "any",
        "errors": {
            "invalid_client_id": "invalid_client",
            "invalid_client_credentials": "invalid_client",
            "inactive_user": "unauthorized_client",
            "inactive_org": "unauthorized_client",
            "rate_limit_exceeded": "transient",
            "unknown_error": "transient",
        },
    },
}
_TTL: Final = "No answer tells the token's life: set `default_ttl` to the session timeout if that is over 15 minutes."

ROWS: Final = (
    Preset(
        name="atlassian",
        title="Atlassian Cloud (3LO)",
        page="https://developer.atlassian.com/cloud/oauth/getting-started/refresh-tokens/",
        keys={
            "grant": "authorization_code",
            "authorization_url": "https://auth.atlassian.com/authorize?prompt=consent",
            "token_url": "https://auth.atlassian.com/oauth/token",
            "audience": "api.atlassian.com",
            "client_auth": "client_secret_post",
            "dialect": {
                "body": "json",
                "refresh_with": (),
                "rotation_grace": 600.0,
                "errors": {"401 access_denied": "invalid_client"},
            },
        },
        yours={
            "client_id": "2Wc1Xm7rEXAMPLE",
            "client_secret": "file:/run/secrets/atlassian/client-secret",
            "scopes": "[read:jira-work, offline_access]",
            "redirect_uri": "http://127.0.0.1:7171/callback",
        },
        note="Without the scope `offline_access` there is no refresh token. Each one serves once, within ten minutes.",
    ),
    Preset(
        name="salesforce",
        title="Salesforce, client credentials",
        page="https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_client_credentials_flow.htm&type=5",
        keys={
            **_SALESFORCE,
            "grant": "client_credentials",
            "token_url": "https://{domain}/services/oauth2/token",
            "client_auth": "client_secret_post",
        },
        params={"domain": Param("the organisation's My Domain", "example.my.salesforce.com", HOST)},
        yours={"client_id": "3MVG9ExampleConsumerKey", "client_secret": "file:/run/secrets/salesforce/consumer-secret"},
        note=_TTL,
    ),
    Preset(
        name="salesforce_jwt",
        title="Salesforce, JWT bearer",
        page="https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_jwt_flow.htm&type=5",
        keys={
            **_SALESFORCE,
            "grant": "jwt_bearer",
            "token_url": "https://{host}/services/oauth2/token",
            "assertion_audience": "https://{host}",
            "assertion_algorithm": "RS256",
        },
        params={"host": Param("the login host", "test.salesforce.com", HOST, "login.salesforce.com")},
        yours={
            "client_id": "3MVG9ExampleConsumerKey",
            "private_key": "file:/run/secrets/salesforce/key.pem",
            "assertion_subject": "robot@example.com",
        },
        note=f"`assertion_subject` is the user's name. {_TTL}",
    ),
    Preset(
        name="slack",
        title="Slack, token rotation",
        page="https://docs.slack.dev/authentication/using-token-rotation",
        keys={
            "grant": "refresh_token",
            "token_url": "https://slack.com/api/oauth.v2.access",
            "client_auth": "client_secret_basic",
            "dialect": {
                "token_types": ("bot", "user"),
                "scope_separator": "comma",
                "refresh_with": (),
                "errors": {
                    "invalid_refresh_token": "invalid_grant",
                    "token_revoked": "invalid_grant",
                    "bad_client_secret": "invalid_client",
                    "invalid_client_id": "invalid_client",
                    "ratelimited": "transient",
                    "internal_error": "transient",
                    "fatal_error": "transient",
                    "service_unavailable": "transient",
                    "request_timeout": "transient",
                },
            },
        },
        yours={
            "client_id": '"4123121235.9872358710"',
            "client_secret": "file:/run/secrets/slack/client-secret",
            "refresh_token": "file:/run/secrets/slack/refresh-token",
        },
        note="The first refresh token comes from installing the app with token rotation switched on.",
    ),
)
