"""The CA's files: which pair is usable, and which hosts name constraints cover."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from sidecar.config import local_ca
from sidecar.errors import SecretMissing
from sidecar.secrets import SecretReference
from tests.config import authorities

if TYPE_CHECKING:
    from pathlib import Path

CA = x509.BasicConstraints(ca=True, path_length=0)
NO_CA = x509.BasicConstraints(ca=False, path_length=None)


def usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def bare(*extensions: x509.ExtensionType) -> x509.Certificate:
    return authorities.bare(authorities.new_key(), *extensions, algorithm=hashes.SHA256())


def reference(path: Path) -> SecretReference:
    return SecretReference("file", str(path))


# --- reading ---


def test_the_files_of_the_command_are_read(tmp_path: Path) -> None:
    key = authorities.new_key()
    root, signer = authorities.constrained(key)
    certificate, key_file = authorities.write(tmp_path, key, root, signer)

    files = local_ca.read(certificate, reference(key_file))

    assert files.signer == signer
    assert files.chain == (signer, root)
    assert files.key.private_numbers() == key.private_numbers()
    assert str(key.private_numbers().private_value) not in repr(files)


def test_certificates_that_do_not_stand_above_the_signer_are_left_out(tmp_path: Path) -> None:
    key = authorities.new_key()
    root, signer = authorities.constrained(key)
    certificate, key_file = authorities.write(tmp_path, key, bare(CA), root, signer)

    assert local_ca.read(certificate, reference(key_file)).chain == (signer, root)


def test_a_ca_may_be_its_own_root(tmp_path: Path) -> None:
    key = authorities.new_key()
    own = authorities.bare(key, CA, algorithm=hashes.SHA256())
    certificate, key_file = authorities.write(tmp_path, key, own)

    assert local_ca.read(certificate, reference(key_file)).chain == (own,)


def test_the_chain_ends_with_its_first_certificate_that_does() -> None:
    key = authorities.new_key()
    (signer, _), (_, root) = authorities.constrained(key, days=20), authorities.constrained(key, days=10)

    assert local_ca.LocalCAFiles((signer, root), key).ends_at == root.not_valid_after_utc


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    key = authorities.new_key()
    certificate, key_file = authorities.write(tmp_path, key, bare(CA))

    with pytest.raises(local_ca.UnusableKey, match="belongs to another certificate"):
        local_ca.read(certificate, reference(key_file))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "the file cannot be read: No such file or directory"),
        (b"", "the file holds no certificate in PEM form"),
        (b"\xff\x00", "the file holds no certificate in PEM form"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "the file holds no certificate in PEM form",
        ),
    ],
)
def test_what_is_no_certificate_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(local_ca.UnusableCertificate, match=reason):
        local_ca.read_certificates(path)


@pytest.mark.parametrize("extensions", [(), (NO_CA,), (CA, usage(signs=False)), (usage(signs=True),)])
def test_a_certificate_that_signs_no_others_is_refused(
    tmp_path: Path, extensions: tuple[x509.ExtensionType, ...]
) -> None:
    path, _ = authorities.write(tmp_path, authorities.new_key(), bare(*extensions))

    with pytest.raises(local_ca.UnusableCertificate, match="is not one of a CA"):
        local_ca.read_certificates(path)


@pytest.mark.parametrize("extensions", [(CA,), (CA, usage(signs=True))])
def test_a_ca_without_a_key_usage_may_sign(tmp_path: Path, extensions: tuple[x509.ExtensionType, ...]) -> None:
    path, _ = authorities.write(tmp_path, authorities.new_key(), bare(*extensions))

    assert len(local_ca.read_certificates(path)) == 1


# --- the key ---


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    key = authorities.new_key()
    _, path = authorities.write(tmp_path, key, bare(CA))
    path.chmod(mode)

    with pytest.raises(local_ca.UnusableKey) as caught:
        local_ca.read_key(reference(path))
    assert str(caught.value) == f"{path} has mode {mode:04o}, but a CA's key is for its owner alone: chmod 600 {path}"


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_for_its_owner_is_read(tmp_path: Path, mode: int) -> None:
    _, path = authorities.write(tmp_path, authorities.new_key(), bare(CA))
    path.chmod(mode)

    local_ca.read_key(reference(path))


def test_a_systemd_credential_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authorities.write(tmp_path, authorities.new_key(), bare(CA))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    local_ca.read_key(SecretReference("cred", "ca-key.pem"))


def test_a_key_that_is_absent_is_a_missing_secret(tmp_path: Path) -> None:
    with pytest.raises(SecretMissing):
        local_ca.read_key(reference(tmp_path / "absent"))


def test_text_that_is_no_key_is_refused_and_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text("-----BEGIN PRIVATE KEY-----\nS3cr3tMarker\n-----END PRIVATE KEY-----\n")

    with pytest.raises(local_ca.UnusableKey, match="holds no private key") as caught:
        local_ca.read_key(reference(path))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    encryption = serialization.BestAvailableEncryption(b"password")
    path.write_bytes(
        authorities.new_key().private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )

    with pytest.raises(local_ca.UnusableKey, match="the key is encrypted"):
        local_ca.read_key(reference(path))


def test_rsa_signs_too_and_other_kinds_do_not(tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    certificate, path = authorities.write(tmp_path, key, authorities.bare(key, CA, algorithm=hashes.SHA256()))
    local_ca.read(certificate, reference(path))

    edwards = ed25519.Ed25519PrivateKey.generate()
    _, path = authorities.write(tmp_path, edwards, authorities.bare(edwards, CA))
    with pytest.raises(local_ca.UnusableKey, match="neither an EC nor an RSA key"):
        local_ca.read_key(reference(path))


# --- time ---


def test_a_ca_signs_from_its_first_moment_until_its_last() -> None:
    chain = authorities.constrained(authorities.new_key())
    first, end = chain[1].not_valid_before_utc.timestamp(), chain[1].not_valid_after_utc.timestamp()

    assert local_ca.out_of_time(chain, first) is None
    assert local_ca.out_of_time(chain, end - 1) is None
    assert "the CA is not valid before" in (local_ca.out_of_time(chain, first - 1) or "")
    assert "make a new one with 'sidecar ca --force'" in (local_ca.out_of_time(chain, end) or "")


# --- hosts ---


@pytest.mark.parametrize(
    ("hosts", "covered", "others"),
    [
        (
            ["api.example.com"],
            ["api.example.com", "a.api.example.com"],
            ["example.com", "xapi.example.com", "10.0.0.1"],
        ),
        (
            ["*.example.com"],
            ["*.example.com", "a.b.example.com", "*.b.example.com"],
            ["*.com", "notexample.com", "::1"],
        ),
        (["10.0.0.1"], ["10.0.0.1"], ["10.0.0.2", "::1", "api.example.com", "*.example.com"]),
        (["fd00::1"], ["fd00::1"], ["fd00::2", "10.0.0.1", "localhost"]),
        (["a.example", "10.0.0.1"], ["a.example", "10.0.0.1"], ["b.example", "10.0.0.2", "::1"]),
    ],
)
def test_constraints_cover_what_they_were_made_for(hosts: list[str], covered: list[str], others: list[str]) -> None:
    chain = authorities.constrained(authorities.new_key(), hosts)

    assert local_ca.is_constrained(chain)
    assert [host for host in [*hosts, *covered] if not local_ca.covers(chain, host)] == []
    assert [host for host in others if local_ca.covers(chain, host)] == []


def test_a_kind_that_is_not_permitted_is_excluded() -> None:
    names, addresses = local_ca.constraints_for(["a.example"]), local_ca.constraints_for(["10.0.0.1"])

    every_address = [x509.IPAddress(ipaddress.ip_network(every)) for every in ("0.0.0.0/0", "::/0")]
    assert names.permitted_subtrees == [x509.DNSName("a.example")]
    assert names.excluded_subtrees == every_address
    assert addresses.permitted_subtrees == [x509.IPAddress(ipaddress.ip_network("10.0.0.1/32"))]
    assert addresses.excluded_subtrees == [x509.DNSName("")]
    assert local_ca.constraints_for(["a.example", "10.0.0.1"]).excluded_subtrees is None


def test_a_ca_without_constraints_covers_every_host() -> None:
    chain = (bare(CA),)

    assert not local_ca.is_constrained(chain)
    assert all(local_ca.covers(chain, host) for host in ("a.example", "*.example.com", "10.0.0.1", "::1"))


def test_constraints_that_others_wrote_are_understood() -> None:
    permitted = [x509.DNSName(".Example.com"), x509.RFC822Name("example.com")]
    excluded = [x509.DNSName("secret.example.com"), x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))]
    chain = (bare(CA), bare(CA, x509.NameConstraints(permitted, excluded)))

    assert local_ca.covers(chain, "api.example.com")
    assert local_ca.covers(chain, "*.example.com") is False  # the dot in front leaves the name itself out
    assert local_ca.covers(chain, "*.api.example.com")
    assert not local_ca.covers(chain, "a.secret.example.com")
    assert not local_ca.covers(chain, "10.1.2.3")
    assert local_ca.covers(chain, "192.0.2.1")  # addresses are not constrained but for the excluded ones
    assert local_ca.covers(chain, "::1")
