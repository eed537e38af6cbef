"""Taking secrets and treacherous characters out of a rendered line, whoever wrote it and however it got there.

Decides what may not leave in a line: every value of ``secrets.live_values()``, in all the forms it commonly takes on
the way (JSON-escaped once or twice, percent-encoded, as Python's ``repr`` shows it, inside base64 at any alignment),
and text that looks like a token whether we know it or not. It works on the finished line, so nobody can forget it.
Leaves to ``log`` which fields a line has.

The base64 forms: three bytes become four characters, so a secret inside ``base64("id:" + secret)`` has one of three
spellings, by the length of the id modulo three. Only the characters made of the secret's bits alone are searched for,
and the whole run of base64 around them goes.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final
from urllib.parse import quote, quote_plus

import msgspec

from sidecar.secrets import SHORTEST_REDACTABLE, live_values

MASK: Final = "[redacted]"
LONGEST_LINE: Final = 16 * 1024
"""Characters. Docker and containerd split a line at 16 KiB, and no reader of JSON lines survives that."""
LONGEST_REMAINDER: Final = 4 * 1024
SHORTEST_SECRET_LINE: Final = 16
"""A line of a secret of many lines (a PEM key) is searched for by itself from this length on."""

_SECRET_NAMES: Final = (
    *("client_secret", "access_token", "refresh_token", "id_token", "subject_token", "client_assertion", "assertion"),
    *("code_verifier", "device_code", "password", "passwd", "api_key", "apikey", "authorization"),
)
_NAMES: Final = "|".join(_SECRET_NAMES)
_PATTERNS: Final = (
    # Each with lower-case words of which one stands in every text that it can match: most lines need no regex at all.
    #
    # A private key in PEM, to its end mark or to the end of the line.
    (
        ("private key",),
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL),
        MASK,
    ),
    # An authorization value (RFC 6750 section 2.1, RFC 9449 section 7.1), the blank encoded or not.
    (
        ("bearer", "dpop"),
        re.compile(r"(?i)\b(bearer|dpop)((?:[\s+:]|%20|\\[nrt])+)[A-Za-z0-9._~+/%-]{6,}=*"),
        rf"\1\2{MASK}",
    ),
    # RFC 7617. A plain word after "basic" is prose: base64 of id:secret is hardly ever lower case alone.
    (
        ("basic",),
        re.compile(r"\b([Bb]asic|BASIC)((?:[\s+:]|%20)+)(?![a-z]+\b)[A-Za-z0-9+/_%-]{6,}=*"),
        rf"\1\2{MASK}",
    ),
    # A JWS or JWE in compact form: its header is JSON, so it begins with base64url of '{"'.
    (("eyj",), re.compile(r"\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){1,4}"), MASK),
    # A parameter of a form or a query: name=value.
    (_SECRET_NAMES, re.compile(rf"(?i)\b({_NAMES})=[^&\s\"'\\,;]+"), rf"\1={MASK}"),
    # A member of JSON inside text, its quotes escaped any number of times.
    (
        _SECRET_NAMES,
        re.compile(rf"""(?i)((?:{_NAMES})\\*["']\s*:\s*\\*["'])[^"'\\]+"""),
        rf"\1{MASK}",
    ),
    # The password in a URL.
    (("://",), re.compile(r"(://[^/\s:@\"]*:)[^/\s@\"]+@"), rf"\1{MASK}@"),
)

_TREACHEROUS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""Controls, what reorders or hides text on a screen (UTS 39, "Trojan Source"), and surrogates, which no UTF-8 holds."""

_BASE64: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")


def escape(text: str) -> str:
    """Write characters that could forge or hide text as ``\\uXXXX``, which is also what JSON calls them."""
    if text.isascii() and text.isprintable():
        return text
    return _TREACHEROUS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def mask_patterns(text: str) -> str:
    """Mask what looks like a token, a secret parameter or a private key."""
    lower = text.lower()
    for words, pattern, replacement in _PATTERNS:
        if any(word in lower for word in words):
            text = pattern.sub(replacement, text)
    return text


class Redactor:
    """Knows the live secrets in all their forms; the forms of a secret are forgotten with the secret."""

    def __init__(self) -> None:
        self._forms: dict[str, tuple[str, ...]] = {}
        self._fragments: dict[str, tuple[str, ...]] = {}

    def redact(self, text: str) -> str:
        """``text`` without secrets, live or apparent."""
        self._learn()
        for forms in self._forms.values():
            for form in forms:
                if form in text:
                    text = text.replace(form, MASK)
        for fragments in self._fragments.values():
            for fragment in fragments:
                if fragment in text:
                    text = _without_base64_run(text, fragment)
        return mask_patterns(text)

    def redact_json_line(self, line: str) -> str:
        """A line that is one JSON object without secrets, treacherous characters or excess length; still JSON."""
        clean = escape(self.redact(line))
        if len(clean) <= LONGEST_LINE and (clean == line or _is_json(clean)):
            return clean
        # Cut after redaction: half a secret is found by no search. As a string, whatever is left is JSON again.
        words = {"event": "log_line_cut", "line": clean[:LONGEST_REMAINDER]}
        return json.dumps(words, ensure_ascii=True, separators=(",", ":"))

    def is_clean(self, text: str) -> bool:
        """Whether ``text`` may be shown as it stands."""
        return escape(self.redact(text)) == text

    def _learn(self) -> None:
        values = live_values()
        if len(values) == len(self._forms) and all(value in self._forms for value in values):
            return
        self._forms = {value: self._forms.get(value) or forms_of(value) for value in values}
        self._fragments = {value: self._fragments.get(value) or fragments_of(value) for value in values}


def forms_of(value: str) -> tuple[str, ...]:
    """The spellings of a secret in text, longest first."""
    lines = [line for line in value.splitlines() if len(line) >= SHORTEST_SECRET_LINE and not line.startswith("-----")]
    plain = {value, *lines}
    encoded = {encode(text) for text in plain for encode in _ENCODERS}
    encoded |= {re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), text) for text in encoded}
    texts = plain | encoded
    once = {escaped for text in texts for escaped in _escaped(text)}
    twice = {escaped for text in once for escaped in _escaped(text)}
    forms = {form for form in texts | once | twice if len(form) >= SHORTEST_REDACTABLE}
    return tuple(sorted(forms, key=len, reverse=True))


