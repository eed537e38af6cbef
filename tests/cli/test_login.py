"""``sidecar login``: a consent ends as a grant in the store, or there is nothing but one clear message."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

import pytest

from sidecar.broker.idp import IdP
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
    TokenTimeout,
)
from sidecar.oauth.endpoint import Endpoint
from sidecar.secrets import SecretReference
from sidecar.simulation.idp import Client, MockIdP, Received, Refreshing, Step
from sidecar.telemetry.metrics import Metrics
from tests.broker.store_kit import grant as stored_grant
from tests.broker.store_kit import open_store
from tests.cli.browser import Seen, get
from tests.end_to_end.waiting import free_port
from tests.fake_clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from sidecar.broker.store import Grant, TokenStore

NAME: Final = "repository"
PATIENCE: Final = 30
CALLBACK: Final = "http://127.0.0.1/callback"
APP: Final = Client(
    auth=frozenset({"none"}), redirect_uris=(CALLBACK,), any_loopback_port=True, refreshing=Refreshing(lifetime=86400)
)


@dataclass
class Desk:
    """A person before a terminal: a provider, a store, a clock, and what the browser does with an address."""

    provider: MockIdP
    store: TokenStore
    clock: FakeClock
    endpoint: Endpoint
    opened: list[str] = field(default_factory=list)
    browsing: list[asyncio.Task[Any]] = field(default_factory=list)

    def config(self, grant: str = "authorization_code", **changes: Any) -> model.Credential:
        plain: dict[str, Any] = {"grant": grant, "client_auth": "none", "client_id": "app"}
        plain |= {"issuer": self.provider.issuer, "scopes": ("read", "write")}
        return model.Credential(**(plain | changes))

    def idp(self, config: model.Credential, *, seconds: float = 5.0) -> IdP:
        return IdP(
            config,
            name=NAME,
            clock=self.clock,
            endpoint=self.endpoint,
            meters=Metrics().credential(NAME),
            limits=model.Limits(token_request=seconds),
        )

    async def log_in(
        self,
        config: model.Credential,
        *,
        browse: Callable[[str], Coroutine[Any, Any, Any]] | None = None,
        patience: float | None = None,
        port: int | None = None,
    ) -> Grant:
        """Log in, the browser doing as told (by default: consent); the grant that the store holds then."""

        def open_browser(url: str) -> None:
            self.opened.append(url)
            self.browsing.append(asyncio.create_task((browse or self.agree)(url)))

        async with asyncio.timeout(PATIENCE):
            await login.log_in(
                config,
                NAME,
                idp=self.idp(config),
                store=self.store,
                clock=self.clock,
                options=login.Options(port, patience, open_browser),
            )
        grant = self.store.read(NAME)
        assert grant is not None
        return grant

    async def agree(self, url: str) -> Seen:
        """Consent, and go where the browser is sent then."""
        return await get(self.provider.consent(url))

    async def revoke(self, config: model.Credential, *, seconds: float = 5.0) -> None:
        async with asyncio.timeout(PATIENCE):
            await login.revoke(config, NAME, idp=self.idp(config, seconds=seconds), store=self.store)

    def asked(self) -> list[tuple[str, str]]:
        """The parameters of the last address that was opened."""
        return parse_qsl(urlsplit(self.opened[-1]).query, keep_blank_values=True)

    def requests(self, name: str) -> list[Received]:
        """What an endpoint received."""
        return [received for received in self.provider.received if received.path == f"/{name}"]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    clock = FakeClock()
    async with MockIdP(now=clock.now, wall=clock.wall) as provider:
        provider.metadata = {"authorization_response_iss_parameter_supported": True}
        provider.register("app", APP)
        endpoint = Endpoint(clock)
        desk = Desk(provider, open_store(tmp_path), clock, endpoint)
        yield desk
        await asyncio.gather(*desk.browsing, return_exceptions=True)
        await endpoint.close()


async def nowhere(url: str) -> None:
    """A person who does nothing."""


# --- by browser -------------------------------------------------------------------------------------------------------


async def test_a_consent_in_the_browser_ends_as_a_grant_in_the_store(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    grant = await desk.log_in(desk.config())
    assert (grant.scope, grant.obtained_at) == ("read write", desk.clock.wall())
    assert grant.expires_at == desk.clock.wall() + 86400
    assert (grant.rotates, grant.spent_at, grant.seed, grant.dpop_key) == (False, None, None, None)
    await desk.idp(desk.config()).ask(grant.refresh_token)
    out, err = capsys.readouterr()
    assert "read write" in out
    assert "2027-01-16 08:00 UTC" in out
    assert desk.opened[0] in err
    [page] = [task.result() for task in desk.browsing]
    assert page.status == 200


async def test_neither_code_nor_verifier_nor_token_is_shown(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    grant = await desk.log_in(desk.config())
    [request] = desk.requests("token")
    said = "".join(capsys.readouterr())
    for secret in (grant.refresh_token.reveal(), request.required("code"), request.required("code_verifier")):
        assert secret not in said


async def test_the_provider_is_asked_for_what_the_configuration_says(desk: Desk) -> None:
    await desk.log_in(
        desk.config(
            authorization_url=f"{desk.provider.issuer}/authorize?access_type=offline",
            audience="https://api.test",
            token_params={"more": "not for a URL"},
        )
    )
    asked = dict(desk.asked())
    assert (asked["response_type"], asked["client_id"], asked["scope"]) == ("code", "app", "read write")
    assert (asked["access_type"], asked["audience"]) == ("offline", "https://api.test")
    assert "more" not in asked
    [request] = desk.requests("token")
    assert request.field("more") == "not for a URL"
    assert request.field("redirect_uri") == asked["redirect_uri"]
    assert asked["redirect_uri"].startswith("http://127.0.0.1:")


async def test_configured_endpoints_do_without_an_issuer(desk: Desk) -> None:
    url = desk.provider.issuer
    config = desk.config(issuer=None, token_url=f"{url}/token", authorization_url=f"{url}/authorize")
    await desk.log_in(config)
    assert {received.path for received in desk.provider.received} == {"/token"}


async def test_a_client_with_a_secret_proves_itself(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.provider.register("app", Client(redirect_uris=(CALLBACK,), any_loopback_port=True, refreshing=Refreshing()))
    desk.provider.secrets["app"] = {"a secret: of+odd%characters"}
    monkeypatch.setenv("CLIENT_SECRET", "a secret: of+odd%characters")
    secret = SecretReference("env", "CLIENT_SECRET")
    await desk.log_in(desk.config(client_auth="client_secret_basic", client_secret=secret))
    [request] = desk.requests("token")
    assert request.headers["authorization"].startswith("Basic ")
    assert request.field("client_secret") is None


async def test_the_configured_port_is_bound_or_the_one_of_the_command_line(desk: Desk) -> None:
    port = free_port()
    await desk.log_in(desk.config(redirect_uri=f"http://127.0.0.1:{port}/callback"))
    assert dict(desk.asked())["redirect_uri"] == f"http://127.0.0.1:{port}/callback"
    await desk.log_in(desk.config(redirect_uri=CALLBACK), port=port)
    assert dict(desk.asked())["redirect_uri"] == f"http://127.0.0.1:{port}/callback"


async def test_a_grant_that_is_bound_to_a_key_keeps_the_key(desk: Desk) -> None:
    desk.provider.register("app", replace(APP, needs_dpop=True))
    desk.provider.needs_nonce = True
    grant = await desk.log_in(desk.config(dpop=True))
    assert grant.dpop_key is not None
    assert json.loads(grant.dpop_key.reveal())["kty"] == "EC"
    with pytest.raises(InvalidGrant):  # with a key of its own
        await desk.idp(desk.config(dpop=True)).ask(grant.refresh_token)


async def test_what_is_not_the_answer_does_not_end_the_login(desk: Desk) -> None:
    async def browse(url: str) -> None:
        right = desk.provider.consent(url)
        wrong = desk.provider.consent(url.replace("state=", "state=x"))
        assert (await get(wrong)).status == 400
        assert (await get(right, host="evil.test")).status == 403
        assert (await get(right.replace("/callback", "/favicon.ico"))).status == 404
        assert (await get(right)).status == 200

    await desk.log_in(desk.config(), browse=browse)
    await desk.browsing[0]


async def test_a_replayed_answer_finds_nobody(desk: Desk) -> None:
    answers: list[str] = []

    async def browse(url: str) -> None:
        answers.append(desk.provider.consent(url))
        await get(answers[0])

    grant = await desk.log_in(desk.config(), browse=browse)
    with pytest.raises(ConnectionRefusedError):
        await get(answers[0])
    assert desk.store.read(NAME) == grant
    assert len(desk.requests("token")) == 1


async def test_a_person_who_says_no_ends_the_login(desk: Desk) -> None:
    async def browse(url: str) -> None:
        await get(desk.provider.consent(url, approve=False))

    with pytest.raises(TokenRefused, match="access_denied") as caught:
        await desk.log_in(desk.config(), browse=browse)
    assert caught.value.exit_code == 6
    assert desk.store.read(NAME) is None


@pytest.mark.parametrize(
    ("changes", "leaf", "words"),
    [
        ({"code": None, "error": "invalid_scope", "error_description": "SECRET"}, InvalidScope, "invalid_scope"),
        ({"code": None, "error": "server_error"}, ServerError, "server_error"),
        ({"code": None}, TokenRefused, "no code"),
        ({"iss": "https://evil.test"}, TokenRefused, "another issuer"),
        ({"iss": None}, TokenRefused, "which issuer"),
        ({"code": "of another login"}, TokenRefused, "no code"),
        ({"code": "of-another-login"}, InvalidGrant, "invalid_grant"),
    ],
)
async def test_an_answer_without_a_usable_code_ends_the_login_and_stores_nothing(
    desk: Desk, changes: dict[str, object], leaf: type[SidecarError], words: str
) -> None:
    desk.provider.script(Step(fields=changes), endpoint="consent")
    with pytest.raises(leaf, match=words) as caught:
        await desk.log_in(desk.config())
    assert "SECRET" not in caught.value.detail
    assert caught.value.exit_code == (5 if leaf is ServerError else 6)
    assert desk.store.read(NAME) is None


async def test_a_login_without_a_refresh_token_says_what_to_ask_for(desk: Desk) -> None:
    desk.provider.register("app", replace(APP, refreshing=None))
    with pytest.raises(LoginNeeded, match=r"offline_access.*access_type=offline") as caught:
        await desk.log_in(desk.config())
    assert caught.value.exit_code == 6
    assert desk.store.read(NAME) is None


async def test_a_token_without_the_scopes_it_needs_is_not_stored(desk: Desk) -> None:
    desk.provider.scopes = frozenset({"read"})
    with pytest.raises(InvalidScope, match="write"):
        await desk.log_in(desk.config(required_scopes=("read", "write")))
    assert desk.store.read(NAME) is None


async def test_scopes_that_were_not_granted_are_told_where_that_is_no_error(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.provider.scopes = frozenset({"read"})
    await desk.log_in(desk.config(required_scopes=("read", "write"), on_scope_missing="degraded"))
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
    assert first.lineage != second.lineage
    assert first.refresh_token != second.refresh_token


async def test_a_record_that_cannot_be_read_is_replaced(desk: Desk) -> None:
    await desk.log_in(desk.config())
    [record] = desk.store.path.glob("*.grant")
    record.write_bytes(b"broken")
    await desk.log_in(desk.config())


# --- by device --------------------------------------------------------------------------------------------------------


async def device_login(
    desk: Desk, *, seconds: float, agrees_after: float | None = None, denies: bool = False, **options: Any
) -> Grant:
    """Log in by device: time passes as fast as the sockets allow, and the person decides at their moment."""
    task = asyncio.create_task(desk.log_in(desk.config("device_code"), browse=nowhere, **options))
    desk.clock.idle = lambda: task.done() or bool(desk.clock.sleepers)
    await desk.clock.settle()
    if agrees_after is not None:
        await desk.clock.advance(agrees_after)
        decide = desk.provider.deny if denies else desk.provider.approve
        decide(dict(desk.asked())["user_code"])
    if not task.done():
        await desk.clock.advance_until(task.done, at_most=seconds)
    return await task


def polled_at(desk: Desk) -> list[float]:
    """Seconds from the device's code to each poll."""
    [start] = [request.at for request in desk.requests("device_authorization")]
    return [request.at - start for request in desk.requests("token")]


