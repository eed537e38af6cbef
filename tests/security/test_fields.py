"""Fields: what stays here, what leaves and in which order, and that nothing an app sends can move what is injected.

Lines 1 to 13 of the checklist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from sidecar.errors import leaves as every_error
from tests.proxy.raw_client import chunked, get, path, post
from tests.proxy.raw_origin import ok
from tests.security.bench import KEEPING, REJECTING, URL, Case, Gets, leaves, refusal, refused, served

if TYPE_CHECKING:
    from tests.security.bench import Bench

pytestmark = pytest.mark.asyncio(loop_scope="module")

END_TO_END: Final = (
    "x-lower:no space",
    "Set-Thing: 1",
    "X-Empty:",
    "Set-Thing:   2  ",
    "Cookie: a=b; c=d",
    "Accept-Encoding: gzip, br",
    "Content-Encoding: identity",
    "Range: bytes=0-99",
    'If-None-Match: W/"x"',
    "If-Modified-Since: Tue, 15 Nov 1994 08:12:31 GMT",
    "Cache-Control: no-store",
    "X-Bytes: \xe9\xff\ttab",
    'X-Quoted: "a, b"',
)
ANSWERED: Final = (
    "Content-Encoding: gzip",
    "Allow: GET, PUT",
    'WWW-Authenticate: Basic realm="x", Bearer realm="y"',
    "Content-Range: bytes 0-4/9",
    "Set-Cookie: a=1",
    "Set-Cookie: b=2",
    "Vary: Accept",
    'ETag: "x"',
    "X-Odd:   spaced  ",
)

REQUEST_SIDE: Final = {
    "two Connection lines in any case": Case(
        get(f"{URL}/", "Connection: X-A", "X-A: 1", "X-B: 2", "connection: x-b", "X-C: 3"),
        (served("GET /"),),
        (leaves("GET /", "X-C: 3"),),
    ),
    "an empty first option": Case(
        get(f"{URL}/", "Connection: , ,X-A,", "X-A: 1", "x-a: 2", "X-B: 3"),
        (served("GET /"),),
        (leaves("GET /", "X-B: 3"),),
    ),
    "an empty Connection line before one that nominates": Case(
        get(f"{URL}/", "Connection:", "Connection: X-A", "X-A: 1"),
        (served("GET /"),),
        (leaves("GET /"),),
    ),
    "hop-by-hop fields that nobody nominated": Case(
        get(
            f"{URL}/",
            "Proxy-Connection: keep-alive",
            "Keep-Alive: timeout=5",
            "TE: trailers",
            "Trailer: X-T",
            "Upgrade: h2c",
            "Proxy-Authorization: Basic c2VjcmV0",
            "Proxy-Authenticate: Basic",
            "X-Stays: 1",
        ),
        (served("GET /"),),
        (leaves("GET /", "X-Stays: 1"),),
    ),
    "what the proxy sets, nominated": Case(
        post(f"{URL}/", b"body", "Connection: authorization, host, content-length, x-forwarded-for, via, close"),
        (served("POST /", 4, has=("Connection: close",)),),
        (leaves("POST /", body=b"body"),),
        ends=True,
    ),
    "the framing of chunks, nominated": Case(
        get(f"{URL}/", "Connection: transfer-encoding", "Transfer-Encoding: chunked", method="PUT") + chunked(b"ab"),
        (served("PUT /", 2),),
        (leaves("PUT /", body=b"ab", chunked=True),),
    ),
    "unknown fields and doubled ones keep their order and their bytes": Case(
        get(f"{URL}/x", *END_TO_END).decode().encode("latin-1"),
        (served("GET /x"),),
        (leaves("GET /x", *END_TO_END),),
    ),
    "Via is appended to": Case(
        get(f"{URL}/", "Via: 1.0 app (x)", "Via: 1.1 other"),
        (served("GET /"),),
        (leaves("GET /", "Via: 1.0 app (x)", "Via: 1.1 other"),),
    ),
    "a client of HTTP/1.0 leaves as HTTP/1.1": Case(
        f"GET {URL}/ HTTP/1.0\r\nX: 1\r\n\r\n".encode(),
        (served("GET /", has=("Connection: close",)),),
        (leaves("GET /", "X: 1"),),
        ends=True,
    ),
    "no Max-Forwards is made up": Case(
        get(URL, method="OPTIONS"),
        (served("OPTIONS *"),),
        (leaves("OPTIONS *"),),
    ),
}


@pytest.mark.parametrize("case", REQUEST_SIDE)
async def test_what_leaves_is_what_may_leave(bench: Bench, case: str) -> None:
    await bench.prove(REQUEST_SIDE[case])


ANSWER_SIDE: Final = {
    "Connection nominates, in two lines, with empty options": Case(
        get(f"{URL}/"),
        (Gets(200, b"x", has=("X-C: 3",), lacks=("X-A", "X-B", "Connection", "Keep-Alive", "Proxy-Connection")),),
        (leaves("GET /"),),
        replies=(
            ok(
                b"x",
                *("Connection: , X-A", "X-A: 1", "connection: x-b,keep-alive", "X-B: 2", "X-C: 3"),
                *("Keep-Alive: timeout=5", "Proxy-Connection: keep-alive"),
            ),
        ),
    ),
    "hop-by-hop fields that nobody nominated": Case(
        get(f"{URL}/"),
        (
            Gets(
                200,
                b"x",
                has=("X-Stays: 1",),
                lacks=("TE", "Trailer", "Upgrade", "Proxy-Authenticate", "Proxy-Connection", "Keep-Alive"),
            ),
        ),
        (leaves("GET /"),),
        replies=(
            ok(
                b"x",
                *("TE: x", "Trailer: x", "Upgrade: h2c", "Proxy-Authenticate: Basic", "Proxy-Connection: close"),
                *("Keep-Alive: timeout=9", "X-Stays: 1"),
            ),
        ),
    ),
    "framing and the date, nominated": Case(
        get(f"{URL}/"),
        (Gets(200, b"x", has=("Content-Length: 1", "Via: 1.1 token-sidecar")),),
        (leaves("GET /"),),
        replies=(ok(b"x", "Connection: content-length, via, date, x", "Date: Tue, 15 Nov 1994 08:12:31 GMT"),),
    ),
    "end-to-end fields, untouched": Case(
        get(f"{URL}/"),
        (Gets(206, b"hello", has=ANSWERED),),
        (leaves("GET /"),),
        replies=(ok(b"hello", *ANSWERED, status="206 Partial Content"),),
    ),
    "a 401 of the origin, intact": Case(
        get(f"{URL}/"),
        (Gets(401, b"no", has=('WWW-Authenticate: Basic realm="the origin\'s"',)),),
        (leaves("GET /"),),
        replies=(ok(b"no", 'WWW-Authenticate: Basic realm="the origin\'s"', status="401 Unauthorized"),),
    ),
    "an answer in HTTP/1.0 arrives as HTTP/1.1": Case(
        get(f"{URL}/"),
        (Gets(200, b"x"),),
        (leaves("GET /"),),
        replies=(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",),
    ),
    "Via and Date are added": Case(
        get(f"{URL}/"),
        (Gets(200, b"x", has=("Via: 1.0 origin", "Via: 1.1 token-sidecar")),),
        (leaves("GET /"),),
        replies=(ok(b"x", "Via: 1.0 origin"),),
    ),
}


@pytest.mark.parametrize("case", ANSWER_SIDE)
async def test_what_comes_back_is_what_may_come_back(bench: Bench, case: str) -> None:
    """The origin's bytes are whole here; ``test_framing`` cuts those of answers up."""
    await bench.run(ANSWER_SIDE[case], [ANSWER_SIDE[case].sent])
    assert bench.last.value("Date") is not None


