"""Hosts that answer, and each way in which one does not."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from sidecar.preflight.dialling import Party, Reached, Resolving, Target, Unreachable, addresses, reach, thread_lookup
from sidecar.preflight.kinds import Kind
from tests.preflight.kit import NOW
from tests.preflight.servers import Authority, closed, full, listening

if TYPE_CHECKING:
    from pathlib import Path

PARTIES = (
    (Party.IDP, Kind.IDP_DNS, Kind.IDP_CONNECT, Kind.IDP_TIMEOUT),
    (Party.UPSTREAM, Kind.UPSTREAM_DNS, Kind.UPSTREAM_CONNECT, Kind.UPSTREAM_TIMEOUT),
)


async def here(host: str) -> list[str]:
    return ["127.0.0.1"]


async def nowhere(host: str) -> list[str]:
    raise OSError("no address")


async def reached(target: Target, *, seconds: float = 10.0) -> Reached | Kind:
    try:
        return await reach(target, lookup=here, seconds=seconds)
    except Unreachable as exc:
        return exc.kind


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_a_plain_server_is_reached() -> None:
    async with listening() as port:
        assert await reached(Target(Party.UPSTREAM, "api.test", port, tls=False)) == Reached("127.0.0.1", None)


async def test_over_tls_the_end_of_the_certificate_is_seen(authority: Authority) -> None:
    async with listening(authority.server("api.test", days=10)) as port:
        found = await reached(Target(Party.UPSTREAM, "api.test", port, ca_file=authority.file))

    assert isinstance(found, Reached)
    assert found.certificate_ends_at == pytest.approx(NOW + 10 * 86400, abs=2)


@pytest.mark.parametrize(("party", "dns", "connect", "timeout"), PARTIES)
async def test_each_way_not_to_be_reached_has_its_kind(party: Party, dns: Kind, connect: Kind, timeout: Kind) -> None:
    with pytest.raises(Unreachable) as caught:
        await addresses(Target(party, "gone.test", 443), lookup=nowhere, seconds=10)
    assert caught.value.kind is dns
    assert await reached(Target(party, "api.test", closed(), tls=False)) is connect
    with full() as port:
        assert await reached(Target(party, "api.test", port, tls=False), seconds=0.2) is timeout


@pytest.mark.parametrize(
    ("party", "expired", "name", "untrusted", "tls"),
    [
        (
            Party.IDP,
            Kind.IDP_CERTIFICATE_EXPIRED,
            Kind.IDP_CERTIFICATE_NAME,
            Kind.IDP_CERTIFICATE_UNTRUSTED,
            Kind.IDP_TLS,
        ),
        (
            Party.UPSTREAM,
            Kind.UPSTREAM_CERTIFICATE_EXPIRED,
            Kind.UPSTREAM_CERTIFICATE_NAME,
            Kind.UPSTREAM_CERTIFICATE_UNTRUSTED,
            Kind.UPSTREAM_TLS,
        ),
    ],
)
async def test_each_wrong_certificate_has_its_kind(
    authority: Authority, party: Party, expired: Kind, name: Kind, untrusted: Kind, tls: Kind
) -> None:
    async with listening(authority.server("api.test", days=-1)) as port:
        assert await reached(Target(party, "api.test", port, ca_file=authority.file)) is expired
    async with listening(authority.server("other.test")) as port:
        assert await reached(Target(party, "api.test", port, ca_file=authority.file)) is name
    async with listening(authority.server("127.0.0.2")) as port:
        assert await reached(Target(party, "127.0.0.1", port, ca_file=authority.file)) is name
    async with listening(authority.server("api.test")) as port:
        assert await reached(Target(party, "api.test", port)) is untrusted
    async with listening(first=b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert await reached(Target(party, "api.test", port, ca_file=authority.file)) is tls


async def test_a_bundle_that_went_away_is_a_failure_of_tls(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        await reach(Target(Party.IDP, "api.test", 443, ca_file=str(tmp_path / "gone.pem")), lookup=here, seconds=1)
    assert caught.value.kind is Kind.IDP_TLS


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    async def two(host: str) -> list[str]:
        return ["127.0.0.9", "127.0.0.1"]

    async with listening() as port:
        found = await reach(Target(Party.IDP, "api.test", port, tls=False), lookup=two, seconds=5)
    assert found.address == "127.0.0.1"


async def test_an_upstream_is_never_dialled_where_none_may_be() -> None:
    async def metadata(host: str) -> list[str]:
        return ["169.254.169.254", "fe80::1%eth0"]

    with pytest.raises(Unreachable) as caught:
        await addresses(Target(Party.UPSTREAM, "api.test", 443), lookup=metadata, seconds=1)
    assert caught.value.kind is Kind.UPSTREAM_ADDRESS
    assert await addresses(Target(Party.IDP, "api.test", 80, tls=False), lookup=metadata, seconds=1)


async def test_a_resolver_that_does_not_answer_is_not_waited_for() -> None:
    async def silent(host: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(Unreachable) as caught:
        await addresses(Target(Party.IDP, "api.test", 443), lookup=silent, seconds=0.05)
    assert caught.value.kind is Kind.IDP_TIMEOUT


async def test_the_system_s_resolver_is_asked_in_a_thread() -> None:
    assert set(await thread_lookup("localhost")) & {"127.0.0.1", "::1"}
    with pytest.raises(OSError, match="not a host name"):
        await thread_lookup(f"{'x' * 64}.test")


async def test_aiohttp_gets_the_same_addresses() -> None:
    async def both(host: str) -> list[str]:
        return ["127.0.0.1", "fe80::1%eth0"]

    entries = await Resolving(both).resolve("api.test", 443)
    assert [(each["host"], each["port"], each["family"]) for each in entries] == [
        ("127.0.0.1", 443, socket.AF_INET),
        ("fe80::1", 443, socket.AF_INET6),
    ]


def test_a_target_is_written_as_in_a_url() -> None:
    assert str(Target(Party.IDP, "::1", 443)) == "[::1]:443"
