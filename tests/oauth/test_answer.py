"""What an answer says beside a token: the server's clock, and when it wants to be asked again.

What its failures mean is tested through ``parse``, in ``test_token`` and ``test_token_dialects``.
"""

from __future__ import annotations

import pytest

from sidecar.oauth.answer import Answer, error_code, failure, json_object, passing_status

WALL = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, fields, body, sent_at=0.0, wall=WALL)


def test_printing_an_answer_shows_neither_fields_nor_body() -> None:
    assert "canary" not in repr(answer(body=b"canary", x="canary"))


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        ("Fri, 15 Jan 2027 08:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        ("Fri, 15 Jan 2027 07:59:00 GMT", -59.0),
    ],
)
def test_the_servers_clock_is_compared_as_far_as_a_date_is_exact(date: str, skew: float) -> None:
    assert answer(date=date).clock_skew == skew


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 99 Jan 2027 08:00:00 GMT"])
def test_without_a_date_there_is_nothing_to_compare(date: str) -> None:
    assert answer(date=date).clock_skew is None
    assert answer(date=date).server_time == WALL


@pytest.mark.parametrize("body", [b"[]", b"7", b"", b"{", b"[" * 100_000])
def test_what_is_no_object_is_none(body: bytes) -> None:
    assert json_object(body) is None


def test_an_object_is_read_behind_a_byte_order_mark() -> None:
    assert json_object(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@pytest.mark.parametrize("status", [200, 201, 302, 400, 401, 403, 404])
def test_most_statuses_alone_say_nothing_of_the_server(status: int) -> None:
    assert passing_status(status) is None


@pytest.mark.parametrize("code", ["Invalid Client", "x" * 65, "", 7, ["invalid_client"], {"status": 7}])
def test_what_is_no_code_is_none(code: object) -> None:
    assert error_code({"error": code}) is None


def test_an_answer_that_may_hold_a_token_is_no_failure() -> None:
    assert failure(answer(), {"access_token": "t"}, {}) is None
