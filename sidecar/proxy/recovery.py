"""Recovery from a 401 that says the token is bad: the answer is kept back, a newer token fetched, and the request
sent once more. This file holds what is kept back and how a newer token is come by; the exchange itself is ``relay``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.broker.credential import PublishedToken
    from sidecar.errors import SidecarError
    from sidecar.http.message import ResponseHead
    from sidecar.proxy.routing import Route


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


async def newer_token(route: Route, refused: PublishedToken) -> PublishedToken | None:
    """A token of a later generation than the refused one; None where none may be asked for, or none is to be had.

    Whether the route had taken this generation before matters: a token that never worked here is not mended by
    another one like it.
    """
    accepted = route.accepted_generation == refused.generation
    return await route.credential.renew_after_unauthorized(refused.generation, accepted_before=accepted)


async def renew_for_the_next(route: Route, refused: PublishedToken) -> None:
    """This request cannot be sent again, but the next one shall have a token that works."""
    await newer_token(route, refused)