TRAILERS: Final = b"2\r\nab\r\n0\r\nAuthorization: Bearer x\r\nX-Nominated: 1\r\nHost: evil.test\r\n\r\n"


async def test_trailers_are_dropped_in_both_directions_and_never_merged(bench: Bench) -> None:
    request = get(f"{URL}/", "Connection: X-Nominated", "Transfer-Encoding: chunked", method="PUT")
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + TRAILERS
    gets = Gets(200, b"ab", lacks=("Authorization", "X-Nominated", "Host", "Trailer"))
    case = Case(request + TRAILERS, (gets,), (leaves("PUT /", body=b"ab", chunked=True),), replies=(answer,))
    await bench.prove(case)


AUTHORIZATION: Final = {
    "replaced, in any case": Case(
        get(f"{URL}/", "AUTHORIZATION: Bearer of-the-app"), (served("GET /"),), (leaves("GET /"),)
    ),
    "replaced, twice": Case(
        get(f"{URL}/", "authorization: Bearer a", "X: 1", "Authorization: Basic YTpi"),
        (served("GET /"),),
        (leaves("GET /", "X: 1"),),
    ),
    "replaced, joined by a comma": Case(
        get(f"{URL}/", "Authorization: Bearer a, Bearer b"), (served("GET /"),), (leaves("GET /"),)
    ),
    "replaced, though nominated": Case(
        get(f"{URL}/", "Connection: authorization", "Authorization: Bearer a"), (served("GET /"),), (leaves("GET /"),)
    ),
    "replaced, empty": Case(get(f"{URL}/", "Authorization:"), (served("GET /"),), (leaves("GET /"),)),
    "kept": Case(
        get(f"http://{KEEPING}/", "authorization: Basic YTpi"),
        (served("GET /"),),
        (leaves("GET /", own="authorization: Basic YTpi", host=KEEPING),),
    ),
    "kept, of which there is none": Case(
        get(f"http://{KEEPING}/"), (served("GET /"),), (leaves("GET /", host=KEEPING),)
    ),
    "kept, though nominated to be dropped": Case(
        get(f"http://{KEEPING}/", "Connection: authorization", "Authorization: Basic YTpi"),
        (served("GET /"),),
        (leaves("GET /", host=KEEPING),),
    ),
    "kept, but there are two": Case(
        get(f"http://{KEEPING}/", "Authorization: Basic YTpi", "authorization: Basic YTpi"),
        (refused(400, "bad_request"),),
    ),
    "rejected": Case(get(f"http://{REJECTING}/", "aUTHORIZATION: x"), (refused(403, "authorization_refused"),)),
    "rejected, twice": Case(
        get(f"http://{REJECTING}/", "Authorization: a", "Authorization: b"), (refused(403, "authorization_refused"),)
    ),
    "rejected, joined by a comma": Case(
        get(f"http://{REJECTING}/", "Authorization: Bearer a, Bearer b"), (refused(403, "authorization_refused"),)
    ),
    "rejected, with a body": Case(
        post(f"http://{REJECTING}/", b"body", "Authorization: a"),
        (refused(403, "authorization_refused", has=("Connection: close",)),),
        ends=True,
    ),
}


