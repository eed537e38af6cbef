"""Asks a running sidecar over its admin listener, for the commands that want what it has.

Decides what each answer means to somebody at a command line: a token, nobody there, or one of our errors with its exit
code. Leaves what the API is to ``admin_server``, and whether to ask somewhere else to the command.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from sidecar.broker.report import NEXT_STEPS
from sidecar.errors import (
    ConfigurationInvalid,
    InternalError,
    SidecarError,
    StartupError,
    TokenBound,
    TokenConnect,
    TokenRequestError,
    TokenTimeout,
    TransientTokenError,
    UsageError,
    leaves,
)
from sidecar.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from sidecar.config.model import Bind
    from sidecar.secrets import SecretReference

Got = TypeVar("Got")

LARGEST_ANSWER: Final = 1 << 20
LARGEST_METRICS: Final = 16 << 20
MOST_DETAIL: Final = 2000
_REASONS: Final[dict[str, type[SidecarError]]] = {
    leaf.reason: leaf for root in (InternalError, StartupError, TokenRequestError) for leaf in leaves(root)
}
_ELSEWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a wildcard is reached, nothing is bound
_SENDABLE: Final = re.compile(r"[!-~]+\Z")


@dataclass(frozen=True, slots=True)
class GivenToken:
    """A token as another program gets it.

    Args:
        expires_at: Unix time; None if it never expires.
        generation: None where nobody counts.
        scope: None where the IdP does not say.
    """

    secret: Secret
    expires_at: float | None
    generation: int | None = None
    scope: str | None = None


def may_pass(reason: str | None) -> bool:
    """Whether the failure that a credential is in may pass while a command waits: the IdP or the way to it."""
    kind = _REASONS.get(reason or "")
    return kind is None or issubclass(kind, TransientTokenError)


def no_token(name: str, reason: str | None, detail: str | None = None) -> SidecarError:
    """The error that a command ends with when a credential has no token for it: the one it last failed with.

    Args:
        name: of the credential.
        reason: of its last failure; None if no attempt has ended.
        detail: the sentence of that failure, if it is known.
    """
    kind = _REASONS.get(reason or "")
    if kind is None:
        return TokenTimeout(f"credential {name} has no token: nothing came in time")
    step = NEXT_STEPS.get(kind.reason, "see the sidecar's log")
    return kind(f"credential {name} has no token: {detail or kind.title} ({kind.reason})\n  next: {step}")


def _sentence(value: object) -> str | None:
    """One line of an answer that may be shown on a terminal."""
    return value if isinstance(value, str) and value.isprintable() and len(value) <= MOST_DETAIL else None


def bound(name: str) -> UsageError:
    """The error of a command that wants a token which nobody else can use."""
    return UsageError(
        f"the token of credential {name} is bound to a key that stays in the sidecar (dpop: true): "
        "send the requests through it"
    )


class AdminClient:
    """Asks one sidecar.

    Args:
        bind: where its admin listener is, as in the configuration.
        token: names the admin token; read only when somebody listens there. Without it no token can be asked for.
    """

    def __init__(self, bind: Bind, token: SecretReference | None = None) -> None:
        self._bind = bind
        self._token = token
        self._trouble: SidecarError | None = None

    async def credentials(self, *, timeout: float) -> list[dict[str, Any]] | None:
        """How each credential stands, as the API says it; None if nobody listens at the address.

        Raises:
            TokenConnect, TokenTimeout: what listens there does not answer as a sidecar does.
        """
        return await self._in_time(self._with_session(self._see_a_sidecar), timeout)

    async def _in_time(self, work: Awaitable[Got], timeout: float) -> Got:
        try:
            async with asyncio.timeout(timeout):
                return await work
        except TimeoutError:
            raise self._trouble or TokenTimeout(f"the sidecar at {self._bind} did not answer in time") from None

    async def token(self, name: str, *, fresh: bool, timeout: float) -> GivenToken | None:
        """The token of a credential, asked for again while the sidecar says that it may still come.

        Args:
            name: of the credential.
            fresh: have it ask the IdP, whatever it holds.
            timeout: seconds.

        Returns:
            None if nobody listens at the address.

        Raises:
            SecretMissing: the admin token cannot be read.
            ConfigurationInvalid: the sidecar runs with another configuration.
            TokenConnect, TokenTimeout: what listens there does not answer as a sidecar does.
            SidecarError: why the credential has no token, as the sidecar said last.
        """
        deadline = asyncio.get_running_loop().time() + timeout

        async def work(session: aiohttp.ClientSession) -> GivenToken:
            return await self._ask_again(session, name, fresh, deadline)

        return await self._in_time(self._with_session(work), timeout)

    async def _ask_again(self, session: aiohttp.ClientSession, name: str, fresh: bool, deadline: float) -> GivenToken:
        await self._see_a_sidecar(session)
        while not isinstance(answered := await self._ask(session, name, fresh), GivenToken):
            error, seconds = answered
            self._trouble = error
            if not may_pass(error.reason) or asyncio.get_running_loop().time() + seconds >= deadline:
                raise error
            await asyncio.sleep(seconds)
        return answered

    async def _with_session(self, work: Callable[[aiohttp.ClientSession], Awaitable[Got]]) -> Got | None:
        """What ``work`` brings; None if nobody listens.

        Raises:
            TokenConnect
        """
        import aiohttp  # here: only these commands need it, and it costs more than all else

        self._trouble = None
        connector = aiohttp.UnixConnector(self._bind.path) if self._bind.is_unix else aiohttp.TCPConnector()
        async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
            try:
                return await work(session)
            except aiohttp.ClientConnectorError as exc:
                if isinstance(exc.os_error, PermissionError):
                    raise TokenConnect(f"this user may not connect to {self._bind}") from exc
                return None
            except (aiohttp.ClientError, ValueError) as exc:
                raise TokenConnect(f"what listens at {self._bind} does not answer as a sidecar's admin API") from exc

    async def _see_a_sidecar(self, session: aiohttp.ClientSession) -> list[dict[str, Any]]:
        """What it lists; what else may listen there is not sent the admin token.

        Raises:
            ValueError: it is something else.
        """
        async with session.get(f"{_origin(self._bind)}/v1/credentials", allow_redirects=False) as response:
            listed = (await _read(response)).get("credentials") if response.status == 200 else None
            if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
                raise ValueError("it does not list credentials")
            return listed

    async def _ask(
        self, session: aiohttp.ClientSession, name: str, fresh: bool
    ) -> GivenToken | tuple[SidecarError, float]:
        """A token, or why there is none and how long to wait before asking again."""
        url = f"{_origin(self._bind)}/v1/credentials/{quote(name, safe='')}/token{'?fresh=true' if fresh else ''}"
        assert self._token is not None  # noqa: S101 - see the class
        headers = {"Authorization": f"Bearer {self._token.read().reveal()}"}
        async with session.post(_as_it_is(url), headers=headers, allow_redirects=False) as response:
            answer = await _read(response)
            if response.status == 200:
                return _given(answer)
            if response.status == 503:
                seconds = float(response.headers.get("Retry-After", "1"))
                return no_token(name, str(answer.get("last_error")), _sentence(answer.get("last_detail"))), seconds
            return self._refused(response.status, name, answer.get("reason")), 0.0

    def _refused(self, status: int, name: str, reason: object) -> SidecarError:
        if reason == TokenBound.reason:
            return bound(name)
        why = {
            401: f"does not take the admin token of {self._token}",
            403: "takes no admin token: its log or its configuration says why",
            404: f"has no credential {name}",
        }
        what = why.get(status, f"answered {status}")
        return ConfigurationInvalid(f"the sidecar at {self._bind} {what}; does it run with this configuration?")


def _origin(bind: Bind) -> str:
    if bind.is_unix:
        return "http://localhost"
    host = _ELSEWHERE.get(bind.host, bind.host)
    return f"http://[{host}]:{bind.port}" if ":" in host else f"http://{host}:{bind.port}"


def _as_it_is(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)  # a name keeps its %2F


async def _read(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        ValueError: it is none, or too large for one of ours.
    """
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > LARGEST_ANSWER:
            raise ValueError("the answer is too large")
    answer = json.loads(raw)
    if not isinstance(answer, dict):
        raise ValueError("the answer is no object")
    return answer


