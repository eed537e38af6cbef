"""The local CA: each context is one host's and no other's, and clients accept it for that host alone."""

from __future__ import annotations

import datetime
import gc
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from sidecar.config import local_ca
from sidecar.config.model import Interception
from sidecar.errors import InternalError, Overloaded, TunnelDenied
from sidecar.proxy import minting
from sidecar.proxy.minting import LocalCA
from sidecar.secrets import SecretReference
from tests.config import authorities
from tests.fake_clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY: Final = 86400.0
HOSTS: Final = ("api.example.com", "*.example.org", "127.0.0.1", "::1")


class Today(FakeClock):
    """Stands still at the machine's own time, because OpenSSL checks certificates by that."""

    def __init__(self) -> None:
        super().__init__()
        self.set_wall(datetime.datetime.now(datetime.UTC).timestamp())


def make(hosts: Sequence[str] = HOSTS, *, days: float = 365.0, made_days_ago: float = 0.0) -> local_ca.LocalCAFiles:
    """A CA as ``sidecar ca`` makes it."""
    key = authorities.new_key()
    root, signer = authorities.constrained(key, hosts, days=days, made_days_ago=made_days_ago)
    return local_ca.LocalCAFiles((signer, root), key)


@pytest.fixture(scope="module")
def files() -> local_ca.LocalCAFiles:
    return make()


@pytest.fixture
def authority(files: local_ca.LocalCAFiles) -> LocalCA:
    return LocalCA(files, Today())


