"""``sidecar login``: a consent ends as a grant in the store, or there is nothing but one clear message."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.broker.idp import IdP
from sidecar.broker.store import Grant, TokenStore
from sidecar.cli import login
from sidecar.config import model
from sidecar.errors import (
    ConfigurationInvalid,
    InvalidGrant,
    InvalidScope,
    LoginNeeded,
    ServerError,
    SidecarError,
    TokenConnect,
    TokenRefused,
)
from sidecar.oauth.endpoint import Endpoint
from sidecar.secrets import Secret, SecretReference
from sidecar.telemetry.metrics import Metrics
from tests.broker.store_kit import open_store
from tests.cli.authorization_server import CLIENT, SECRET, AuthorizationServer
from tests.cli.browser import get
from tests.end_to_end.waiting import free_port
from tests.fake_clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

NAME: Final = "repository"
PATIENCE: Final = 30
PENDING: Final = (400, {"error": "authorization_pending"})


@dataclass
class Desk:
    """A person before a terminal: a store, a clock, a server, and what the browser does with an address."""

    server: AuthorizationServer
    store: TokenStore
    clock: FakeClock
    endpoint: Endpoint
    opened: list[str] = field(default_factory=list)
    browsing: list[asyncio.Task[Any]] = field(default_factory=list)

    def config(self, grant: str = "authorization_code", **changes: Any) -> model.Credential:
        plain: dict[str, Any] = {
            "grant": grant,
            "client_auth": "none",
            "client_id": CLIENT,
            "token_url": self.server.url("/token"),
            "authorization_url": self.server.url("/authorize"),
            "device_authorization_url": self.server.url("/device"),
            "scopes": ("read", "write"),
        }
        return model.Credential(**(plain | changes))

    def idp(self, config: model.Credential) -> IdP:
        return IdP(
            config,
            name=NAME,
            clock=self.clock,
            endpoint=self.endpoint,
            meters=Metrics().credential(NAME),
            limits=model.Limits(token_request=5.0),
        )

    async def log_in(
        self,
        config: model.Credential,
        *,
        browse: Callable[[str], Coroutine[Any, Any, Any]] | None = None,
        patience: float | None = None,
        port: int | None = None,
    ) -> Grant | None:
        """Log in, the browser doing as told (by default: consent); what the store holds then."""

        def open_browser(url: str) -> None:
            self.opened.append(url)
            self.browsing.append(asyncio.create_task((browse or self.server.agree)(url)))

        async with asyncio.timeout(PATIENCE):
            await login.log_in(
                config,
                NAME,
                idp=self.idp(config),
                store=self.store,
                clock=self.clock,
                options=login.Options(port, patience, open_browser),
            )
        return self.store.read(NAME)

    async def revoke(self, config: model.Credential) -> None:
        async with asyncio.timeout(PATIENCE):
            await login.revoke(config, NAME, idp=self.idp(config), store=self.store)


@pytest.fixture
async def desk(server: AuthorizationServer, tmp_path: Path) -> AsyncIterator[Desk]:
    clock = FakeClock()
    server.now = clock.now
    endpoint = Endpoint(clock)
    desk = Desk(server, open_store(tmp_path), clock, endpoint)
    yield desk
    await asyncio.gather(*desk.browsing, return_exceptions=True)
    await endpoint.close()


async def nowhere(url: str) -> None:
    """A person who does nothing."""


# --- by browser -------------------------------------------------------------------------------------------------------


async def test_a_consent_in_the_browser_ends_as_a_grant_in_the_store(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.server.token = {"refresh_token_expires_in": 86400, "scope": "read"}
    grant = await desk.log_in(desk.config())
    assert grant is not None
    assert grant.refresh_token.reveal() in desk.server.refresh_tokens
    assert (grant.scope, grant.obtained_at) == ("read", desk.clock.wall())
    assert grant.expires_at == desk.clock.wall() + 86400
    assert (grant.rotates, grant.spent_at, grant.seed, grant.dpop_key) == (False, None, None, None)
    out, err = capsys.readouterr()
    assert "read" in out
    assert "2027-01-16 08:00 UTC" in out
    assert desk.opened[0] in err
    [page] = [task.result() for task in desk.browsing]
    assert page.status == 200


async def test_neither_code_nor_verifier_nor_token_is_shown(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    grant = await desk.log_in(desk.config())
    [form] = desk.server.forms("/token")
    said = "".join(capsys.readouterr())
    assert grant is not None
    for secret in (grant.refresh_token.reveal(), form["code"], form["code_verifier"]):
        assert secret not in said


async def test_the_server_is_asked_for_what_the_configuration_says(desk: Desk) -> None:
    await desk.log_in(
        desk.config(
            authorization_url=desk.server.url("/authorize?access_type=offline"),
            audience="https://api.test",
            token_params={"resource": ("https://one.test", "https://two.test"), "private": "not for a URL"},
            redirect_uri="http://127.0.0.1/cb",
        )
    )
    [asked] = desk.server.asked
    query = dict(asked)
    assert (query["response_type"], query["client_id"], query["scope"]) == ("code", CLIENT, "read write")
    assert (query["access_type"], query["audience"]) == ("offline", "https://api.test")
    assert [value for name, value in asked if name == "resource"] == ["https://one.test", "https://two.test"]
    assert "private" not in query
    [form] = desk.server.forms("/token")
    assert form["redirect_uri"] == query["redirect_uri"]
    assert form["private"] == "not for a URL"
    assert query["redirect_uri"].startswith("http://127.0.0.1:")
    assert query["redirect_uri"].endswith("/cb")


async def test_every_endpoint_is_found_by_the_issuer(desk: Desk) -> None:
    config = desk.config(issuer=desk.server.url(), token_url=None, authorization_url=None)
    assert await desk.log_in(config) is not None


async def test_a_client_with_a_secret_proves_itself(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", SECRET)
    secret = SecretReference("env", "CLIENT_SECRET")
    await desk.log_in(desk.config(client_auth="client_secret_basic", client_secret=secret))
    [(_, _, headers, form)] = desk.server.received
    assert headers["authorization"].startswith("Basic ")
    assert "client_secret" not in form


async def test_the_configured_port_is_bound_and_another_one_refused(desk: Desk) -> None:
    port = free_port()
    await desk.log_in(desk.config(redirect_uri=f"http://127.0.0.1:{port}/cb"))
    assert dict(desk.server.asked[0])["redirect_uri"] == f"http://127.0.0.1:{port}/cb"
    await desk.log_in(desk.config(), port=port)
    assert dict(desk.server.asked[1])["redirect_uri"] == f"http://127.0.0.1:{port}/callback"


async def test_a_grant_that_is_bound_to_a_key_keeps_the_key(desk: Desk) -> None:
    desk.server.token = {"token_type": "DPoP"}
    grant = await desk.log_in(desk.config(dpop=True))
    assert grant is not None
    assert grant.dpop_key is not None
    assert json.loads(grant.dpop_key.reveal())["kty"] == "EC"
    [(_, _, headers, _)] = desk.server.received
    assert headers["dpop"].count(".") == 2


async def test_what_is_not_the_answer_does_not_end_the_login(desk: Desk) -> None:
    async def browse(url: str) -> None:
        right = desk.server.consent(url)
        wrong = desk.server.consent(url.replace("state=", "state=x"))
        assert (await get(wrong)).status == 400
        assert (await get(right, host="evil.test")).status == 403
        assert (await get(right.replace("/callback", "/favicon.ico"))).status == 404
        assert (await get(right)).status == 200

    assert await desk.log_in(desk.config(), browse=browse) is not None
    await desk.browsing[0]


async def test_a_replayed_answer_finds_nobody(desk: Desk) -> None:
    answers: list[str] = []

    async def browse(url: str) -> None:
        answers.append(desk.server.consent(url))
        await get(answers[0])

    grant = await desk.log_in(desk.config(), browse=browse)
    with pytest.raises(ConnectionRefusedError):
        await get(answers[0])
    assert desk.store.read(NAME) == grant
    assert len(desk.server.forms("/token")) == 1


@pytest.mark.parametrize(
    ("callback", "leaf", "words"),
    [
        ({"code": None, "error": "access_denied", "error_description": "SECRET"}, TokenRefused, "access_denied"),
        ({"code": None, "error": "invalid_scope"}, InvalidScope, "invalid_scope"),
        ({"code": None, "error": "server_error"}, ServerError, "server_error"),
        ({"code": None}, TokenRefused, "no code"),
        ({"iss": "https://evil.test"}, TokenRefused, "another issuer"),
        ({"iss": None}, TokenRefused, "which issuer"),
        ({"code": "of another login"}, TokenRefused, "no code"),
        ({"code": "of-another-login"}, InvalidGrant, "invalid_grant"),
    ],
)
async def test_an_answer_without_a_usable_code_ends_the_login_and_stores_nothing(
    desk: Desk, callback: dict[str, str | None], leaf: type[SidecarError], words: str
) -> None:
    desk.server.callback = callback
    with pytest.raises(leaf, match=words) as caught:
        await desk.log_in(desk.config(issuer=desk.server.url()))
    assert "SECRET" not in caught.value.detail
    assert caught.value.exit_code == (5 if leaf is ServerError else 6)
    assert desk.store.read(NAME) is None


async def test_a_code_intercepted_by_another_program_is_worth_nothing_without_the_verifier(desk: Desk) -> None:
    async def browse(url: str) -> None:
        first = desk.server.consent(url)
        stolen = next(iter(desk.server.codes))
        desk.server.codes[stolen].challenge = "of-another-verifier"
        await get(first)

    with pytest.raises(InvalidGrant):
        await desk.log_in(desk.config(), browse=browse)


async def test_a_login_without_a_refresh_token_says_what_to_ask_for(desk: Desk) -> None:
    desk.server.token = {"refresh_token": None}
    with pytest.raises(LoginNeeded, match=r"offline_access.*access_type=offline") as caught:
        await desk.log_in(desk.config())
    assert caught.value.exit_code == 6
    assert desk.store.read(NAME) is None


async def test_a_token_without_the_scopes_it_needs_is_not_stored(desk: Desk) -> None:
    desk.server.token = {"scope": "read"}
    with pytest.raises(InvalidScope, match="write"):
        await desk.log_in(desk.config(required_scopes=("read", "write")))
    assert desk.store.read(NAME) is None


async def test_scopes_that_were_not_granted_are_told_where_that_is_no_error(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.server.token = {"scope": "read"}
    config = desk.config(required_scopes=("read", "write"), on_scope_missing="degraded")
    assert await desk.log_in(config) is not None
    assert "not granted          write" in capsys.readouterr().out


async def test_nobody_is_waited_for_without_end(desk: Desk) -> None:
    with pytest.raises(LoginNeeded, match=r"in 0\.02 s") as caught:
        await desk.log_in(desk.config(), browse=nowhere, patience=0.02)
    assert caught.value.exit_code == 6
    assert desk.store.read(NAME) is None


async def test_a_new_login_is_a_new_lineage_also_while_a_sidecar_owns_the_grant(desk: Desk) -> None:
    first = await desk.log_in(desk.config())
    with desk.store.own(NAME):
        second = await desk.log_in(desk.config())
    assert first is not None
    assert second is not None
    assert first.lineage != second.lineage
    assert first.refresh_token != second.refresh_token


async def test_a_record_that_cannot_be_read_is_replaced(desk: Desk) -> None:
    await desk.log_in(desk.config())
    [record] = desk.store.path.glob("*.grant")
    record.write_bytes(b"broken")
    assert await desk.log_in(desk.config()) is not None


# --- by device --------------------------------------------------------------------------------------------------------


async def device_login(desk: Desk, config: model.Credential, *, seconds: float, **options: Any) -> Grant | None:
    """Log in by device, ``seconds`` passing as fast as the sockets allow."""
    task = asyncio.create_task(desk.log_in(config, browse=nowhere, **options))
    desk.clock.idle = lambda: task.done() or bool(desk.clock.sleepers)
    await desk.clock.settle()
    if not task.done():
        await desk.clock.advance_until(task.done, at_most=seconds)
    return await task


def polled_at(desk: Desk) -> list[float]:
    """Seconds between the device's code and its polls."""
    start = next(at for at, path, _, _ in desk.server.received if path == "/device")
    return [at - start for at, path, _, _ in desk.server.received if path == "/token"]


