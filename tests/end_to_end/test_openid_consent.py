"""Grants that a person gives, against the certified oidc-provider: from `sidecar login` to the last refresh token.

The provider rotates refresh tokens at every use and revokes a grant whose spent token comes back (RFC 9700 section
4.14.2). A person is a small browser that fills the provider's forms, and once a real Chromium.
"""

from __future__ import annotations

import base64
import itertools
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import aiohttp
import pytest

from sidecar.broker.store import TokenStore
from sidecar.secrets import SecretReference
from tests.end_to_end.browsers import CHROMIUM, PERSON, Chromium, FormBrowser
from tests.end_to_end.login_process import LoginProcess
from tests.end_to_end.node_packages import missing, needs_node
from tests.end_to_end.openid_provider import OTHER_RESOURCE, RESOURCE, OpenIDProvider
from tests.end_to_end.origin import VALID, Authority
from tests.end_to_end.registrations import Registrar, people
from tests.end_to_end.resource_server import ResourceServer
from tests.end_to_end.sidecar_process import SidecarProcess
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.end_to_end.browsers import Browser
    from tests.end_to_end.conftest import StartSidecar
    from tests.end_to_end.sidecar_process import Configuration

pytestmark = needs_node()

ACCESS_SECONDS: Final = 3
ROTATIONS: Final = 3
EARLY: Final = {"at": 0.2, "jitter": 0.0}
"""Of three seconds; a token may live two, because whole seconds are what it counts in."""


@pytest.fixture
async def provider(tmp_path: Path, authority: Authority) -> AsyncIterator[OpenIDProvider]:
    assert missing() is None, missing()
    clients = people() | Registrar(tmp_path, authority).certified_people()
    async with OpenIDProvider(
        tmp_path, authority, clients, access_seconds=ACCESS_SECONDS, nonce_for=["bound"]
    ) as provider:
        yield provider


@pytest.fixture
async def upstream(provider: OpenIDProvider, authority: Authority) -> AsyncIterator[ResourceServer]:
    async with ResourceServer(provider.issuer, await provider.keys(), authority.server) as server:
        yield server


@pytest.fixture
async def browser(provider: OpenIDProvider) -> AsyncIterator[FormBrowser]:
    async with FormBrowser(provider.trusted()) as browser:
        yield browser


class House:
    """One person's credential, and the configuration, store and terminals that belong to it."""

    def __init__(
        self, credential: str, provider: OpenIDProvider, upstream: ResourceServer, folder: Path, **more: Any
    ) -> None:
        self.credential = credential
        self._folder = folder
        self._logins = itertools.count()
        key = folder / "store-key"
        key.write_text(base64.b64encode(os.urandom(32)).decode())
        key.chmod(0o600)
        self.store = TokenStore(folder / "tokens", SecretReference("file", str(key)))
        where = {"host": "localhost", "port": upstream.port, "ca_file": str(provider.ca_file)}
        self.configuration: Configuration = {
            "listeners": [{"name": "api", "mode": "reverse", "upstream": f"https://localhost:{upstream.port}"}],
            "credentials": {credential: provider.credential(credential, refresh=EARLY, **more)},
            "routes": [where | {"name": "api", "credential": credential}],
            "store": {"path": str(self.store.path), "key": f"file:{key}"},
            "limits": {"token_wait": "200ms"},
        }
        self._file = SidecarProcess(folder, self.configuration).file

    def login(self, *arguments: str) -> LoginProcess:
        """The command, at a terminal of its own."""
        terminal = self._folder / f"terminal-{next(self._logins)}"
        return LoginProcess(self._file, self.credential, *arguments, folder=terminal)

    async def log_in(self, browser: Browser) -> str:
        """A person's consent, from the command to its end; what the browser shows at last."""
        async with self.login() as login:
            page = await browser.consent(await login.address())
            assert "is stored" in await login.done()
        return page

    def refresh_token(self) -> str:
        """What the store holds now."""
        grant = self.store.read(self.credential)
        assert grant is not None
        return grant.refresh_token.reveal()


class Build(Protocol):
    """Makes the house of a credential; ``more`` are further keys of its configuration."""

    def __call__(self, credential: str, **more: Any) -> House: ...


