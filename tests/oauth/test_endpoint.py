"""The wire to the IdP: bounds, deadlines, TLS, and every foreign exception translated."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from sidecar.errors import (
    ConfigurationInvalid,
    TokenConnect,
    TokenDNS,
    TokenMalformed,
    TokenRequestError,
    TokenTimeout,
    TokenTLS,
)
from sidecar.oauth.client_auth import TokenRequest
from sidecar.oauth.endpoint import DISCOVERY_TTL_SECONDS, MAX_BODY_BYTES, Endpoint, Wire
from sidecar.simulation.idp import MockIdP, Step
from tests.fake_clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Counter:
    def __init__(self) -> None:
        self.sent = 0

    def __call__(self) -> None:
        self.sent += 1


def wire(**changes: Any) -> Wire:
    plain: dict[str, Any] = {"ca_file": None, "connect_seconds": 2.0, "total_seconds": 5.0, "on_send": lambda: None}
    return Wire(**(plain | changes))


def request(url: str) -> TokenRequest:
    return TokenRequest(url, {"X-Probe": "yes"}, b"grant_type=client_credentials")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def endpoint(clock: FakeClock) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(clock)
    yield endpoint
    await endpoint.close()


@pytest.fixture
async def idp(clock: FakeClock) -> AsyncIterator[MockIdP]:
    async with MockIdP(now=clock.now) as idp:
        yield idp


async def test_an_answer_of_any_status_comes_back_as_it_is(endpoint: Endpoint, idp: MockIdP, clock: FakeClock) -> None:
    idp.script(Step(status=418, headers={"Retry-After": "3", "X-Odd": "1"}, body=b"short and stout"))
    answer = await endpoint.send(request(idp.token_url), wire())
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (418, b"short and stout", "3")
    assert (answer.sent_at, answer.wall) == (clock.now(), clock.wall())
    assert idp.received[0].headers["x-probe"] == "yes"
    assert idp.received[0].headers["accept-encoding"] == "identity"


async def test_redirects_are_not_followed_and_cookies_not_kept(endpoint: Endpoint, idp: MockIdP) -> None:
    idp.script(Step(status=307, headers={"Location": "/elsewhere", "Set-Cookie": "a=b; Path=/"}))
    assert (await endpoint.send(request(idp.token_url), wire())).status == 307
    await endpoint.send(request(idp.token_url), wire())
    assert [received.path for received in idp.received] == ["/token", "/token"]
    assert "cookie" not in idp.received[1].headers


async def test_every_request_has_a_connection_of_its_own(endpoint: Endpoint, idp: MockIdP) -> None:
    for _ in range(3):
        await endpoint.send(request(idp.token_url), wire())
    assert len({received.peer_port for received in idp.received}) == 3


async def test_the_environments_proxy_is_not_used(
    endpoint: Endpoint, idp: MockIdP, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await endpoint.send(request(idp.token_url), wire())).status == 401


async def test_an_answer_over_the_bound_is_malformed(endpoint: Endpoint, idp: MockIdP) -> None:
    idp.script(Step(body=b"x" * MAX_BODY_BYTES), Step(body=b"x" * (MAX_BODY_BYTES + 1)))
    assert len((await endpoint.send(request(idp.token_url), wire())).body) == MAX_BODY_BYTES
    with pytest.raises(TokenMalformed, match="larger"):
        await endpoint.send(request(idp.token_url), wire())


@pytest.mark.parametrize("fault", ["hang", "drip"])
async def test_an_idp_that_hangs_or_drips_is_a_timeout(endpoint: Endpoint, idp: MockIdP, fault: Any) -> None:
    idp.script(Step(fault=fault))
    with pytest.raises(TokenTimeout):
        await endpoint.send(request(idp.token_url), wire(total_seconds=0.05))


@pytest.mark.parametrize("fault", ["reset", "close"])
async def test_a_broken_connection_is_a_connect_error(endpoint: Endpoint, idp: MockIdP, fault: Any) -> None:
    idp.script(Step(fault=fault))
    with pytest.raises(TokenConnect, match="closed"):
        await endpoint.send(request(idp.token_url), wire())


async def test_an_idp_that_hangs_keeps_no_other_waiting(endpoint: Endpoint, idp: MockIdP, clock: FakeClock) -> None:
    patient = wire(connect_seconds=60.0, total_seconds=60.0)
    idp.always(Step(fault="hang"))
    hanging = [asyncio.ensure_future(endpoint.send(request(idp.token_url), patient)) for _ in range(120)]
    async with asyncio.timeout(60):
        while len(idp.received) < 100:
            await asyncio.sleep(0)
    async with MockIdP(now=clock.now) as other:
        assert (await endpoint.send(request(other.token_url), patient)).status in (200, 401)
    for each in hanging:
        each.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_refused_connection_is_a_connect_error(endpoint: Endpoint, idp: MockIdP) -> None:
    await idp.stop()
    with pytest.raises(TokenConnect, match=r"127\.0\.0\.1"):
        await endpoint.send(request(idp.token_url), wire())


async def test_a_connection_that_is_never_accepted_is_a_timeout(endpoint: Endpoint) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            with pytest.raises(TokenTimeout):
                await endpoint.send(request(f"http://127.0.0.1:{address[1]}/"), wire(connect_seconds=0.05))
        finally:
            for filler in fillers:
                filler.close()


async def test_a_name_that_does_not_resolve_is_a_dns_error(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(TokenDNS, match=r"idp\.test"):
        await endpoint.send(request("http://idp.test/token"), wire())


async def serve_raw(reply: bytes) -> tuple[asyncio.Server, str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"canary not http\r\n\r\n", TokenMalformed),
        (b"HTTP/1.1 200 OK\r\ncanary header\r\n\r\n", TokenMalformed),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{canary", TokenMalformed),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\ncanary", TokenMalformed),
        (b"HTTP/1.1 200 OK\r\nX: " + b"c" * 100_000 + b"\r\n\r\n", TokenMalformed),
        (b"", TokenConnect),
    ],
)
async def test_what_is_not_http_is_an_error_that_quotes_nothing(
    endpoint: Endpoint, reply: bytes, kind: type[TokenRequestError]
) -> None:
    server, url = await serve_raw(reply)
    async with server:
        with pytest.raises(kind) as caught:
            await endpoint.send(request(url), wire())
    assert "canary" not in caught.value.detail


async def test_a_compressed_answer_is_not_unpacked(endpoint: Endpoint) -> None:
    server, url = await serve_raw(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
    )
    async with server:
        assert (await endpoint.send(request(url), wire())).body == b"\x1f\x8b\x08\x00"


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_a_credentials_own_ca_is_trusted(endpoint: Endpoint, authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    async with MockIdP(tls=server_context(authority)) as idp:
        assert (await endpoint.send(request(idp.token_url), wire(ca_file=str(ca_file)))).status == 401


async def test_an_unknown_ca_is_a_tls_error(endpoint: Endpoint, authority: trustme.CA) -> None:
    async with MockIdP(tls=server_context(authority)) as idp:
        with pytest.raises(TokenTLS, match="not trusted"):
            await endpoint.send(request(idp.token_url), wire())


async def test_a_certificate_of_another_name_is_a_tls_error(
    endpoint: Endpoint, authority: trustme.CA, tmp_path: Path
) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    async with MockIdP(tls=server_context(authority, "other.test")) as idp:
        with pytest.raises(TokenTLS, match="not trusted"):
            await endpoint.send(request(idp.token_url), wire(ca_file=str(ca_file)))


async def test_a_server_without_tls_is_a_tls_error(endpoint: Endpoint, idp: MockIdP) -> None:
    with pytest.raises(TokenTLS):
        await endpoint.send(request(f"https://localhost:{idp.port}/token"), wire())


async def test_a_ca_file_that_changed_is_read_again(endpoint: Endpoint, authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca_file))
    async with MockIdP(tls=server_context(authority)) as idp:
        with pytest.raises(TokenTLS):
            await endpoint.send(request(idp.token_url), wire(ca_file=str(ca_file)))
        authority.cert_pem.write_to_path(str(ca_file))
        os.utime(ca_file, ns=(1, 1))
        assert (await endpoint.send(request(idp.token_url), wire(ca_file=str(ca_file)))).status == 401


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
async def test_an_unreadable_ca_file_is_a_tls_error_and_nothing_is_sent(
    endpoint: Endpoint, idp: MockIdP, tmp_path: Path, content: bytes | None
) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_bytes(content)
    counter = Counter()
    with pytest.raises(TokenTLS, match=r"ca\.pem"):
        await endpoint.send(request(idp.token_url), wire(ca_file=str(ca_file), on_send=counter))
    assert counter.sent == 0


# --- discovery -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["openid-configuration", "oauth-authorization-server"])
@pytest.mark.parametrize("path", ["", "/tenant"])
async def test_an_issuer_is_enough(endpoint: Endpoint, form: str, path: str) -> None:
    async with MockIdP(issuer_path=path) as idp:
        idp.metadata_forms = {form}
        assert (await endpoint.discover(idp.issuer, wire())).endpoint("token_endpoint") == idp.token_url


async def test_a_document_is_remembered_for_an_hour(endpoint: Endpoint, idp: MockIdP, clock: FakeClock) -> None:
    counter = Counter()
    for _ in range(3):
        await endpoint.discover(idp.issuer, wire(on_send=counter))
    assert counter.sent == 1
    clock.slip(DISCOVERY_TTL_SECONDS)
    await endpoint.discover(idp.issuer, wire(on_send=counter))
    assert counter.sent == 2


async def test_an_old_document_serves_while_the_idp_does_not(
    endpoint: Endpoint, idp: MockIdP, clock: FakeClock
) -> None:
    url = await endpoint.discover(idp.issuer, wire())
    clock.slip(DISCOVERY_TTL_SECONDS)
    await idp.stop()
    assert await endpoint.discover(idp.issuer, wire()) == url


async def test_a_forgotten_document_is_asked_for_again(endpoint: Endpoint, idp: MockIdP) -> None:
    await endpoint.discover(idp.issuer, wire())
    idp.metadata["token_endpoint"] = f"{idp.origin}/moved"
    endpoint.forget_discovered(idp.issuer, None)
    moved = await endpoint.discover(idp.issuer, wire())
    assert moved.endpoint("token_endpoint") == f"{idp.origin}/moved"


async def test_another_issuers_document_is_refused_in_both_places(endpoint: Endpoint, idp: MockIdP) -> None:
    idp.metadata["issuer"] = f"{idp.issuer}/"
    with pytest.raises(TokenMalformed, match="another issuer"):
        await endpoint.discover(idp.issuer, wire())
    assert len(idp.received) == 2


async def test_the_wrong_document_is_reported_rather_than_the_missing_one(endpoint: Endpoint, idp: MockIdP) -> None:
    idp.metadata["issuer"] = "https://other.test"
    for form in ("openid-configuration", "oauth-authorization-server"):
        idp.metadata_forms = {form}
        with pytest.raises(TokenMalformed, match="another issuer"):
            await endpoint.discover(idp.issuer, wire())


async def test_an_idp_that_is_down_is_asked_once_an_attempt(endpoint: Endpoint, idp: MockIdP) -> None:
    await idp.stop()
    counter = Counter()
    with pytest.raises(TokenConnect):
        await endpoint.discover(idp.issuer, wire(on_send=counter))
    assert counter.sent == 1


# --- the environment -------------------------------------------------------------------------------------------------


def test_authlibs_insecure_switch_is_a_reason_not_to_start(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    with pytest.raises(ConfigurationInvalid, match="AUTHLIB_INSECURE_TRANSPORT"):
        Endpoint(clock)
