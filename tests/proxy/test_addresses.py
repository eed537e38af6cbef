"""Which addresses are never dialled, whatever a name resolves to."""

from __future__ import annotations

import ipaddress

import pytest

from sidecar.proxy.addresses import OwnSockets, embedded, reason_to_refuse

address = ipaddress.ip_address

NEVER = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.0.1",
    "fe80::1",
    "febf::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "ff02::1",
]


@pytest.mark.parametrize("routed", [True, False])
@pytest.mark.parametrize("text", NEVER)
def test_an_address_that_is_never_an_upstream_is_refused_even_with_a_route(text: str, routed: bool) -> None:
    assert reason_to_refuse(address(text), routed=routed)


V4_INSIDE_V6 = ["::ffff:{0}", "64:ff9b::{0}", "2002:{1}::1", "2002:{1}:abcd::"]


@pytest.mark.parametrize("form", V4_INSIDE_V6)
@pytest.mark.parametrize("text", [text for text in NEVER if ":" not in text])
def test_the_same_address_inside_ipv6_is_refused_too(text: str, form: str) -> None:
    number = int(ipaddress.IPv4Address(text))
    wrapped = address(form.format(text, f"{number >> 16:x}:{number & 0xFFFF:x}"))
    assert embedded(wrapped) == address(text)
    assert reason_to_refuse(wrapped, routed=True)


@pytest.mark.parametrize(
    "text", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::"]
)
def test_loopback_is_for_routes_only(text: str) -> None:
    assert reason_to_refuse(address(text), routed=False)
    assert reason_to_refuse(address(text), routed=True) is None


@pytest.mark.parametrize(
    "text",
    [
        "93.184.216.34",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "168.63.129.17",
        "2001:db8::1",
        "fd12::1",
        "64:ff9b::5db8:d822",
    ],
)
def test_public_and_private_addresses_may_be_dialled(text: str) -> None:
    assert reason_to_refuse(address(text), routed=True) is None
    assert reason_to_refuse(address(text), routed=False) is None


def test_an_ordinary_address_holds_no_other() -> None:
    for text in ("10.0.0.1", "2001:db8::1", "::1"):
        assert embedded(address(text)) == address(text)


def own(*sockets: tuple[str, int]) -> OwnSockets:
    addresses = OwnSockets()
    addresses.replace(list(sockets))
    return addresses


@pytest.mark.parametrize(
    ("bound", "dialled", "port", "is_local", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", 6180, True, True),
        ("127.0.0.1", "::ffff:127.0.0.1", 6180, True, True),
        ("127.0.0.1", "127.0.0.1", 6181, True, False),
        ("127.0.0.1", "127.0.0.2", 6180, True, False),
        ("::1", "::1", 6180, True, True),
        ("0.0.0.0", "10.1.2.3", 6180, True, True),
        ("0.0.0.0", "10.1.2.3", 6180, False, False),
        ("0.0.0.0", "127.9.9.9", 6180, True, True),
        ("::", "10.1.2.3", 6180, True, True),
        ("::", "2001:db8::1", 6180, False, False),
        ("10.1.2.3", "10.1.2.3", 6180, True, True),
        ("10.1.2.3", "127.0.0.1", 6180, True, False),
    ],
)
def test_own_sockets_are_recognised(bound: str, dialled: str, port: int, is_local: bool, expected: bool) -> None:
    assert own((bound, 6180)).include(address(dialled), port, is_local=is_local) is expected


def test_own_sockets_are_replaced_whole() -> None:
    addresses = own(("127.0.0.1", 6180), ("127.0.0.1", 6181))
    assert [addresses.has_port(port) for port in (6180, 6181, 6190)] == [True, True, False]
    addresses.replace([("127.0.0.1", 6190)])
    assert [addresses.has_port(port) for port in (6180, 6181, 6190)] == [False, False, True]
    assert not addresses.include(address("127.0.0.1"), 6180, is_local=True)


@pytest.mark.parametrize(
    "text",
    ["::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2001:0:4136:e378:8000:63bf:5601:5601"],
    ids=["compatible", "NAT64 for local use", "Teredo"],
)
def test_metadata_is_recognised_inside_the_rarer_wrappings_too(text: str) -> None:
    assert embedded(address(text)) == address("169.254.169.254")
    assert reason_to_refuse(address(text), routed=True)
