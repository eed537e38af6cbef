"""Nothing secret and nothing treacherous leaves in a line, whatever form it took on the way."""

from __future__ import annotations

import base64
import gc
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.secrets import Secret, live_values
from sidecar.telemetry.redaction import LONGEST_LINE, MASK, Redactor, escape, fragments_of, mask_patterns

if TYPE_CHECKING:
    from collections.abc import Callable

AWKWARD = 'cn4ry/+ "q\\uote" &=%\té-end'
PLAIN = "cn4ryXplainXsecret"
PEM = (
    "-----BEGIN EC KEY-----\nMHcCAQEEIBkg4LVWM9nuwNSk3yByxZpYRTBnVJk5oeYxVr\nAwEHoUQDQgAE7c8kqL0q\n-----END EC KEY-----"
)

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "as JSON": json.dumps,
    "as JSON in JSON": lambda secret: json.dumps(json.dumps(secret)),
    "as JSON with raw characters": lambda secret: json.dumps(secret, ensure_ascii=False),
    "percent-encoded": lambda secret: quote(secret, safe=""),
    "percent-encoded in lower case": lambda secret: quote(secret, safe="").lower() if secret == secret.lower() else "",
    "percent-encoded as a path": quote,
    "as a form": lambda secret: urlencode({"x": secret}),
    "as a Python literal": repr,
    "in a Python literal of bytes": lambda secret: repr(secret.encode()) if secret.isascii() else "",
    "in the repr of an exception": lambda secret: repr(ValueError(f"bad value {secret!r}")),
}


def holds(text: str, secret: str) -> bool:
    """Whether a reader who knows what to look for finds a telling part of the secret."""
    core = secret.replace("\t", " ").split()[0].split("/")[0]
    return core in text


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("value", [AWKWARD, PLAIN], ids=["awkward", "plain"])
def test_a_live_secret_is_removed_in_every_form(value: str, form: Callable[[str], str]) -> None:
    secret = Secret(value)
    text = f"before {form(secret.reveal())} after"
    redacted = Redactor().redact(text)
    assert not holds(redacted, value)
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


@pytest.mark.parametrize("identity", ["", "a", "ab", "abc", "orders-worker"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode], ids=["standard", "urlsafe"])
@pytest.mark.parametrize("value", [AWKWARD, PLAIN], ids=["awkward", "plain"])
def test_a_secret_inside_base64_is_removed_at_every_alignment(
    value: str, identity: str, encode: Callable[[bytes], bytes]
) -> None:
    secret = Secret(value)
    for inner in (secret.reveal(), quote_plus(secret.reveal()), quote(secret.reveal(), safe="")):
        encoded = encode(f"{identity}:{inner}:x".encode()).decode()
        assert Redactor().redact(f"sent {encoded}, refused") == f"sent {MASK}, refused"


@given(value=st.text(min_size=9, max_size=40), before=st.binary(max_size=9), after=st.binary(max_size=9))
def test_base64_hides_no_secret_whatever_stands_around_it(value: str, before: bytes, after: bytes) -> None:
    encoded = base64.b64encode(before + value.encode(errors="replace") + after).decode()
    assert any(fragment in encoded for fragment in fragments_of(value.encode(errors="replace").decode()))


def test_a_single_line_of_a_private_key_is_removed() -> None:
    secret = Secret(PEM)
    for line in secret.reveal().splitlines()[1:-1]:
        assert line not in Redactor().redact(f"cannot parse {line!r}")


def test_a_rotated_secret_is_known_at_once_and_a_dropped_one_is_forgotten() -> None:
    redactor = Redactor()
    first = Secret("cn4ry-first-value")
    assert redactor.redact(first.reveal()) == MASK
    second = Secret("cn4ry-second-value")
    assert redactor.redact(second.reveal()) == MASK
    del first
    gc.collect()
    redactor.redact("")
    assert "cn4ry-first-value" not in redactor._forms
    assert set(redactor._forms) == set(live_values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {MASK}"),
        ("authorization:bearer%20abcdef123", f"authorization:bearer%20{MASK}"),
        ("got Basic aWQ6c2VjcmV0 from", f"got Basic {MASK} from"),
        ("DPoP abcdefgh", f"DPoP {MASK}"),
        ("x eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0. y", f"x {MASK} y"),
        ("a=1&client_secret=hunter2&b=2", f"a=1&client_secret={MASK}&b=2"),
        ('{"access_token":"abc","expires_in":1}', f'{{"access_token":"{MASK}","expires_in":1}}'),
        (r"{\"refresh_token\": \"abc\"}", rf"{{\"refresh_token\": \"{MASK}\"}}"),
        ("{'id_token': 'abc'}", f"{{'id_token': '{MASK}'}}"),
        ("http://user:hunter2@proxy:3128/", f"http://user:{MASK}@proxy:3128/"),
        (r"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- end", f"{MASK} end"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", MASK),
    ],
)
def test_what_looks_like_a_token_is_masked_though_we_never_saw_it(text: str, expected: str) -> None:
    assert mask_patterns(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "client_secret_basic authentication failed",
        "Basic authentication is refused here",
        "the token of credential orders was refreshed",
        "GET https://api.example.com:443/v1/orders",
        "token_requests_total went up, client_secret was read again",
        "key_id=abc scope=orders.read",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert mask_patterns(text) == text


def test_controls_and_text_that_reorders_the_screen_are_escaped() -> None:
    assert escape("a\r\n\x1b[31mb\x7f\x9bc") == r"a\u000d\u000a\u001b[31mb\u007f\u009bc"
    assert escape("\u202eevil\u2066\u200b\ufeff\u2028") == r"\u202eevil\u2066\u200b\ufeff\u2028"
    assert escape("lone \udcff") == r"lone \udcff"
    assert escape("grüße, 世界") == "grüße, 世界"


def test_a_redacted_line_is_still_one_json_object() -> None:
    secret = Secret("cn4ry-in-json")
    line = json.dumps({"event": "x", "detail": f"bad {secret.reveal()}"})
    assert json.loads(Redactor().redact_json_line(line)) == {"event": "x", "detail": f"bad {MASK}"}


def test_a_secret_that_stands_in_a_number_leaves_valid_json() -> None:
    secret = Secret("731946")
    line = json.dumps({"event": "x", "bytes": 12_731_946})
    redacted = Redactor().redact_json_line(line)
    assert secret.reveal() not in redacted
    assert json.loads(redacted)["event"] == "log_line_cut"


def test_a_line_that_is_too_long_is_cut_after_redaction_and_stays_json() -> None:
    secret = Secret("cn4ry" + "x" * 5000)
    line = json.dumps({"event": "x", "detail": "\\" + "y" * 3000 + secret.reveal() + "z" * LONGEST_LINE})
    redacted = Redactor().redact_json_line(line)
    assert len(redacted) <= LONGEST_LINE
    assert "cn4ry" not in redacted
    assert json.loads(redacted)["line"].startswith('{"event": "x"')


def test_a_huge_line_of_base64_is_searched_in_linear_time() -> None:
    secret = Secret(PLAIN)
    run = "A" * 2_000_000
    hidden = base64.b64encode(secret.reveal().encode()).decode()
    assert Redactor().redact(f"{run}{hidden}{run}") == MASK


@given(st.text())
def test_any_text_gives_a_line_that_can_be_written_and_read_back(text: str) -> None:
    line = json.dumps({"detail": text}, ensure_ascii=False)
    clean = Redactor().redact_json_line(line)
    clean.encode()
    assert "\n" not in clean
    assert isinstance(json.loads(clean), dict)
