"""Kubernetes: tokens of service accounts, from a projected file or from the API."""

from __future__ import annotations

from typing import Final

from sidecar.config.presets.preset import FILE, HOST, RESOURCE, Param, Preset
from sidecar.secrets import SecretReference

_MOUNTED: Final = "/var/run/secrets/kubernetes.io/serviceaccount"

ROWS: Final = (
    Preset(
        name="kubernetes_file",
        title="Kubernetes, projected service account token",
        page="https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/",
        keys={"grant": "static", "token_file": "{path}"},
        params={
            "path": Param("the file of the projected volume", "/var/run/secrets/tokens/api", FILE, f"{_MOUNTED}/token")
        },
        note="The kubelet renews the file; it is read again when it changes. For another API project a token with that "
        "API's audience.",
    ),
    Preset(
        name="kubernetes_token_request",
        title="Kubernetes, TokenRequest API",
        page="https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/",
        keys={
            "grant": "workload",
            "token_url": "https://{server}/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token",
            "subject_token": SecretReference("file", f"{_MOUNTED}/token"),
            "ca_file": f"{_MOUNTED}/ca.crt",
            "token_params": {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec.audiences": ("{audience}",),
                "spec.expirationSeconds": "{seconds}",
            },
            "dialect": {
                "body": "json",
                "integers": ("spec.expirationSeconds",),
                "token_field": "status.token",
                # The API answers with a Status object, without an error of OAuth.
                "errors": {
                    "400": "refused",
                    "401": "invalid_client",
                    "403": "unauthorized_client",
                    "404": "refused",
                    "422": "refused",
                },
            },
        },
        params={
            "audience": Param("for whom the token is", "https://api.example.com", RESOURCE),
            "namespace": Param("the service account's namespace", "orders", "[a-z0-9-]+"),
            "service_account": Param("the service account", "orders", "[a-z0-9.-]+"),
            "seconds": Param(
                "how long the token lives, at least 600; the server may shorten it", "3600", "[0-9]{3,7}", "3600"
            ),
            "server": Param("the API server", "kubernetes.default.svc", HOST, "kubernetes.default.svc"),
        },
        note="The pod's own account needs `create` on `serviceaccounts/token`.",
    ),
)
