"""CA bundles that are errors of the configuration, and secrets that are missing at start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trustme

from sidecar.config import files, load
from sidecar.errors import SecretMissing
from tests.config.conftest import VALID


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


def with_route_ca(path: Path) -> str:
    return VALID + f"    ca_file: {path}\n"


def test_a_bundle_of_certificates_is_taken(bundle: Path) -> None:
    trustme.CA().cert_pem.write_to_path(bundle, append=True)
    configuration = load.parse(with_route_ca(bundle), "config.yaml")

    assert configuration.routes[0].ca_file == str(bundle)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "the file cannot be read: No such file or directory"),
        (b"", "the file holds no certificates in PEM form"),
        (b"hello", "the file holds no certificates in PEM form"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "the file holds a certificate that cannot be read",
        ),
        (b"-----BEGIN CERTIFICATE-----\n\xff\xfe", "the file holds a certificate that cannot be read"),
        (b"x" * (8 << 20) + b"x", "the file is larger than 8 MiB"),
    ],
)
def test_a_bundle_that_cannot_be_used_is_an_error_where_it_is_named(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(load.ConfigurationErrors) as caught:
        load.parse(with_route_ca(path), "config.yaml")
    assert f"config.yaml:13:14: 'ca_file': {reason}" in str(caught.value)


def test_names_between_the_certificates_may_be_in_any_language(bundle: Path) -> None:
    bundle.write_bytes("# Autorité ünïversëlle\n".encode() + bundle.read_bytes())

    assert files.unusable_bundle(bundle) is None


def test_a_folder_is_no_bundle(tmp_path: Path) -> None:
    assert files.unusable_bundle(tmp_path) == "the file cannot be read: Is a directory"


def test_a_text_can_be_checked_where_its_files_are_not(tmp_path: Path) -> None:
    load.parse(with_route_ca(tmp_path / "absent"), "config.yaml", check_files=False)


def test_secrets_that_are_there_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    load.missing_secrets(load.parse(VALID.replace("/run/secrets/orders", str(tmp_path / "secret")), "config.yaml"))

    monkeypatch.setenv("ORDERS_SECRET", "hunter2")
    load.missing_secrets(load.parse(VALID.replace("file:/run/secrets/orders", "env:ORDERS_SECRET"), "config.yaml"))


def test_a_missing_secret_is_named_with_its_key(tmp_path: Path) -> None:
    configuration = load.parse(VALID.replace("/run/secrets/orders", str(tmp_path / "absent")), "config.yaml")

    with pytest.raises(SecretMissing) as caught:
        load.missing_secrets(configuration)
    assert caught.value.exit_code == 4
    assert str(caught.value) == (f"credentials.orders.client_secret: file:{tmp_path}/absent: No such file or directory")


def test_all_missing_secrets_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    text = VALID.replace("file:/run/secrets/orders", "env:TOKEN_SIDECAR_ABSENT").replace(
        "routes:",
        f"  Partner-2: {{grant: static, token_file: {tmp_path}/absent}}\n"
        f"  third: {{grant: client_credentials, issuer: 'https://a.example', client_id: a,"
        f" client_secret: 'file:{tmp_path}/empty'}}\nroutes:",
    )

    with pytest.raises(SecretMissing) as caught:
        load.missing_secrets(load.parse(text, "config.yaml"))
    assert str(caught.value).splitlines() == [
        "3 secrets cannot be read:",
        "  credentials.orders.client_secret: env:TOKEN_SIDECAR_ABSENT: the environment variable is not set",
        f"  credentials.third.client_secret: file:{tmp_path}/empty is empty",
        f"  credentials.Partner-2.token_file: file:{tmp_path}/absent: No such file or directory",
    ]


def test_a_secret_of_a_listener_is_named_with_its_listener(tmp_path: Path) -> None:
    text = VALID.replace("    bind", f"    auth: {{proxy_password: 'file:{tmp_path}/absent'}}\n    bind")
    text = text.replace("file:/run/secrets/orders", f"file:{tmp_path}/there")
    (tmp_path / "there").write_text("hunter2")

    with pytest.raises(SecretMissing) as caught:
        load.missing_secrets(load.parse(text, "config.yaml"))
    assert str(caught.value).startswith("listeners.egress.auth.proxy_password: file:")


def test_the_files_with_secrets_of_listeners_are_watched_and_no_others() -> None:
    forms = "{proxy_password: file:/run/password}", "{proxy_password: env:PASSWORD}", "none"
    listeners = "".join(
        f"  - {{name: l{number}, bind: 127.0.0.1:{7000 + number}, auth: {auth}}}\n" for number, auth in enumerate(forms)
    )
    configuration = load.parse(VALID.replace("listeners:\n", f"listeners:\n{listeners}"), "config.yaml")

    assert files.read_once(configuration) == [Path("/run/password")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_secret_that_may_not_be_read_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("hunter2")
    path.chmod(0)

    with pytest.raises(SecretMissing, match="Permission denied"):
        load.missing_secrets(load.parse(VALID.replace("/run/secrets/orders", str(path)), "config.yaml"))


def test_the_admin_token_is_a_secret_like_the_others(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    text = VALID.replace("/run/secrets/orders", str(tmp_path / "secret")) + "admin: {token: env:ABSENT_ADMIN_TOKEN}\n"

    with pytest.raises(
        SecretMissing, match=r"admin\.token: env:ABSENT_ADMIN_TOKEN: the environment variable is not set"
    ):
        load.missing_secrets(load.parse(text, "config.yaml"))


def test_tracing_without_its_packages_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    text = VALID + "tracing: {enabled: true}\n"
    assert load.parse(text, "config.yaml").tracing.enabled
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(load.ConfigurationErrors) as caught:
        load.parse(text, "config.yaml")
    assert "pip install token-sidecar[otel]" in str(caught.value)
    assert "tracing" in str(caught.value)
    assert load.parse(text, "config.yaml", check_files=False).tracing.enabled
    assert not load.parse(VALID + "tracing: {enabled: false}\n", "config.yaml").tracing.enabled


def test_references_are_told_by_name_or_by_their_place_in_the_file() -> None:
    text = VALID.replace("6180", "6180\n    auth: {proxy_password: env:PASSWORD}")
    configuration = load.parse(text, "config.yaml")

    assert [key for key, _ in files.references(configuration)] == [
        "listeners.egress.auth.proxy_password",
        "credentials.orders.client_secret",
    ]
    assert [path for path, _ in files.located_references(configuration)] == [
        ("listeners", 0, "auth", "proxy_password"),
        ("credentials", "orders", "client_secret"),
    ]
