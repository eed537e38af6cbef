"""One run's folder: certificates, secrets, ports, and the token whose arrival at the origin is checked.

The token is as long as a common JWT access token, because its length is copied into every request; it is made anew for
each run, so that no other run's process can answer for this one.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trustme

from benchmarks.processes import free_ports
from benchmarks.scenarios import Upstream

if TYPE_CHECKING:
    from pathlib import Path

TOKEN_CHARACTERS: Final = 640
HOSTS: Final = {Upstream.PLAIN: "127.0.0.1", Upstream.TLS: "localhost"}
"""The origin's name as the proxies know it; the certificate is for ``localhost``."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """Shared facts of one run.

    Attributes:
        folder: temporary; every program's configuration and log are in it.
        token: what the identity provider issues and the origin demands.
        ca: file with the CA that signed the origin's certificate.
        certificate: file with the origin's key and chain.
        origin: its port for each transport.
        idp_port: port of the token endpoint.
    """

    folder: Path
    token: str
    client_secret: str
    ca: Path
    certificate: Path
    origin: dict[Upstream, int]
    idp_port: int

    @property
    def token_url(self) -> str:
        return f"http://127.0.0.1:{self.idp_port}/token"

    def write(self, name: str, text: str) -> Path:
        """Write one file of the folder."""
        path = self.folder / name
        path.write_text(text)
        return path


def open_workshop(folder: Path) -> Workshop:
    """Make the CA, the secrets and the choice of ports."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    leaf = ca.issue_cert(HOSTS[Upstream.TLS])
    leaf.private_key_and_cert_chain_pem.write_to_path(str(folder / "origin.pem"))
    plain, tls, idp = free_ports(3)
    return Workshop(
        folder=folder,
        token=secrets.token_hex(TOKEN_CHARACTERS // 2),
        client_secret=secrets.token_hex(16),
        ca=folder / "ca.pem",
        certificate=folder / "origin.pem",
        origin={Upstream.PLAIN: plain, Upstream.TLS: tls},
        idp_port=idp,
    )
