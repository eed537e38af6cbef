"""Google Cloud: service account keys, the metadata server, and workload identity federation."""

from __future__ import annotations

from typing import Any, Final

from sidecar.config.presets.preset import Param, Preset

_CLOUD: Final = "https://www.googleapis.com/auth/cloud-platform"
_METADATA: Final = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/{account}"
_EMAIL: Final = r"[A-Za-z0-9][A-Za-z0-9.@_-]*"
_ACCOUNT: Final = Param("the service account", "default", _EMAIL, "default")
_FROM_METADATA: Final[dict[str, Any]] = {"method": "GET", "headers": {"Metadata-Flavor": "Google"}}
_INSIDE_THE_CACHE: Final = {"at": 0.945, "jitter": 0.005}
"""The metadata server hands out the same token until four minutes before its end; Google's libraries ask 225 s before
it. Of an hour that is here between 216 and 180 s."""

_FEDERATED: Final[dict[str, Any]] = {
    "grant": "token_exchange",
    "token_url": "https://sts.googleapis.com/v1/token",
    "audience": "//iam.googleapis.com/projects/{project_number}/locations/global/workloadIdentityPools/{pool}"
    "/providers/{provider}",
    "token_params": {"requested_token_type": "urn:ietf:params:oauth:token-type:access_token"},
    "scopes": (_CLOUD,),
}
_POOL: Final = {
    "project_number": Param("the number of the project with the pool", "123456789012", "[0-9]+"),
    "pool": Param("the workload identity pool", "clusters"),
    "provider": Param("the provider in the pool", "production"),
}
_SUBJECT: Final = {"subject_token": "file:/var/run/secrets/tokens/gcp"}

ROWS: Final = (
    Preset(
        name="gcp_service_account",
        title="Google Cloud, service account key",
        page="https://developers.google.com/identity/protocols/oauth2/service-account",
        keys={
            "grant": "jwt_bearer",
            "token_url": "https://oauth2.googleapis.com/token",
            "assertion_algorithm": "RS256",
            "dialect": {"scope_in": "assertion", "own_subject": False},
        },
        yours={
            "client_id": "orders@project.iam.gserviceaccount.com",
            "private_key": "file:/run/secrets/gcp/key.json",
            "scopes": f"[{_CLOUD}]",
        },
        note="`client_id` is the account's address, `private_key` the JSON file as Google gives it. "
        "`assertion_subject` is the user of a domain-wide delegation.",
    ),
    Preset(
        name="gcp_metadata",
        title="Google Cloud, access token from the metadata server",
        page="https://cloud.google.com/compute/docs/access/authenticate-workloads",
        keys={
            "grant": "workload",
            "token_url": f"{_METADATA}/token",
            "refresh": _INSIDE_THE_CACHE,
            "dialect": _FROM_METADATA,
        },
        params={"account": _ACCOUNT},
        note="The same token comes until four minutes before its end, so it is renewed late.",
    ),
    Preset(
        name="gcp_metadata_identity",
        title="Google Cloud, identity token from the metadata server",
        page="https://cloud.google.com/compute/docs/instances/verifying-instance-identity",
        keys={
            "grant": "workload",
            "token_url": f"{_METADATA}/identity",
            "token_params": {"format": "full"},
            "refresh": _INSIDE_THE_CACHE,
            "dialect": _FROM_METADATA,
        },
        params={"account": _ACCOUNT},
        yours={"audience": "https://orders-abc123-ew.a.run.app"},
        note="For services on Cloud Run, among others: their URL is the `audience`.",
    ),
    Preset(
        name="gcp_workload_identity",
        title="Google Cloud, workload identity federation",
        page="https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token",
        keys=_FEDERATED,
        params=_POOL,
        yours=_SUBJECT,
        note="`subject_token` is what the outside platform gives; its `aud` is what the provider in the pool allows.",
    ),
    Preset(
        name="gcp_workload_identity_impersonation",
        title="Google Cloud, workload identity federation as a service account",
        page="https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken",
        keys={
            **_FEDERATED,
            "impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{service_account}"
            ":generateAccessToken",
            "dialect": {"first_scopes": (_CLOUD,)},
        },
        params={
            **_POOL,
            "service_account": Param("the service account's address", "orders@project.iam.gserviceaccount.com", _EMAIL),
        },
        yours=_SUBJECT,
        note="The federated token asks for one of the service account; `scopes` are those of the second.",
    ),
)
