"""The faults that have a name: one table, and how they are written: ``429:30s``, ``500x3``, ``skew=-5m``.

Decides what each of them means for a provider. Leaves how long it holds, and who asked for it, to ``injection``; the
documentation prints this table.
"""

from __future__ import annotations

import enum
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sidecar.config.problems import did_you_mean, nearest
from sidecar.config.scalars import duration
from sidecar.simulation.faults import Step
from sidecar.simulation.registration import Refreshing

if TYPE_CHECKING:
    from sidecar.simulation.idp import MockIdP

Undo = Callable[[], Awaitable[None]]
Change = Callable[["MockIdP", float | None], Awaitable[Undo | None]]
"""Does it to a provider, with the value that was given; what takes it back, if that can be."""

TOKEN_ENDPOINT: Final = frozenset({"token"})
EVERY_ENDPOINT: Final = frozenset(
    {"token", "metadata", "jwks", "revoke", "authorize", "consent", "device_authorization", "device"}
)
MOST_ANSWERS: Final = 1_000_000


class Value(enum.Enum):
    """What may stand behind ``=``."""

    NONE = "none"
    OPTIONAL = "optional"
    NEEDED = "needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault.

    Args:
        step: what an answer becomes; None for what is no answer.
        endpoints: the endpoints that ``step`` is for.
        change: what is done to the provider instead.
        lasts: it holds until it is ended; else it happens once.
        signed: the value may be negative.
    """

    name: str
    meaning: str
    example: str
    value: Value = Value.NONE
    step: Callable[[float | None], Step] | None = None
    endpoints: frozenset[str] = TOKEN_ENDPOINT
    change: Change | None = None
    lasts: bool = True
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Ordered:
    """A fault as somebody ordered it; prints as it is written.

    Args:
        value: what stands behind ``=``, in seconds.
        seconds: how long it holds; None until it is ended.
        count: for how many answers.
    """

    fault: Fault
    text: str
    value: float | None = None
    seconds: float | None = None
    count: int | None = None

    def __str__(self) -> str:
        return self.text


# --- answers ---------------------------------------------------------------------------------------------------------

_JSON: Final = {"Content-Type": "application/json"}
_PAGE: Final = (
    b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Please sign in</h1>"
    b"<form><input name='user'><input name='password' type='password'></form></body></html>"
)


def _failing(status: int) -> Callable[[float | None], Step]:
    """An error of the server or of what stands before it; the value is its Retry-After (RFC 9110 section 10.2.3)."""

    def step(value: float | None) -> Step:
        headers = {} if value is None else {"Retry-After": f"{max(value, 0):.0f}"}
        return Step(status=status, headers=headers, body=b"<html><body>Service trouble</body></html>")

    return step


def _refusing(error: str, status: int = 400) -> Callable[[float | None], Step]:
    """A refusal in the words of RFC 6749 section 5.2."""
    body = json.dumps({"error": error, "error_description": "a fault on purpose"}).encode()
    return lambda _: Step(status=status, headers=_JSON, body=body)


def _just(step: Step) -> Callable[[float | None], Step]:
    return lambda _: step


# --- changes ---------------------------------------------------------------------------------------------------------


async def _set_ttl(idp: MockIdP, value: float | None) -> Undo:
    before, idp.ttl = idp.ttl, value or idp.ttl

    async def undo() -> None:
        idp.ttl = before

    return undo


async def _set_skew(idp: MockIdP, value: float | None) -> Undo:
    before, idp.skew = idp.skew, value or 0.0

    async def undo() -> None:
        idp.skew = before

    return undo


async def _stop(idp: MockIdP, _: float | None) -> Undo:
    await idp.stop()

    async def undo() -> None:
        if not idp.listening:
            await idp.start()

    return undo


async def _revoke_tokens(idp: MockIdP, _: float | None) -> None:
    for token in idp.issued:
        idp.revoke(token)


async def _revoke_logins(idp: MockIdP, _: float | None) -> None:
    idp.tokens.end_all()


async def _rotate(idp: MockIdP, value: float | None) -> Undo:
    before = {name: client for name, client in idp.clients.items() if client.refreshing is not None}
    for name, client in before.items():
        refreshing = replace(client.refreshing or Refreshing(), rotates=True, grace=value or 0.0)
        idp.clients[name] = replace(client, refreshing=refreshing)

    async def undo() -> None:
        idp.clients.update(before)

    return undo


async def _change_secrets(idp: MockIdP, _: float | None) -> Undo:
    before = dict(idp.secrets)
    for client in before:
        idp.secrets[client] = {secrets.token_urlsafe(24)}

    async def undo() -> None:
        idp.secrets.update(before)

    return undo


# --- the table -------------------------------------------------------------------------------------------------------

_ALL: Final = (
    Fault(
        name="outage",
        meaning="nobody listens: connections are refused",
        example="outage:30s",
        change=_stop,
    ),
    Fault(
        name="latency",
        meaning="every answer comes so much later",
        example="latency=2s",
        value=Value.NEEDED,
        step=lambda value: Step(delay=value or 0.0),
        endpoints=EVERY_ENDPOINT,
    ),
    Fault(
        name="hang",
        meaning="no answer ever comes",
        example="hang:10s",
        step=_just(Step(fault="hang")),
        endpoints=EVERY_ENDPOINT,
    ),
    Fault(
        name="reset",
        meaning="the connection breaks before the answer",
        example="reset:10s",
        step=_just(Step(fault="reset")),
        endpoints=EVERY_ENDPOINT,
    ),
    Fault(
        name="lost",
        meaning="the token is issued, and the connection breaks before the answer: a rotation that nobody hears of",
        example="lostx1",
        step=_just(Step(fault="reset", commits=True)),
    ),
    Fault(
        name="429",
        meaning="too many requests; the value is `Retry-After`, without one the field is missing",
        example="429=7s:30s",
        value=Value.OPTIONAL,
        step=_failing(429),
    ),
    Fault(name="500", meaning="an error of the server", example="500x3", step=_failing(500)),
    Fault(name="502", meaning="an error of a gateway before it", example="502:10s", step=_failing(502)),
    Fault(
        name="503",
        meaning="unavailable; the value is `Retry-After`",
        example="503=20s",
        value=Value.OPTIONAL,
        step=_failing(503),
    ),
    Fault(name="504", meaning="a gateway before it waited in vain", example="504x2", step=_failing(504)),
    Fault(name="empty", meaning="200 with an empty body", example="emptyx1", step=_just(Step(body=b""))),
    Fault(
        name="html",
        meaning="200 with a page to sign in on, as captive portals and proxies send",
        example="html:1m",
        step=_just(Step(headers={"Content-Type": "text/html"}, body=_PAGE)),
    ),
    Fault(
        name="malformed",
        meaning="200 with JSON that ends in the middle",
        example="malformedx2",
        step=_just(Step(body=b'{"access_token": "abc", "expires_in": 36')),
    ),
    Fault(
        name="no_token",
        meaning="200 with JSON that holds no token",
        example="no_tokenx1",
        step=_just(Step(fields={"access_token": None})),
    ),
    Fault(
        name="invalid_grant",
        meaning="the login or the assertion is refused",
        example="invalid_grant:20s",
        step=_refusing("invalid_grant"),
    ),
    Fault(
        name="invalid_client",
        meaning="the client is refused, whatever its secret",
        example="invalid_client",
        step=_refusing("invalid_client", 401),
    ),
    Fault(name="invalid_scope", meaning="a scope is refused", example="invalid_scope", step=_refusing("invalid_scope")),
    Fault(
        name="unauthorized_client",
        meaning="the client may not use its grant",
        example="unauthorized_client",
        step=_refusing("unauthorized_client"),
    ),
    Fault(
        name="wrong_secret",
        meaning="the secrets of all clients are others from now on: what the client has is wrong",
        example="wrong_secret:20s",
        change=_change_secrets,
    ),
    Fault(
        name="ttl",
        meaning="new access tokens live so long",
        example="ttl=20s",
        value=Value.NEEDED,
        change=_set_ttl,
    ),
    Fault(
        name="skew",
        meaning="its clock is wrong by so much: in `Date`, in its JWTs, and when it judges the times of others",
        example="skew=-5m",
        value=Value.NEEDED,
        signed=True,
        change=_set_skew,
    ),
    Fault(
        name="rotate",
        meaning="refresh tokens are good for one use; the value is the grace in which a spent one still is. Later use "
        "counts as theft and revokes the login",
        example="rotate=30s",
        value=Value.OPTIONAL,
        change=_rotate,
    ),
    Fault(
        name="revoke",
        meaning="once: all access tokens that are out become invalid before their end",
        example="revoke",
        change=_revoke_tokens,
        lasts=False,
    ),
    Fault(
        name="revoke_login",
        meaning="once: all refresh tokens that are out become invalid, and what came of them",
        example="revoke_login",
        change=_revoke_logins,
        lasts=False,
    ),
)
FAULTS: Final = {fault.name: fault for fault in _ALL}

# --- how they are written --------------------------------------------------------------------------------------------

_ORDER: Final = re.compile(
    r"(?P<name>[a-z0-9_]+?)(?:=(?P<value>[-+]?[0-9.]+[a-z]+))?(?::(?P<time>[0-9.]+[a-z]+))?(?:x(?P<count>[0-9]{1,7}))?"
)
WRITTEN: Final = "NAME, then =VALUE, :TIME and xCOUNT where they are wanted: 429=7s:30s, 500x3"


def ordered(text: str, known: Mapping[str, Fault] = FAULTS, *, what: str = "fault") -> Ordered:
    """Read a fault as it is written.

    Args:
        text: such as ``500x3``.
        known: the table that it stands in.
        what: what the entries of that table are called.

    Raises:
        ValueError: there is none such, or not with this value, time or count; a sentence.
    """
    match = _ORDER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"it is written {WRITTEN}")
    fault = known.get(match["name"])
    if fault is None:
        raise ValueError(f"no {what} has this name{did_you_mean(nearest(match['name'], known))}")
    seconds = None if match["time"] is None else duration(match["time"])
    count = None if match["count"] is None else int(match["count"])
    _refuse_misfits(fault, value=match["value"], seconds=seconds, count=count)
    return Ordered(fault, text.strip(), _value(fault, match["value"]), seconds, count)


def _refuse_misfits(fault: Fault, *, value: str | None, seconds: float | None, count: int | None) -> None:
    if value is None and fault.value is Value.NEEDED:
        raise ValueError(f"{fault.name} needs its value: {fault.example}")
    if value is not None and fault.value is Value.NONE:
        raise ValueError(f"{fault.name} takes no value: {fault.example}")
    if seconds is not None and not fault.lasts:
        raise ValueError(f"{fault.name} happens once: it has no time")
    if seconds == 0:
        raise ValueError("its time is more than nothing")
    if count is not None and fault.step is None:
        raise ValueError(f"{fault.name} is not counted in answers: {fault.example}")
    if count is not None and not 1 <= count <= MOST_ANSWERS:
        raise ValueError(f"it is for 1 to {MOST_ANSWERS} answers")


def _value(fault: Fault, text: str | None) -> float | None:
    if text is None:
        return None
    sign = -1.0 if text.startswith("-") else 1.0
    if text[0] in "+-" and not fault.signed:
        raise ValueError(f"the value of {fault.name} has no sign: {fault.example}")
    return sign * duration(text.lstrip("+-"))