@pytest.fixture
def build(provider: OpenIDProvider, upstream: ResourceServer, tmp_path: Path) -> Build:
    def build(credential: str, **more: Any) -> House:
        return House(credential, provider, upstream, tmp_path, **more)

    return build


async def ask(sidecar: SidecarProcess) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{sidecar.url('api')}/items") as answer:
        await answer.read()
        return answer.status


async def served(sidecar: SidecarProcess) -> bool:
    return await ask(sidecar) == 200


async def unserved(sidecar: SidecarProcess) -> bool:
    return await ask(sidecar) == 503


async def in_state(sidecar: SidecarProcess, state: str) -> bool:
    return (await sidecar.metrics()).total("credential_state", state=state) == 1


async def rotations(sidecar: SidecarProcess) -> float:
    return (await sidecar.metrics()).total("token_rotations_total")


async def rotated(sidecar: SidecarProcess, times: int) -> None:
    """Wait for so many rotations more."""
    goal = await rotations(sidecar) + times

    async def there() -> bool:
        return await rotations(sidecar) >= goal

    await until(there, f"{times} rotations", seconds=30)


# --- from the command to the first request ---------------------------------------------------------------------------


async def test_a_sidecar_without_a_grant_takes_up_a_login_while_it_runs(
    build: Build, provider: OpenIDProvider, upstream: ResourceServer, browser: FormBrowser, start_sidecar: StartSidecar
) -> None:
    house = build("browser")
    sidecar = await start_sidecar(house.configuration)
    await until(lambda: in_state(sidecar, "login_needed"), "the sidecar says that a person is needed")
    assert await ask(sidecar) == 503

    await house.log_in(browser)
    await until(lambda: served(sidecar), "the sidecar takes up the login")
    assert {(visit.verdict, visit.claims["sub"]) for visit in upstream.visits} == {(VALID, PERSON)}
    assert provider.lines("broken") == []
    assert house.refresh_token() not in sidecar.stderr
    assert await sidecar.stop() == 0


async def test_a_person_consents_on_another_device(
    build: Build, provider: OpenIDProvider, upstream: ResourceServer, browser: FormBrowser, start_sidecar: StartSidecar
) -> None:
    house = build("device")
    await house.log_in(browser)
    sidecar = await start_sidecar(house.configuration)
    await until(lambda: served(sidecar), "the first token arrives")
    assert {(visit.verdict, visit.claims["sub"]) for visit in upstream.visits} == {(VALID, PERSON)}


@pytest.mark.parametrize("credential", ["key", "tls", "tls-device"])
async def test_a_client_proves_itself_from_the_login_to_the_revocation(
    credential: str, build: Build, provider: OpenIDProvider, browser: FormBrowser
) -> None:
    """With a certificate, at the addresses in ``mtls_endpoint_aliases`` (RFC 8705 section 5)."""
    house = build(credential)
    await house.log_in(browser)
    async with house.login("--revoke") as revocation:
        assert "revoked and forgotten" in await revocation.done()
    assert [one["client"] for one in provider.issued()] == [credential]
    assert provider.lines("revoked") == [credential]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("credential", ["browser", "device"])
async def test_a_person_consents_in_chromium(
    credential: str, build: Build, provider: OpenIDProvider, tmp_path: Path
) -> None:
    house = build(credential)
    async with Chromium(tmp_path, provider.certificate) as chromium:
        page = await house.log_in(chromium)
    assert ("The answer has arrived" if credential == "browser" else "Sign-in Success") in page
    assert house.refresh_token()


async def test_a_person_who_says_no_is_taken_at_their_word(
    build: Build, provider: OpenIDProvider, browser: FormBrowser
) -> None:
    house = build("browser")
    async with house.login() as login:
        await browser.refuse(await login.address())
        assert await login.ended(seconds=30) == 6
    assert "consent was not given" in login.stderr
    assert provider.lines("unauthorized") == [{"client": "browser", "error": "access_denied"}]
    assert house.store.read("browser") is None


async def test_consent_is_asked_for_two_resources_and_every_token_is_for_one(
    build: Build, provider: OpenIDProvider, browser: FormBrowser, start_sidecar: StartSidecar
) -> None:
    house = build("browser", token_params={"resource": [RESOURCE, OTHER_RESOURCE]})
    async with house.login() as login:
        url = await login.address()
        assert url.count("resource=") == 2
        await browser.consent(url)
        await login.done()
    sidecar = await start_sidecar(house.configuration)
    await until(lambda: served(sidecar), "the first token arrives")
    issued = provider.issued("browser")
    assert [(one["grant"], one["aud"]) for one in issued[:2]] == [
        ("authorization_code", RESOURCE),
        ("refresh_token", RESOURCE),
    ]


