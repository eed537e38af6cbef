"""Logins that began on the status page: a person's consent, asked for by the sidecar itself.

Decides how somebody logs in: with a device's code, by a link whose answer comes back to the admin listener, or, where
that cannot be, by ``sidecar login``. Leaves to ``consent`` and ``interactive`` what is asked and which answer counts.

A login is begun only with the admin token, and what it needs (the device's user code, the link with its state) goes to
whoever began it and nowhere else: a stranger with the code could consent with an account of his own. The link's answer
needs no token, because the browser brings it from the provider. It counts once, within minutes, on the exact redirect
URI, with the state of the link (RFC 6749 section 10.12) and from the right issuer (RFC 9207); the code in it is of no
use without the verifier (RFC 7636), which never leaves. The redirect URI is on loopback, so the answer reaches only a
browser on this machine, or one whose port is forwarded here.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from sidecar.broker import consent
from sidecar.errors import BadRequest, ConfigurationInvalid, LoginFailed, NotFound, SidecarError, UsageError
from sidecar.oauth import grants, interactive
from sidecar.oauth.redirect import RedirectURI
from sidecar.oauth.token import parse as parse_token
from sidecar.proxy.authority import DEFAULT_PORTS, parse_authority
from sidecar.telemetry.log import get_logger
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sidecar.broker.broker import Broker
    from sidecar.broker.idp import IdP
    from sidecar.broker.store import TokenStore
    from sidecar.config.model import Credential
    from sidecar.http.message import RequestHead
    from sidecar.oauth.answer import Answer
    from sidecar.oauth.interactive import DeviceCode
    from sidecar.runtime import Clock, Tasks

PATIENCE_SECONDS: Final = 300.0
"""For a browser's answer; a device's code has an end of its own."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

log = get_logger("admin")


@dataclass(slots=True, eq=False, kw_only=True)
class _Pending:
    """A login under way, or one that has ended.

    Args:
        told: what whoever began it is told.
        ends_at: on ``Clock.now()``.
        login: of a link.
        iss_required: see ``interactive.check_callback``.
    """

    name: str
    config: Credential
    idp: IdP
    store: TokenStore
    told: dict[str, Any]
    ends_at: float
    device: DeviceCode | None = None
    login: interactive.Login | None = None
    iss_required: bool = False
    task: asyncio.Task[None] | None = None
    outcome: str | None = None
    done: bool = False

    def waits(self, now: float) -> bool:
        return not self.done and self.outcome is None and now < self.ends_at


