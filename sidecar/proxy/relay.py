"""One request at work: obtains the token, borrows an upstream connection, passes bytes both ways, and ends once.

``exchange`` decides, this file acts. On the warm path (a token in hand, an idle connection in the pool) everything
happens inside the read callback of the client, without a task or a future. What has to wait, a first token, a fresh
connection, the recovery from a 401, runs as a named task that the request owns and that ends with it.

Whatever happens, ``_over`` runs exactly once: it gives the upstream connection back or closes it, counts, and hands the
client connection its next request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sidecar.errors import (
    BodyTimeout,
    Denied,
    SidecarError,
    TokenUnavailable,
    UpstreamError,
    UpstreamProtocol,
    UpstreamTimeout,
)
from sidecar.http.h1 import encode_chunk
from sidecar.proxy.account import Account
from sidecar.proxy.exchange import (
    ALREADY_PRESENT,
    CHUNKED,
    CLOSE,
    DENIED,
    INJECTED,
    INTERIM_RESPONSES_FORWARDED,
    NO_TOKEN,
    STALE_TOKEN,
    Framing,
    ReplayBuffer,
    body_too_long,
    interim_head,
    may_retry_elsewhere,
    own_authorization,
    refuse_unasked_switch,
    request_head,
    response_framing,
    response_head,
    switching_head,
    wants_token,
)
from sidecar.proxy.recovery import HeldAnswer, Remedy, mended, remedy, renew_for_the_next

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sidecar.broker.credential import PublishedToken
    from sidecar.http.message import RequestHead, ResponseHead
    from sidecar.proxy.authority import Origin
    from sidecar.proxy.gateway import Gateway, Generation
    from sidecar.proxy.parties import Client
    from sidecar.proxy.routing import Route
    from sidecar.proxy.upstream import UpstreamConnection

JOINED_BYTES: Final = 16 * 1024
"""A body up to this size is copied behind its head into one write; a larger one costs less as a write of its own."""
CLIENT_GONE: Final = 499
"""Status counted and logged for a request whose client left before the answer, after nginx's usage."""


