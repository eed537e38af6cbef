"""Where a login's browser comes back to, as an address: on this machine and nowhere else (RFC 8252 section 7.3).

Decides which redirect URIs can be listened for, and on which port. Leaves listening to whoever does.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sidecar.config import hosts
from sidecar.errors import ConfigurationInvalid, UsageError

DEFAULT_PATH: Final = "/callback"


class RedirectURI(NamedTuple):
    """Where to listen, and what the redirect URI is once the port is known."""

    host: str
    port: int
    before_port: str
    after_port: str

    @classmethod
    def read(cls, configured: str | None, *, port: int | None) -> RedirectURI:
        """The address of a login.

        Args:
            configured: ``redirect_uri``; without a port in it any port will do, as RFC 8252 section 7.3 has servers
                accept.
            port: the one that was asked for on the command line.

        Raises:
            ConfigurationInvalid: it is not http on an address of this machine.
            UsageError: it names another port than the command line does.
        """
        uri = configured or f"http://127.0.0.1{DEFAULT_PATH}"
        parts = hosts.url_parts(uri)
        if parts.scheme != "http" or not hosts.is_address(parts.host) or not hosts.is_loopback(parts.host):
            raise ConfigurationInvalid(
                "redirect_uri: the answer comes to this machine, so write http://127.0.0.1:PORT/PATH or http://[::1]:..."
            )
        authority = urlsplit(uri).netloc
        before, after = uri.split(authority, 1)
        if urlsplit(uri).port is None:
            return cls(parts.host, port or 0, before + authority, after)
        if port not in (None, parts.port):
            raise UsageError(f"--port {port}: redirect_uri says {parts.port}, and the provider compares it")
        return cls(parts.host, parts.port, before + authority.rpartition(":")[0], after)

    def at(self, port: int) -> str:
        """The whole of it."""
        return f"{self.before_port}:{port}{self.after_port}"
