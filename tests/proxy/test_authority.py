"""One canonical authority, and what two readers could take for different hosts refused."""

from __future__ import annotations

import pytest

from sidecar.errors import BadRequest
from sidecar.proxy.authority import Authority, parse_authority, split_absolute

# --- the authority ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "host", "port"),
    [
        (b"api.example.com", "api.example.com", None),
        (b"API.Example.COM", "api.example.com", None),
        (b"api.example.com.", "api.example.com", None),
        (b"api.example.com.:443", "api.example.com", 443),
        (b"api.example.com:80", "api.example.com", 80),
        (b"api.example.com:00080", "api.example.com", 80),
        (b"api.example.com:65535", "api.example.com", 65535),
        (b"localhost", "localhost", None),
        (b"my_service-1", "my_service-1", None),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example", None),
        (b"127.0.0.1:8080", "127.0.0.1", 8080),
        (b"127.0.0.1.", "127.0.0.1", None),
        (b"1.example", "1.example", None),
        (b"[::1]", "::1", None),
        (b"[::1]:8443", "::1", 8443),
        (b"[0:0:0:0:0:0:0:1]", "::1", None),
        (b"[2001:DB8::A]", "2001:db8::a", None),
        (b"[::ffff:169.254.169.254]", "169.254.169.254", None),
        (b"[::ffff:a9fe:a9fe]:80", "169.254.169.254", 80),
        (b"a." * 126 + b"a", "a." * 126 + "a", None),
        (b"a" * 63, "a" * 63, None),
    ],
)
def test_an_authority_has_one_canonical_form(raw: bytes, host: str, port: int | None) -> None:
    authority = parse_authority(raw)
    assert authority == (host, port)
    assert parse_authority(authority.netloc(443).encode()).host == host


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b".",
        b"..",
        b":80",
        b".api.example.com",
        b"api..example.com",
        b"api.example.com..",
        b"user@api.example.com",
        b"user:password@api.example.com",
        b"api.example.com@evil.example",
        b"api.example.com:80@evil.example",
        b"api.example.com:",
        b"api.example.com:0",
        b"api.example.com:65536",
        b"api.example.com:000080",
        b"api.example.com:+80",
        b"api.example.com:-1",
        b"api.example.com:80:80",
        b"api.example.com: 80",
        b"api.example.com:0x50",
        b"api.example.com:http",
        b"api.example.com\t",
        b" api.example.com",
        b"api example.com",
        b"api.example.com%00",
        b"api%2eexample.com",
        b"api.example.com%2eevil.example",
        b"api.example.com,evil.example",
        b"api.example.com;evil",
        b"api.example.com\\evil",
        b"api.example.com/",
        b"api.example.com?",
        b"api.example.com#",
        b"*.example.com",
        "bücher.example".encode(),
        "\uff41pi.example.com".encode(),
        b"api.example.com\xad",
        b"a" * 64 + b".example",
        b"a." * 127 + b"a",
        b"127.1",
        b"0",
        b"2130706433",
        b"0x7f.1",
        b"0x7f000001",
        b"0X7F.0.0.1",
        b"0177.0.0.1",
        b"127.0.0.01",
        b"127.0.0.1.1",
        b"256.0.0.1",
        b"1.2.3",
        b"api.example.123",
        b"api.example.0x1",
        b"[::1",
        b"::1",
        b"::1]",
        b"[]",
        b"[::1]x",
        b"[::1]:",
        b"[::1]8080",
        b"[[::1]]",
        b"[::1%25eth0]",
        b"[fe80::1%eth0]",
        b"[127.0.0.1]",
        b"[api.example.com]",
        b"[v1.x]",
        b"[\xff]",
        b"[::12345]",
    ],
)
def test_what_two_readers_could_take_for_different_hosts_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_authority(raw)
    assert "evil" not in refused.value.detail


@pytest.mark.parametrize(
    ("authority", "default", "netloc"),
    [
        (Authority("a", None), 443, "a"),
        (Authority("a", 443), 443, "a"),
        (Authority("a", 443), 80, "a:443"),
        (Authority("::1", 80), 80, "[::1]"),
        (Authority("::1", 8080), 80, "[::1]:8080"),
    ],
)
def test_the_host_field_leaves_out_the_default_port(authority: Authority, default: int, netloc: str) -> None:
    assert authority.netloc(default) == netloc


# --- the target ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "scheme", "authority", "path"),
    [
        (b"http://a/x?y", "http", b"a", b"/x?y"),
        (b"HTTPS://A:1/%2F//..;x", "https", b"A:1", b"/%2F//..;x"),
        (b"http://a", "http", b"a", b"/"),
        (b"http://a?x=/b", "http", b"a", b"/?x=/b"),
        (b"http://a?x?y", "http", b"a", b"/?x?y"),
        (b"http://a/http://b/", "http", b"a", b"/http://b/"),
        (b"http://u@a/", "http", b"u@a", b"/"),
        (b"http:///x", "http", b"", b"/x"),
    ],
)
def test_a_target_is_taken_apart_and_its_path_kept(target: bytes, scheme: str, authority: bytes, path: bytes) -> None:
    assert split_absolute(target, b"GET") == (scheme, authority, path)


def test_options_without_a_path_asks_about_the_whole_server() -> None:
    assert split_absolute(b"http://a", b"OPTIONS").path == b"*"
    assert split_absolute(b"http://a/", b"OPTIONS").path == b"/"
    assert split_absolute(b"http://a?x", b"OPTIONS").path == b"/?x"


@pytest.mark.parametrize(
    "target",
    [
        b"/x",
        b"*",
        b"a:443",
        b"ftp://a/",
        b"ws://a/",
        b"file:///etc/passwd",
        b"http:/a",
        b"http:a",
        b"://a/",
        b"\xff://a",
    ],
)
def test_what_is_not_http_or_https_with_an_authority_is_refused(target: bytes) -> None:
    with pytest.raises(BadRequest):
        split_absolute(target, b"GET")
