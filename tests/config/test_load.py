"""The whole way from a file to a configuration or a report: exact reports, broken files, no secret in any of them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.config import document, load
from tests.config.conftest import VALID, Report

if TYPE_CHECKING:
    from pathlib import Path

MARKER = "S3cr3t+Marker/42=="

BROKEN = """\
listeners:
  - name: egress
    mode: forwrd
    bnd: 127.0.0.1:6180
  - name: orders
    mode: reverse
    bind: 0.0.0.0:6190
    upstream: https://api.example.com/v1
telemetry: {bind: 127.0.0.1:6190}
credentials:
  orders:
    grant: client_credentials
    token_url: http://idp.example.com/token
    client_id: 0012
    client_secret: S3cr3t+Marker/42==    # before: S3cr3t+Marker/42==
    default_ttl: 30
    client_auth: private_key_jwt
  partner: {grant: password, client_secret: "S3cr3t+Marker/42==", token_params: {scope: S3cr3t+Marker/42==}}
routes:
  - host: api.example.com.
    credential: ordres
unmatched: no
limits: {head: 64KB, fields: "12"}
"""

REPORT = """\
config.yaml:3:11: 'mode': forward or reverse is wanted here, not 'forwrd'; did you mean 'forward'?
  3 |     mode: forwrd
    |           ^^^^^^
config.yaml:4:5: unknown key 'bnd'; did you mean 'bind'?
  4 |     bnd: ***
    |     ^^^
config.yaml:7:11: whoever reaches this address can use the tokens: bind 127.0.0.1, set auth, or beyond_loopback: true
  7 |     bind: 0.0.0.0:6190
    |           ^^^^^^^^^^^^
config.yaml:8:15: an upstream is scheme, host and port; the path comes with each request
  8 |     upstream: https://api.example.com/v1
    |               ^^^^^^^^^^^^^^^^^^^^^^^^^^
config.yaml:9:19: this address is taken in line 7
  9 | telemetry: {bind: 127.0.0.1:6190}
    |                   ^^^^^^^^^^^^^^
config.yaml:11:3: client_auth: private_key_jwt needs the key 'private_key'
  11 |   orders:
     |   ^^^^^^
config.yaml:13:16: 'token_url': http would send the client's secret in the clear: use https
  13 |     token_url: http://idp.example.com/token
     |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
config.yaml:15:20: 'client_secret': a secret is named, not written here: use file:PATH, env:NAME or cred:NAME
  15 |     client_secret: ***
     |                    ^^^
config.yaml:16:18: 'default_ttl': a duration needs its unit: write 30s, not 30
  16 |     default_ttl: 30
     |                  ^^
config.yaml:18:20: 'grant': the password grant is not supported: RFC 9700 section 2.4 says it must not be used
  18 |   partner: {grant: password, client_secret: ***, token_params: {scope: ***}}
     |                    ^^^^^^^^
config.yaml:18:45: 'client_secret': a secret is named, not written here: use file:PATH, env:NAME or cred:NAME
  18 |   partner: {grant: password, client_secret: ***, token_params: {scope: ***}}
     |                                             ^^^
config.yaml:18:82: 'scope' cannot be set here: use 'scopes'
  18 |   partner: {grant: password, client_secret: ***, token_params: {scope: ***}}
     |                                                                 ^^^^^
config.yaml:20:11: 'host': a host is written without the dot at its end
  20 |   - host: api.example.com.
     |           ^^^^^^^^^^^^^^^^
config.yaml:21:17: no credential has this name; did you mean 'orders'?
  21 |     credential: ordres
     |                 ^^^^^^
config.yaml:22:12: 'unmatched': deny or forward is wanted here, not 'no'
  22 | unmatched: no
     |            ^^
config.yaml:23:16: 'head': sizes are counted in powers of two: write KiB
  23 | limits: {head: 64KB, fields: "12"}
     |                ^^^^
config.yaml:23:30: 'fields': a whole number is wanted here, without quotes
  23 | limits: {head: 64KB, fields: "12"}
     |                              ^^^^
