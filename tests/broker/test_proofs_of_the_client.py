"""Every grant and every client authentication, as configured, against a provider that checks them strictly."""

from __future__ import annotations

import base64
import hashlib
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jwt

from sidecar.config.model import Dialect
from sidecar.oauth.grants import JWT_BEARER
from sidecar.secrets import SecretReference
from sidecar.simulation.idp import Client, MockIdP, Step, Trusted
from tests.broker.test_idp import refresh, results, rewrite
from tests.oauth.keys import jose, pem, private

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.conftest import House, LogLines

LONG_SECRET = "canary-secret-of-more-than-112-bits"
KINDS = ["RSA", "P-256", "P-384", "P-521", "Ed25519"]


def public(kind: str) -> dict[str, Any]:
    return dict(jose(private(kind)).as_dict(private=False))


def written(path: Path, text: str) -> SecretReference:
    path.write_text(text)
    return SecretReference.parse(f"file:{path}")


def signed_client(house: House, tmp_path: Path, kind: str = "P-256") -> dict[str, Any]:
    """A client of the provider that proves itself with a key; the keys of its credential."""
    house.idp.register("client", Client(auth=frozenset({"private_key_jwt"}), keys=(public(kind),)))
    key = written(tmp_path / "key.pem", pem(private(kind)))
    return {"client_auth": "private_key_jwt", "client_secret": None, "private_key": key}


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # said by the library that the provider verifies with
@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_of_any_kind_proves_the_client_each_time_anew(house: House, tmp_path: Path, kind: str) -> None:
    credential = await house.run_one(**signed_client(house, tmp_path, kind))
    for _ in range(3):
        await refresh(house, credential)
    assert results(house) == {"success": 4}  # a jti that came twice would have been refused


async def test_a_retry_is_signed_anew(house: House, tmp_path: Path) -> None:
    house.idp.script(Step(commits=True, status=503))
    credential = await house.run_one(**signed_client(house, tmp_path))
    await house.clock.advance(5.0)
    assert results(house) == {"server_error": 1, "success": 1}
    assert credential.status().usable


async def test_a_new_key_is_tried_first_and_the_old_one_kept(house: House, tmp_path: Path, log_lines: LogLines) -> None:
    credential = await house.run_one(**signed_client(house, tmp_path))
    rewrite(tmp_path / "key.pem", pem(private("P-384")))
    await refresh(house, credential)
    assert results(house) == {"success": 2, "invalid_client": 1}
    assert len(log_lines("secret_refused")) == 1
    house.idp.register("client", Client(auth=frozenset({"private_key_jwt"}), keys=(public("P-384"),)))
    await refresh(house, credential)
    assert results(house) == {"success": 3, "invalid_client": 1}


async def test_a_secret_signs_where_the_provider_wants_it_so(house: House) -> None:
    house.idp.register("client", Client(auth=frozenset({"client_secret_jwt"})), secret=LONG_SECRET)
    house.secret_file.write_text(LONG_SECRET)
    credential = await house.run_one(client_auth="client_secret_jwt")
    await refresh(house, credential)
    assert results(house) == {"success": 2}


