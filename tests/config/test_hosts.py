"""Hosts, addresses to listen on, URLs."""

from __future__ import annotations

import pytest

from sidecar.config import hosts
from sidecar.config.model import Bind


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("API.Example.com", "api.example.com"),
        ("localhost", "localhost"),
        ("my_service", "my_service"),
        ("10.0.0.1", "10.0.0.1"),
        ("[::1]", "::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
    ],
)
def test_a_host_has_one_canonical_form(text: str, canonical: str) -> None:
    assert hosts.host(text) == canonical


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("https://api.example.com", "without scheme"),
        ("api.example.com/v1", "without scheme"),
        ("api.example.com:443", "the port has its own key"),
        ("[::1]:443", "the port has its own key|closing bracket"),
        ("api.example.com.", "without the dot"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("a..b", "not a valid host"),
        ("-a.example", "not a valid host"),
        ("a" * 64 + ".example", "not a valid host"),
        (".".join(["a" * 60] * 5), "not a valid host"),
        ("", "not a valid host"),
        ("user@host", "not a valid host"),
        ("a b", "not a valid host"),
        ("api.*.com", "stands only for whole labels"),
        ("*", "stands only for whole labels"),
        ("127.1", "four decimal"),
        ("2130706433", "four decimal"),
        ("0x7f.0.0.1", "not a valid|four decimal"),
        ("0x7f000001", "four decimal"),
        ("010.0.0.1", "four decimal"),
        ("fe80::1%eth0", "not a valid|zone"),
        ("::zz", "not a valid IPv6"),
    ],
)
def test_a_host_that_readers_could_take_for_another_is_refused(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        hosts.host(text)


def test_a_suffix_pattern_keeps_its_star() -> None:
    assert hosts.host_pattern("*.Example.com") == "*.example.com"


@pytest.mark.parametrize("text", ["*.10.0.0.1", "*.[::1]", "*.", "**.example.com", "*example.com", "*.*.example.com"])
def test_a_pattern_other_than_whole_labels_before_a_domain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host|address|\*"):
        hosts.host_pattern(text)


@pytest.mark.parametrize("name", ["127.0.0.1", "127.255.0.9", "::1", "localhost"])
def test_loopback_is_known(name: str) -> None:
    assert hosts.is_loopback(name)


@pytest.mark.parametrize("name", ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.example.com"])
def test_other_hosts_are_not_loopback(name: str) -> None:
    assert not hosts.is_loopback(name)


@pytest.mark.parametrize(
    "name", ["169.254.169.254", "169.254.1.1", "fe80::1", "fd00:ec2::254", "168.63.129.16", "metadata.google.internal"]
)
def test_metadata_addresses_are_known(name: str) -> None:
    assert hosts.is_metadata(name)


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("127.0.0.1:6180", Bind(host="127.0.0.1", port=6180)),
        ("[::]:6181", Bind(host="::", port=6181)),
        ("0.0.0.0:6181", Bind(host="0.0.0.0", port=6181)),
        ("localhost:0", Bind(host="localhost", port=0)),
        ("unix:/run/sidecar/proxy.sock", Bind(path="/run/sidecar/proxy.sock")),
    ],
)
def test_an_address_to_listen_on_is_read_and_written_alike(text: str, bind: Bind) -> None:
    assert hosts.bind(text) == bind
    assert str(bind) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("6180", "not an address to listen on"),
        ("127.0.0.1", "not an address to listen on"),
        (":6180", "before the port is missing"),
        ("127.0.0.1:66000", "up to 65535"),
        ("127.0.0.1:99999999999999999999", "up to 65535"),
        ("127.0.0.1:٦", "not an address to listen on"),
        ("::1:6180", "in brackets"),
        ("example.com:6180", "an IP address or localhost"),
        ("unix:proxy.sock", "starts with /"),
        ("unix:/" + "a" * 107, "at most 107 bytes"),
        ("unix:", "starts with /"),
    ],
)
def test_what_cannot_be_listened_on_is_refused(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        hosts.bind(text)


@pytest.mark.parametrize(("text", "mode"), [("0660", 0o660), ("600", 0o600)])
def test_permissions_are_octal(text: str, mode: int) -> None:
    assert hosts.file_mode(text) == mode


@pytest.mark.parametrize("text", ["0o660", "66", "0888", "rw-rw----", "1777"])
def test_other_permissions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="octal"):
        hosts.file_mode(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("https://api.example.com", hosts.URLParts("https", "api.example.com", 443, "", "")),
        ("HTTP://Api.example.com:8080/a/b?c", hosts.URLParts("http", "api.example.com", 8080, "/a/b", "?c")),
        ("https://[2001:db8::1]:8443/", hosts.URLParts("https", "2001:db8::1", 8443, "/", "")),
    ],
)
def test_a_url_is_taken_apart(text: str, parts: hosts.URLParts) -> None:
    assert hosts.url_parts(text) == parts
    assert hosts.url(text) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("api.example.com", "starts with https"),
        ("ftp://api.example.com", "starts with https"),
        ("//api.example.com", "starts with https"),
        ("https://", "needs a valid host"),
        ("https://user:secret@api.example.com", "user name"),
        ("https://api.example.com#x", "fragment"),
        ("https://api.example.com:0", "1 to 65535"),
        ("https://api.example.com:x", "needs a valid host"),
        ("https://api.example.com:443:443", "needs a valid host"),
        ("https://::1/", "needs a valid host"),
        ("https://api.example.com/a b", "percent-encoded"),
        ("https://api.example.com/\\x", "percent-encoded"),
        ("https://bücher.example/", "percent-encoded"),
        ("https://127.1/", "four decimal"),
        ("https://api.example.com.", "without the dot"),
        ("https://api.example.com\n", "percent-encoded|starts with"),
    ],
)
def test_a_url_that_readers_could_take_for_another_is_refused(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        hosts.url_parts(text)


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        ("https://idp.example.com", True),
        ("http://127.0.0.1:8080", True),
        ("http://[::1]", True),
        ("http://localhost", True),
        ("http://169.254.169.254/metadata", True),
        ("http://metadata.google.internal/", True),
        ("http://idp.example.com", False),
        ("http://169.254.1.1", False),
        ("http://168.63.129.16", False),
        ("http://10.0.0.1", False),
    ],
)
def test_secrets_travel_in_plain_only_to_loopback_and_token_giving_metadata_services(text: str, keeps: bool) -> None:
    assert hosts.url_parts(text).keeps_secrets is keeps


def test_messages_never_quote_the_text() -> None:
    for reader in (hosts.host, hosts.host_pattern, hosts.bind, hosts.url, hosts.file_mode, hosts.socket_path):
        with pytest.raises(ValueError, match=r".") as caught:
            reader("s3cr3t@ marker")
        assert "s3cr3t" not in str(caught.value)
