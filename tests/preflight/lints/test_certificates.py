"""Certificate files that are about to expire, or have."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sidecar.config import load
from sidecar.preflight.kinds import Kind
from sidecar.preflight.lints.certificates import lint
from tests.config import authorities
from tests.config.conftest import VALID
from tests.preflight.kit import NOW, sentences, subject, told

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec

CERTIFICATE = "credentials.orders.certificate"
DAY = 86400.0


def intercepting(tmp_path: Path, key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate) -> str:
    files = authorities.write(tmp_path, key, *chain)
    return VALID + f"    intercept: true\ninterception: {{certificate: {files[0]}, key: 'file:{files[1]}'}}\n"


def mutual(tmp_path: Path, *, days: float = 90.0) -> str:
    """A credential that proves itself with a certificate, which ends in so many days."""
    ends = datetime.datetime.fromtimestamp(NOW + days * DAY, datetime.UTC)
    issued = trustme.CA().issue_cert("worker", not_after=ends)
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "client-key.pem"))
    keys = (
        f"    client_auth: tls_client_auth\n    certificate: {tmp_path}/client.pem\n"
        f"    certificate_key: file:{tmp_path}/client-key.pem\n"
    )
    return VALID.replace("    client_secret: file:/run/secrets/orders\n", keys)


# --- of clients ---


@pytest.mark.parametrize(
    ("days", "kinds"),
    [
        (31.0, []),
        (29.0, [Kind.CLIENT_CERTIFICATE_ENDS_SOON]),
        (-1.0, [Kind.CLIENT_CERTIFICATE_EXPIRED]),
    ],
)
def test_a_client_certificate_is_told_before_its_end_and_after_it(
    tmp_path: Path, days: float, kinds: list[Kind]
) -> None:
    assert told(lint, mutual(tmp_path, days=days)) == [(kind, CERTIFICATE) for kind in kinds]


def test_a_client_certificate_that_is_not_valid_yet_is_an_error(tmp_path: Path) -> None:
    found = list(lint(subject(mutual(tmp_path), wall=NOW - 100 * 365 * DAY)))

    assert [each.kind for each in found] == [Kind.CLIENT_CERTIFICATE_EXPIRED]
    assert "is not valid before" in found[0].message


def test_a_client_certificate_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    text = mutual(tmp_path)
    (tmp_path / "client.pem").write_text("no certificate")
    assert told(lint, text) == [(Kind.CLIENT_CERTIFICATE_UNREADABLE, CERTIFICATE)]
    (tmp_path / "client.pem").unlink()
    assert told(lint, text) == [(Kind.CLIENT_CERTIFICATE_UNREADABLE, CERTIFICATE)]


# --- bundles ---


def test_a_bundle_is_told_when_all_of_it_has_expired(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    text = VALID + f"    ca_file: {tmp_path}/ca.pem\n"
    later = x509.load_pem_x509_certificate(ca.cert_pem.bytes()).not_valid_after_utc.timestamp()

    assert told(lint, text) == []
    assert told(lint, text, wall=later + 1) == [(Kind.CA_FILE_EXPIRED, "routes[0].ca_file")]
    of_idp = VALID.replace("    client_id", f"    ca_file: {tmp_path}/ca.pem\n    client_id")
    assert told(lint, of_idp, wall=later + 1) == [(Kind.CA_FILE_EXPIRED, "credentials.orders.ca_file")]


# --- the local CA ---


def test_a_sound_local_ca_is_not_mentioned(tmp_path: Path) -> None:
    key = authorities.new_key()

    assert told(lint, intercepting(tmp_path, key, *authorities.constrained(key))) == []


def test_a_local_ca_without_a_route_is_mentioned(tmp_path: Path) -> None:
    key = authorities.new_key()
    text = intercepting(tmp_path, key, *authorities.constrained(key)).replace("intercept: true", "intercept: false")

    assert told(lint, text) == [(Kind.LOCAL_CA_UNUSED, "interception")]


def test_a_local_ca_that_can_sign_for_every_host_is_mentioned(tmp_path: Path) -> None:
    key = authorities.new_key()
    certificate = authorities.bare(key, x509.BasicConstraints(ca=True, path_length=0), algorithm=hashes.SHA256())

    assert told(lint, intercepting(tmp_path, key, certificate)) == [
        (Kind.LOCAL_CA_UNCONSTRAINED, "interception.certificate")
    ]


def test_a_local_ca_that_ends_soon_is_mentioned(tmp_path: Path) -> None:
    key = authorities.new_key()
    chain = authorities.constrained(key, days=29)
    text = intercepting(tmp_path, key, *chain)

    day = f"{chain[0].not_valid_after_utc:%Y-%m-%d}"
    assert told(lint, text) == [(Kind.LOCAL_CA_ENDS_SOON, "interception.certificate")]
    assert sentences(lint, text) == [f"interception.certificate: the CA expires on {day}"]
    assert told(lint, intercepting(tmp_path, key, *authorities.constrained(key, days=31))) == []


def test_a_local_ca_that_is_gone_by_now_is_told_elsewhere(tmp_path: Path) -> None:
    key = authorities.new_key()
    here = subject(intercepting(tmp_path, key, *authorities.constrained(key)))
    (tmp_path / "ca.pem").unlink()

    assert list(lint(here)) == []


def test_the_local_ca_is_nobody_s_credential(tmp_path: Path) -> None:
    key = authorities.new_key()
    text = intercepting(tmp_path, key, *authorities.constrained(key, days=29))
    load.parse(text, "config.yaml")

    assert told(lint, text, only=frozenset({"orders"})) == []