@pytest.mark.parametrize("by", ["file", "environment"])
async def test_a_platforms_token_stands_for_the_client_and_is_read_each_time(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    key = private("RSA")

    def platform_token(number: int) -> str:
        claims = {"iss": "https://k8s.test", "sub": "sa", "aud": "api", "exp": int(house.clock.wall()) + 600}
        return jwt.encode({"alg": "RS256"}, claims | {"number": number}, jose(key))

    trusted = Trusted(issuer="https://k8s.test", keys=(public("RSA"),), subject="sa", audience="api")
    house.idp.register("client", Client(auth=frozenset({"federated"}), federated=trusted))
    path = tmp_path / "token"
    path.write_text(platform_token(1))
    monkeypatch.setenv("PLATFORM_TOKEN", platform_token(1))
    where = (
        {"assertion_file": str(path)} if by == "file" else {"assertion": SecretReference.parse("env:PLATFORM_TOKEN")}
    )
    credential = await house.run_one(client_auth="federated", client_secret=None, **where)
    rewrite(path, platform_token(2))
    monkeypatch.setenv("PLATFORM_TOKEN", platform_token(2))
    await refresh(house, credential)
    sent = [received.field("client_assertion") for received in house.idp.token_requests]
    assert sent == [platform_token(1), platform_token(2)]
    assert results(house) == {"success": 2}


async def test_a_public_client_has_only_its_name(house: House) -> None:
    house.idp.register("client", Client(auth=frozenset({"none"}), grants=frozenset({"client_credentials"})))
    await house.run_one(client_auth="none", client_secret=None)
    assert house.idp.token_requests[0].field("client_id") == "client"


@pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth"])
async def test_a_certificate_proves_the_client_at_the_endpoint_for_that(
    house: House, tmp_path: Path, method: str
) -> None:
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(server)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(asking)
    ca.configure_trust(asking)
    asking.verify_mode = ssl.CERT_OPTIONAL
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mine = ca.issue_cert("client.test", common_name="client.test")
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    mine.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate = x509.load_pem_x509_certificate(mine.cert_chain_pems[0].bytes())
    async with MockIdP(now=house.clock.now, wall=house.clock.wall, tls=server, mtls=asking) as idp:
        idp.register(
            "client",
            Client(
                auth=frozenset({method}),
                certificate_subject=certificate.subject.rfc4514_string() if method == "tls_client_auth" else None,
                certificate_thumbprint=thumbprint(certificate) if method != "tls_client_auth" else None,
            ),
        )
        changes = {
            "client_auth": method,
            "client_secret": None,
            "token_url": None,
            "issuer": idp.issuer,
            "ca_file": str(tmp_path / "ca.pem"),
            "certificate": str(tmp_path / "client.pem"),
            "certificate_key": SecretReference.parse(f"file:{tmp_path / 'key.pem'}"),
        }
        credential = await house.run_one(**changes)
        assert credential.status().last_error is None
        assert results(house) == {"success": 1}
        assert idp.bound_to(idp.issued[-1]) == {"x5t#S256": thumbprint(certificate)}
        rewrite(tmp_path / "key.pem", "not a key")
        await refresh(house, credential)
        assert results(house) == {"success": 1, "tls": 1}
        await house.broker.close()


def thumbprint(certificate: x509.Certificate) -> str:
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@pytest.mark.parametrize("skew", [-300.0, 300.0])
async def test_an_idp_whose_clock_is_minutes_away_is_signed_for_by_its_clock(
    house: House, tmp_path: Path, log_lines: LogLines, skew: float
) -> None:
    house.idp.skew = skew
    credential = await house.run_one(**signed_client(house, tmp_path))
    assert credential.status().usable
    assert results(house) == {"invalid_client": 1, "success": 1}
    assert len(log_lines("clock_differs")) == 1
    await refresh(house, credential)
    assert results(house) == {"invalid_client": 1, "success": 2}


async def test_a_key_that_is_refused_is_not_tried_twice_because_of_a_clock_that_is_known(
    house: House, tmp_path: Path
) -> None:
    house.idp.skew = -300.0
    client = signed_client(house, tmp_path)
    credential = await house.run_one(**client)
    rewrite(tmp_path / "key.pem", pem(private("P-384")))
    house.idp.register("client", Client(auth=frozenset({"private_key_jwt"}), keys=(public("P-521"),)))
    await refresh(house, credential)
    assert results(house) == {"success": 1, "invalid_client": 5}  # the clock; then both keys, by both clocks


# --- the grants that need no login -----------------------------------------------------------------------------------


async def test_a_signed_statement_takes_the_place_of_consent(house: House, tmp_path: Path) -> None:
    house.idp.trusted = [Trusted(issuer="client", keys=(public("P-256"),), subject="robot")]
    house.idp.register("client", Client(auth=frozenset({"none"}), grants=frozenset({JWT_BEARER})))
    house.idp.clientless = frozenset({JWT_BEARER})
    key = written(tmp_path / "key.pem", pem(private("P-256")))
    plain = {"client_auth": "none", "client_secret": None, "private_key": key}
    credential = await house.run_one(grant="jwt_bearer", assertion_subject="robot", **plain)
    await refresh(house, credential)
    assert results(house) == {"success": 2}


async def test_a_token_is_exchanged_for_another_and_read_each_time(house: House, tmp_path: Path) -> None:
    house.idp.subject_tokens = {"canary-first", "canary-second"}
    subject = written(tmp_path / "subject", "canary-first")
    credential = await house.run_one(grant="token_exchange", subject_token=subject, audience="api")
    rewrite(tmp_path / "subject", "canary-second")
    await refresh(house, credential)
    assert results(house) == {"success": 2}
    sent = [received.field("subject_token") for received in house.idp.token_requests]
    assert sent == ["canary-first", "canary-second"]


async def test_a_missing_subject_token_is_counted_and_told(house: House, tmp_path: Path) -> None:
    subject = SecretReference.parse(f"file:{tmp_path / 'nowhere'}")
    credential = await house.run_one(grant="token_exchange", subject_token=subject)
    assert credential.status().last_error == "secret_missing"
    assert house.meters().secret_read_errors.value == 1
    assert house.idp.token_requests == []


async def test_a_platform_is_asked_by_its_own_rules(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY", "canary-identity")
    date = {"Date": "Fri, 15 Jan 2027 08:00:00 GMT"}
    house.idp.script(
        Step(status=200, headers=date, body=b'{"value": "canary-of-the-platform", "expires_on": "1800003600"}')
    )
    dialect = Dialect(method="GET", subject_field="X-IDENTITY-HEADER", token_field="value")
    plain = {"client_auth": "none", "client_secret": None, "client_id": None, "dialect": dialect}
    identity = SecretReference.parse("env:IDENTITY")
    credential = await house.run_one(
        grant="workload", subject_token=identity, token_params={"resource": "https://api.test"}, **plain
    )
    (received,) = house.idp.token_requests
    assert received.method == "GET"
    assert received.headers["x-identity-header"] == "canary-identity"
    assert credential.published is not None
    assert credential.published.secret.reveal() == "canary-of-the-platform"
    assert house.meters().lifetime.value == pytest.approx(3600.0, abs=1.0)


async def test_impersonation_is_a_second_request_and_its_token_is_the_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = b'{"accessToken": "canary-impersonated", "expireTime": "2027-01-15T09:00:00Z"}'
    house.idp.subject_tokens = {"canary-subject"}
    house.idp.script(Step(), Step(status=200, body=second))
    monkeypatch.setenv("SUBJECT", "canary-subject")
    subject = SecretReference.parse("env:SUBJECT")
    credential = await house.run_one(
        grant="token_exchange", subject_token=subject, impersonation_url=house.idp.token_url, scopes=("a",)
    )
    assert credential.published is not None
    assert credential.published.secret.reveal() == "canary-impersonated"
    assert house.idp.token_requests[1].headers["authorization"] == f"Bearer {house.idp.issued[0]}"
