"""``sidecar ca``: the CA that it makes, how it writes it, and what it says."""

from __future__ import annotations

import datetime
import os
import stat
from typing import TYPE_CHECKING, Final

import pytest
from cryptography import x509

from sidecar.cli import main
from sidecar.config import load, local_ca
from sidecar.proxy.minting import LocalCA
from sidecar.runtime import SystemClock
from sidecar.secrets import SecretReference

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIGURATION: Final = """\
listeners:
  - {name: egress, bind: "127.0.0.1:6180"}
credentials:
  orders:
    grant: client_credentials
    token_url: https://idp.example.com/oauth2/token
    client_id: orders-worker
    client_secret: file:/absent/secret
routes:
  - {host: api.example.com, intercept: true, credential: orders}
  - {host: "*.example.org", intercept: true, credential: orders}
  - {host: plain.example.net, credential: orders}
interception:
  certificate: ca.pem
  key: file:ca-key.pem
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that relative paths start from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIDECAR_CONFIG", raising=False)
    return tmp_path


@pytest.fixture(params=[0o000, 0o022, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit code, and what it wrote to standard output and standard error."""
    try:
        code = main(["ca", *arguments])
    except SystemExit as exc:  # argparse ends so
        code = int(exc.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


HERE: Final = ("--certificate", "ca.pem", "--key", "ca-key.pem")


def made(folder: Path) -> local_ca.LocalCAFiles:
    return local_ca.read(folder / "ca.pem", SecretReference("file", str(folder / "ca-key.pem")))


# --- what it makes ---


def test_the_ca_of_a_configuration_is_made_before_that_can_be_loaded_and_serves_it(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    path = folder / "config.yaml"
    path.write_text(CONFIGURATION)
    with pytest.raises(load.ConfigurationErrors, match="'certificate': the file cannot be read"):
        load.load(path)

    assert run(capsys, "-c", "config.yaml")[0] == 0

    configuration = load.load(path)
    assert configuration.interception is not None
    authority = LocalCA.load(configuration.interception, SystemClock())
    authority.context_for("api.example.com")
    authority.context_for("www.example.org")
    assert not local_ca.covers(made(folder).chain, "plain.example.net")


def test_the_default_configuration_is_that_of_run(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "other.yaml").write_text(CONFIGURATION)
    monkeypatch.setenv("SIDECAR_CONFIG", "other.yaml")

    assert run(capsys)[0] == 0
    assert local_ca.covers(made(folder).chain, "api.example.com")


def test_files_can_go_elsewhere_than_the_configuration_says(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    text = CONFIGURATION.replace("ca.pem", "/run/sidecar/ca.pem").replace("file:ca-key.pem", "cred:ca-key")
    (folder / "config.yaml").write_text(text)

    assert run(capsys, *HERE)[0] == 0
    assert local_ca.covers(made(folder).chain, "api.example.com")


def test_the_ca_of_a_command_line_is_limited_to_its_hosts(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    hosts = ("--host", "API.Example.com", "--host", "*.example.org", "--host", "10.0.0.1", "--host", "[fd00::1]")
    assert run(capsys, *hosts, *HERE)[0] == 0

    certificate = made(folder).signer
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert constraints.value == local_ca.constraints_for(["api.example.com", "*.example.org", "10.0.0.1", "fd00::1"])


def test_clients_trust_a_root_whose_key_is_not_kept(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    run(capsys, "--host", "api.example.com", *HERE)

    root, signer = x509.load_pem_x509_certificates((folder / "ca.pem").read_bytes())  # keytool takes the first alone
    signer.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    assert root.public_key() != signer.public_key() == made(folder).key.public_key()
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 1
    for certificate in (root, signer):
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints)
        assert constraints.critical
        assert constraints.value == local_ca.constraints_for(["api.example.com"])


def test_it_can_sign_for_servers_and_nothing_else(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    run(capsys, "--host", "api.example.com", *HERE)

    extensions = made(folder).signer.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert basic.critical
    assert basic.value == x509.BasicConstraints(ca=True, path_length=0)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (True, True, False)
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    assert not extensions.get_extension_for_class(x509.SubjectKeyIdentifier).critical


@pytest.mark.parametrize(("arguments", "days"), [((), 365), (("--days", "30"), 30)])
def test_it_is_valid_from_an_hour_ago_for_so_many_days(
    capsys: pytest.CaptureFixture[str], folder: Path, arguments: tuple[str, ...], days: int
) -> None:
    run(capsys, "--host", "api.example.com", *HERE, *arguments)

    certificate = made(folder).signer
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert life == datetime.timedelta(days=days, hours=1)
    assert "Token Sidecar interception CA" in certificate.subject.rfc4514_string()


def test_two_cas_have_two_keys(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    run(capsys, "--host", "api.example.com", *HERE)
    first = made(folder).signer
    run(capsys, "--host", "api.example.com", *HERE, "--force")

    assert made(folder).signer.public_key() != first.public_key()


# --- how it writes ---


@pytest.mark.usefixtures("umask")
def test_the_key_is_for_its_owner_and_the_certificate_for_all(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert run(capsys, "--host", "api.example.com", *HERE)[0] == 0

    assert stat.S_IMODE((folder / "ca-key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "ca.pem").stat().st_mode) == 0o644
    assert sorted(path.name for path in folder.iterdir()) == ["ca-key.pem", "ca.pem"]


def test_the_key_has_no_other_mode_at_any_time(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: dict[str, tuple[int, int]] = {}
    real = os.open

    def watching(path: str | Path, flags: int, mode: int = 0o777) -> int:
        opened[str(path)] = (flags, mode)
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", watching)
    run(capsys, "--host", "api.example.com", *HERE)

    (flags, mode), *others = [found for path, found in opened.items() if "ca-key.pem" in path]
    assert flags & (os.O_CREAT | os.O_EXCL) == os.O_CREAT | os.O_EXCL
    assert mode == 0o600
    assert not others


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_file_that_exists_is_not_overwritten(
    capsys: pytest.CaptureFixture[str], folder: Path, name: str, dangling: bool
) -> None:
    if dangling:
        (folder / name).symlink_to("nowhere")
    else:
        (folder / name).write_text("mine")

    code, out, err = run(capsys, "--host", "api.example.com", *HERE)

    assert (code, out) == (2, "")
    assert err == f"sidecar: {name} exists: --force overwrites it, and clients then have to trust the new CA\n"
    assert os.listdir(folder) == [name]  # noqa: PTH208 - names are what is compared


def test_force_overwrites_and_an_open_key_becomes_a_private_one(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    (folder / "ca-key.pem").write_text("mine")
    (folder / "ca-key.pem").chmod(0o644)

    assert run(capsys, "--host", "api.example.com", *HERE, "--force")[0] == 0
    assert local_ca.covers(made(folder).chain, "api.example.com")
    assert sorted(path.name for path in folder.iterdir()) == ["ca-key.pem", "ca.pem"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    arguments = ("--host", "api.example.com", "--certificate", "absent/ca.pem", "--key", "ca-key.pem")
    code, out, err = run(capsys, *arguments)

    assert (code, out, err) == (2, "", "sidecar: cannot write absent/ca.pem: No such file or directory\n")
    assert list(folder.iterdir()) == []


def test_a_folder_in_the_way_is_one_clear_line(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "ca.pem").mkdir()

    code, out, err = run(capsys, "--host", "api.example.com", *HERE, "--force")
    assert (code, out, err) == (2, "", "sidecar: cannot write ca.pem: Is a directory\n")


# --- what it says ---


def test_it_says_what_it_made_for_whom_and_how_clients_come_to_trust_it(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    code, out, err = run(capsys, "--host", "api.example.com", "--host", "*.example.org", *HERE)

    assert (code, err) == (0, "")
    assert f"valid until {made(folder).signer.not_valid_after_utc:%Y-%m-%d}" in out
    clients = ("--cacert ca.pem", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS=ca.pem")
    for word in ("api.example.com", "*.example.org", *clients, "keytool -importcert", "replace the system's CAs"):
        assert word in out
    assert "PRIVATE" not in out
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "there is no config.yaml: name hosts with --host HOST, or a configuration with -c FILE"),
        (("--host", "a.example"), "--host needs --certificate FILE and --key FILE"),
        (("--host", "a.example", "--key", "k"), "--host needs --certificate FILE and --key FILE"),
        (("--host", "a.example", "-c", "f", *HERE), "hosts come from --host or from a configuration, not from both"),
        (("--host", "a..b", *HERE), "--host 'a..b': not a valid host name"),
        (("--host", "https://a.example/", *HERE), "--host 'https://a.example/': a host alone is wanted, without"),
        (("--host", "*", *HERE), "--host '*': a '*' stands only for whole labels at the beginning"),
        (("--host", "", *HERE), "--host '': not a valid host name"),
        (("--host", "a.example", "--certificate", "x", "--key", "./x"), "certificate and key are two files"),
    ],
)
def test_wrong_use_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = run(capsys, *arguments)

    assert (code, out) == (2, "")
    assert err.startswith(f"sidecar: {message}")
    assert err.count("\n") == 1
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("days", ["0", "-1", "3651", "many", "1.5", ""])
def test_days_are_a_number_of_days(capsys: pytest.CaptureFixture[str], days: str) -> None:
    code, _, err = run(capsys, "--host", "a.example", *HERE, f"--days={days}")

    assert code == 2
    assert err.endswith("argument --days: a number from 1 to 3650 is wanted\n")


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("intercept: true, ", "", 2, "no route has 'intercept: true', so there is no host to make a CA for"),
        ("file:ca-key.pem", "cred:ca-key", 2, "the key is cred:ca-key, which systemd provides: name a file with --key"),
        ("credential: orders", "credential: ordres", 3, "no credential has this name; did you mean 'orders'?"),
        ("interception:", "interceptions:", 3, "did you mean 'interception'?"),
    ],
)
def test_a_configuration_that_gives_no_ca_is_told_so(
    capsys: pytest.CaptureFixture[str], folder: Path, old: str, new: str, code: int, message: str
) -> None:
    (folder / "config.yaml").write_text(CONFIGURATION.replace(old, new))

    found, out, err = run(capsys)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_a_configuration_that_was_named_and_is_absent_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "-c", "absent.yaml")

    assert code == 3
    assert err == "sidecar: absent.yaml: the configuration cannot be read: No such file or directory\n"