# --- the life of a grant ---------------------------------------------------------------------------------------------


async def test_rotated_refresh_tokens_and_the_key_they_are_bound_to_outlive_the_process(
    build: Build, provider: OpenIDProvider, upstream: ResourceServer, browser: FormBrowser, start_sidecar: StartSidecar
) -> None:
    house = build("bound")
    await house.log_in(browser)
    sidecar = await start_sidecar(house.configuration)
    await rotated(sidecar, ROTATIONS)
    assert await ask(sidecar) == 200
    assert await sidecar.stop() == 0

    again = await start_sidecar(house.configuration)
    await until(lambda: served(again), "the next process goes on with the grant")
    await rotated(again, 1)
    assert await ask(again) == 200
    assert {visit.verdict for visit in upstream.visits} == {VALID}
    assert len({visit.claims["cnf"]["jkt"] for visit in upstream.visits}) == 1
    assert provider.lines("revoked") == []
    # Once by the login and once by each process: a nonce is not kept on disk.
    assert [one["error"] for one in provider.refused()] == ["use_dpop_nonce"] * 3


async def test_a_refresh_token_from_elsewhere_begins_a_grant_and_is_spent_once(
    build: Build, provider: OpenIDProvider, browser: FormBrowser, tmp_path: Path, start_sidecar: StartSidecar
) -> None:
    house = build("browser")
    await house.log_in(browser)
    seed = tmp_path / "seed"
    seed.write_text(f"{house.refresh_token()}\n")
    house.store.remove("browser")
    house.configuration["credentials"]["browser"] |= {"grant": "refresh_token", "refresh_token": f"file:{seed}"}

    for process in range(2):
        sidecar = await start_sidecar(house.configuration)
        await until(partial(served, sidecar), f"process {process} has a token")
        await rotated(sidecar, 1)
        assert await sidecar.stop() == 0
    assert provider.lines("revoked") == provider.refused() == []


async def test_a_spent_refresh_token_that_comes_back_ends_the_grant_until_the_next_login(
    build: Build, provider: OpenIDProvider, upstream: ResourceServer, browser: FormBrowser, start_sidecar: StartSidecar
) -> None:
    house = build("browser")
    await house.log_in(browser)
    stolen = house.refresh_token()
    sidecar = await start_sidecar(house.configuration)
    await rotated(sidecar, 1)

    assert await refresh_by_hand(provider, stolen) == "invalid_grant"
    assert provider.lines("revoked") == ["browser"]
    await until(lambda: in_state(sidecar, "login_needed"), "the sidecar says that a person is needed")
    assert (await sidecar.metrics()).value("oauth_errors_total", error="invalid_grant") == 1
    await until(lambda: unserved(sidecar), "the last access token ends")

    await house.log_in(browser)
    await until(lambda: served(sidecar), "the sidecar takes up the new login")
    assert {visit.verdict for visit in upstream.visits} == {VALID}


async def refresh_by_hand(provider: OpenIDProvider, refresh_token: str) -> str:
    """The error that a refresh with this token meets."""
    fields = {"grant_type": "refresh_token", "client_id": "browser", "refresh_token": refresh_token}
    _, answer = await provider.post("/token", fields)
    return str(answer.get("error"))


async def test_a_revoked_login_is_worth_nothing_at_the_provider_and_the_sidecar_sees_it(
    build: Build, provider: OpenIDProvider, browser: FormBrowser, start_sidecar: StartSidecar
) -> None:
    house = build("browser")
    await house.log_in(browser)
    sidecar = await start_sidecar(house.configuration)
    await until(lambda: served(sidecar), "the first token arrives")
    token = house.refresh_token()

    async with house.login("--revoke") as revocation:
        assert "revoked and forgotten" in await revocation.done()
    assert provider.lines("revoked") == ["browser"]
    assert await refresh_by_hand(provider, token) == "invalid_grant"
    await until(lambda: in_state(sidecar, "login_needed"), "the sidecar says that a person is needed")
    assert house.store.read("browser") is None
