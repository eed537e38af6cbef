"""How single values are written: durations, sizes, paths, methods, scopes; and the table of all kinds.

Every reader takes the text as it stands in the file, gives the value, and raises ``ValueError`` with a sentence that
says what is wrong and what to write instead. The sentence never quotes the text, because a secret may have been put in
the wrong place. Hosts and URLs are read in ``hosts``; where a value stands, and whether its key may have it, is left to
``walker`` and ``rules``.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sidecar.config.hosts import host, host_pattern, url

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
