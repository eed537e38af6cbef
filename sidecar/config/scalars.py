"""How single values are written: durations, sizes, addresses, URLs, hosts, paths, methods; text in, value out.

Every reader takes the text as it stands in the file and raises ``ValueError`` with a sentence that says what is wrong
and what to write instead. The sentence never quotes the text, because a secret may have been put in the wrong place.
Where the value stands, and whether its key may have it at all, is left to ``walker`` and ``rules``.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sidecar.config.model import Bind

if TYPE_CHECKING:
    from collections.abc import Callable

# --- what an unquoted word means ---------------------------------------------------------------------------------


class Plain(enum.Enum):
    """What a YAML reader may take an unquoted scalar for."""

    TEXT = "text"
    NULL = "nothing"
    BOOL = "true or false"
    INTEGER = "a whole number"
    DECIMAL = "a number"
    ODD = "odd"


_INTEGER: Final = re.compile(r"-?[0-9]+\Z")
_DECIMAL: Final = re.compile(r"-?[0-9]+\.[0-9]+\Z")
_ODD: Final = re.compile(
    r"(?:"
    r"(?i:y|n|yes|no|on|off|true|false|null)"  # the booleans of YAML 1.1, in every case they are written in
    r"|[-+]?0[xob][0-9A-Fa-f_]+"
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"  # sexagesimal: 12:30:00 is 45000
    r"|[-+]?(?=\.?[0-9])[0-9_]*\.?[0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?i:inf|nan)"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?"
    r"|=|<<"
    r")\Z",
    re.DOTALL,
)
"""Scalars that YAML 1.1 or 1.2 turns into something other than their text. Two readers would disagree on them."""


def plain_kind(text: str) -> Plain:
    """What an unquoted scalar is; ``ODD`` is refused wherever text is wanted."""
    if text in ("", "~", "null"):
        return Plain.NULL
    if text in ("true", "false"):
        return Plain.BOOL
    if _INTEGER.match(text):
        return Plain.INTEGER
    if _DECIMAL.match(text):
        return Plain.DECIMAL
    return Plain.ODD if _ODD.match(text) else Plain.TEXT


# --- durations and sizes -----------------------------------------------------------------------------------------

DURATION_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE_UNITS: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_QUANTITY: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([A-Za-z]*)\Z")


def duration(text: str) -> float:
    """Seconds."""
    number, unit = _quantity(text, "a duration such as 500ms, 30s, 5m, 1h or 7d")
    if not unit:
        raise ValueError("a duration needs its unit: write 30s, not 30")
    if unit not in DURATION_UNITS:
        raise ValueError("the units of a duration are ms, s, m, h and d")
    return round(float(number) * DURATION_UNITS[unit], 6)


def size(text: str) -> int:
    """Bytes."""
    number, unit = _quantity(text, "a size such as 512B, 64KiB or 1MiB")
    if not unit:
        raise ValueError("a size needs its unit: write 64KiB, or 65536B")
    if unit.lower() in ("k", "kb", "m", "mb", "g", "gb"):
        raise ValueError(f"sizes are counted in powers of two: write {unit[0].upper()}iB")
    if unit not in SIZE_UNITS:
        raise ValueError("the units of a size are B, KiB, MiB and GiB")
    value = float(number) * SIZE_UNITS[unit]
    if value != int(value):
        raise ValueError("a size is a whole number of bytes")
    return int(value)


def _quantity(text: str, wanted: str) -> tuple[str, str]:
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError(f"not {wanted}")
    return match[1], match[2]


def written_duration(seconds: float) -> str:
    """As it stands in the file: the largest unit that gives a whole number."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % DURATION_UNITS[unit] == 0:
            return f"{seconds / DURATION_UNITS[unit]:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms" if seconds else "0s"


def written_size(count: int) -> str:
    """As it stands in the file: the largest unit that gives a whole number."""
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % SIZE_UNITS[unit] == 0:
            return f"{count // SIZE_UNITS[unit]}{unit}"
    return f"{count}B"


