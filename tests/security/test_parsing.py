"""Parsing: heads that are not quite HTTP/1.1 are refused, in whatever pieces they come, and answers likewise.

Lines 19 to 26 of the checklist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.proxy.raw_client import get
from tests.proxy.raw_origin import ok
from tests.proxy.rig import API
from tests.security.bench import URL, Case, Gets, leaves, refusal, refused, served

if TYPE_CHECKING:
    from tests.security.bench import Bench

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST: Final = f"Host: {API}\r\n"
LINE: Final = f"GET {URL}/ HTTP/1.1\r\n"

HEADS: Final = {
    # Line ends and control characters.
    "a bare LF after a field": f"{LINE}{HOST}X: y\n\r\n",
    "a bare LF after the request line": f"GET {URL}/ HTTP/1.1\n{HOST}\r\n",
    "a bare LF for the empty line": f"{LINE}{HOST}\n",
    "only bare LFs": f"GET {URL}/ HTTP/1.1\nHost: {API}\n\n",
    "a bare CR in a value": f"{LINE}{HOST}X: y\rz\r\n\r\n",
    "a bare CR in a name": f"{LINE}{HOST}X\rY: z\r\n\r\n",
    "a bare CR before the empty line": f"{LINE}{HOST}\r\r\n\r\n",
    "a CR too many": f"{LINE}{HOST}X: y\r\r\n\r\n",
    "a bare CR as an end of line": f"{LINE}{HOST}X: y\rContent-Length: 5\r\n\r\n",
    "a NUL in a value": f"{LINE}{HOST}X: y\0\r\n\r\n",
    "a NUL in a name": f"{LINE}{HOST}X\0: y\r\n\r\n",
    "a control character in a value": f"{LINE}{HOST}X: \x01y\r\n\r\n",
    "a vertical tab before chunked": f"{LINE}{HOST}Transfer-Encoding: \x0bchunked\r\n\r\n",
    "a DEL in a value": f"{LINE}{HOST}X: \x7f\r\n\r\n",
    # White space.
    "a space before the colon": f"{LINE}{HOST}X : y\r\n\r\n",
    "a tab before the colon": f"{LINE}{HOST}X\t: y\r\n\r\n",
    "a space before the colon of a length": f"{LINE}{HOST}Content-Length : 5\r\n\r\n",
    "a space in a name": f"{LINE}{HOST}X Y: z\r\n\r\n",
    "a folded line": f"{LINE}{HOST}X: y\r\n z\r\n\r\n",
    "a line folded by a tab": f"{LINE}{HOST}X: y\r\n\tz\r\n\r\n",
    "a folded line that is empty": f"{LINE}{HOST}X: y\r\n \r\n\r\n",
    "a folded Transfer-Encoding": f"{LINE}{HOST}Transfer-Encoding:\r\n chunked\r\n\r\n",
    "a space after the request line": f"{LINE} {HOST}\r\n",
    "a tab after the request line": f"{LINE}\t{HOST}\r\n",
    "a line of white space after the request line": f"{LINE} \r\n{HOST}\r\n",
    "two spaces in the request line": f"GET  {URL}/ HTTP/1.1\r\n{HOST}\r\n",
    "a tab in the request line": f"GET\t{URL}/ HTTP/1.1\r\n{HOST}\r\n",
    "a space at the end of the request line": f"GET {URL}/ HTTP/1.1 \r\n{HOST}\r\n",
    "a space before the request line": f" GET {URL}/ HTTP/1.1\r\n{HOST}\r\n",
    # Names.
    "no colon": f"{LINE}{HOST}nonsense\r\n\r\n",
    "an empty name": f"{LINE}{HOST}: x\r\n\r\n",
    "a name that is not ASCII": f"{LINE}{HOST}X\xe9: y\r\n\r\n",
    "a name with a bracket": f"{LINE}{HOST}X(Y): z\r\n\r\n",
    # Versions and other protocols.
    "HTTP/0.9": f"GET {URL}/\r\n\r\n",
    "HTTP/0.9 with a space": f"GET {URL}/ \r\n\r\n",
    "HTTP in lower case": f"GET {URL}/ http/1.1\r\n{HOST}\r\n",
    "HTTP/1": f"GET {URL}/ HTTP/1\r\n{HOST}\r\n",
    "HTTP/01.1": f"GET {URL}/ HTTP/01.1\r\n{HOST}\r\n",
    "HTTP/1.10": f"GET {URL}/ HTTP/1.10\r\n{HOST}\r\n",
    "RTSP": f"GET {URL}/ RTSP/1.0\r\n{HOST}\r\n",
    "ICE": f"SOURCE {URL}/ ICE/1.0\r\n{HOST}\r\n",
}


@pytest.mark.parametrize("case", HEADS)
async def test_a_head_that_is_not_quite_http_is_refused(bench: Bench, case: str) -> None:
    await bench.prove(refusal(HEADS[case], 400, "bad_request"))


VERSIONS: Final = {
    "HTTP/2.0": f"GET {URL}/ HTTP/2.0\r\n{HOST}\r\n",
    "HTTP/1.2": f"GET {URL}/ HTTP/1.2\r\n{HOST}\r\n",
    "HTTP/0.9, written out": f"GET {URL}/ HTTP/0.9\r\n{HOST}\r\n",
    "HTTP/3.0": f"GET {URL}/ HTTP/3.0\r\n{HOST}\r\n",
    "the preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("case", VERSIONS)
async def test_another_version_of_http_is_a_505(bench: Bench, case: str) -> None:
    await bench.prove(refusal(VERSIONS[case], 505, "version_unsupported"))


async def test_another_protocol_altogether_is_refused(bench: Bench) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n"
    await bench.prove(refusal(hello, 400, "bad_request"))
    await bench.prove(refusal(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", 400, "bad_request"))


async def test_a_few_empty_lines_before_a_request_are_ignored_and_many_refused(bench: Bench) -> None:
    await bench.prove(Case(b"\r\n\r\n" + get(f"{URL}/"), (served("GET /"),), (leaves("GET /"),)))
    for bare in (b"\n", b"\r", b"\r\r\n", b"\r\n\n"):
        await bench.prove(refusal(bare + get(f"{URL}/"), 400, "bad_request"))
    await bench.prove(refusal(b"\r\n" * 20 + get(f"{URL}/"), 400, "bad_request", splits=False))


# --- limits -----------------------------------------------------------------------------------------------------------

LIMITED: Final = {
    "a line": get(f"{URL}/", "X: " + "y" * 66_000),
    "a name": get(f"{URL}/", "y" * 66_000 + ": x"),
    "many lines": get(f"{URL}/", *(f"X-{number}: {'y' * 1000}" for number in range(70))),
    "the count of lines": get(f"{URL}/", *(f"X-{number}: y" for number in range(128))),
    "lines without an end": get(f"{URL}/", "X: " + "y" * 70_000)[:-2],
}


@pytest.mark.parametrize("case", LIMITED)
async def test_a_head_over_a_limit_is_a_431(bench: Bench, case: str) -> None:
    await bench.prove(refusal(LIMITED[case], 431, "head_too_large"))


async def test_a_head_within_the_limits_is_served(bench: Bench) -> None:
    fields = [f"X-{number}: {'y' * 400}" for number in range(127)]
    await bench.prove(Case(get(f"{URL}/", *fields), (served("GET /"),), (leaves("GET /", *fields),)))


async def test_a_request_line_without_an_end_is_a_414_before_it_has_one(bench: Bench) -> None:
    case = Case(
        f"GET {URL}/".encode() + b"x" * 66_000,
        (refused(414, "target_too_long", has=("Connection: close",)),),
        ends=True,
    )
    await bench.prove(case)


async def test_a_trailer_over_its_limit_is_refused_and_the_request_never_ends(bench: Bench) -> None:
    lead = get(f"{URL}/", "Transfer-Encoding: chunked", method="PUT") + b"2\r\nab\r\n0\r\n"
    begun = (leaves("PUT /", body=b"ab", chunked=True, whole=False),)
    for trailer in (b"X: " + b"y" * 9000, b"X: y\r\n" * 4000):
        wanted = refusal(trailer, 431, "head_too_large", begun=begun, lead=lead, splits=len(trailer) < 10_000)
        await bench.prove(wanted)


# --- answers ----------------------------------------------------------------------------------------------------------

ANSWERS: Final = {
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a status of 99": b"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
    "a status of 600": b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n",
    "a status of 999": b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "a signed status": b"HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 \r\nContent-Length: 0\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    "a control character in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
    "a bare LF after the status line": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "a bare LF after a field": b"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 0\r\n\r\n",
    "a bare CR": b"HTTP/1.1 200 OK\r\nX: y\rContent-Length: 5\r\n\r\n",
    "a NUL": b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 0\r\n\r\n",
    "a space before a colon": b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon of a length": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "a folded line": b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n",
    "white space after the status line": b"HTTP/1.1 200 OK\r\n X: y\r\nContent-Length: 0\r\n\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n",
    "an empty name": b"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n",
    "a head over the limit": ok(b"", "X: " + "y" * 66_000),
    "lines over the limit": ok(b"", *(f"X-{number}: y" for number in range(128))),
    "a head without an end": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 66_000,
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_that_is_not_quite_http_is_a_502(bench: Bench, case: str) -> None:
    await bench.prove_answer(ANSWERS[case], refused(502, "protocol"), kept=False)


async def test_an_answer_within_the_limits_is_relayed(bench: Bench) -> None:
    fields = [f"X-{number}: {'y' * 400}" for number in range(127)]
    await bench.prove_answer(ok(b"x", *fields), Gets(200, b"x", has=tuple(fields)), kept=True)
    await bench.prove_answer(b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", Gets(200, b"x"), kept=True)
