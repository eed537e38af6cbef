"""Paths that nobody can read out of a route's prefix."""

from __future__ import annotations

import random
import re
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import pytest

from sidecar.proxy.paths import path_forms
from sidecar.proxy.routing import RoutingTable
from tests.proxy.routes import found, route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/../admin",
        b"/v1/..",
        b"/v1/../",
        b"/v1/./../admin",
        b"/v1/%2e%2e/admin",
        b"/v1/.%2E/admin",
        b"/v1/%2e%2e%2fadmin",
        b"/v1/..%2fadmin",
        b"/v1/..%2Fadmin",
        b"/v1/..%5cadmin",
        b"/v1/..\\admin",
        b"/v1/%252e%252e/admin",
        b"/v1/%252e%252e%252fadmin",
        b"/v1/..%252fadmin",
        b"/v1/..;/admin",
        b"/v1/..;x=y/admin",
        b"/v1/..%3b/admin",
        b"/v1/%2e%2e;/admin",
        b"/v1/x/../../admin",
        b"/v1/x/..//../admin",
        b"/v1/x%2f%2e%2e%2f%2e%2e/admin",
        # These come back below the prefix for one reader, but not for another.
        b"/v1/../v1/x",
        b"/v1/../admin//../v1/x",
        b"/v1/../admin/..;/v1/x",
        b"/v1/x%2fy/%2e%2e/%2e%2e/admin",
        b"/v1/x%5cy/%2e%2e/%2e%2e/admin",
        b"/v1/;%2fx/%2e%2e/admin",
        b"/v1//../admin",
        b"/v1/.;/../admin",
        # These are not below it as sent.
        b"//v1/x",
        b"/%2fv1/x",
        b"/./v1/x",
        b"/admin/../v1/x",
        b"/v1;x/y",
        b"/v1%2fx",
        b"/%761/x",
        b"/v1\\x",
    ],
)
def test_no_spelling_reaches_a_prefix_that_some_reader_would_leave(path: bytes) -> None:
    assert found(RoutingTable([route(paths=(b"/v1/",))]), b"http://api.example.com" + path) == "route_mismatch"


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/a%20b",
        b"/v1/a%2Fb",
        b"/v1/100%25",
        b"/v1/50%",
        b"/v1/%zz%+f%f",
        b"/v1/%C3%A9",
        b"/v1/a;b=c/d",
        b"/v1//x",
        b"/v1/./x",
        b"/v1/x/.",
        b"/v1/x/../y",
        b"/v1/x/..",
        b"/v1/x/%2e%2e/y",
        b"/v1/.hidden",
        b"/v1/...",
        b"/v1/..x",
        b"/v1/x..",
        b"/v1/a%252Fb",
        b"/v1/http://elsewhere/",
        b"/v1/x?next=/../../admin&y=%2e%2e%00",
    ],
)
def test_a_path_that_stays_below_its_prefix_for_every_reader_is_taken(path: bytes) -> None:
    assert found(RoutingTable([route(paths=(b"/v1/",))]), b"http://api.example.com" + path) == "r"


@pytest.mark.parametrize("path", [b"/v1/%00", b"/v1/%0d%0aX", b"/v1/%7f", b"/v1/%2500", b"/v1/%25252e", b"/%2525252e"])
def test_a_path_that_hides_control_characters_or_layers_of_encoding_is_refused(path: bytes) -> None:
    assert found(RoutingTable([route(paths=(b"/v1/",))]), b"http://api.example.com" + path) == "bad_request"


def test_a_prefix_without_a_slash_at_its_end_is_left_the_same_ways() -> None:
    table = RoutingTable([route(paths=(b"/v1/orders",))])
    assert found(table, b"http://api.example.com/v1/orders/%2e%2e/users") == "route_mismatch"
    assert found(table, b"http://api.example.com/v1/orders/x/../y") == "r"


def test_the_first_form_is_the_path_as_sent() -> None:
    for path in (b"/a/../b", b"/a%2f..", b"/", b"//"):
        assert path_forms(path + b"?q")[0] == path


# Readers that upstreams are known to be, in every combination of what they decode and how they split.


def _unreserved(path: bytes) -> bytes:
    return re.sub(rb"(?i)%(2[de]|3\d|[46][1-9a-f]|[57][0-9a]|5f|7e)", lambda code: unquote_to_bytes(code[0]), path)


def _twice(path: bytes) -> bytes:
    return unquote_to_bytes(unquote_to_bytes(path))


def _without_parameters(path: bytes) -> bytes:
    return b"/".join(segment.partition(b";")[0] for segment in path.split(b"/"))


def _resolved(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4."""
    kept: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    return b"/" + b"/".join(kept)


def _as_is(path: bytes) -> bytes:
    return path


def readers() -> Iterator[Callable[[bytes], bytes]]:
    decodings = (_as_is, _unreserved, unquote_to_bytes, _twice)
    options = product(decodings, (0, 1, 2), (False, True), (False, True))
    for decode, parameters, backslash, merge in options:

        def read(
            path: bytes,
            decode: Callable[[bytes], bytes] = decode,
            parameters: int = parameters,
            backslash: bool = backslash,
            merge: bool = merge,
        ) -> bytes:
            if parameters == 1:
                path = _without_parameters(path)
            path = decode(path)
            if parameters == 2:
                path = _without_parameters(path)
            if backslash:
                path = path.replace(b"\\", b"/")
            if merge:
                path = re.sub(rb"/+", b"/", path)
            return re.sub(rb"/+", b"/", _resolved(path)) if merge else _resolved(path)

        yield read


def test_no_reader_leaves_the_prefix_of_a_path_that_matched() -> None:
    words = [
        b"/",
        b"/",
        b"..",
        b"..",
        b".",
        b"v1",
        b"a",
        b"%2e",
        b"%2f",
        b"%5c",
        b"\\",
        b";",
        b"%3b",
        b"%252e",
        b"%252f",
    ]
    words += [b"%255c", b"%253b", b"%25"]
    table, upstreams, draw, matched = RoutingTable([route(paths=(b"/v1/",))]), list(readers()), random.Random(11), 0
    for _ in range(2500):
        path = b"/v1/" + b"".join(draw.choices(words, k=draw.randint(1, 12)))
        if found(table, b"http://api.example.com" + path) != "r":
            continue
        matched += 1
        for read in upstreams:
            assert (read(path).rstrip(b"/") + b"/").startswith(b"/v1/"), path
    assert matched > 500
