"""Hosts, addresses to listen on and URLs as they are written; text in, canonical value out.

One spelling of a host is kept, because routes, certificates and tokens hang on comparing hosts; what two readers could
take for different ones is refused. Like every reader of ``scalars``, these raise ``ValueError`` with a sentence that
does not quote the text.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from sidecar.config.model import Bind

# --- hosts and addresses -----------------------------------------------------------------------------------------

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_LONGEST_HOST: Final = 253
METADATA_ADDRESSES: Final = frozenset(
    ipaddress.ip_address(address)
    for address in (
        *("169.254.169.254", "fd00:ec2::254", "fd00:ec2::23"),  # AWS, also Google and Azure; EKS Pod Identity
        *("fd20:ce::254", "100.100.100.200", "168.63.129.16"),  # Google over IPv6, Alibaba, Azure's host agent
    )
)
"""Where clouds answer metadata requests, also those that do not sit on a link-local address."""
METADATA_TOKEN_HOSTS: Final = frozenset({"169.254.169.254", "fd00:ec2::254", "metadata.google.internal"})
"""Metadata services that give OAuth tokens, over plain http only."""


def host(text: str) -> str:
    """A host name or an IP address, in the one form that everything compares: lower case, no brackets.

    Numeric spellings of IPv4 that are not four decimal numbers are refused: readers disagree on them.
    """
    if not text.isascii():
        raise ValueError("a host is written in ASCII" + _punycode_hint(text))
    text = text.lower()
    if text.startswith("["):
        if not text.endswith("]"):
            raise ValueError("an IPv6 address without its closing bracket, or with a port; the port has its own key")
        return _ipv6(text[1:-1])
    if text.count(":") > 1:
        return _ipv6(text)
    _refuse_what_is_no_host(text)
    last = text.rpartition(".")[2]
    return _ipv4(text) if last.isdigit() or last.startswith("0x") else text


def _refuse_what_is_no_host(text: str) -> None:
    if "://" in text or "/" in text:
        raise ValueError("a host alone is wanted, without scheme and path")
    if ":" in text:
        raise ValueError("a host alone is wanted; the port has its own key")
    if text.endswith("."):
        raise ValueError("a host is written without the dot at its end")
    if "*" in text:
        raise ValueError("a '*' stands only for whole labels at the beginning of a route's host: *.example.com")
    if not text or len(text) > _LONGEST_HOST or not all(_LABEL.match(label) for label in text.split(".")):
        raise ValueError("not a valid host name")


def _punycode_hint(text: str) -> str:
    try:
        return f"; this name is {text.encode('idna').decode('ascii')}"
    except UnicodeError:
        return ""


def _ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError("an IPv4 address is written as four decimal numbers") from None


def _ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError("not a valid IPv6 address") from None
    if address.scope_id is not None:
        raise ValueError("an IPv6 address is written without a zone here")
    return str(address.ipv4_mapped or address)


def host_pattern(text: str) -> str:
    """A host, or ``*.`` and a host: any name below it, however deep, but not itself."""
    if not text.startswith("*."):
        return host(text)
    suffix = host(text[2:])
    if is_address(suffix):
        raise ValueError("an IP address has no names below it")
    return f"*.{suffix}"


def is_address(name: str) -> bool:
    """Whether a canonical host is an IP address."""
    return ":" in name or name.rpartition(".")[2].isdigit()


def is_loopback(name: str) -> bool:
    """Whether a canonical host never leaves the machine (RFC 6761 section 6.3 for ``localhost``)."""
    if not is_address(name):
        return name == "localhost"
    return ipaddress.ip_address(name).is_loopback


def is_metadata(name: str) -> bool:
    """Whether a canonical host is link-local or a cloud's metadata service: never an upstream."""
    if not is_address(name):
        return name in ("metadata.google.internal", "metadata")
    address = ipaddress.ip_address(name)
    return address.is_link_local or address in METADATA_ADDRESSES


# --- addresses to listen on --------------------------------------------------------------------------------------

_LONGEST_SOCKET_PATH: Final = 107
"""``sun_path`` holds 108 bytes with the NUL at its end (unix(7))."""


def bind(text: str) -> Bind:
    """``127.0.0.1:6180``, ``[::]:6181``, ``localhost:6180`` or ``unix:/path``. Port 0 lets the system choose."""
    if text.startswith("unix:"):
        return Bind(path=socket_path(text.removeprefix("unix:")))
    name, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not port.isascii():
        raise ValueError("not an address to listen on: write 127.0.0.1:6180, [::1]:6180 or unix:/path")
    if not name:
        raise ValueError("the address before the port is missing: 127.0.0.1, or 0.0.0.0 for every interface")
    if len(port) > 5 or int(port) > 65535:
        raise ValueError("a port is a number up to 65535")
    return Bind(host=_bind_host(name), port=int(port))


def _bind_host(name: str) -> str:
    if ":" in name and not name.startswith("["):
        raise ValueError("an IPv6 address stands in brackets: [::1]:6180")
    canonical = host(name)
    if canonical != "localhost" and not is_address(canonical):
        raise ValueError("an IP address or localhost is wanted: a name would listen wherever DNS says")
    return canonical


def socket_path(text: str) -> str:
    """Where a Unix socket stands."""
    if not text.startswith("/"):
        raise ValueError("the path of a Unix socket starts with /")
    if len(text.encode()) > _LONGEST_SOCKET_PATH:
        raise ValueError(f"the path of a Unix socket has at most {_LONGEST_SOCKET_PATH} bytes")
    return text


def file_mode(text: str) -> int:
    """Permissions in octal, as ``chmod`` takes them."""
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError('permissions are written in octal: "0660"')
    return int(text, 8)


# --- URLs --------------------------------------------------------------------------------------------------------

_URL: Final = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?\Z", re.IGNORECASE)
_URL_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*\Z")


@dataclass(frozen=True, slots=True)
class URLParts:
    """An absolute http or https URL taken apart; ``host`` is canonical, ``port`` the written or the default one."""

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def keeps_secrets(self) -> bool:
        """Whether a secret may go there: https, or http that stays on this machine or reaches a metadata service.

        RFC 6749 section 3.2 wants TLS at the token endpoint; loopback never leaves the machine, and metadata services
        speak nothing but http.
        """
        return self.scheme == "https" or is_loopback(self.host) or self.host in METADATA_TOKEN_HOSTS


def url_parts(text: str) -> URLParts:
    """Take a URL apart (RFC 3986, without what confuses readers: userinfo, fragments, spaces, non-ASCII)."""
    match = _URL.match(text)
    if match is None:
        raise ValueError("not an absolute URL: it starts with https:// or http://")
    if not _URL_CHARACTERS.match(text):
        raise ValueError("the URL holds characters that must be percent-encoded")
    scheme, authority, path, query, fragment = match.groups()
    if "@" in authority:
        raise ValueError("a URL holds no user name or password here")
    if fragment is not None:
        raise ValueError("a URL has no fragment (#...) here")
    scheme = scheme.lower()
    name, port = _split_authority(authority)
    return URLParts(scheme, host(name), port or (443 if scheme == "https" else 80), path, query or "")


def _split_authority(authority: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?", authority)
    if match is None or not match[1]:
        raise ValueError("the URL needs a valid host, and a port that is a number if it has one")
    if match[2] is None:
        return match[1], None
    if not 0 < int(match[2]) < 65536:
        raise ValueError("a port is a number from 1 to 65535")
    return match[1], int(match[2])


def url(text: str) -> str:
    """The URL as written: an issuer is compared character by character (RFC 8414 section 3.3)."""
    url_parts(text)
    return text
