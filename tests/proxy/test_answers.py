"""Answers of the sidecar's own: valid for any parser, never mistaken for the upstream's, echoing nothing."""

from __future__ import annotations

import json
from typing import Any

import h11
import pytest

from sidecar.errors import (
    AddressDenied,
    AdminError,
    BadRequest,
    ClientError,
    Denied,
    KeyRefused,
    Overloaded,
    ProxyAuthRequired,
    SidecarError,
    TargetUnmatched,
    TokenUnavailable,
    UpstreamError,
    UpstreamTimeout,
    leaves,
)
from sidecar.proxy.answers import PHRASES, answer

DATE = b"Thu, 01 Jan 1970 00:00:00 GMT"
ANSWERABLE = [leaf for leaf in leaves() if leaf.status and not issubclass(leaf, AdminError)]
"""Those of the data path; the admin listener has answers of its own."""

REGISTERED = [
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "connection_limit_reached",
    "tls_protocol_error",
    "tls_certificate_error",
    "tls_alert_received",
    "http_request_error",
    "http_request_denied",
    "http_response_incomplete",
    "http_response_header_section_size",
    "http_response_header_size",
    "http_response_body_size",
    "http_response_trailer_section_size",
    "http_response_trailer_size",
    "http_response_transfer_coding",
    "http_response_content_coding",
    "http_response_timeout",
    "http_upgrade_failed",
    "http_protocol_error",
    "proxy_internal_response",
    "proxy_internal_error",
    "proxy_configuration_error",
    "proxy_loop_detected",
]
"""Proxy error types of RFC 9209 section 2.3."""


def parsed(raw: bytes, method: str = "GET") -> tuple[h11.Response, dict[str, str], bytes]:
    """The answer as h11 reads it: head, fields, body; nothing may be left over."""
    client = h11.Connection(our_role=h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    head, body = client.next_event(), b""
    assert isinstance(head, h11.Response)
    while isinstance(event := client.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data == (b"", False)
    names = [name for name, _ in head.headers]
    assert len(names) == len(set(names))
    return head, {name.decode(): value.decode() for name, value in head.headers}, body


def problem(error: SidecarError, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(parsed(answer(error, method=b"GET", date=DATE, close=True, **more))[2])
    return fields


@pytest.mark.parametrize("leaf", ANSWERABLE)
def test_every_error_that_becomes_an_answer_is_valid_and_says_whose_it_is(leaf: type[SidecarError]) -> None:
    head, fields, body = parsed(answer(leaf("in one sentence"), method=b"GET", date=DATE, close=True))
    assert (head.status_code, head.reason) == (leaf.status, PHRASES[leaf.status])
    assert fields["content-type"] == "application/problem+json"
    assert fields["date"] == DATE.decode()
    assert fields["cache-control"] == "no-store"
    assert fields["connection"] == "close"
    assert json.loads(body) == {
        "type": f"urn:token-sidecar:reason:{leaf.reason}",
        "title": leaf.title,
        "status": leaf.status,
        "detail": "in one sentence",
        "reason": leaf.reason,
        "retryable": leaf.retryable,
    }


@pytest.mark.parametrize("leaf", ANSWERABLE)
def test_proxy_status_names_a_registered_type_and_our_reason(leaf: type[SidecarError]) -> None:
    fields = parsed(answer(leaf("x"), method=b"GET", date=DATE, close=False))[1]
    name, kind, details = fields["proxy-status"].split("; ")
    assert name == "token-sidecar"
    assert kind.removeprefix("error=") in REGISTERED
    assert details == f'details="{leaf.reason}"'


@pytest.mark.parametrize("leaf", ANSWERABLE)
def test_head_gets_the_same_head_and_no_body(leaf: type[SidecarError]) -> None:
    whole = answer(leaf("x"), method=b"GET", date=DATE, close=True)
    bare = answer(leaf("x"), method=b"HEAD", date=DATE, close=True)
    assert whole.startswith(bare)
    assert bare.endswith(b"\r\n\r\n")
    assert parsed(bare, "HEAD")[2] == b""


def test_statuses_are_the_contract_s() -> None:
    by_family = {family: {leaf.status for leaf in leaves(family)} for family in (ClientError, Denied, UpstreamError)}
    assert by_family == {
        ClientError: {400, 408, 413, 414, 417, 431, 501, 505},
        Denied: {403, 407, 508},
        UpstreamError: {502, 504},
    }
    assert TokenUnavailable.status == Overloaded.status == 503
    assert 401 not in {leaf.status for leaf in ANSWERABLE}
    assert 421 not in {leaf.status for leaf in ANSWERABLE}


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (TokenUnavailable("x"), "1"),
        (TokenUnavailable("x", retry_after_seconds=0.0), "1"),
        (TokenUnavailable("x", retry_after_seconds=-3.0), "1"),
        (TokenUnavailable("x", retry_after_seconds=1.2), "2"),
        (Overloaded("x", retry_after_seconds=30.0), "30"),
        (Overloaded("x"), "1"),
        (UpstreamTimeout("x", retry_after_seconds=4.0), "4"),
        (UpstreamTimeout("x"), None),
        (BadRequest("x"), None),
        (TargetUnmatched("x"), None),
    ],
)
def test_a_503_always_says_when_to_come_back(error: SidecarError, seconds: str | None) -> None:
    assert parsed(answer(error, method=b"GET", date=DATE, close=False))[1].get("retry-after") == seconds


def test_a_connection_that_is_kept_is_not_said_to_close() -> None:
    assert "connection" not in parsed(answer(TargetUnmatched("x"), method=b"GET", date=DATE, close=False))[1]


def test_the_credential_and_its_generation_are_named_where_known() -> None:
    assert problem(TokenUnavailable("x"), credential="orders", generation=7) | {"detail": ""} == {
        "type": "urn:token-sidecar:reason:token_unavailable",
        "title": TokenUnavailable.title,
        "status": 503,
        "detail": "",
        "reason": "token_unavailable",
        "retryable": True,
        "credential": "orders",
        "generation": 7,
    }
    assert not {"credential", "generation"} & problem(AddressDenied("x")).keys()


@pytest.mark.parametrize("detail", ['a "quoted" word', "back\\slash", "line\r\nX: injected", "é ‮", "\x00"])
def test_no_detail_breaks_out_of_the_body(detail: str) -> None:
    raw = answer(BadRequest(detail), method=b"GET", date=DATE, close=True)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert detail.encode() not in head
    assert b"\r" not in body
    assert body.count(b"\n") == 1
    assert body.isascii()
    assert problem(BadRequest(detail))["detail"] == detail


def test_the_method_is_not_echoed() -> None:
    assert b"CANARY" not in answer(BadRequest("x"), method=b"CANARY", date=DATE, close=True)


def test_a_407_says_how_to_answer_it() -> None:
    fields = parsed(answer(ProxyAuthRequired("x"), method=b"GET", date=DATE, close=False))[1]
    assert fields["proxy-authenticate"] == 'Basic realm="token-sidecar"'
    assert "proxy-authenticate" not in parsed(answer(KeyRefused("x"), method=b"GET", date=DATE, close=False))[1]
