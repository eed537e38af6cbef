"""The one canonical authority of a request: host and port, read in one way only. Pure decisions.

It drives everything that follows: the route, the DNS name, SNI, the certificate check and the token. Whatever two
readers could take for different hosts is refused: userinfo, percent-encoding, numeric spellings of IPv4 that are not
four decimal numbers, empty labels. Which route an authority belongs to is decided in ``routing``.
"""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple

from sidecar.errors import BadRequest

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOST_BYTES: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-._"
_MAX_HOST: Final = 253
_MAX_LABEL: Final = 63


class Authority(NamedTuple):
    """Host and port in canonical form: lower case, no trailing dot, addresses as ``ipaddress`` writes them."""

    host: str
    port: int | None

    def netloc(self, default_port: int) -> str:
        """As it stands in a Host field: brackets around IPv6, no port where it is the default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (None, default_port) else f"{host}:{self.port}"


def parse_authority(raw: bytes) -> Authority:
    """Read ``host``, ``host:port``, ``[v6]`` or ``[v6]:port`` (RFC 3986 section 3.2) in one way only.

    Raises:
        BadRequest: anything that another reader might take for another host.
    """
    text = raw.lower()
    if text.startswith(b"["):
        literal, bracket, tail = text[1:].partition(b"]")
        if not bracket:
            raise BadRequest("the host is not valid")
        host = _ipv6(literal)
    else:
        name, colon, port = text.partition(b":")
        host, tail = _name_or_ipv4(name), colon + port
    if not tail:
        return Authority(host, None)
    digits = tail[1:]
    if tail[:1] != b":" or not digits.isdigit() or len(digits) > 5 or not 0 < int(digits) < 65536:
        raise BadRequest("the port is not a number from 1 to 65535")
    return Authority(host, int(digits))


def _ipv6(literal: bytes) -> str:
    try:
        address = ipaddress.IPv6Address(literal.decode("ascii"))
    except (ValueError, UnicodeDecodeError) as exc:
        raise BadRequest("the host is not a valid IPv6 address") from exc
    if address.scope_id is not None:
        raise BadRequest("an IPv6 zone has no meaning for an upstream")
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _name_or_ipv4(name: bytes) -> str:
    name = name.removesuffix(b".")
    if not name or len(name) > _MAX_HOST or name.translate(None, _HOST_BYTES):
        raise BadRequest("the host is not valid")
    labels = name.split(b".")
    if not all(0 < len(label) <= _MAX_LABEL for label in labels):
        raise BadRequest("the host has an empty or over-long label")
    last = labels[-1]
    if last.isdigit() or last.startswith(b"0x"):
        # Ends in a number, so some readers take it for IPv4 in hex, octal or short form: only one spelling is taken.
        try:
            return str(ipaddress.IPv4Address(name.decode()))
        except ValueError as exc:
            raise BadRequest("the host is a number, but not an IPv4 address in four decimal parts") from exc
    return name.decode()


class Origin(NamedTuple):
    """Where a request goes, and what makes two connections interchangeable.

    ``routed`` (a route names the host) is part of it, because the address rules differ.
    """

    tls: bool
    host: str
    port: int
    ca_file: str | None
    routed: bool

    @property
    def netloc(self) -> bytes:
        """The Host field's value."""
        return Authority(self.host, self.port).netloc(443 if self.tls else 80).encode()


class Target(NamedTuple):
    """A request target in absolute form, taken apart."""

    scheme: str
    authority: bytes
    path: bytes
    """Origin-form: path and query as sent; ``/`` for none (RFC 9112 section 3.2.1)."""


_USUAL: Final = b"http://"


def split_absolute(target: bytes, method: bytes) -> Target:
    """Take an absolute-form target apart (RFC 9112 section 3.2.2).

    Raises:
        BadRequest: not http or https, or no host.
    """
    end = target.find(b"/", len(_USUAL))
    if end > 0 and target.startswith(_USUAL) and b"?" not in target[:end]:
        return Target("http", target[len(_USUAL) : end], target[end:])  # what nearly every target is
    scheme, separator, rest = target.partition(b"://")
    name = scheme.lower().decode("ascii", "replace")
    if not separator or name not in DEFAULT_PORTS:
        raise BadRequest("a forward proxy takes absolute targets: http://host/path")
    cut = len(rest)
    for mark in (b"/", b"?"):
        if 0 <= (at := rest.find(mark)) < cut:
            cut = at
    authority, path = rest[:cut], rest[cut:]
    if not path:
        path = b"*" if method == b"OPTIONS" else b"/"
    elif path.startswith(b"?"):
        path = b"/" + path
    return Target(name, authority, path)
