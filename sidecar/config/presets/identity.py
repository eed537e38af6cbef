"""Identity providers that organisations run or rent: Okta, Auth0, Keycloak, Ping."""

from __future__ import annotations

from typing import Any, Final

from sidecar.config.presets.preset import HOST, HOST_AND_PATH, Param, Preset

_OKTA: Final = Param("the organisation's host", "example.okta.com", HOST)
_OKTA_ERRORS: Final[dict[str, str]] = {"e0000011": "invalid_client", "e0000006": "unauthorized_client"}
_ID: Final = "orders-worker"
_SECRET: Final = "file:/run/secrets/orders/client-secret"

_BY_SECRET: Final[dict[str, Any]] = {"grant": "client_credentials", "client_auth": "client_secret_basic"}

ROWS: Final = (
    Preset(
        name="okta",
        title="Okta, organisation's own server",
        page="https://developer.okta.com/docs/guides/implement-oauth-for-okta-serviceapp/main/",
        keys={
            "grant": "client_credentials",
            "token_url": "https://{host}/oauth2/v1/token",
            "client_auth": "private_key_jwt",
            "dialect": {"errors": _OKTA_ERRORS},
        },
        params={"host": _OKTA},
        yours={
            "client_id": "0oab1c2d3e4f5g6h7i8j",
            "private_key": "file:/run/secrets/okta/key.pem",
            "scopes": "[okta.users.read]",
        },
        note="For Okta's own APIs, which take no client secret. With more than one key add its `key_id`; where the app "
        "demands DPoP, `dpop: true`.",
    ),
    Preset(
        name="okta_custom",
        title="Okta, custom authorization server",
        page="https://developer.okta.com/docs/guides/implement-grant-type/clientcreds/main/",
        keys={
            **_BY_SECRET,
            "token_url": "https://{host}/oauth2/{authorization_server}/v1/token",
            "dialect": {"errors": _OKTA_ERRORS},
        },
        params={
            "host": _OKTA,
            "authorization_server": Param("the authorization server's id", "default", default="default"),
        },
        yours={"client_id": "0oab1c2d3e4f5g6h7i8j", "client_secret": _SECRET, "scopes": "[orders.read]"},
        note="At least one scope has to be asked for, or to be a default of the server.",
    ),
    Preset(
        name="auth0",
        title="Auth0",
        page="https://auth0.com/docs/get-started/authentication-and-authorization-flow/client-credentials-flow/call-your-api-using-the-client-credentials-flow",
        keys={
            "grant": "client_credentials",
            "token_url": "https://{domain}/oauth/token",
            "client_auth": "client_secret_post",
            # It says access_denied where it means invalid_client, and with 403 where the client has no grant.
            "dialect": {"errors": {"401 access_denied": "invalid_client", "access_denied": "unauthorized_client"}},
        },
        params={"domain": Param("the tenant's domain", "example.eu.auth0.com", HOST)},
        yours={"client_id": _ID, "client_secret": _SECRET, "audience": "https://api.example.com"},
        note="`audience` is the API's identifier.",
    ),
    Preset(
        name="keycloak",
        title="Keycloak",
        page="https://www.keycloak.org/docs/latest/server_admin/index.html#_service_accounts",
        keys={**_BY_SECRET, "token_url": "https://{host}/realms/{realm}/protocol/openid-connect/token"},
        params={
            "host": Param("Keycloak's host, with its path if it has one", "sso.example.com", HOST_AND_PATH),
            "realm": Param("the realm", "production"),
        },
        yours={"client_id": _ID, "client_secret": _SECRET},
        note="Before version 17 the host ends with `/auth`.",
    ),
    Preset(
        name="ping_federate",
        title="PingFederate",
        page="https://docs.pingidentity.com/pingfederate/latest/developers_reference_guide/pf_token_endpoint.html",
        keys={**_BY_SECRET, "token_url": "https://{host}/as/token.oauth2"},
        params={"host": Param("PingFederate's host and port", "sso.example.com:9031", HOST)},
        yours={"client_id": _ID, "client_secret": _SECRET},
    ),
    Preset(
        name="ping_one",
        title="PingOne",
        page="https://developer.pingidentity.com/pingone-api/auth/openid-connect-oauth-2/token-admin-app-client_credentials.html",
        keys={**_BY_SECRET, "token_url": "https://{host}/{environment_id}/as/token"},
        params={
            "environment_id": Param("the environment's id", "cd91070f-c371-480e-80b2-753c735f8aa1", "[0-9A-Fa-f-]+"),
            "host": Param("the region's host", "auth.pingone.eu", HOST, "auth.pingone.com"),
        },
        yours={"client_id": _ID, "client_secret": _SECRET},
        note="`client_auth` has to be the one in the application's settings.",
    ),
)