# --- hosts and addresses -----------------------------------------------------------------------------------------

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_LONGEST_HOST: Final = 253
METADATA_ADDRESSES: Final = frozenset(
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16")
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
    return file_path(text)


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


# --- parts of HTTP and OAuth -------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}\Z")
_PATH: Final = re.compile(r"/[A-Za-z0-9\-._~:/@!$&'()*+,=]*\Z")
_TARGET: Final = re.compile(r"/[A-Za-z0-9\-._~:/@!$&'()*+,;=%]*(?:\?[A-Za-z0-9\-._~:/?@!$&'()*+,;=%]*)?\Z")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,512}\Z")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
NAME_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9_.:/*\[\]-]{0,127}"


def method(text: str) -> str:
    """A method (RFC 9110 section 9.1); case counts, and all that are known are upper case."""
    if not _TOKEN.match(text):
        raise ValueError("not an HTTP method")
    if text != text.upper():
        raise ValueError("methods are written in upper case: GET, POST")
    if text in ("CONNECT", "TRACE"):
        raise ValueError("CONNECT and TRACE never carry a token, so no route takes them")
    return text


def url_path(text: str) -> str:
    """A path prefix in normal form: what a server might read as another path is refused."""
    if not text.startswith("/"):
        raise ValueError("a path starts with /")
    if "?" in text or "#" in text:
        raise ValueError("a path prefix has no query and no fragment")
    if "*" in text:
        raise ValueError("a path is a prefix, not a pattern: leave the * out")
    if not _PATH.match(text):
        raise ValueError("a path prefix holds plain ASCII without percent-encoding, ';' and spaces")
    if "//" in text or any(segment in (".", "..") for segment in text.split("/")):
        raise ValueError("a path prefix is in its normal form: no '.', '..' or empty segments")
    return text


def target(text: str) -> str:
    """A path with an optional query (origin-form, RFC 9112 section 3.2.1)."""
    if not _TARGET.match(text):
        raise ValueError("a path starts with /, may have a query, and holds plain or percent-encoded ASCII")
    return text


def scope(text: str) -> str:
    """One scope (RFC 6749 section 3.3)."""
    if " " in text.strip():
        raise ValueError("one scope has no spaces: write each as an element of the list")
    if not _SCOPE.match(text):
        raise ValueError("a scope holds visible ASCII without '\"' and '\\'")
    return text


def field_name(text: str) -> str:
    """The name of a header field (RFC 9110 section 5.1)."""
    if not _TOKEN.match(text):
        raise ValueError("not the name of a header field")
    return text


def name(text: str) -> str:
    """What may become a metric label and a log field."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise ValueError("a name starts with a letter or digit and goes on with letters, digits and _ . : / * [ ] -")
    return text


def line(text: str) -> str:
    """Text on one line, safe in a header field and a log."""
    if not text:
        raise ValueError("it is empty")
    if _CONTROL.search(text):
        raise ValueError("it holds a line break or another control character")
    return text


def form_field(text: str) -> str:
    """A value of a token request; it may be empty."""
    if _CONTROL.search(text):
        raise ValueError("it holds a line break or another control character")
    return text


def file_path(text: str) -> str:
    """The path of a file."""
    if text.startswith("~"):
        raise ValueError("'~' is not expanded: write the whole path")
    return line(text)


# --- the table ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of writing a value.

    Attributes:
        read: text to value; raises ``ValueError``.
        wanted: what to write, in words.
        pattern: the same for JSON Schema; looser than ``read`` where a regular expression cannot say it.
        odd_allowed: ``read`` decides alone; otherwise a scalar that YAML reads as something else must be quoted.
        shown: the value may be shown in an error's source line.
    """

    read: Callable[[str], Any]
    wanted: str
    pattern: str = ""
    odd_allowed: bool = False
    shown: bool = True


KINDS: Final[dict[str, Kind]] = {
    "duration": Kind(duration, "a duration such as 30s", r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$", odd_allowed=True),
    "size": Kind(size, "a size such as 64KiB", r"^[0-9]+(\.[0-9]+)? ?(B|KiB|MiB|GiB)$", odd_allowed=True),
    "name": Kind(name, "a name", f"^{NAME_PATTERN}$"),
    "path": Kind(file_path, "the path of a file", r"^[^~]"),
    "url": Kind(url, "an absolute URL", r"^[hH][tT][tT][pP][sS]?://[^@#\s]+$"),
    "text": Kind(line, "text"),
    "form_field": Kind(form_field, "text", shown=False),
    "scope": Kind(scope, "a scope", r"^[!#-\[\]-~]+$"),
    "host": Kind(host, "a host", r"^[A-Za-z0-9_.:\[\]-]+$"),
    "host_pattern": Kind(host_pattern, "a host, or *. and a domain", r"^(\*\.)?[A-Za-z0-9_.:\[\]-]+$"),
    "url_path": Kind(url_path, "a path prefix that starts with /", r"^/[^?#%;*\s]*$"),
    "target": Kind(target, "a path that starts with /", r"^/[^#\s]*$"),
    "method": Kind(method, "an HTTP method such as GET", r"^[A-Z0-9!#$%&'*+.^_`|~-]+$"),
    "field_name": Kind(field_name, "the name of a header field", r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"),
}