async def test_a_code_typed_elsewhere_ends_as_a_grant_in_the_store(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    grant = await device_login(desk, seconds=60, agrees_after=12)
    await desk.idp(desk.config("device_code")).ask(grant.refresh_token)
    assert polled_at(desk)[:3] == [5, 10, 15]
    out, err = capsys.readouterr()
    assert dict(desk.asked())["user_code"] in err
    assert f"Open {desk.provider.issuer}/device in any browser" in err
    assert desk.requests("token")[0].required("device_code") not in out + err
    [request] = desk.requests("device_authorization")
    assert dict(request.form) == {"scope": "read write", "client_id": "app"}


async def test_a_device_slows_down_for_good_when_it_is_told_to(desk: Desk) -> None:
    slow_down = Step(status=400, fields={"error": "slow_down"})
    by_github = Step(status=200, fields={"error": "slow_down", "interval": 20})
    desk.provider.script(slow_down, Step(), by_github)
    await device_login(desk, seconds=100, agrees_after=50)
    assert polled_at(desk) == [5, 15, 25, 45, 65]


async def test_a_device_backs_off_from_a_provider_in_trouble_and_still_gets_its_token(desk: Desk) -> None:
    desk.provider.script(Step(status=503, body=b""), Step(fault="reset"), Step(status=428))
    await device_login(desk, seconds=100, agrees_after=40)
    assert polled_at(desk) == [5, 15, 35, 55]


async def test_a_device_stops_asking_when_the_person_says_no(desk: Desk) -> None:
    with pytest.raises(TokenRefused, match="access_denied") as caught:
        await device_login(desk, seconds=60, agrees_after=7, denies=True)
    assert caught.value.exit_code == 6
    assert polled_at(desk) == [5, 10]
    assert desk.store.read(NAME) is None


@pytest.mark.parametrize(
    ("last", "leaf"),
    [
        (Step(fields={"error": "expired_token"}), LoginNeeded),
        (Step(status=200, fields={"error": "incorrect_device_code"}), TokenRefused),
        (Step(fields={"error": "invalid_grant"}), InvalidGrant),
        (Step(status=404, body=b"<html>"), SidecarError),
    ],
)
async def test_a_device_stops_asking_when_there_is_nothing_to_wait_for(
    desk: Desk, last: Step, leaf: type[SidecarError]
) -> None:
    desk.provider.script(Step(), last)
    with pytest.raises(leaf):
        await device_login(desk, seconds=15)
    assert polled_at(desk) == [5, 10]
    assert desk.store.read(NAME) is None


@pytest.mark.parametrize(("lives", "patience", "last"), [(21, None, 20), (600, 12.0, 10)])
async def test_a_device_asks_until_the_codes_end_or_the_persons_patience(
    desk: Desk, lives: float, patience: float | None, last: float
) -> None:
    desk.provider.device_ttl = lives
    with pytest.raises(LoginNeeded, match="in time"):
        await device_login(desk, seconds=700, patience=patience)
    assert polled_at(desk)[-1] == last


async def test_no_codes_no_login(desk: Desk) -> None:
    refusal = Step(status=200, fields={"error": "device_flow_disabled"})
    desk.provider.script(refusal, endpoint="device_authorization")
    with pytest.raises(TokenRefused, match="device_flow_disabled"):
        await device_login(desk, seconds=5)


# --- taking it back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["revocation_url", "issuer"])
async def test_a_revoked_grant_is_gone_on_both_sides(desk: Desk, by: str, capsys: pytest.CaptureFixture[str]) -> None:
    grant = await desk.log_in(desk.config())
    token = grant.refresh_token.reveal()
    where = {"revocation_url": f"{desk.provider.issuer}/revoke"} if by == "revocation_url" else {}
    await desk.revoke(desk.config(**where))
    [request] = desk.requests("revoke")
    assert dict(request.form) == {"token": token, "token_type_hint": "refresh_token", "client_id": "app"}
    assert desk.store.read(NAME) is None
    assert token not in "".join(capsys.readouterr())
    with pytest.raises(InvalidGrant):
        await desk.idp(desk.config()).ask(grant.refresh_token)


async def test_a_token_the_provider_does_not_know_is_forgotten(desk: Desk) -> None:
    desk.store.write(NAME, stored_grant())
    await desk.revoke(desk.config())
    assert desk.store.read(NAME) is None


@pytest.mark.parametrize(
    ("step", "leaf"),
    [
        (Step(status=503, body=b""), ServerError),
        (Step(status=400, fields={"error": "unsupported_token_type"}), TokenRefused),
        (Step(status=403, body=b""), SidecarError),
        (Step(fault="reset"), TokenConnect),
        (Step(fault="hang"), TokenTimeout),
    ],
)
async def test_a_grant_that_was_not_revoked_is_kept_for_another_try(
    desk: Desk, step: Step, leaf: type[SidecarError]
) -> None:
    desk.store.write(NAME, stored_grant())
    desk.provider.script(step, endpoint="revoke")
    with pytest.raises(leaf):
        await desk.revoke(desk.config(), seconds=0.2 if step.fault == "hang" else 5.0)
    assert desk.store.read(NAME) is not None


async def test_where_nothing_can_be_revoked_the_grant_is_forgotten_and_that_is_told(desk: Desk) -> None:
    desk.store.write(NAME, stored_grant())
    desk.provider.metadata = {"revocation_endpoint": None}
    with pytest.raises(ConfigurationInvalid, match="revocation_url"):
        await desk.revoke(desk.config())
    assert desk.store.read(NAME) is None


async def test_what_another_provider_gave_is_shown_to_nobody_else(desk: Desk) -> None:
    desk.store.write(NAME, stored_grant(party="client app at https://other.example.com:443"))
    with pytest.raises(ConfigurationInvalid, match=r"other\.example\.com"):
        await desk.revoke(desk.config())
    assert desk.store.read(NAME) is not None
    assert not desk.provider.received


async def test_nothing_to_revoke_is_no_error(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    await desk.revoke(desk.config())
    assert "nothing to revoke" in capsys.readouterr().out
    assert not desk.provider.received


async def test_a_client_with_a_certificate_goes_where_one_is_asked_for(desk: Desk) -> None:
    """RFC 8705 section 5: each of the endpoints that it talks to itself may have another address for that."""
    elsewhere = desk.provider.issuer.replace("127.0.0.1", "localhost")
    paths = {"device_authorization_endpoint": "device_authorization", "revocation_endpoint": "revoke"}
    aliases = {name: f"{elsewhere}/{path}" for name, path in paths.items()}
    desk.provider.metadata = {"mtls_endpoint_aliases": aliases}
    desk.store.write(NAME, stored_grant())
    await desk.revoke(desk.config(client_auth="tls_client_auth"))
    desk.provider.script(Step(status=400, fields={"error": "invalid_scope"}), endpoint="device_authorization")
    with pytest.raises(InvalidScope):
        await desk.log_in(desk.config("device_code", client_auth="tls_client_auth"))
    hosts = [urlsplit(request.url).hostname for path in paths.values() for request in desk.requests(path)]
    assert hosts == ["localhost", "localhost"]
