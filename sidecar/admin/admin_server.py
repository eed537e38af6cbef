"""The admin listener: what the sidecar is doing, and for whoever has the admin token, what it holds and what it can do.

    GET  /                                   the status page
    GET  /v1/status                          what the page shows
    GET  /v1/events                          the same, and then what changes, as server-sent events
    GET  /v1/explain?method=GET&url=...      which route a request takes and why, as ``sidecar explain`` says it
    GET  /v1/credentials                     how each one stands; neither token nor fingerprint of one
    POST /v1/credentials/NAME/token          its token; a fresh one with ``?fresh=true``
    POST /v1/credentials/NAME/refresh        ask for a fresh one, without waiting for it
    POST /v1/credentials/NAME/login          begin a login, and say what the person has to do
    POST /v1/support-bundle                  an archive to send along with a question
    POST /v1/simulation/NAME/expire          take its token to be at its end now
    POST /v1/simulation/NAME/revoke-token    drop its token, without the grace of ``stale_for``

The last two are there only with ``simulation.enabled``. Decides what each address answers, and that whatever is more
than looking needs the token of the configuration: without one there the API is read-only. Leaves who may ask to
``access``, sockets and bounds to ``page_server``, and tokens to the broker. Every token that leaves is a line in the
log, without the token; so is every one that ends on command.
"""

from __future__ import annotations

import asyncio
import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from sidecar.admin import access, support_bundle
from sidecar.admin.event_stream import EventStreams
from sidecar.admin.page_server import Answer, PageServer, Request
from sidecar.admin.static_page import HARDENED, HTML, NOTHING, message_page, status_page
from sidecar.admin.status import StatusReport
from sidecar.broker.report import NEXT_STEPS
from sidecar.errors import (
    AdminReadOnly,
    AdminTokenRefused,
    BadRequest,
    Denied,
    InternalError,
    MethodNotAllowed,
    NotFound,
    SecretMissing,
    SidecarError,
    TokenBound,
    TokenUnavailable,
)
from sidecar.proxy.answers import LONGEST_RETRY_AFTER_SECONDS, problem
from sidecar.proxy.explaining import as_json, explain
from sidecar.proxy.peer import source_of
from sidecar.proxy.question import ask
from sidecar.telemetry.abuse import Kind
from sidecar.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sidecar.admin.facts import Facts
    from sidecar.admin.logins import Logins
    from sidecar.admin.page_server import Stream
    from sidecar.broker.broker import Broker
    from sidecar.broker.credential import Credential, PublishedToken
    from sidecar.config.model import Bind
    from sidecar.errors import ClientError
    from sidecar.http.message import RequestHead
    from sidecar.runtime import Clock, Tasks
    from sidecar.secrets import SecretReference
    from sidecar.telemetry.metrics import Metrics

PROBLEM: Final = "application/problem+json"
WAIT_SECONDS: Final = 30.0
"""The longest wait for a token here, whatever ``limits.token_wait`` says."""
LOOK_SECONDS: Final = 0.05
TELL_SECONDS: Final = 10.0
"""Refusals within this time of one that was logged are counted, and told with the next line."""
_HARDENED: Final = (f"Content-Security-Policy: {NOTHING}", *HARDENED)
_BUG: Final = "unexpected error in the admin API; the log has it"

log = get_logger("admin")


class _Asked(NamedTuple):
    """What a request is for, and of which credential."""

    what: str
    name: str = ""
    query: str = ""