def _given(answer: dict[str, Any]) -> GivenToken:
    """Raises: ValueError."""
    token, expires_at = answer.get("access_token"), answer.get("expires_at")
    if not isinstance(token, str) or not _SENDABLE.match(token):
        raise ValueError("the answer holds no token")
    moment = datetime.fromisoformat(expires_at).timestamp() if isinstance(expires_at, str) else None
    generation, scope = answer.get("generation"), answer.get("scope")
    return GivenToken(
        Secret(token),
        moment,
        generation if isinstance(generation, int) else None,
        scope if isinstance(scope, str) else None,
    )


async def read_metrics(bind: Bind, *, timeout: float) -> str | None:
    """The metrics of the sidecar whose telemetry is served there, as text; None if they are not to be had."""
    import aiohttp  # as above

    connector = aiohttp.UnixConnector(bind.path) if bind.is_unix else aiohttp.TCPConnector()
    limits = aiohttp.ClientTimeout(total=timeout)
    async with aiohttp.ClientSession(connector=connector, timeout=limits, trust_env=False) as session:
        try:
            async with session.get(f"{_origin(bind)}/metrics", allow_redirects=False) as response:
                raw = await response.content.read(LARGEST_METRICS) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None
    return None if raw is None else raw.decode("utf-8", "replace")