async def test_a_code_typed_elsewhere_ends_as_a_grant_in_the_store(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.server.polls.extend([PENDING, PENDING])
    grant = await device_login(desk, desk.config("device_code"), seconds=15)
    assert grant is not None
    assert grant.refresh_token.reveal() in desk.server.refresh_tokens
    assert polled_at(desk) == [5, 10, 15]
    out, err = capsys.readouterr()
    assert "WDJB-MJHT" in err
    assert desk.server.url("/enter") in err
    assert "the-device-code" not in out + err
    assert desk.server.forms("/device") == [{"scope": "read write", "client_id": CLIENT}]


async def test_the_address_with_the_code_in_it_is_what_is_opened(desk: Desk) -> None:
    desk.server.device = {"verification_uri_complete": desk.server.url("/enter?user_code=WDJB-MJHT")}
    await device_login(desk, desk.config("device_code"), seconds=15)
    assert desk.opened == [desk.server.url("/enter?user_code=WDJB-MJHT")]


async def test_a_device_slows_down_for_good_when_it_is_told_to(desk: Desk) -> None:
    slow_down = (400, {"error": "slow_down"})
    by_github = (200, {"error": "slow_down", "interval": 20})
    desk.server.polls.extend([slow_down, PENDING, by_github, PENDING])
    await device_login(desk, desk.config("device_code"), seconds=100)
    assert polled_at(desk) == [5, 15, 25, 45, 65]


async def test_a_device_backs_off_from_a_server_in_trouble_and_still_gets_its_token(desk: Desk) -> None:
    desk.server.polls.extend([(503, {}), (502, {}), (428, {"error": "authorization_pending"})])
    assert await device_login(desk, desk.config("device_code"), seconds=100) is not None
    assert polled_at(desk) == [5, 15, 35, 55]


@pytest.mark.parametrize(
    ("last", "leaf"),
    [
        ((400, {"error": "expired_token"}), LoginNeeded),
        ((400, {"error": "access_denied"}), TokenRefused),
        ((200, {"error": "incorrect_device_code"}), TokenRefused),
        ((400, {"error": "invalid_grant"}), InvalidGrant),
    ],
)
async def test_a_device_stops_asking_when_there_is_nothing_to_wait_for(
    desk: Desk, last: tuple[int, dict[str, Any]], leaf: type[SidecarError]
) -> None:
    desk.server.polls.extend([PENDING, last])
    with pytest.raises(leaf) as caught:
        await device_login(desk, desk.config("device_code"), seconds=15)
    assert caught.value.exit_code == 6
    assert len(polled_at(desk)) == 2
    assert desk.store.read(NAME) is None


@pytest.mark.parametrize(("lives", "patience", "last"), [(21, None, 20), (600, 12.0, 10)])
async def test_a_device_asks_until_the_codes_end_or_the_persons_patience(
    desk: Desk, lives: int, patience: float | None, last: float
) -> None:
    desk.server.device = {"expires_in": lives}
    desk.server.polls.extend([PENDING] * 200)
    with pytest.raises(LoginNeeded, match="in time"):
        await device_login(desk, desk.config("device_code"), seconds=700, patience=patience)
    assert polled_at(desk)[-1] == last


async def test_no_codes_no_login(desk: Desk) -> None:
    desk.server.refusals.append((200, {"error": "device_flow_disabled"}))
    with pytest.raises(TokenRefused, match="device_flow_disabled"):
        await device_login(desk, desk.config("device_code"), seconds=5)


# --- taking it back ---------------------------------------------------------------------------------------------------


def stored(desk: Desk, token: str = "refresh-of-before") -> None:
    desk.server.refresh_tokens.add(token)
    desk.store.write(NAME, Grant(Secret(token), "lineage", desk.clock.wall()))


@pytest.mark.parametrize("by", ["revocation_url", "issuer"])
async def test_a_revoked_grant_is_gone_on_both_sides(desk: Desk, by: str, capsys: pytest.CaptureFixture[str]) -> None:
    stored(desk)
    where = {"revocation_url": desk.server.url("/revoke")} if by == "revocation_url" else {"issuer": desk.server.url()}
    await desk.revoke(desk.config(**where))
    assert desk.server.forms("/revoke") == [
        {"token": "refresh-of-before", "token_type_hint": "refresh_token", "client_id": CLIENT}
    ]
    assert not desk.server.refresh_tokens
    assert desk.store.read(NAME) is None
    assert "refresh-of-before" not in "".join(capsys.readouterr())


async def test_a_token_the_server_does_not_know_is_forgotten(desk: Desk) -> None:
    stored(desk)
    desk.server.refresh_tokens.clear()
    await desk.revoke(desk.config(revocation_url=desk.server.url("/revoke")))
    assert desk.store.read(NAME) is None


@pytest.mark.parametrize(
    ("answer", "leaf"),
    [((503, {}), ServerError), ((400, {"error": "unsupported_token_type"}), TokenRefused), ((403, {}), SidecarError)],
)
async def test_a_grant_that_was_not_revoked_is_kept_for_another_try(
    desk: Desk, answer: tuple[int, dict[str, Any]], leaf: type[SidecarError]
) -> None:
    stored(desk)
    desk.server.refusals.append(answer)
    with pytest.raises(leaf):
        await desk.revoke(desk.config(revocation_url=desk.server.url("/revoke")))
    assert desk.store.read(NAME) is not None


async def test_a_server_that_is_down_keeps_the_grant(desk: Desk) -> None:
    stored(desk)
    with pytest.raises(TokenConnect):
        await desk.revoke(desk.config(revocation_url=f"http://127.0.0.1:{free_port()}/revoke"))
    assert desk.store.read(NAME) is not None


async def test_where_nothing_can_be_revoked_the_grant_is_forgotten_and_that_is_told(desk: Desk) -> None:
    stored(desk)
    with pytest.raises(ConfigurationInvalid, match="revocation_url"):
        await desk.revoke(desk.config())
    assert desk.store.read(NAME) is None


async def test_nothing_to_revoke_is_no_error(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    await desk.revoke(desk.config(revocation_url=desk.server.url("/revoke")))
    assert "nothing to revoke" in capsys.readouterr().out
    assert desk.server.received == []
