"""Targets: the one authority a request is for, read in one way only, and everything that is no target.

Lines 14 to 18 of the checklist. Spellings of the authority itself stand in ``test_authority``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.proxy.raw_client import get, path
from tests.proxy.rig import API
from tests.security.bench import URL, Case, leaves, refusal, refused, served

if TYPE_CHECKING:
    from tests.security.bench import Bench

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST: Final = f"Host: {API}\r\n"


def raw(start: str, *fields: str) -> bytes:
    return "\r\n".join((start, *fields, "", "")).encode("latin-1")


ABSOLUTE: Final = {
    "the Host is another one": Case(
        raw(f"GET {URL}/x HTTP/1.1", "Host: stranger.test"), (served("GET /x"),), (leaves("GET /x"),)
    ),
    "the Host is a host with a route of its own": Case(
        raw(f"GET {URL}/x HTTP/1.1", "Host: localhost"), (served("GET /x"),), (leaves("GET /x"),)
    ),
    "the Host is ours, the target's is not": Case(
        raw("GET http://stranger.test/x HTTP/1.1", HOST.strip()), (refused(403, "target_unmatched"),)
    ),
    "no Host, but HTTP/1.0": Case(
        raw(f"GET {URL}/x HTTP/1.0"),
        (served("GET /x", has=("Connection: close",)),),
        (leaves("GET /x"),),
        ends=True,
    ),
    "the scheme in capitals": Case(get(f"HTTP://{API}/x"), (served("GET /x"),), (leaves("GET /x"),)),
}


@pytest.mark.parametrize("case", ABSOLUTE)
async def test_an_absolute_target_alone_says_where_a_request_goes(bench: Bench, case: str) -> None:
    await bench.prove(ABSOLUTE[case])


KEPT: Final = (
    "/a%2Fb/../c;x=1//d?q=%20+&r=/../x",
    "/?",
    "/%41",
    "/a?b?c",
    "/*",
    "//x//",
    "/%e2%82%ac",
    '/?"<>^`{|}',
    "/a@b:c,d!$&'()*+=~",
)


@pytest.mark.parametrize("target", KEPT)
async def test_path_and_query_leave_byte_for_byte(bench: Bench, target: str) -> None:
    for request, listener in ((get(URL + target), "egress"), (path(target), "orders")):
        await bench.prove(Case(request, (served(f"GET {target}"),), (leaves(f"GET {target}"),), listener=listener))


EMPTY_PATHS: Final = {
    "none": (get(URL), "GET /"),
    "a query alone": (get(f"{URL}?q=/x"), "GET /?q=/x"),
    "none of OPTIONS": (get(URL, method="OPTIONS"), "OPTIONS *"),
    "a slash of OPTIONS": (get(f"{URL}/", method="OPTIONS"), "OPTIONS /"),
}


@pytest.mark.parametrize("case", EMPTY_PATHS)
async def test_an_empty_path_becomes_the_root_or_the_whole_server(bench: Bench, case: str) -> None:
    sent, left = EMPTY_PATHS[case]
    await bench.prove(Case(sent, (served(left),), (leaves(left),)))


REVERSE: Final = {
    "origin-form": Case(path("/x"), (served("GET /x"),), (leaves("GET /x"),), listener="orders"),
    "the upstream's own name": Case(path("/x", host=API), (served("GET /x"),), (leaves("GET /x"),), listener="orders"),
    "absolute-form, for itself": Case(
        get("http://localhost/x"), (served("GET /x"),), (leaves("GET /x"),), listener="orders"
    ),
    "absolute-form, for another": Case(
        get("http://stranger.test/x"), (refused(403, "host_unknown"),), listener="orders"
    ),
    "absolute-form, for another, under our Host": Case(
        raw("GET http://localhost.evil.test/x HTTP/1.1", "Host: 127.0.0.1"),
        (refused(403, "host_unknown"),),
        listener="orders",
    ),
    "absolute-form, for us, under another Host": Case(
        raw("GET http://localhost/x HTTP/1.1", "Host: stranger.test"),
        (refused(403, "host_unknown"),),
        listener="orders",
    ),
    "a Host it does not know": Case(
        path("/x", host="stranger.test"), (refused(403, "host_unknown"),), listener="orders"
    ),
    "the whole server": Case(
        path("*", method="OPTIONS"), (served("OPTIONS *"),), (leaves("OPTIONS *"),), listener="orders"
    ),
}


@pytest.mark.parametrize("case", REVERSE)
async def test_a_reverse_listener_leads_to_its_upstream_only(bench: Bench, case: str) -> None:
    await bench.prove(REVERSE[case])


LINE: Final = f"GET {URL}/ HTTP/1.1\r\n"
BAD_HOSTS: Final = {
    "none": LINE + "\r\n",
    "two": LINE + HOST + HOST + "\r\n",
    "two that differ, in odd case": LINE + HOST + "hOST: stranger.test\r\n\r\n",
    "an empty one": LINE + "Host:\r\n\r\n",
    "a list": LINE + f"Host: {API}, stranger.test\r\n\r\n",
    "a space in it": LINE + "Host: a b\r\n\r\n",
    "a path in it": LINE + f"Host: {API}/x\r\n\r\n",
    "a user in it": LINE + f"Host: x@{API}\r\n\r\n",
    "a scheme in it": LINE + f"Host: http://{API}\r\n\r\n",
    "a port that is none": LINE + f"Host: {API}:http\r\n\r\n",
    "a port that is too large": LINE + f"Host: {API}:65536\r\n\r\n",
    "not ASCII": LINE + "Host: \xe4pi.example.test\r\n\r\n",
    "folded": LINE + "Host:\r\n api.example.test\r\n\r\n",
}


@pytest.mark.parametrize("case", BAD_HOSTS)
async def test_a_missing_doubled_or_invalid_host_is_refused(bench: Bench, case: str) -> None:
    await bench.prove(refusal(BAD_HOSTS[case], 400, "bad_request"))


@pytest.mark.parametrize("case", [name for name in BAD_HOSTS if name != "folded"])
async def test_and_on_a_reverse_listener_too(bench: Bench, case: str) -> None:
    sent = BAD_HOSTS[case].replace(f"{URL}/", "/", 1).replace(HOST, "Host: 127.0.0.1\r\n")
    await bench.prove(refusal(sent, 400, "bad_request", listener="orders"))


FORMS: Final = {
    "origin-form": f"GET / HTTP/1.1\r\n{HOST}\r\n",
    "authority-form": f"GET {API}:80 HTTP/1.1\r\n{HOST}\r\n",
    "a bare host": f"GET {API} HTTP/1.1\r\n{HOST}\r\n",
    "an asterisk": f"GET * HTTP/1.1\r\n{HOST}\r\n",
    "an asterisk of OPTIONS": f"OPTIONS * HTTP/1.1\r\n{HOST}\r\n",
    "a path after a slash too many": f"GET //{API}/ HTTP/1.1\r\n{HOST}\r\n",
    "one slash": f"GET http:/{API}/ HTTP/1.1\r\n{HOST}\r\n",
    "CONNECT without a port": f"CONNECT {API} HTTP/1.1\r\n{HOST}\r\n",
    "CONNECT with an empty port": f"CONNECT {API}: HTTP/1.1\r\n{HOST}\r\n",
    "CONNECT with a path": f"CONNECT {API}:443/ HTTP/1.1\r\n{HOST}\r\n",
    "CONNECT in absolute-form": f"CONNECT http://{API}:443 HTTP/1.1\r\n{HOST}\r\n",
    "CONNECT in origin-form": f"CONNECT / HTTP/1.1\r\n{HOST}\r\n",
    "CONNECT with a bare LF before the host": f"CONNECT \n{API}:80 HTTP/1.1\r\n{HOST}\r\n",
    "CONNECT to port 0": f"CONNECT {API}:0 HTTP/1.1\r\n{HOST}\r\n",
}


@pytest.mark.parametrize("case", FORMS)
async def test_other_forms_of_target_are_refused_by_a_forward_listener(bench: Bench, case: str) -> None:
    await bench.prove(refusal(FORMS[case], 400, "bad_request"))


@pytest.mark.parametrize("start", [f"GET {API}:80", "GET *", f"CONNECT {API}:443", f"GET {API}", "GET x/y"])
async def test_other_forms_of_target_are_refused_by_a_reverse_listener(bench: Bench, start: str) -> None:
    await bench.prove(refusal(f"{start} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400, "bad_request", listener="orders"))


BAD_TARGETS: Final = {
    "a user": f"http://user@{API}/",
    "a user and a password": f"http://user:pw@{API}/",
    "an empty user": f"http://@{API}/",
    "a fragment": f"{URL}/#x",
    "a fragment behind a query": f"{URL}/?q#x",
    "an empty host": "http:///x",
    "a port and no host": "http://:80/x",
    "a control character": f"{URL}/\x01",
    "a DEL": f"{URL}/\x7f",
    "a NUL": f"{URL}/\0",
    "a tab": f"{URL}/\t",
    "a bare CR": f"{URL}/\rx",
    "a bare LF": f"{URL}/\nx",
    "a bare LF and a field": f"{URL}/\nX:y",
    "a bare LF and a field, in the query": f"{URL}/?q\nX:y",
    "a bare LF and a field, in the host": f"http://{API}\nX:y",
    "a bare LF and a field, for the host": "http://\na:80",
    "a bare LF at the end": f"{URL}/\n",
    "not ASCII": f"{URL}/\xe9",
    "a backslash": f"{URL}\\@stranger.test/",
    "another scheme": f"ftp://{API}/",
    "a scheme of sockets": f"ws://{API}/",
    "a scheme of files": "file:///etc/passwd",
    "no scheme": f"://{API}/",
    "a space": f"{URL}/a b",
}


@pytest.mark.parametrize("case", BAD_TARGETS)
async def test_a_target_that_two_readers_could_read_differently_is_refused(bench: Bench, case: str) -> None:
    await bench.prove(refusal(f"GET {BAD_TARGETS[case]} HTTP/1.1\r\n{HOST}\r\n", 400, "bad_request"))


@pytest.mark.parametrize("target", ["/\nX:y", "/v1/x\nX:y", "/?q\nTransfer-Encoding:x", "*\nX:y", "\n/", "/\n"])
async def test_a_line_end_inside_a_target_never_leaves(bench: Bench, target: str) -> None:
    """The parser takes it for the end of a request line of HTTP/0.9, and the rest of the line for a field."""
    await bench.prove(
        refusal(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400, "bad_request", listener="orders")
    )


async def test_a_long_target_is_a_414(bench: Bench) -> None:
    for length in (8 * 1024 - len(URL), 60_000):
        await bench.prove(refusal(get(f"{URL}/" + "x" * length), 414, "target_too_long"))
    longest = "/" + "x" * (8 * 1024 - len(URL) - 1)
    await bench.prove(Case(get(URL + longest), (served(f"GET {longest}"),), (leaves(f"GET {longest}"),)))


@pytest.mark.parametrize("method", ["get", "Get", "BREW", "GETT", "G", "X" * 300, "GE!T", "connect"])
async def test_an_unknown_method_is_a_501_and_methods_are_case_sensitive(bench: Bench, method: str) -> None:
    await bench.prove(refusal(f"{method} {URL}/ HTTP/1.1\r\n{HOST}\r\n", 501, "method_unknown"))


@pytest.mark.parametrize("method", ["G\xe9T", "G(T", '"GET"', "G:T", ""])
async def test_what_is_no_token_is_no_method(bench: Bench, method: str) -> None:
    await bench.prove(refusal(f"{method} {URL}/ HTTP/1.1\r\n{HOST}\r\n", 400, "bad_request"))
