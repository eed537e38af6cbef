"""What heads show of themselves, and which answers have a body."""

from __future__ import annotations

import pytest

from sidecar.http.message import RequestHead, ResponseHead, has_body


@pytest.mark.parametrize(
    ("status", "method", "expected"),
    [
        (200, b"GET", True),
        (200, b"POST", True),
        (206, b"GET", True),
        (404, b"DELETE", True),
        (200, b"HEAD", False),
        (500, b"HEAD", False),
        (204, b"GET", False),
        (204, b"POST", False),
        (304, b"GET", False),
    ],
)
def test_only_head_204_and_304_have_no_body(status: int, method: bytes, expected: bool) -> None:
    assert has_body(status, method) is expected


@pytest.mark.parametrize(
    ("length", "chunked", "expected"),
    [(None, False, False), (0, False, False), (1, False, True), (None, True, True)],
)
def test_a_request_has_a_body_by_its_framing_not_by_its_method(
    length: int | None, chunked: bool, expected: bool
) -> None:
    head = RequestHead(b"GET", b"/", 1)
    head.content_length, head.chunked = length, chunked
    assert head.has_body is expected


def test_an_http_1_0_message_ends_its_connection_by_default() -> None:
    assert [RequestHead(b"GET", b"/", minor).close for minor in (0, 1)] == [True, False]
    assert [ResponseHead(200, b"200 OK", minor).close for minor in (0, 1)] == [True, False]


def test_values_are_found_in_any_case_and_stay_in_order() -> None:
    head = ResponseHead(401, b"401 Unauthorized", 1)
    head.lines = [b"WWW-Authenticate: Basic", b"X-WWW-Authenticate: no", b"www-AUTHENTICATE:\tBearer  "]
    assert head.values(b"www-authenticate") == [b"Basic", b"Bearer"]


def test_a_head_shows_neither_its_target_nor_its_fields() -> None:
    request = RequestHead(b"GET", b"/?key=canary", 1)
    request.lines, request.authorization = [b"X-Key: canary"], [b"Authorization: canary"]
    response = ResponseHead(200, b"200 OK", 1)
    response.lines = [b"Set-Cookie: canary"]
    assert repr(request) == "<RequestHead b'GET' HTTP/1.1 lines=1>"
    assert repr(response) == "<ResponseHead 200 HTTP/1.1 lines=1>"