class AdminServer(PageServer):
    """Answers the admin API on one address.

    Args:
        bind: where; port 0 takes a free one.
        token: names the admin token, which is read for each request that needs it; None makes the API read-only.
        broker: holds the credentials.
        metrics: counts who is denied for where it comes from.
        facts: what else there is to tell.
        clock: the broker's.
        tasks: owns the background work of the server.

    Attributes:
        simulation: tokens may be expired on command (``simulation.enabled``).
    """

    name = "admin"
    # A browser sends the cookies that every program on 127.0.0.1 may have set, and a provider's answer holds its code.
    head_bytes = 32 * 1024
    target_bytes = 16 * 1024
    fields = 128

    def __init__(
        self,
        bind: Bind,
        *,
        token: SecretReference | None,
        broker: Broker,
        metrics: Metrics,
        facts: Facts,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        super().__init__(bind, tasks=tasks)
        self.token = token
        self.simulation = False
        self._broker = broker
        self._metrics = metrics
        self._facts = facts
        self._clock = clock
        self._report = StatusReport(broker=broker, metrics=metrics, clock=clock, facts=facts)
        self._logins: Logins | None = None
        self.events = EventStreams(self.snapshot, clock=clock, tasks=tasks)
        self._told_at = -math.inf
        self._untold = 0

    # --- from a request to an answer ---

    def answer(self, request: Request) -> Answer | Stream | Coroutine[Any, Any, Answer]:
        head = request.head
        try:
            known = access.own_hosts(self.bind.host, request.local_host)
            if head.method == b"GET" and self._logins is not None and self._logins.awaited(head):
                access.check_source(head, known, linked=True)
                return self._take_login(head, self._logins)
            path = head.target.partition(b"?")[0]
            access.check_source(head, known, linked=path == b"/")  # runbooks link there, and it holds no data
            asked = _asked(head)
            if asked.what in _SIMULATED and not self.simulation:
                raise NotFound("nothing is simulated here: the configuration does not say simulation.enabled: true")
            if head.method != b"POST":
                return self._show(asked)
            self._let_in(request)
            return self._bundle() if asked.what == "support-bundle" else self._act(asked, head)
        except SidecarError as error:
            return self._problem(error)
        except Exception:
            log.exception("admin_failed")
            return self._problem(InternalError(_BUG))

    def refuse(self, error: ClientError) -> Answer:
        return self._problem(error)

    # --- for everybody ---

    def snapshot(self) -> dict[str, Any]:
        """What the page shows."""
        snapshot = self._report.snapshot()
        snapshot["about"]["writable"] = self.token is not None
        for card in snapshot["credentials"]:
            card["login_state"] = None if self._logins is None else self._logins.state(card["name"])
        return snapshot

    def _show(self, asked: _Asked) -> Answer | Stream:
        match asked.what:
            case "page":
                page = status_page()
                return Answer(200, page.body, HTML, (f"Content-Security-Policy: {page.policy}", *HARDENED))
            case "events":
                return self.events.stream(*_HARDENED)
            case "status":
                return _json(200, self.snapshot() | {"now": self._clock.wall()})
            case "explain":
                return _json(200, self._explanation(asked.query))
            case _:
                return _json(200, {"credentials": [self._status(each) for each in self._broker.credentials()]})

    def _explanation(self, query: str) -> dict[str, Any]:
        """Raises: BadRequest."""
        try:
            said = dict(parse_qsl(query, max_num_fields=8))
            method, url, listener = said.get("method", "GET"), said.get("url", ""), said.get("listener")
            question = ask(self._facts.configuration, method, url, listener)
        except ValueError as exc:
            raise BadRequest(str(exc)) from exc
        return as_json(explain(self._facts.configuration, question))

    def _take_login(self, head: RequestHead, logins: Logins) -> Answer:
        """The page that a browser ends on; how the login went is seen on the status page."""
        fields = (f"Content-Security-Policy: {NOTHING}", *HARDENED)
        try:
            logins.take(head)
        except BadRequest as error:
            return Answer(400, message_page("Refused", f"{error.detail[0].upper()}{error.detail[1:]}."), HTML, fields)
        said = "You may close this window; the status page says how it went."
        return Answer(200, message_page("The answer has arrived", said), HTML, fields)

    # --- for whoever has the admin token ---

    def _act(self, asked: _Asked, head: RequestHead) -> Answer | Coroutine[Any, Any, Answer]:
        try:
            credential = self._broker.credential(asked.name)
        except KeyError:
            raise NotFound("no credential has this name: GET /v1/credentials lists them") from None
        match asked.what:
            case "refresh":
                log.info("refresh_asked", credential=credential.name)
                credential.request_refresh()
                return _json(202, self._status(credential))
            case "login":
                return self._log_in(credential.name, head.host or b"")
            case "expire" | "revoke-token":
                return self._simulate(credential, asked.what)
            case _:
                return self._give(credential, fresh=("fresh", "true") in parse_qsl(asked.query))

    async def _log_in(self, name: str, authority: bytes) -> Answer:
        from sidecar.admin.logins import Logins  # only whoever logs in here pays for Authlib

        if self._logins is None:
            self._logins = Logins(broker=self._broker, clock=self._clock, tasks=self._tasks)
        try:
            return _json(200, await self._logins.begin(name, authority))
        except SidecarError as error:
            return self._problem(error)
        except Exception:
            log.exception("admin_failed")
            return self._problem(InternalError(_BUG))

    async def _bundle(self) -> Answer:
        wall = self._clock.wall()
        name = support_bundle.bundle_name(wall)
        try:
            files = support_bundle.contents(report=self._report, metrics=self._metrics, facts=self._facts, wall=wall)
            raw = await asyncio.to_thread(support_bundle.archive, files, name=name, wall=wall)
        except Exception:
            log.exception("admin_failed")
            return self._problem(InternalError(_BUG))
        log.info("support_bundle_given", size=len(raw))
        disposition = f'Content-Disposition: attachment; filename="{name}.zip"'
        return Answer(200, raw, support_bundle.ZIP, (*_HARDENED, disposition))

    def _simulate(self, credential: Credential, action: str) -> Answer:
        had_token = credential.expire_now(grace=action == "expire")
        log.warning("token_expired_on_command", credential=credential.name, action=action, had_token=had_token)
        return _json(202, self._status(credential))

    async def _give(self, credential: Credential, *, fresh: bool) -> Answer:
        try:
            token = await (self._fresh(credential) if fresh else self._current(credential))
            answer = _json(200, self._token(token))
        except (TokenUnavailable, TokenBound) as error:
            return self._problem(error, **self._trouble(credential))
        except Exception:
            log.exception("admin_failed")
            return self._problem(InternalError(_BUG))
        log.info("token_given", credential=credential.name, generation=token.generation)
        return answer

    async def _current(self, credential: Credential) -> PublishedToken:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await credential.wait()
        except TimeoutError:
            raise self._unavailable(credential) from None

    async def _fresh(self, credential: Credential) -> PublishedToken:
        """What the next attempt brings; the IdP may bring the same token again."""
        before, failures = credential.published, credential.status().consecutive_failures
        deadline = self._clock.now() + WAIT_SECONDS
        credential.request_refresh()
        while (token := credential.published) is before or token is None:
            if credential.status().consecutive_failures > failures or self._clock.now() >= deadline:
                raise self._unavailable(credential)
            await asyncio.sleep(LOOK_SECONDS)
        return token

    def _unavailable(self, credential: Credential) -> TokenUnavailable:
        status = credential.status()
        why = f" ({status.last_error})" if status.last_error else ""
        seconds = max(1.0, status.next_attempt_at - self._clock.now())
        return TokenUnavailable(f"no fresh token of credential {credential.name}{why}", retry_after_seconds=seconds)

    # --- who may ---

    def _let_in(self, request: Request) -> None:
        """Check the token as it stands now: a rotated one counts at once.

        Raises:
            AdminReadOnly, AdminTokenRefused
        """
        if self.token is None:
            raise AdminReadOnly("this needs the admin token, and the configuration names none: set admin.token")
        try:
            token = access.checked_token(self.token.read())
        except SecretMissing as exc:
            self._tell_refusal("admin_token_unusable", detail=exc.detail, reference=str(self.token))
            raise AdminReadOnly("the admin token cannot be used now: the log says why") from None
        try:
            access.check_token(request.head, token)
        except AdminTokenRefused as error:
            if request.head.authorization:
                source = source_of(request.transport, self.name)
                self._metrics.abuse.note(Kind.ADMIN_TOKEN, source, self._clock.now())
            self._tell_refusal("admin_token_refused", detail=error.detail)
            raise

    def _tell_refusal(self, event: str, **keys: str) -> None:
        """One line, however many there are."""
        self._untold += 1
        now = self._clock.now()
        if now >= self._told_at + TELL_SECONDS:
            log.warning(event, count=self._untold, **keys)
            self._told_at, self._untold = now, 0

    # --- what is said ---

    def _status(self, credential: Credential) -> dict[str, Any]:
        status = credential.status()
        return {
            "name": status.name,
            "state": status.state.value,
            "usable": status.usable,
            "generation": status.generation,
            "expires_at": self._instant(status.expires_at),
            "next_attempt_at": self._instant(status.next_attempt_at),
            "refreshing": status.fetching,
            "consecutive_failures": status.consecutive_failures,
            "last_error": status.last_error,
            "last_detail": status.last_detail,
            "next": NEXT_STEPS.get(status.last_error or ""),
        }

    def _trouble(self, credential: Credential) -> dict[str, Any]:
        """What a problem says of the credential beside its detail."""
        status = credential.status()
        return {
            "credential": status.name,
            "generation": status.generation,
            "last_error": status.last_error,
            "last_detail": status.last_detail,
            "next": NEXT_STEPS.get(status.last_error or ""),
        }

    def _token(self, token: PublishedToken) -> dict[str, Any]:
        """Raises: TokenBound."""
        if token.dpop is not None:
            raise TokenBound("each request with it has to be proved by the key it is bound to (dpop: true)")
        left = token.expires_at - self._clock.now()
        given = {
            "access_token": token.secret.reveal(),
            "token_type": "Bearer",
            "expires_in": max(0, math.floor(left)) if math.isfinite(left) else None,
            "expires_at": self._instant(token.expires_at),
            "generation": token.generation,
        }
        return given if token.scope is None else given | {"scope": token.scope}

    def _instant(self, at: float | None) -> str | None:
        """An instant of the clock as people and programs write it (RFC 3339); None for never."""
        if at is None or not math.isfinite(at):
            return None
        wall = math.floor(self._clock.wall() + (at - self._clock.now()))
        return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _problem(self, error: SidecarError, **more: Any) -> Answer:
        if isinstance(error, Denied):
            self._metrics.denied[error.reason].value += 1
        return _json(error.status, problem(error) | more, PROBLEM, *_fields(error))


def _fields(error: SidecarError) -> list[str]:
    if error.status == 401:
        return ['WWW-Authenticate: Bearer realm="token-sidecar-admin"']
    if isinstance(error, MethodNotAllowed):
        return [f"Allow: {error.allowed}"]
    if error.status == 503:
        seconds = min(error.retry_after_seconds or 1.0, LONGEST_RETRY_AFTER_SECONDS)
        return [f"Retry-After: {max(1, math.ceil(seconds))}"]
    return []


_LOOKS: Final = {
    "/": "page",
    "/v1/status": "status",
    "/v1/events": "events",
    "/v1/explain": "explain",
    "/v1/credentials": "list",
}
_SIMULATED: Final = frozenset({"expire", "revoke-token"})
_ACTIONS: Final = {"credentials": frozenset({"token", "refresh", "login"}), "simulation": _SIMULATED}


def _asked(head: RequestHead) -> _Asked:
    """What the target and the method ask for. A name may hold a ``/``, so it is decoded after the path is taken apart.

    Raises:
        NotFound, MethodNotAllowed
    """
    path, _, query = head.target.decode("latin-1").partition("?")
    if path in _LOOKS:
        _allow(head, "GET", "HEAD")
        return _Asked(_LOOKS[path], query=query)
    parts = path.split("/")
    if parts == ["", "v1", "support-bundle"]:
        _allow(head, "POST")
        return _Asked("support-bundle")
    if len(parts) == 5 and parts[:2] == ["", "v1"] and parts[3] and parts[4] in _ACTIONS.get(parts[2], ()):
        _allow(head, "POST")
        return _Asked(parts[4], unquote(parts[3], errors="replace"), query)
    raise NotFound(
        "the admin API has /v1/credentials, below it NAME/token, NAME/refresh and NAME/login, and /v1/status"
    )


def _allow(head: RequestHead, *methods: str) -> None:
    if head.method.decode() not in methods:
        raise MethodNotAllowed(*methods)


def _json(status: int, value: dict[str, Any], kind: str = "application/json", *fields: str) -> Answer:
    return Answer(status, json.dumps(value).encode() + b"\n", kind, (*_HARDENED, *fields))
