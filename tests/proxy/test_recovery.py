"""What is asked of a credential after a 401; the replay itself is driven in ``test_tokens``."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from sidecar.broker.credential import PublishedToken
from sidecar.errors import UpstreamReset
from sidecar.http.message import ResponseHead
from sidecar.oauth.dpop import new_key
from sidecar.proxy.recovery import HeldAnswer, Remedy, mended, newer_token, remedy, renew_for_the_next
from sidecar.proxy.routing import Route
from sidecar.secrets import Secret

if TYPE_CHECKING:
    from sidecar.broker.credential import Credential


def token(generation: int) -> PublishedToken:
    return PublishedToken(b"Authorization: Bearer x\r\n", generation, 0.0, math.inf, math.inf, Secret("x"))


def answer(*lines: bytes) -> ResponseHead:
    head = ResponseHead(401, b"401 Unauthorized", 1)
    head.lines += lines
    return head


class Asked:
    """A credential that notes what it is asked and gives what it has."""

    any_401 = False

    def __init__(self, answer: PublishedToken | None) -> None:
        self.answer = answer
        self.asked: list[tuple[int, bool]] = []

    async def renew_after_unauthorized(self, generation: int, *, accepted_before: bool) -> PublishedToken | None:
        self.asked.append((generation, accepted_before))
        return self.answer


def route(asked: Asked) -> Route:
    credential = cast("Credential", asked)
    return Route("r", "api.example.com", False, 443, True, (b"/",), frozenset(), credential, cast("Any", None))


async def test_a_generation_the_route_has_taken_before_is_told_apart_from_one_it_never_took() -> None:
    asked = Asked(token(3))
    there = route(asked)
    assert await newer_token(there, token(2)) == token(3)
    there.accepted_generation = 2
    await newer_token(there, token(2))
    assert asked.asked == [(2, False), (2, True)]


async def test_no_newer_token_is_an_answer_too() -> None:
    assert await newer_token(route(Asked(None)), token(1)) is None


async def test_a_request_that_cannot_be_sent_again_still_renews_the_token() -> None:
    asked = Asked(token(3))
    await renew_for_the_next(Remedy.NEWER_TOKEN, route(asked), token(2))
    assert asked.asked == [(2, False)]


def test_a_held_answer_keeps_what_came_and_what_became_of_its_connection() -> None:
    held = HeldAnswer(ResponseHead(401, b"401 Unauthorized", 1), b"par", False)
    held.body.append(b"t")
    held.lost = UpstreamReset("gone")
    assert (held.head.status, b"".join(held.body), held.ended) == (401, b"part", False)
    assert repr(held) == "<HeldAnswer 401 ended=False>"


def test_what_mends_a_401_is_a_newer_token_a_nonce_or_nothing() -> None:
    there = route(Asked(None))
    bound = replace(token(1), dpop=new_key())
    refused = answer(b'WWW-Authenticate: Bearer error="invalid_token"')
    assert remedy(refused, there, token(1)) is Remedy.NEWER_TOKEN
    assert remedy(refused, there, bound) is None
    nonce = answer(b'WWW-Authenticate: DPoP error="use_dpop_nonce"', b"DPoP-Nonce: n")
    assert remedy(nonce, there, bound) is Remedy.NONCE
    assert remedy(nonce, there, token(1)) is None
    assert remedy(answer(), there, token(1)) is None


async def test_a_nonce_is_mended_with_the_same_token_and_asks_nobody() -> None:
    asked = Asked(token(3))
    assert await mended(Remedy.NONCE, route(asked), token(2)) == token(2)
    assert await mended(Remedy.NEWER_TOKEN, route(asked), token(2)) == token(3)
    assert asked.asked == [(2, False)]


def test_a_provider_whose_apis_do_not_tell_is_believed_by_the_status() -> None:
    asked = Asked(None)
    asked.any_401 = True
    assert remedy(answer(), route(asked), token(1)) is Remedy.NEWER_TOKEN
