"""The demo's certificates verify for their names and for no others, and no key lies about."""

from __future__ import annotations

import ssl
import stat
from typing import TYPE_CHECKING

import pytest

from sidecar.simulation.certificates import Certificates, issue, write_private

if TYPE_CHECKING:
    from pathlib import Path


def shake_hands(files: Certificates, name: str) -> None:
    """Both sides of a handshake in memory.

    Raises:
        ssl.SSLCertVerificationError: the client does not accept the certificate for ``name``.
    """
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(files.certificate_file, files.key_file)
    client_context = ssl.create_default_context(cafile=str(files.ca_file))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client_context.wrap_bio(back, there, server_hostname=name),
        server_context.wrap_bio(there, back, server_side=True),
    ]
    while sides:
        try:
            sides[0].do_handshake()
        except ssl.SSLWantReadError:
            sides.reverse()
        else:
            sides.pop(0)


@pytest.mark.parametrize("name", ["api.demo.test", "127.0.0.1"])
def test_a_name_it_was_issued_for_verifies(tmp_path: Path, name: str) -> None:
    shake_hands(issue(tmp_path, "api.demo.test", "127.0.0.1"), name)


def test_another_name_does_not(tmp_path: Path) -> None:
    files = issue(tmp_path, "api.demo.test")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(files, "other.demo.test")


def test_another_authority_does_not(tmp_path: Path) -> None:
    folders = tmp_path / "one", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
    mine, other = (issue(folder, "api.demo.test") for folder in folders)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(Certificates(other.ca_file, mine.certificate_file, mine.key_file), "api.demo.test")


def test_only_the_servers_key_is_written_and_only_its_user_reads_it(tmp_path: Path) -> None:
    files = issue(tmp_path, "api.demo.test")
    keys = [path for path in tmp_path.iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert keys == [files.key_file]
    assert stat.S_IMODE(files.key_file.stat().st_mode) == 0o600


def test_a_private_file_never_takes_over_one_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(mode=0o666)
    with pytest.raises(FileExistsError):
        write_private(path, b"value")