@pytest.mark.parametrize("case", AUTHORIZATION)
async def test_exactly_one_authorization_leaves_by_the_routes_policy(bench: Bench, case: str) -> None:
    await bench.prove(AUTHORIZATION[case])


async def test_the_credential_of_the_proxy_never_reaches_the_origin(bench: Bench) -> None:
    fields = ("Proxy-Authorization: Basic c2VjcmV0", "proxy-authenticate: x")
    for listener, request in (("egress", get(f"{URL}/", *fields)), ("orders", path("/", *fields))):
        await bench.prove(Case(request, (served("GET /"),), (leaves("GET /"),), listener=listener))
    assert b"c2VjcmV0" not in b"".join(bench.origin.received())


async def test_two_proxy_credentials_are_refused(bench: Bench) -> None:
    fields = ("Proxy-Authorization: Basic YTpi", "proxy-authorization: Basic YTpj")
    await bench.prove(refusal(get(f"{URL}/", *fields), 400, "bad_request"))


async def test_what_came_through_here_before_is_a_loop(bench: Bench) -> None:
    own = bench.rig.sidecar.gateway.pseudonym.decode()
    for via in (f"Via: 1.1 {own}", f"via: 1.0 a, 1.1 {own} (x), 1.1 b"):
        await bench.prove(Case(get(f"{URL}/", via), (refused(508, "loop_detected"),)))
        await bench.prove(Case(path("/", via), (refused(508, "loop_detected"),), listener="orders"))


async def test_via_is_a_pseudonym_and_no_name_of_the_machine(bench: Bench) -> None:
    await bench.prove(Case(get(f"{URL}/"), (served("GET /", has=("Via: 1.1 token-sidecar",)),), (leaves("GET /"),)))
    assert bench.rig.sidecar.gateway.via_request.startswith(b"Via: 1.1 token-sidecar-")


async def test_no_answer_of_the_sidecars_own_is_a_421() -> None:
    assert 421 not in {error.status for error in every_error()}


FORWARDED: Final = (
    "Forwarded: for=192.0.2.1;host=evil.test;proto=https",
    "forwarded: for=x",
    "X-Forwarded-For: 192.0.2.1",
    "X-Forwarded-Host: evil.test",
    "x-forwarded-proto: https",
    "X-Forwarded-Uri: /admin",
    "X-Forwarded-Anything: x",
    "X-Forwarded: for=x",
    "X_Forwarded_For: 192.0.2.1",
    "X.Forwarded.For: 192.0.2.1",
    "x_forwarded-User: admin",
    "X-Forwarded_Email: admin@example.test",
)
ALIASES: Final = (
    "Content_Length: 5",
    "content.length: 5",
    "Transfer_Encoding: chunked",
    "Transfer.Encoding: chunked",
    "Proxy_Authorization: Basic YTpi",
    "Proxy_Connection: close",
    "Keep_Alive: x",
    "Max_Forwards: 0",
)


@pytest.mark.parametrize("line", FORWARDED + ALIASES)
async def test_what_tells_of_earlier_hops_and_what_only_looks_like_framing_is_dropped(bench: Bench, line: str) -> None:
    """oauth2-proxy CVE-2025-64484: an upstream of CGI's kind reads ``X_Forwarded_For`` as ``X-Forwarded-For``."""
    for listener, request in (("egress", get(f"{URL}/", line, "X: 1")), ("orders", path("/", line, "X: 1"))):
        await bench.prove(Case(request, (served("GET /"),), (leaves("GET /", "X: 1"),), listener=listener))


async def test_all_of_them_at_once_leave_nothing_either(bench: Bench) -> None:
    request = post(f"{URL}/", b"body", *FORWARDED, *ALIASES, "X-Forward: stays", "Content-Length-X: stays")
    left = leaves("POST /", "X-Forward: stays", "Content-Length-X: stays", body=b"body")
    await bench.prove(Case(request, (served("POST /", 4),), (left,)))