def trusting(files: local_ca.LocalCAFiles) -> ssl.SSLContext:
    """A client that trusts this CA's root alone, as strictly as Python 3.13 does by default."""
    context = ssl.create_default_context(cadata=files.chain[-1].public_bytes(serialization.Encoding.PEM).decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


class Handshake:
    """Both sides in memory; each goes on while the other has something for it."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> None:
        self._to_server, self._to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.wrap_bio(self._to_server, self._to_client, server_side=True)
        self.client = client.wrap_bio(self._to_client, self._to_server, server_hostname=name)
        self.errors: dict[str, ssl.SSLError] = {}

    def run(self) -> Handshake:
        for _ in range(4):  # more flights than any handshake has
            self._advance("client", self.client)
            self._advance("server", self.server)
        return self

    def _advance(self, side: str, tls: ssl.SSLObject) -> None:
        if side in self.errors:
            return
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as exc:
            self.errors[side] = exc

    def rewrite_hello(self, old: bytes, new: bytes) -> None:
        """Let the client say something else than its library would."""
        self._advance("client", self.client)
        self._to_server.write(self._to_server.read().replace(old, new))

    def leaf(self) -> x509.Certificate:
        der = self.client.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)


def leaf_of(authority: LocalCA, files: local_ca.LocalCAFiles, host: str) -> x509.Certificate:
    done = Handshake(authority.context_for(host), trusting(files), host).run()
    assert not done.errors
    return done.leaf()


def without_name() -> ssl.SSLContext:
    """A client that checks nothing, so that only the server can refuse it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# --- whom clients believe to speak with ---


@pytest.mark.parametrize("host", ["api.example.com", "a.example.org", "deep.below.example.org", "127.0.0.1", "::1"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_strict_client_that_trusts_only_the_ca_accepts_the_host(
    authority: LocalCA, files: local_ca.LocalCAFiles, host: str, version: ssl.TLSVersion
) -> None:
    client = trusting(files)
    client.maximum_version = version
    client.set_alpn_protocols(["h2", "http/1.1"])

    done = Handshake(authority.context_for(host), client, host).run()

    assert not done.errors
    assert not authority.sni_refused(done.server)
    assert done.client.version() == version.name.replace("_", ".")
    assert done.client.selected_alpn_protocol() == "http/1.1"


def test_it_works_over_a_real_socket(authority: LocalCA, files: local_ca.LocalCAFiles) -> None:
    def serve() -> None:
        with listening.accept()[0] as plain:
            with authority.context_for("127.0.0.1").wrap_socket(plain, server_side=True) as tls:
                tls.sendall(tls.recv(100).upper())

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(listening.getsockname(), timeout=30) as plain:
            with trusting(files).wrap_socket(plain, server_hostname="127.0.0.1") as tls:
                tls.sendall(b"hello")
                assert tls.recv(100) == b"HELLO"
        thread.join(30)


def test_a_client_that_does_not_trust_the_ca_does_not_accept_it(authority: LocalCA) -> None:
    done = Handshake(authority.context_for("api.example.com"), trusting(make()), "api.example.com").run()

    assert isinstance(done.errors["client"], ssl.SSLCertVerificationError)
    assert not authority.sni_refused(done.server)


def test_a_client_that_speaks_only_old_tls_is_refused(authority: LocalCA) -> None:
    client = without_name()
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    client.set_ciphers("DEFAULT:@SECLEVEL=0")

    done = Handshake(authority.context_for("api.example.com"), client, "api.example.com").run()

    assert set(done.errors) == {"client", "server"}
    assert not authority.sni_refused(done.server)


# --- names in the handshake ---


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("api.example.com", "other.example.com"),
        ("api.example.com", "a.api.example.com"),
        ("api.example.com", "api.example.com."),
        ("api.example.com", "127.0.0.1"),  # Python sends no SNI for an address
        ("api.example.com", None),
        ("127.0.0.1", "api.example.com"),
        ("127.0.0.1", "localhost"),
        ("::1", "api.example.com"),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_names_another_host_or_none_is_told_so(
    authority: LocalCA, host: str, named: str | None, version: ssl.TLSVersion
) -> None:
    client = without_name()
    client.maximum_version = version

    done = Handshake(authority.context_for(host), client, named).run()

    assert "UNRECOGNIZED_NAME" in str(done.errors["client"])
    assert "server" in done.errors
    assert authority.sni_refused(done.server)


def test_case_does_not_matter_in_a_name(authority: LocalCA) -> None:
    done = Handshake(authority.context_for("api.example.com"), without_name(), "API.Example.COM").run()

    assert not done.errors


def test_bytes_that_are_no_name_are_refused(authority: LocalCA, monkeypatch: pytest.MonkeyPatch) -> None:
    # CPython hands the name to us only if it is ASCII; else it tells this hook, which the log takes over in ``run``.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    handshake = Handshake(authority.context_for("api.example.com"), without_name(), "api.example.com")
    handshake.rewrite_hello(b"api.example.com", b"\xff" * len("api.example.com"))

    assert "client" in handshake.run().errors


@pytest.mark.parametrize(("host", "reused"), [("a.example.org", True), ("b.example.org", False)])
def test_a_session_is_resumed_with_its_own_host_alone(authority: LocalCA, host: str, reused: bool) -> None:
    client = without_name()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    first = Handshake(authority.context_for("a.example.org"), client, "a.example.org").run()

    again = Handshake(authority.context_for(host), client, host)
    again.client.session = first.client.session
    again.run()

    assert not again.errors
    assert again.client.session_reused is reused


def test_what_was_refused_is_forgotten_with_its_connection(authority: LocalCA) -> None:
    done = Handshake(authority.context_for("api.example.com"), without_name(), "other.example.com").run()
    assert len(authority._refused) == 1

    del done
    gc.collect()  # the error holds frames that hold the error
    assert len(authority._refused) == 0


# --- what a certificate says ---


def test_a_leaf_is_for_its_host_as_a_server_and_for_nothing_else(
    authority: LocalCA, files: local_ca.LocalCAFiles
) -> None:
    leaf = leaf_of(authority, files, "api.example.com")

    def extension(kind: type[x509.ExtensionType]) -> object:
        return leaf.extensions.get_extension_for_class(kind).value

    assert extension(x509.SubjectAlternativeName) == x509.SubjectAlternativeName([x509.DNSName("api.example.com")])
    assert extension(x509.BasicConstraints) == x509.BasicConstraints(ca=False, path_length=None)
    assert extension(x509.ExtendedKeyUsage) == x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    assert extension(x509.KeyUsage) == minting._USAGE
    identifier = files.signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert extension(x509.AuthorityKeyIdentifier).key_identifier == identifier.digest  # type: ignore[attr-defined]
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert leaf.serial_number.bit_length() > 100


def test_an_address_stands_in_a_leaf_as_an_address(authority: LocalCA, files: local_ca.LocalCAFiles) -> None:
    names = leaf_of(authority, files, "::1").extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert names == x509.SubjectAlternativeName([local_ca.general_name("::1")])


def test_hosts_share_the_key_and_no_serial_number(authority: LocalCA, files: local_ca.LocalCAFiles) -> None:
    one, other = (leaf_of(authority, files, host) for host in ("a.example.org", "b.example.org"))

    assert one.public_key() == other.public_key()
    assert one.serial_number != other.serial_number
    assert one.public_key() != leaf_of(LocalCA(files, Today()), files, "a.example.org").public_key()


def test_a_leaf_lives_for_a_week_from_an_hour_ago(files: local_ca.LocalCAFiles) -> None:
    clock = Today()
    old = make(made_days_ago=1)
    leaf = leaf_of(LocalCA(old, clock), old, "api.example.com")

    assert leaf.not_valid_before_utc.timestamp() == int(clock.wall()) - 3600
    assert leaf.not_valid_after_utc.timestamp() == int(clock.wall()) + 7 * DAY


def test_a_leaf_lives_within_the_life_of_its_ca() -> None:
    short = make(days=2)
    leaf = leaf_of(LocalCA(short, Today()), short, "api.example.com")

    assert leaf.not_valid_before_utc >= short.signer.not_valid_before_utc
    assert leaf.not_valid_after_utc == short.signer.not_valid_after_utc


def test_a_ca_with_an_rsa_key_and_without_identifiers_signs_too() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    certificate = authorities.bare(key, x509.BasicConstraints(ca=True, path_length=None), algorithm=hashes.SHA256())
    files = local_ca.LocalCAFiles((certificate,), key)
    client = trusting(files)
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT

    assert not Handshake(LocalCA(files, Today()).context_for("any.example.net"), client, "any.example.net").run().errors


# --- the constraints of the CA ---


@pytest.mark.parametrize("host", ["example.com", "www.example.com", "example.net", "notexample.org", "10.0.0.1", "::2"])
def test_a_host_that_the_ca_does_not_cover_is_refused(authority: LocalCA, host: str) -> None:
    with pytest.raises(TunnelDenied, match="do not cover this host"):
        authority.context_for(host)


@pytest.mark.parametrize(
    ("hosts", "host"),
    [
        (["api.example.com"], "www.example.net"),
        (["api.example.com"], "127.0.0.1"),
        (["api.example.com"], "::1"),
        (["*.example.com"], "notexample.com"),
        (["127.0.0.1"], "127.0.0.2"),
        (["127.0.0.1"], "::1"),
        (["127.0.0.1"], "api.example.com"),
        (["::1"], "127.0.0.1"),
    ],
)
def test_clients_refuse_what_the_ca_signs_for_other_hosts(hosts: list[str], host: str) -> None:
    files = make(hosts)
    thief = LocalCA(files, Today())
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    stolen = thief._sign(host, now).public_bytes(serialization.Encoding.PEM)
    context = minting._server_context(thief._key_pem + stolen + thief._chain_pem)

    error = Handshake(context, trusting(files), host).run().errors["client"]

    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.verify_message in ("permitted subtree violation", "excluded subtree violation")


def test_a_ca_that_is_out_of_its_time_does_not_sign(files: local_ca.LocalCAFiles) -> None:
    clock = Today()
    authority = LocalCA(files, clock)

    clock.slip(365 * DAY)
    with pytest.raises(TunnelDenied, match="the CA expired on"):
        authority.context_for("api.example.com")

    clock.slip(-367 * DAY)
    with pytest.raises(TunnelDenied, match=r"is not valid before .* check the clock"):
        authority.context_for("api.example.com")


# --- what is kept ---


def test_a_context_is_made_once(authority: LocalCA) -> None:
    assert authority.context_for("a.example.org") is authority.context_for("a.example.org")
    assert authority.context_for("a.example.org") is not authority.context_for("b.example.org")
    assert repr(authority) == "<LocalCA 2 contexts>"


def test_a_context_is_renewed_after_half_the_life_of_its_leaf(files: local_ca.LocalCAFiles) -> None:
    clock = Today()
    authority = LocalCA(files, clock)
    first = authority.context_for("api.example.com")

    clock.slip(3.5 * DAY - 1)
    assert authority.context_for("api.example.com") is first
    clock.slip(1)
    assert authority.context_for("api.example.com") is not first
    assert repr(authority) == "<LocalCA 1 contexts>"


def test_a_context_that_ends_with_the_ca_is_kept_to_that_end() -> None:
    clock = Today()
    authority = LocalCA(make(days=2), clock)
    first = authority.context_for("api.example.com")

    clock.slip(2 * DAY - 10)
    assert authority.context_for("api.example.com") is first


def test_a_clock_that_is_set_back_makes_a_new_leaf() -> None:
    clock = Today()
    authority = LocalCA(make(made_days_ago=2), clock)
    first = authority.context_for("api.example.com")

    clock.slip(-DAY)
    assert authority.context_for("api.example.com") is not first


def test_the_context_longest_unused_makes_room(files: local_ca.LocalCAFiles) -> None:
    authority = LocalCA(files, Today(), most_contexts=2)
    a, b = authority.context_for("a.example.org"), authority.context_for("b.example.org")
    assert authority.context_for("a.example.org") is a

    authority.context_for("c.example.org")

    assert repr(authority) == "<LocalCA 2 contexts>"
    assert authority.context_for("a.example.org") is a
    assert authority.context_for("b.example.org") is not b


# --- files ---


def written(folder: Path, files: local_ca.LocalCAFiles) -> Interception:
    certificate, key = authorities.write(folder, files.key, *files.chain)
    return Interception(certificate=str(certificate), key=SecretReference("file", str(key)))


def test_it_is_loaded_from_what_the_configuration_names(tmp_path: Path, files: local_ca.LocalCAFiles) -> None:
    authority = LocalCA.load(written(tmp_path, files), Today())

    leaf_of(authority, files, "api.example.com")


def test_a_key_that_was_exchanged_since_is_refused(tmp_path: Path, files: local_ca.LocalCAFiles) -> None:
    section = written(tmp_path, files)
    written(tmp_path, make())
    Path(section.certificate).write_bytes(files.signer.public_bytes(serialization.Encoding.PEM))

    with pytest.raises(local_ca.UnusableKey, match="another certificate"):
        LocalCA.load(section, Today())


PRIVATE: Final = """
import os, sys
from sidecar.cli.run import keep_memory_private
from sidecar.config.model import Interception
from sidecar.proxy.minting import LocalCA
from sidecar.runtime import SystemClock
from sidecar.secrets import SecretReference
authority = LocalCA.load(Interception(certificate=sys.argv[1], key=SecretReference("file", sys.argv[2])), SystemClock())
authority.context_for("127.0.0.1")  # imports what it needs
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
keep_memory_private()
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" and isinstance(args[0], str) else None)
authority.context_for("api.example.com")
print("minted, as root:", os.geteuid() == 0, "files:", opened)
"""


def test_a_process_without_privileges_and_with_private_memory_mints_without_a_file(
    tmp_path: Path, files: local_ca.LocalCAFiles
) -> None:
    section = written(tmp_path, files)
    done = subprocess.run(
        [sys.executable, "-c", PRIVATE, section.certificate, section.key.name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "minted, as root: False files: []\n"


def test_a_system_that_does_not_take_the_certificate_is_an_internal_error() -> None:
    with pytest.raises(InternalError, match="could not be put into use"):
        minting._server_context(b"not PEM")


def test_session_keys_are_written_nowhere(authority: LocalCA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

    assert authority.context_for("api.example.com").keylog_filename is None


def test_new_hosts_are_not_minted_faster_than_the_loop_can_bear() -> None:
    clock = Today()
    authority = LocalCA(make(["*.example.org"]), clock)
    for number in range(minting.MOST_MINTED):
        authority.context_for(f"h{number}.example.org")
    with pytest.raises(Overloaded):
        authority.context_for("one-more.example.org")
    authority.context_for("h0.example.org")  # those that are there are handed out

    clock.slip(minting.MINTING_SECONDS)
    authority.context_for("one-more.example.org")
    assert repr(authority) == f"<LocalCA {minting.MOST_MINTED + 1} contexts>"