17 errors in config.yaml"""


def test_all_errors_are_told_at_once_with_place_line_and_caret(report: Report) -> None:
    assert report(BROKEN) == REPORT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "config.yaml: the configuration is empty"),
        (
            "listeners:\n  - name: egress\n",
            "config.yaml:2:5: 'listeners[0]' needs the key 'bind'\n  2 |   - name: egress\n    |     ^",
        ),
        (
            VALID + "limits:\n",
            "config.yaml:13:1: 'limits' has no value: give it one, or take the key out\n  13 | limits:\n     | ^^^^^^",
        ),
        (
            VALID + "log: {level: debug\n",
            "config.yaml:14:1: this mapping is not closed, or a comma is missing\n  14 |\n     | ^",
        ),
        (
            VALID.replace("client_id: orders-worker", "client_id: orders: worker"),
            (
                "config.yaml:8:22: a ': ' that belongs to no key: the indentation is off, or text needs quotes\n"
                "  8 |     ***\n    |        ^"
            ),
        ),
        (
            VALID.replace("    client_id", "\tclient_id"),
            (
                "config.yaml:8:1: a tab: YAML is indented and separated by spaces\n"
                "  8 |  client_id: orders-worker\n    | ^"
            ),
        ),
        (
            VALID.replace("file:/run/secrets/orders", f"'{MARKER}"),
            "config.yaml:9:20: the quote that opens here is never closed\n  9 |     ***\n    |        ^",
        ),
        (
            VALID.replace("client_secret: file:/run/secrets/orders", f"client_secret: !{MARKER}"),
            (
                "config.yaml:9:20: tags (!name) are not used here; put text that starts with ! in quotes\n"
                "  9 |     client_secret: ***\n    |                    ^^^"
            ),
        ),
        (
            VALID.replace("https://idp", "https://worker:pw@idp"),
            (
                "config.yaml:7:16: 'token_url': a URL holds no user name or password here\n"
                "  7 |     token_url: ***\n    |                ^^^"
            ),
        ),
        (
            VALID.replace("host: api.example.com", "host: bücher.example"),
            (
                "config.yaml:11:11: 'host': a host is written in ASCII; this name is xn--bcher-kva.example\n"
                "  11 |   - host: ***\n     |           ^^^"
            ),
        ),
        (
            VALID + "routes: []\n",
            (
                "config.yaml:13:1: this key stands here a second time; the first is in line 10\n"
                "  13 | routes: []\n     | ^^^^^^"
            ),
        ),
        (
            "listeners: []\n",
            "config.yaml:1:12: at least one listener is needed\n  1 | listeners: []\n    |            ^",
        ),
    ],
)
def test_the_report_on_a_single_mistake(text: str, expected: str, report: Report) -> None:
    assert report(text) == expected


def test_no_report_holds_a_secret(report: Report) -> None:
    assert MARKER not in report(BROKEN)


# --- files ---


def test_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + VALID.replace("\n", "\r\n").encode())

    assert load.load(path).listeners[0].name == "egress"


def broken_file(tmp_path: Path, raw: bytes) -> str:
    path = tmp_path / "c.yaml"
    path.write_bytes(raw)
    with pytest.raises(load.ConfigurationErrors) as caught:
        load.load(path)
    assert caught.value.exit_code == 3
    return str(caught.value).removeprefix(str(path))


def test_a_file_that_is_absent_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(load.ConfigurationErrors) as caught:
        load.load(tmp_path / "absent.yaml")
    assert str(caught.value) == f"{tmp_path}/absent.yaml: the configuration cannot be read: No such file or directory"


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(load.ConfigurationErrors, match="cannot be read: Is a directory"):
        load.load(tmp_path)


def test_a_file_that_is_not_utf_8_is_told_where(tmp_path: Path) -> None:
    assert broken_file(tmp_path, "a: b\nü: ".encode() + b"\xff\n") == ":2:4: the configuration is not UTF-8 text"


def test_a_file_in_utf_16_is_refused(tmp_path: Path) -> None:
    assert "not UTF-8" in broken_file(tmp_path, VALID.encode("utf-16"))


def test_a_file_over_the_bound_is_refused(tmp_path: Path) -> None:
    assert broken_file(tmp_path, b"#" * (document.MAX_BYTES + 1)) == ": a configuration has at most 1 MiB"
    with pytest.raises(load.ConfigurationErrors, match="at most 1 MiB"):
        load.parse("ü" * (document.MAX_BYTES // 2 + 1), "config.yaml")


def test_a_file_of_zeros_is_refused(tmp_path: Path) -> None:
    assert broken_file(tmp_path, b"\0" * 100).startswith(":1:1: the character U+0000 is not allowed here")


# --- what must hold for every text ---

FRAGMENTS = [*"\n :\t'\"{}[]#&*!|>%@?,\\~0\rü\0\ud800", ": ", "- ", " #", "---\n", "null", "<<: ", "  "]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A valid configuration with an inline secret, and a few characters inserted, deleted or replaced."""
    text = VALID.replace("file:/run/secrets/orders", MARKER)
    if draw(st.booleans()):
        text = BROKEN
    for _ in range(draw(st.integers(min_value=0, max_value=6))):
        at = draw(st.integers(min_value=0, max_value=len(text)))
        length = draw(st.integers(min_value=0, max_value=2))
        text = text[:at] + draw(st.sampled_from(["", *FRAGMENTS])) + text[at + length :]
    return text


@given(mutated())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_mutated_text_gives_a_report_without_the_secret_and_nothing_else(text: str) -> None:
    assert MARKER not in everything_said_about(text)


def everything_said_about(text: str) -> str:
    try:
        load.parse(text, "config.yaml")
    except load.ConfigurationErrors as exc:
        return f"{exc} {exc!r} {exc.problems}"
    return ""


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_at_all_gives_a_report(text: str) -> None:
    with pytest.raises(load.ConfigurationErrors):
        load.parse(text, "config.yaml")


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_at_all_give_a_report(tmp_path: Path, raw: bytes) -> None:
    broken_file(tmp_path, raw)


def test_the_python_parser_of_yaml_serves_where_the_c_parser_is_absent(
    monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    expected = report(BROKEN)
    monkeypatch.setattr(document, "_Loader", yaml.SafeLoader)

    assert report(BROKEN) == expected
    assert load.parse(VALID, "config.yaml").listeners[0].name == "egress"


def test_loading_imports_nothing_that_costs_start_up_time() -> None:
    code = "import sys, sidecar.config.load; print(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    costly = {"aiohttp", "asyncio", "authlib", "difflib", "jsonschema", "ssl", "urllib.request"}
    assert not costly & set(result.stdout.split())


def test_a_configuration_can_be_had_with_the_places_of_its_values() -> None:
    loaded = load.parse_with_places(VALID, "config.yaml")

    assert loaded.configuration == load.parse(VALID, "config.yaml")
    span = loaded.found.span(("credentials", "orders", "token_url"))
    assert span is not None
    assert (span.line, span.column) == (6, 15)
    assert loaded.found.span(("credentials", "orders", "scopes")) == loaded.found.span(("credentials", "orders"))
    assert loaded.frame(span) is not None