class Logins:
    """The logins of this process, at most one of each credential.

    Args:
        clock: the broker's.
    """

    def __init__(self, *, broker: Broker, clock: Clock, tasks: Tasks) -> None:
        self._broker = broker
        self._clock = clock
        self._tasks = tasks
        self._pending: dict[str, _Pending] = {}

    async def begin(self, name: str, authority: bytes) -> dict[str, Any]:
        """What the person has to do; of a login that is still under way, what it said before.

        Args:
            authority: the Host by which the page was reached, to which a browser can come back.

        Raises:
            NotFound: nobody logs in for this credential.
            LoginFailed: the provider could not be asked, or no grant could be kept.
        """
        config = self._broker.config(name)
        now = self._clock.now()
        before = self._pending.get(name)
        if before is not None and before.config == config and before.waits(now) and _fits(before, authority):
            return before.told
        match config.grant:
            case "device_code":
                begun = self._by_device(name, config)
            case "authorization_code":
                begun = self._by_link(name, config, authority)
            case _:
                raise NotFound(f"credential {name} has grant: {config.grant}, which nobody logs in for")
        try:
            pending = await begun
        except SidecarError as error:
            log.warning("login_failed", credential=name, reason=error.reason, detail=error.detail)
            raise LoginFailed(error.detail) from error
        if pending.told["how"] != "command":
            self._replace(name, pending)
        return pending.told

    def state(self, name: str) -> dict[str, Any] | None:
        """How the last login of a credential stands, without what only the person may know; None if there was none."""
        pending = self._pending.get(name)
        if pending is None:
            return None
        outcome = pending.outcome
        if outcome is None and not pending.done and not pending.waits(self._clock.now()):
            outcome = "nobody answered in time"
        return {"waits": outcome is None and not pending.done, "done": pending.done, "problem": outcome}

    def _replace(self, name: str, pending: _Pending) -> None:
        before = self._pending.get(name)
        if before is not None and before.task is not None:
            before.task.cancel()
        self._pending[name] = pending
        log.info("login_begun", credential=name, how=pending.told["how"])
        if pending.device is not None:
            self._wait_for(pending, self._poll(pending, pending.device))

    # --- by a device's code -----------------------------------------------------------------------------------------

    async def _by_device(self, name: str, config: Credential) -> _Pending:
        idp, store = self._broker.for_login(name, Metrics().credential(name))
        device = await consent.device_code(config, idp, await idp.metadata())
        told = {
            "how": "device",
            "user_code": device.user_code,
            "url": device.verification_uri,
            "complete_url": device.complete_uri,
            "expires_in": math.floor(device.expires_in),
        }
        ends_at = self._clock.now() + device.expires_in
        return _Pending(name=name, config=config, idp=idp, store=store, told=told, ends_at=ends_at, device=device)

    async def _poll(self, pending: _Pending, device: DeviceCode) -> Answer:
        polling = interactive.Polling.begin(device, now=self._clock.now())
        fields = interactive.device_token_fields(device, pending.config)
        return await consent.poll(polling, fields, pending.idp, self._clock)

    # --- by a link --------------------------------------------------------------------------------------------------

    async def _by_link(self, name: str, config: Credential, authority: bytes) -> _Pending:
        idp, store = self._broker.for_login(name, Metrics().credential(name))
        redirect_uri = _redirect_uri(config, authority)
        if redirect_uri is None:
            told = {"how": "command", "command": f"sidecar login {name}"}
            return _Pending(name=name, config=config, idp=idp, store=store, told=told, ends_at=-math.inf)
        metadata = await idp.metadata()
        login = interactive.Login.begin(redirect_uri)
        url = interactive.authorization_url(consent.authorization_endpoint(config, metadata), login, config)
        return _Pending(
            name=name,
            config=config,
            idp=idp,
            store=store,
            told={"how": "link", "url": url, "expires_in": math.floor(PATIENCE_SECONDS)},
            ends_at=self._clock.now() + PATIENCE_SECONDS,
            login=login,
            iss_required=metadata is not None and metadata.iss_parameter,
        )

    def awaited(self, head: RequestHead) -> bool:
        """Whether this may be the answer to a link: its target is the redirect URI of one that waits."""
        path = head.target.partition(b"?")[0]
        now = self._clock.now()
        return any(
            each.login is not None
            and each.waits(now)
            and _reaches(each.login.redirect_uri, host=head.host or b"", path=path)
            for each in self._pending.values()
        )

    def take(self, head: RequestHead) -> None:
        """Take a link's answer; what comes of it is seen in ``state``.

        Raises:
            BadRequest: it belongs to no login that waits.
        """
        path, _, query = head.target.partition(b"?")
        for pending in self._pending.values():
            login = pending.login
            if login is None or not pending.waits(self._clock.now()):
                continue
            if not _reaches(login.redirect_uri, host=head.host or b"", path=path):
                continue
            try:
                code = interactive.check_callback(
                    query.decode("latin-1"), login, issuer=pending.config.issuer, iss_required=pending.iss_required
                )
            except BadRequest:
                continue
            except SidecarError as error:
                self._failed(pending, error)
            else:
                self._wait_for(pending, pending.idp.post(interactive.code_fields(login, code, pending.config)))
            return
        raise BadRequest("this is not the answer to a login that is under way")

    # --- the end ----------------------------------------------------------------------------------------------------

    def _wait_for(self, pending: _Pending, answer: Coroutine[Any, Any, Answer]) -> None:
        pending.task = self._tasks.spawn(f"login:{pending.name}", self._conclude(pending, answer))
        pending.task.add_done_callback(lambda _: answer.close())  # it may be cancelled before its first step

    async def _conclude(self, pending: _Pending, awaited: Coroutine[Any, Any, Answer]) -> None:
        name, config = pending.name, pending.config
        try:
            answer = await awaited
            token = parse_token(answer, grants.expected(config))
            grant = consent.grant_of(token, config, pending.idp, obtained_at=answer.wall)
            await asyncio.to_thread(pending.store.write, name, grant)
        except SidecarError as error:
            self._failed(pending, error)
            return
        pending.done = True
        log.info("login_done", credential=name)
        with contextlib.suppress(KeyError):  # a reload may have taken it away
            self._broker.credential(name).request_refresh()

    def _failed(self, pending: _Pending, error: SidecarError) -> None:
        pending.outcome = error.detail
        log.warning("login_failed", credential=pending.name, reason=error.reason, detail=error.detail)


def _redirect_uri(config: Credential, authority: bytes) -> str | None:
    """The redirect URI that brings a browser back to where the page was reached; None if there is none.

    The page's port is the one that counts: behind a forwarded port it is another one than the listener's.
    """
    host, port = parse_authority(authority)
    if host not in _LOOPBACK:
        return None
    port = port or DEFAULT_PORTS["http"]
    try:
        uri = RedirectURI.read(config.redirect_uri, port=port).at(port)
    except (ConfigurationInvalid, UsageError):
        return None  # not on this machine, or another port: `sidecar login` says which
    path = urlsplit(uri).path or "/"
    return None if path == "/" or path.startswith("/v1/") else uri


def _reaches(redirect_uri: str, *, host: bytes, path: bytes) -> bool:
    parts = urlsplit(redirect_uri)
    authorities = {parts.netloc.encode()} | ({parts.netloc.removesuffix(":80").encode()})
    return host in authorities and path == parts.path.encode()


def _fits(pending: _Pending, authority: bytes) -> bool:
    """Whether a login that is under way can still end where the page is looked at now."""
    return pending.login is None or pending.login.redirect_uri == _redirect_uri(pending.config, authority)
