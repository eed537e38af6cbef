"""Microsoft: Entra ID by secret, certificate and federation; managed identities of machines and of App Service."""

from __future__ import annotations

from typing import Any, Final

from sidecar.config.presets.preset import FILE, HOST, RESOURCE, URL, Param, Preset
from sidecar.secrets import SecretReference

_ENTRA: Final[dict[str, Any]] = {
    "grant": "client_credentials",
    "token_url": "https://{host}/{tenant}/oauth2/v2.0/token",
}
_TENANT: Final = Param("the directory's id or domain", "contoso.onmicrosoft.com")
_HOST: Final = Param("the cloud's login host", "login.microsoftonline.us", HOST, "login.microsoftonline.com")
_APP: Final = "11111111-2222-3333-4444-555555555555"
_SCOPES: Final = "[https://graph.microsoft.com/.default]"
_API: Final = Param("the API's URI", "https://management.azure.com/", RESOURCE)
_IDENTITY: Final = "With several identities, `client_id` says which one."

ROWS: Final = (
    Preset(
        name="entra_id",
        title="Microsoft Entra ID, client secret",
        page="https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow",
        keys={**_ENTRA, "client_auth": "client_secret_post"},
        params={"tenant": _TENANT, "host": _HOST},
        yours={"client_id": _APP, "client_secret": "file:/run/secrets/entra/client-secret", "scopes": _SCOPES},
        note="One API at a time: its URI with `/.default`.",
    ),
    Preset(
        name="entra_id_certificate",
        title="Microsoft Entra ID, certificate",
        page="https://learn.microsoft.com/entra/identity-platform/certificate-credentials",
        keys={**_ENTRA, "client_auth": "private_key_jwt", "assertion_algorithm": "PS256"},
        params={"tenant": _TENANT, "host": _HOST},
        yours={
            "client_id": _APP,
            "private_key": "file:/run/secrets/entra/key.pem",
            "certificate": "/run/secrets/entra/certificate.pem",
            "scopes": _SCOPES,
        },
        note="The certificate is the one that is registered for the app; Entra finds it by `x5t#S256`.",
    ),
    Preset(
        name="entra_id_workload",
        title="Microsoft Entra ID, workload identity",
        page="https://learn.microsoft.com/entra/workload-id/workload-identity-federation",
        keys={
            **_ENTRA,
            "client_auth": "federated",
            "client_id": "{client_id}",
            "assertion_file": "{token_file}",
        },
        params={
            "tenant": Param(_TENANT.meaning, _TENANT.example, env="AZURE_TENANT_ID"),
            "client_id": Param("the app's or the identity's client id", _APP, env="AZURE_CLIENT_ID"),
            "token_file": Param(
                "the file with the platform's token",
                "/var/run/secrets/azure/tokens/azure-identity-token",
                FILE,
                env="AZURE_FEDERATED_TOKEN_FILE",
            ),
            "host": _HOST,
        },
        yours={"scopes": _SCOPES},
        note="In AKS the webhook of workload identity sets all three variables. Elsewhere write `assertion_file`, or "
        "`assertion: env:NAME`.",
    ),
    Preset(
        name="azure_managed_identity",
        title="Azure managed identity of a virtual machine",
        page="https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token",
        keys={
            "grant": "workload",
            "token_url": "http://169.254.169.254/metadata/identity/oauth2/token",
            "token_params": {"api-version": "2018-02-01", "resource": "{resource}"},
            "dialect": {"method": "GET", "headers": {"Metadata": "true"}},
        },
        params={"resource": _API},
        note=_IDENTITY,
    ),
    Preset(
        name="azure_app_service",
        title="Azure managed identity of App Service, Functions and Container Apps",
        page="https://learn.microsoft.com/azure/app-service/overview-managed-identity",
        keys={
            "grant": "workload",
            "token_url": "{endpoint}",
            "subject_token": SecretReference("env", "IDENTITY_HEADER"),
            "token_params": {"api-version": "2019-08-01", "resource": "{resource}"},
            "dialect": {"method": "GET", "subject_field": "X-IDENTITY-HEADER"},
        },
        params={
            "resource": _API,
            "endpoint": Param(
                "App Service's token endpoint", "http://127.0.0.1:41741/MSI/token/", URL, env="IDENTITY_ENDPOINT"
            ),
        },
        note=f"The platform sets `IDENTITY_ENDPOINT` and `IDENTITY_HEADER`. {_IDENTITY}",
    ),
)