class Relay:
    """One exchange between a client connection and an upstream connection.

    Args:
        client: where the request came from and the answer goes.
        generation: the configuration this request is served under, to its end.
        head: the request's head, checked.
        route: what it matched; None passes it through untouched.
        origin: where it goes.
        host: the Host field it gets.
        path: path and query as sent.
    """

    __slots__ = (
        *("_account", "_authorization", "_client", "_framing", "_gateway", "_generation", "_head", "_held"),
        *("_host", "_interim", "_is_over", "_meters", "_origin", "_outbox", "_path", "_replay", "_replayed"),
        *("_request_done", "_response_started", "_retried", "_route", "_task", "_token", "_upstream"),
        *("_upstream_paused", "closes_client"),
    )

    def __init__(
        self,
        client: Client,
        generation: Generation,
        head: RequestHead,
        *,
        route: Route | None,
        origin: Origin,
        host: bytes,
        path: bytes,
    ) -> None:
        self._client = client
        self._gateway: Gateway = client.gateway
        self._generation = generation
        self._head = head
        self._route = route
        self._meters = route.meters if route is not None else generation.unmatched_meters
        self._origin = origin
        self._host = host
        self._path = path
        self._token: PublishedToken | None = None
        self._authorization = b""
        self._upstream: UpstreamConnection | None = None
        self._outbox: list[bytes] = []
        self._request_done = not head.has_body
        self._replay: ReplayBuffer | None = None if self._request_done else ReplayBuffer(generation.limits.replay_body)
        self._held: HeldAnswer | None = None
        self._framing = Framing.NONE
        self._interim = 0
        self._task: asyncio.Task[None] | None = None
        self._retried = self._replayed = self._response_started = self._upstream_paused = self._is_over = False
        self.closes_client = head.close
        self._account = Account(self._meters, client.gateway, head, origin, path)

    # --- the way out: token, connection, request ---

    def start(self) -> None:
        """Set the exchange going; errors become answers."""
        self._meters.in_flight.value += 1
        route = self._route
        try:
            if self._replay is not None and 0 < self._generation.limits.body < (self._head.content_length or 0):
                raise body_too_long(self._generation.limits.body)
            if route is None:
                self._connect(own_authorization(self._head))
            elif self._head.authorization and not wants_token(self._head, route):
                self._account.injection = ALREADY_PRESENT
                self._connect(own_authorization(self._head))
            else:
                now = self._gateway.now()
                token = route.credential.usable(now)
                if token is not None:
                    self._inject(token, now)
                else:
                    self._in_background("wait for a token", self._await_token(route))
        except SidecarError as error:
            self.fail(error)

    async def _await_token(self, route: Route) -> None:
        try:
            token = await self._account.wait_on(route.credential, route.credential.wait())
        except TokenUnavailable:
            self._account.injection = NO_TOKEN
            if not route.fail_open:
                raise
            self._connect(b"")
        else:
            self._inject(token, self._gateway.now())

    def _inject(self, token: PublishedToken, now: float) -> None:
        self._token = token
        self._account.injection = INJECTED if now < token.expires_at else STALE_TOKEN
        self._connect(token.header)

    def _connect(self, authorization: bytes) -> None:
        self._authorization = authorization
        if self._head.chunked and self._origin in self._gateway.pool.elders:
            raise UpstreamProtocol("the upstream speaks HTTP/1.0, which knows no chunked bodies: send a Content-Length")
        upstream = self._gateway.pool.take(self._origin, self._gateway.loop_time())
        if upstream is not None:
            self._send(upstream)
        else:
            self._in_background("connect", self._dial())

    async def _dial(self) -> None:
        upstream = await self._gateway.pool.dial(self._origin, self._generation.limits)
        self._account.works()
        token, route = self._token, self._route
        if token is None or route is None or self._gateway.now() < token.usable_until:
            return self._send(upstream)
        # The token ran out while the connection was made, which waits in the pool for the next one.
        self._upstream, upstream.reusable = upstream, True
        self._give_back_upstream(True)
        return await self._await_token(route)

    def _send(self, upstream: UpstreamConnection) -> None:
        self._upstream = upstream
        head, gateway = self._head, self._gateway
        if self._token is not None and self._token.dpop is not None:
            self._authorization = gateway.prover.lines(self._token, head, self._origin, self._path)
        upstream.send(
            request_head(head, self._path, self._host, gateway.via_request, self._authorization), self, head.method
        )
        if self._replay is None:
            self._client.deadline = gateway.loop_time() + self._generation.limits.first_byte
        else:
            self._send_body_so_far(upstream, self._replay)
        self._account.waits()

    def _send_body_so_far(self, upstream: UpstreamConnection, replay: ReplayBuffer) -> None:
        """What arrived while there was no connection; to a second connection everything from the beginning."""
        limits = self._generation.limits
        if self._request_done:
            self._client.set_deadline(limits.first_byte)
        else:
            self._client.set_deadline(limits.body_idle)
            self._client.resume_reading()  # before the pieces, which may be more than the upstream takes at once
        for piece in replay.pieces if self._retried or self._replayed else self._outbox:
            upstream.write(piece)
        self._outbox.clear()

    def _in_background(self, name: str, work: Coroutine[None, None, None]) -> None:
        if not self._request_done:
            self._client.pause_reading()
        self._account.waits()
        self._client.set_deadline(None)
        self._task = self._gateway.run(name, work, self.fail)

    # --- from the client ---

    def request_continues(self, data: bytes, ended: bool) -> None:
        """More of the request's body, without the framing it came in."""
        received = self._account.received = self._account.received + len(data)
        if 0 < self._generation.limits.body < received:
            self.fail(body_too_long(self._generation.limits.body))
            return
        if self._head.chunked:
            data = encode_chunk(data, last=ended)
        if ended:
            self._request_done = True
        if not data or self._is_over:
            return
        if self._replay is not None:
            self._replay.add(data)
        upstream = self._upstream
        if upstream is None:
            self._outbox.append(data)
            if not ended:
                self._client.pause_reading()
            return
        upstream.write(data)
        if self._response_started:
            return
        limits = self._generation.limits
        self._client.set_deadline(limits.first_byte if self._request_done else limits.body_idle)

    def client_gone(self) -> None:
        """The client will not read the answer: end the upstream's work too."""
        if not self._is_over:
            if not self._response_started:
                self._account.status = CLIENT_GONE
            self._over(reuse=False)

    def client_writable(self, writable: bool) -> None:
        """Back-pressure from the client to the upstream."""
        if writable == self._upstream_paused and self._upstream is not None and self._held is None:
            self._upstream_paused = not writable
            if writable:
                self._upstream.resume_reading()
            else:
                self._upstream.pause_reading()

    def expired(self) -> None:
        """The deadline passed that was set last."""
        limits = self._generation.limits
        if self._response_started:
            if not self._upstream_paused:  # otherwise it is the client that does not read
                self._meters.upstream_errors["timeout"].value += 1
            self._abort_client("timeout")
        elif self._request_done:
            self.fail(UpstreamTimeout(f"no answer from the upstream within {limits.first_byte:g} s"))
        elif self._client.is_reading:
            self.fail(BodyTimeout(f"the request body stopped for {limits.body_idle:g} s"))
        else:
            self.fail(UpstreamTimeout(f"the upstream took no data for {limits.body_idle:g} s"))

    # --- from the upstream (the Receiver of its connection) ---

    def interim_response(self, head: ResponseHead) -> None:
        """1xx go to clients that know them (RFC 9110 section 15.2), a bounded number."""
        self._interim += 1
        if self._head.minor == 1 and self._interim <= INTERIM_RESPONSES_FORWARDED:
            self._client.write(interim_head(head, via=self._gateway.via_response))

    def response_begins(self, head: ResponseHead, body: bytes, ended: bool) -> None:
        """The final head: a refused token is kept back and tried to be mended, everything else is relayed."""
        self._account.works()
        token = self._token
        if token is not None:
            if token.dpop is not None:
                self._gateway.prover.note(self._origin, head)
            if head.status != 401:
                self._token_taken(token, head.status)
            elif self._hold_for_recovery(head, body, ended):
                return
            else:
                self._meters.unauthorized["rejected"].value += 1
        self._relay_head(head, body, ended)

    def _token_taken(self, token: PublishedToken, status: int) -> None:
        if self._replayed:
            self._meters.unauthorized["recovered"].value += 1
        if status < 400 and self._route is not None:
            self._route.accepted_generation = token.generation

    def switching(self, head: ResponseHead, data: bytes) -> None:
        """The upstream takes the offered protocol: both connections go over into a tunnel."""
        refuse_unasked_switch(head, self._head)
        upstream, self._upstream = self._upstream, None
        if upstream is None:
            return
        if self._token is not None:
            self._token_taken(self._token, head.status)
        self._account.status = head.status
        self._over(reuse=False, tell_client=False)
        answer = switching_head(head, self._head, self._gateway.via_response)
        self._client.switch(upstream.hand_over(), answer, data)

    def _relay_head(self, head: ResponseHead, body: bytes, ended: bool) -> None:
        self._response_started = True
        self._account.status = head.status
        if self._replay is not None:
            self._replay.give_up()
        framing = self._framing = response_framing(head, self._head)
        if head.minor == 0 or self._gateway.pool.elders:
            self._gateway.pool.note_version(self._origin, head.minor, self._gateway.loop_time())
        if not self._request_done or framing is CLOSE or self._gateway.draining:
            self.closes_client = True
        gateway = self._gateway
        date = b"" if head.has_date else gateway.date_line()
        data = response_head(head, framing, gateway.via_response, date, self.closes_client)
        body_out = encode_chunk(body, last=ended) if framing is CHUNKED else body
        self._account.sent += len(body)
        if len(body_out) <= JOINED_BYTES:
            self._client.write(data + body_out)
        else:
            self._client.write(data)
            self._client.write(body_out)
        self._account.waits()
        if ended:
            self._over(reuse=True)
        else:
            self._client.set_deadline(self._generation.limits.response_idle)

    def response_continues(self, body: bytes, ended: bool) -> None:
        """More of the answer's body."""
        held = self._held
        if held is not None:
            held.body.append(body)
            held.ended = ended
            return
        self._account.sent += len(body)
        if self._framing is CHUNKED:
            body = encode_chunk(body, last=ended)
        if body:
            self._client.write(body)
        if ended:
            self._over(reuse=True)
        else:
            self._client.set_deadline(self._generation.limits.response_idle)

    def upstream_writable(self, writable: bool) -> None:
        """Back-pressure from the upstream to the client."""
        if self._request_done:
            return
        if writable:
            self._client.resume_reading()
        else:
            self._client.pause_reading()

    def upstream_lost(self, error: SidecarError) -> None:
        """The connection died: retry where that is right, tell the client where that is possible, else break off."""
        upstream, self._upstream = self._upstream, None
        if self._held is not None:
            self._held.lost = error
            return
        if self._response_started:
            self._meters.upstream_errors[error.reason].value += 1
            self._gateway.complain(self._meters, error)
            self._abort_client(error.reason)
            return
        if (
            upstream is not None
            and may_retry_elsewhere(
                self._head,
                reused=upstream.served > 0,
                answered=upstream.answered,
                body_kept=self._replay is None or self._replay.whole,
                sent=True,
                retried=self._retried,
            )
            and self._gateway.may_retry(self._origin, self._meters)
        ):
            self._retried = True
            self._account.works()
            self._in_background("connect again", self._dial())
            return
        self.fail(error)

    def _hold_for_recovery(self, head: ResponseHead, body: bytes, ended: bool) -> bool:
        """Keep a 401 back if it says that the token is bad and the request can be sent again; at most once."""
        route, token = self._route, self._token
        if self._replayed or route is None or token is None or (way := remedy(head, route, token)) is None:
            return False
        if self._replay is not None and not self._replay.whole:
            self._gateway.tasks.spawn("renew after 401", renew_for_the_next(way, route, token))
            return False
        self._held = HeldAnswer(head, body, ended)
        if not ended and self._upstream is not None:
            self._upstream.pause_reading()
        self._in_background("recover from 401", self._recover(way, route, token))
        return True

    async def _recover(self, way: Remedy, route: Route, refused: PublishedToken) -> None:
        token = await self._account.wait_on(route.credential, mended(way, route, refused))
        held, self._held = self._held, None
        if held is None or self._is_over:
            return
        if token is None or (self._replay is not None and not self._replay.whole):
            self._meters.unauthorized["rejected"].value += 1
            self._release_held(held)
            return
        self._replayed = True
        self._give_back_upstream(held.ended and self._request_done)
        self._token = token
        self._connect(token.header)

    def _release_held(self, held: HeldAnswer) -> None:
        upstream = self._upstream
        if not held.ended and not self._request_done:
            self._client.resume_reading()
        self._relay_head(held.head, b"".join(held.body), held.ended)
        if held.lost is not None:
            self._abort_client(held.lost.reason)
        elif not held.ended and upstream is not None and not self._upstream_paused:
            upstream.resume_reading()

    # --- the end ---

    def fail(self, error: SidecarError) -> None:
        """End the exchange with an answer of our own, or by breaking off if the upstream's has begun."""
        if self._is_over:
            return
        if isinstance(error, UpstreamError):
            self._meters.upstream_errors[error.reason].value += 1
        elif isinstance(error, Denied):
            self._client.denied(error, self._host)
            if self._route is not None:
                self._account.injection = DENIED
        self._gateway.complain(self._meters, error)
        if self._response_started:
            self._abort_client(error.reason)
            return
        if not self._request_done or self._gateway.draining:
            self.closes_client = True
        self._account.status, self._account.reason = error.status, error.reason
        credential = self._route.credential if self._route is not None else None
        answer = self._gateway.answer(error, method=self._head.method, close=self.closes_client, credential=credential)
        self._client.write(answer)
        self._over(reuse=False)

    def _abort_client(self, why: str) -> None:
        """The answer cannot be completed: the client must not take what it has for the whole (RFC 9112 section 8)."""
        client = self._client
        self._account.broken = why
        self._over(reuse=False, tell_client=False)
        client.abort()

    def _over(self, *, reuse: bool, tell_client: bool = True) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._give_back_upstream(reuse and self._request_done)
        self._account.close(
            self._gateway,
            self._head,
            listener=self._client.listener_name,
            host=self._host,
            path=self._path,
            token=self._token.generation if self._token is not None else 0,
        )
        if tell_client:
            self._client.exchange_over(self._request_done)

    def _give_back_upstream(self, reuse: bool) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is None:
            return
        if self._upstream_paused:
            self._upstream_paused = False
            upstream.resume_reading()
        if reuse and self._head.upgrade is None:  # who declined a switch may yet think otherwise
            gateway = self._gateway
            gateway.pool.release(upstream, gateway.loop_time(), self._generation.limits.upstream_idle)
        else:
            upstream.close()

    def __repr__(self) -> str:
        return f"<Relay {self._head.method!r} {self._account.status or 'asking'}>"
