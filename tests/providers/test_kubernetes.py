"""Kubernetes' service account tokens: the file of the kubelet, and the API with its own CA."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.providers.conftest import Rig, parsed
from tests.providers.provider import Provider, Reply
from tests.providers.signed import unsigned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fake_clock import FakeClock

FILE = ("provider: kubernetes_file",)
REQUEST = (
    "provider: kubernetes_token_request",
    'provider_params: {audience: "https://api.example.com", namespace: orders, service_account: worker}',
)
MOUNTED = "/var/run/secrets/kubernetes.io/serviceaccount"


async def test_the_kubelet_s_file_is_read_again_when_it_changes(rig: Rig) -> None:
    # https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/
    assert parsed(*FILE).token_file == f"{MOUNTED}/token"
    now = int(rig.clock.wall())
    first, second = (unsigned(sub="system:serviceaccount:orders:worker", iat=now, exp=now + n) for n in (3600, 7200))
    path = rig.file("token", first)
    assert await rig.obtains(*FILE, f"provider_params: {{path: {path}}}") == (first, 3600.0)
    rig.file("token", second)
    await rig.clock.advance(30.0)
    published = rig.broker.credential("api").published
    assert published is not None
    assert published.secret.reveal() == second


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def provider(clock: FakeClock, authority: trustme.CA) -> AsyncIterator[Provider]:
    """An API server behind the cluster's CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    async with Provider(wall=clock.wall, tls=context) as provider:
        yield provider


@pytest.fixture
def lines(rig: Rig, authority: trustme.CA, tmp_path: Path) -> tuple[str, ...]:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    rig.file("token", "mounted.service.token\n")
    return (*REQUEST, f"ca_file: {tmp_path}/ca.crt", f"subject_token: file:{tmp_path}/token")


def success(rig: Rig) -> str:
    # https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/
    end = datetime.fromtimestamp(rig.clock.wall() + 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps(
        {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": "worker", "namespace": "orders", "creationTimestamp": end, "managedFields": []},
            "spec": {"audiences": ["https://api.example.com"], "expirationSeconds": 3600, "boundObjectRef": None},
            "status": {"token": "eyJhbGciOiJSUzI1NiIs.requested.token", "expirationTimestamp": end},
        }
    )


def test_the_api_server_has_the_cluster_s_name_and_ca(lines: tuple[str, ...]) -> None:
    config = parsed(*lines)
    assert config.token_url == "https://kubernetes.default.svc/api/v1/namespaces/orders/serviceaccounts/worker/token"
    with pytest.raises(Exception, match=f"{MOUNTED}/ca.crt|ca_file"):
        parsed(*REQUEST)  # not in a pod


async def test_the_api_gives_a_token_for_another_audience(rig: Rig, lines: tuple[str, ...]) -> None:
    rig.answers(Reply(success(rig), 201, "application/json"))
    token, lifetime = await rig.obtains(*lines)
    assert token == "eyJhbGciOiJSUzI1NiIs.requested.token"
    assert lifetime == pytest.approx(3600.0, abs=1.0)
    path = "/api/v1/namespaces/orders/serviceaccounts/worker/token"
    assert (rig.asked.method, rig.asked.path, rig.asked.query) == ("POST", path, [])
    assert rig.asked.headers["authorization"] == "Bearer mounted.service.token"
    assert rig.asked.json == {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": ["https://api.example.com"], "expirationSeconds": 3600},
    }


# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
STATUS = (
    '{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"serviceaccounts \\"worker\\" is '
    'forbidden: User \\"system:serviceaccount:orders:default\\" cannot create resource \\"serviceaccounts/token\\" in '
    'API group \\"\\" in the namespace \\"orders\\"","reason":"%s",'
    '"details":{"name":"worker","kind":"serviceaccounts"},"code":%d}\n'
)


@pytest.mark.parametrize(
    ("word", "code", "reason"),
    [
        ("Forbidden", 403, "unauthorized_client"),
        ("Unauthorized", 401, "invalid_client"),
        ("NotFound", 404, "refused"),
        ("Invalid", 422, "refused"),
        ("TooManyRequests", 429, "rate_limited"),
        ("ServiceUnavailable", 503, "server_error"),
    ],
)
async def test_a_status_object_is_an_error(rig: Rig, lines: tuple[str, ...], word: str, code: int, reason: str) -> None:
    assert (await rig.fails(Reply(STATUS % (word, code), code), *lines))[0] == reason