def fragments_of(value: str) -> tuple[str, ...]:
    """What shows a secret inside base64, at each of the three alignments, in both alphabets."""
    found: set[str] = set()
    for raw in {value.encode(), quote_plus(value).encode(), quote(value, safe="").encode()}:
        for lead in range(3):
            encoded = base64.b64encode(b"\0" * lead + raw).decode().rstrip("=")
            # The first characters mix in bits of what stands before, the last one of what follows.
            whole = len(raw) + lead
            fragment = encoded[(0, 2, 3)[lead] : whole * 8 // 6]
            if len(fragment) >= SHORTEST_REDACTABLE:
                found |= {fragment, fragment.replace("+", "-").replace("/", "_")}
    return tuple(sorted(found))


def _without_base64_run(text: str, fragment: str) -> str:
    """Mask each run of base64 that holds the fragment (a regex for this would be quadratic in a long run)."""
    parts: list[str] = []
    done = 0
    while (hit := text.find(fragment, done)) >= 0:
        start, end = hit, hit + len(fragment)
        while start > done and text[start - 1] in _BASE64:
            start -= 1
        while end < len(text) and text[end] in _BASE64:
            end += 1
        parts += (text[done:start], MASK)
        done = end
    return "".join((*parts, text[done:]))


def _percent(text: str) -> str:
    return quote(text, safe="", errors="replace")


def _percent_path(text: str) -> str:
    return quote(text, errors="replace")


def _form(text: str) -> str:
    return quote_plus(text, errors="replace")


def _repr(text: str) -> str:
    return repr(text)[1:-1]


def _repr_of_repr(text: str) -> str:
    # An exception whose message quotes a value, itself shown by its repr.
    return _repr(_repr(text))


_ENCODERS: Final = (_percent, _percent_path, _form, _repr, _repr_of_repr)


def _escaped(text: str) -> tuple[str, str]:
    return json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]


def _is_json(line: str) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return False
    return True
