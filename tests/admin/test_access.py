"""Who may use the admin listener, as decisions on heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.admin import access
from sidecar.errors import AdminTokenRefused, BadRequest, HostUnknown, OriginForeign, SecretMissing
from sidecar.http.h1 import read_request_head
from sidecar.secrets import Secret

if TYPE_CHECKING:
    from sidecar.http.message import RequestHead

TOKEN = Secret("0123456789abcdef")
KNOWN = access.own_hosts("127.0.0.1", "127.0.0.1")


def head(*fields: str, host: str | None = "127.0.0.1:6182") -> RequestHead:
    lines = ["POST /v1/credentials/orders/token HTTP/1.1", *([] if host is None else [f"Host: {host}"]), *fields]
    version = lines[0].replace("1.1", "1.0") if host is None else lines[0]
    return read_request_head(
        "\r\n".join([version, *lines[1:], "", ""]).encode("latin-1"), max_fields=64, max_target=1024
    )


# --- Host ---


@pytest.mark.parametrize("host", ["127.0.0.1:6182", "localhost", "LOCALHOST:6182", "[::1]:6182", "localhost.:6182"])
def test_its_own_address_and_localhost_are_known(host: str) -> None:
    access.check_source(head(host=host), KNOWN)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:6182", "10.0.0.1:6182", "localhost.evil.example"])
def test_any_other_host_is_refused_so_that_dns_rebinding_gets_nothing(host: str) -> None:
    with pytest.raises(HostUnknown):
        access.check_source(head(host=host), KNOWN)


def test_a_request_without_a_host_is_refused() -> None:
    with pytest.raises(HostUnknown):
        access.check_source(head(host=None), KNOWN)
    with pytest.raises(HostUnknown):
        access.check_source(head(host=None), None)


@pytest.mark.parametrize("host", ["127.1:6182", "0x7f000001", "user@localhost", "localhost:0", ""])
def test_a_host_that_has_two_readings_is_refused(host: str) -> None:
    with pytest.raises(BadRequest):
        access.check_source(head(host=host), KNOWN)


def test_the_address_a_client_connected_to_is_the_listeners_own_on_a_wildcard() -> None:
    known = access.own_hosts("0.0.0.0", "10.1.2.3")
    access.check_source(head(host="10.1.2.3:6182"), known)
    with pytest.raises(HostUnknown):
        access.check_source(head(host="10.1.2.4:6182"), known)
    with pytest.raises(HostUnknown):
        access.check_source(head(host="0.0.0.0:6182"), known)
    assert "10.1.2.3" in (access.own_hosts("::", "::ffff:10.1.2.3") or ())
    assert "fe80::1" in (access.own_hosts("fe80::1", "fe80::1") or ())


def test_a_unix_socket_answers_to_any_host() -> None:
    assert access.own_hosts("", "") is None
    access.check_source(head(host="anything.example"), None)


# --- pages ---


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("Origin: http://127.0.0.1:6182", "Sec-Fetch-Site: same-origin"),
        ("Sec-Fetch-Site: none",),
    ],
)
def test_programs_and_its_own_pages_may_ask(fields: tuple[str, ...]) -> None:
    access.check_source(head(*fields), KNOWN)


def test_the_default_port_may_be_left_out_of_an_origin() -> None:
    access.check_source(head("Origin: http://localhost:80", host="localhost"), KNOWN)


@pytest.mark.parametrize(
    "field",
    [
        "Origin: http://evil.example",
        "Origin: http://localhost:6182",  # another origin than the Host's, though both are ours
        "Origin: http://127.0.0.1:3000",  # another page of this machine
        "Origin: http://127.0.0.1",
        "Origin: https://127.0.0.1:6182",
        "Origin: null",
        "Origin: ",
        "Origin: http://",
        "Origin: 127.0.0.1:6182",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Site: whatever",
    ],
)
def test_pages_of_another_origin_may_not(field: str) -> None:
    with pytest.raises(OriginForeign):
        access.check_source(head(field), KNOWN)
    with pytest.raises(OriginForeign):
        access.check_source(head(field), None)


def test_one_foreign_origin_among_several_is_enough_to_be_refused() -> None:
    fields = ("Origin: http://127.0.0.1:6182", "Origin: http://evil.example")
    with pytest.raises(OriginForeign):
        access.check_source(head(*fields), KNOWN)


# --- the token ---


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_the_right_token_is_let_in(scheme: str) -> None:
    access.check_token(head(f"Authorization: {scheme} 0123456789abcdef"), TOKEN)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("Authorization: Bearer",),
        ("Authorization: Bearer ",),
        ("Authorization: Bearer 0123456789abcdeF",),
        ("Authorization: Bearer 0123456789abcde",),
        ("Authorization: Bearer 0123456789abcdef0",),
        ("Authorization: Bearer 0123456789abcdef\xe9",),
        ("Authorization: 0123456789abcdef",),
        ("Authorization: Basic OjAxMjM0NTY3ODlhYmNkZWY=",),
        ("Authorization: Bearer 0123456789abcdef", "Authorization: Bearer 0123456789abcdef"),
        ("Authorization: Bearer wrong", "Authorization: Bearer 0123456789abcdef"),
        ("Proxy-Authorization: Bearer 0123456789abcdef",),
    ],
)
def test_anything_else_is_refused_and_not_repeated(fields: tuple[str, ...]) -> None:
    with pytest.raises(AdminTokenRefused) as caught:
        access.check_token(head(*fields), TOKEN)
    assert "0123456789abcde" not in caught.value.detail


def test_a_token_is_long_enough_not_to_be_guessed_and_fits_into_a_header() -> None:
    assert access.checked_token(TOKEN) is TOKEN
    for value in ("short", "0123456789 abcdef", "0123456789abcdef\x7f", "0123456789abcdef\n", "0123456789abcdefé"):
        with pytest.raises(SecretMissing) as caught:
            access.checked_token(Secret(value))
        assert value not in caught.value.detail


def test_a_link_from_elsewhere_may_lead_to_what_is_no_secret_and_to_that_alone() -> None:
    linked = head("Sec-Fetch-Site: cross-site")
    access.check_source(linked, KNOWN, linked=True)
    with pytest.raises(OriginForeign):
        access.check_source(linked, KNOWN)
    with pytest.raises(OriginForeign):
        access.check_source(head("Origin: http://evil.example"), KNOWN, linked=True)
    with pytest.raises(HostUnknown):
        access.check_source(head(host="evil.example"), KNOWN, linked=True)
