"""Durations, sizes, paths, methods, scopes; and which unquoted scalars are odd."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config import scalars
from sidecar.config.scalars import Plain


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("1h", 3600.0), ("7d", 604800.0), ("0s", 0.0), ("1.5s", 1.5)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert scalars.duration(text) == seconds


@pytest.mark.parametrize("text", ["30", "0", "30 sec", "1h30m", "-5s", "s", "", "5M", "1e3s", "٣s", "1w", "1µs"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        scalars.duration(text)


def test_a_bare_number_is_told_its_unit_is_missing() -> None:
    with pytest.raises(ValueError, match="write 30s, not 30"):
        scalars.duration("30")


@pytest.mark.parametrize(
    ("text", "count"), [("512B", 512), ("64KiB", 65536), ("1MiB", 1 << 20), ("1GiB", 1 << 30), ("1.5KiB", 1536)]
)
def test_a_size_is_read_in_bytes(text: str, count: int) -> None:
    assert scalars.size(text) == count


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("64KB", "write KiB"),
        ("64k", "write KiB"),
        ("1MB", "write MiB"),
        ("1gb", "write GiB"),
        ("65536", "needs its unit"),
        ("64kib", "the units of a size"),
        ("0.3B", "whole number of bytes"),
        ("KiB", "not a size"),
    ],
)
def test_what_is_no_size_is_refused_with_the_way_to_write_it(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        scalars.size(text)


@given(st.integers(min_value=0, max_value=366 * 86400 * 1000))
def test_a_duration_is_written_as_it_is_read(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert scalars.duration(scalars.written_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(st.integers(min_value=0, max_value=1 << 30))
def test_a_size_is_written_as_it_is_read(count: int) -> None:
    assert scalars.size(scalars.written_size(count)) == count


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("orders", Plain.TEXT),
        ("10.0.0.1", Plain.TEXT),
        ("127.0.0.1:6180", Plain.TEXT),
        ("0012", Plain.INTEGER),
        ("-7", Plain.INTEGER),
        ("0.75", Plain.DECIMAL),
        ("true", Plain.BOOL),
        ("null", Plain.NULL),
        ("~", Plain.NULL),
        ("", Plain.NULL),
        *(
            (odd, Plain.ODD)
            for odd in ("no", "Yes", "ON", "off", "y", "True", "FALSE", "Null", "12:30:00", "0o17", "0x1F", "0b1", "+5")
        ),
        *((odd, Plain.ODD) for odd in ("1_000", "1e3", "12e4567", ".5", "1.", ".inf", "-.INF", ".NaN", "=", "<<")),
        *((odd, Plain.ODD) for odd in ("2018-02-01", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.10 -5")),
    ],
)
def test_a_scalar_that_yaml_readers_disagree_on_is_odd(text: str, kind: Plain) -> None:
    assert scalars.plain_kind(text) is kind


@pytest.mark.parametrize("text", ["/", "/v1/", "/v1", "/a.b/c~d", "/x:y@z", "/odata/Items(1)"])
def test_a_path_prefix_in_normal_form_is_taken(text: str) -> None:
    assert scalars.url_path(text) == text


@pytest.mark.parametrize(
    "text", ["", "v1", "/a?b", "/a#b", "//a", "/a//b", "/a/../b", "/.", "/a%20b", "/a;b", "/a b", "/ü", "/a/*", "/a\\b"]
)
def test_a_path_that_a_server_might_read_otherwise_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="path"):
        scalars.url_path(text)


@pytest.mark.parametrize("text", ["get", "CONNECT", "TRACE", "GE T", "", "GET\n", "GÉT"])
def test_a_method_that_no_route_can_take_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"method|CONNECT"):
        scalars.method(text)


def test_an_own_method_is_taken() -> None:
    assert scalars.method("MKCALENDAR") == "MKCALENDAR"


@pytest.mark.parametrize("text", ["orders read", 'a"b', "a\\b", "", "ä", "a\x7f"])
def test_what_is_no_scope_token_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="scope"):
        scalars.scope(text)


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b", "\x7f", "a\x85b", ""])
def test_text_that_would_break_a_header_field_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it "):
        scalars.line(text)


@pytest.mark.parametrize("text", ["_unmatched", "-a", "", "a b", "a" * 129, "a\n", "ä"])
def test_a_name_that_is_no_metric_label_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="name"):
        scalars.name(text)


def test_the_home_folder_is_not_expanded() -> None:
    with pytest.raises(ValueError, match="not expanded"):
        scalars.file_path("~/ca.pem")


@pytest.mark.parametrize("text", ["/healthz", "/a/b?c=d&e=%20"])
def test_a_target_may_have_a_query(text: str) -> None:
    assert scalars.target(text) == text


@pytest.mark.parametrize("text", ["healthz", "/a b", "/a#b", "/a\n"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="path"):
        scalars.target(text)
