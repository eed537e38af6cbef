"""Recovery from a 401 that says the token is bad: the answer is kept back, a newer token fetched, and the request
sent once more. This file decides which 401 can be mended, holds what is kept back, and says how a newer token is come
by; the exchange itself is ``relay``.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from sidecar.proxy.challenges import asks_for_nonce, token_was_refused

if TYPE_CHECKING:
    from sidecar.broker.credential import PublishedToken
    from sidecar.errors import SidecarError
    from sidecar.http.message import ResponseHead
    from sidecar.proxy.routing import Route


class Remedy(enum.Enum):
    """What may mend a 401."""

    NEWER_TOKEN = enum.auto()
    NONCE = enum.auto()
    """The same token, with a proof that carries the upstream's nonce (RFC 9449 section 9)."""


def remedy(head: ResponseHead, route: Route, token: PublishedToken) -> Remedy | None:
    """What may mend this answer to a request with this token; None if nothing is wrong with the token."""
    if token.dpop is not None and asks_for_nonce(head):
        return Remedy.NONCE
    scheme = b"bearer" if token.dpop is None else b"dpop"
    refused = token_was_refused(head, scheme=scheme, any_401=route.credential.any_401)
    return Remedy.NEWER_TOKEN if refused else None


class HeldAnswer:
    """A 401 that is kept back while a newer token is fetched; relayed after all if there is none.

    Attributes:
        head: its head.
        body: what came of its body before reading was paused.
        ended: whether that was all of it.
        lost: what became of the connection meanwhile, if it died.
    """

    __slots__ = ("body", "ended", "head", "lost")

    def __init__(self, head: ResponseHead, body: bytes, ended: bool) -> None:
        self.head = head
        self.body = [body]
        self.ended = ended
        self.lost: SidecarError | None = None

    def __repr__(self) -> str:
        return f"<HeldAnswer {self.head.status} ended={self.ended}>"


async def mended(way: Remedy, route: Route, refused: PublishedToken) -> PublishedToken | None:
    """The token to send the request again with; None where there is none."""
    return refused if way is Remedy.NONCE else await newer_token(route, refused)


async def newer_token(route: Route, refused: PublishedToken) -> PublishedToken | None:
    """A token of a later generation than the refused one; None where none may be asked for, or none is to be had.

    Whether the route had taken this generation before matters: a token that never worked here is not mended by
    another one like it.
    """
    accepted = route.accepted_generation == refused.generation
    return await route.credential.renew_after_unauthorized(refused.generation, accepted_before=accepted)


async def renew_for_the_next(way: Remedy, route: Route, refused: PublishedToken) -> None:
    """This request cannot be sent again, but the next one shall have a token that works."""
    await mended(way, route, refused)
