"""The matrix of spellings: which authority gets a token, which is refused, and with what; and paths and names likewise.

Whatever two readers could take for different hosts must get no token (Smokescreen CVE-2022-24825 and CVE-2022-29188).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.proxy.raw_client import get
from tests.proxy.raw_origin import ok
from tests.proxy.rig import API
from tests.security.bench import PREFIXED, URL, Case, Gets, leaves, refusal, refused, served

if TYPE_CHECKING:
    from tests.proxy.rig import Rig
    from tests.security.bench import Bench

in_one_loop = pytest.mark.asyncio(loop_scope="module")


def raw(target: str, host: str = API, method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")


OURS: Final = (
    API,
    API.upper(),
    "aPi.eXample.Test",
    f"{API}.",
    f"{API}:80",
    f"{API}.:80",
    f"{API}:080",
)
INVALID: Final = (
    f"{API}..",
    f".{API}",
    "api..example.test",
    f"{API}:",
    f"{API}:http",
    f"{API}:+80",
    f"{API}:-80",
    f"{API}:8_0",
    f"{API}:0",
    f"{API}:65616",  # 80, and 2 to the 16th
    f"{API}:000080",
    f"{API}:80:80",
    f"x@{API}",
    f"{API}@evil.test",
    f"x:y@{API}",
    f"@{API}",
    f"[{API}]",
    f"[{API}]:80",
    f"[{API}",
    f"{API}]",
    f"{API}%2e",
    "api%2eexample.test",
    "%61pi.example.test",
    f"{API}%00",
    f"{API}%20",
    f"{API},evil.test",
    f"{API};evil.test",
    f"{API}&evil.test",
    f"{API}\\.evil.test",
    "\xe4pi.example.test",
    "\xef\xbd\x81pi.example.test",  # a wide a
    "api\xe3\x80\x82example\xe3\x80\x82test",  # ideographic full stops
    "ap\xc4\xb1.example.test",  # an i without its dot
    "api\xc2\xad.example.test",  # a soft hyphen
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "127.0.0.01",
    "127.0.0.0x1",
    "127.0.0.1.1",
    "127.0.0.256",
    "[::1%25eth0]",
    "[fe80::1%25lo]:80",
    "[::1%lo]",
    "[::1]x",
    "[::1]:",
    "[::1",
    "[]",
    "[v1.x]",
    "[127.0.0.1]",
    "a" * 64 + ".test",
    ".".join(["a" * 60] * 5),
)
STRANGERS: Final = (
    f"evil{API}",
    f"evil.{API}",
    f"{API}.evil.test",
    f"{API}-evil.test",
    "example.test",
    "api-example.test",
    "api_example.test",
    "xn--pi-7ba.example.test",
    "xn--api-example-test-",
    f"{API}:81",
    f"{API}:443",
    f"{API}:8080",
    "localhost",
    "127.0.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::ffff:169.254.169.254]",
    "169.254.169.254",
    "0.0.0.0",
    "[::]",
    "stranger.test",
)


@in_one_loop
@pytest.mark.parametrize("spelling", OURS)
async def test_one_host_in_another_spelling_gets_its_token_under_its_own_name(bench: Bench, spelling: str) -> None:
    for host in (API, spelling):
        await bench.prove(Case(raw(f"http://{spelling}/x", host), (served("GET /x"),), (leaves("GET /x"),)))


@in_one_loop
async def test_the_ports_of_the_route_get_the_token_whatever_the_scheme(bench: Bench) -> None:
    for scheme in ("http", "https"):
        target = f"{scheme}://{API}:{bench.origin.port}/x"
        await bench.prove(Case(raw(target), (served("GET /x"),), (leaves("GET /x"),)))
    await bench.prove(Case(raw(f"https://{API}/x"), (refused(403, "target_unmatched"),)))


@in_one_loop
@pytest.mark.parametrize("spelling", INVALID)
async def test_what_two_readers_could_read_differently_is_refused_in_target_and_host(
    bench: Bench, spelling: str
) -> None:
    if "\\" not in spelling:
        await bench.prove(refusal(raw(URL + "/x", spelling), 400, "bad_request", splits=False))
    await bench.prove(refusal(raw(f"http://{spelling}/x"), 400, "bad_request", splits=False))


@in_one_loop
@pytest.mark.parametrize("spelling", STRANGERS)
async def test_another_host_gets_no_token_and_nothing_is_sent_to_it(bench: Bench, spelling: str) -> None:
    await bench.prove(Case(raw(f"http://{spelling}/x"), (refused(403, "target_unmatched"),), splits=False))
    await bench.prove(Case(raw(f"http://{spelling}/x", spelling), (refused(403, "target_unmatched"),), splits=False))


@in_one_loop
@pytest.mark.parametrize("spelling", [each for each in STRANGERS if ":8" not in each and ":4" not in each])
async def test_a_tunnel_to_another_host_is_refused(bench: Bench, spelling: str) -> None:
    await bench.prove(refusal(raw(f"{spelling}:443", method="CONNECT"), 403, "target_unmatched", splits=False))


KNOWN: Final = ("127.0.0.1", "localhost", "LOCALHOST.", "[::1]", API, f"{API.upper()}:1", "[::ffff:127.0.0.1]")
OURSELVES: Final = frozenset(("localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"))


@in_one_loop
@pytest.mark.parametrize("spelling", KNOWN)
async def test_a_reverse_listener_knows_its_own_names_in_any_spelling(bench: Bench, spelling: str) -> None:
    case = Case(raw("/x", spelling), (served("GET /x"),), (leaves("GET /x"),), listener="orders", splits=False)
    await bench.prove(case)


@in_one_loop
@pytest.mark.parametrize(
    "spelling",
    [each for each in STRANGERS if each not in OURSELVES and "0:ffff" not in each and not each.startswith(f"{API}:")],
)
async def test_a_reverse_listener_gives_nothing_to_another_name(bench: Bench, spelling: str) -> None:
    case = Case(raw("/x", spelling), (refused(403, "host_unknown"),), listener="orders", splits=False)
    await bench.prove(case)


# --- paths ------------------------------------------------------------------------------------------------------------

BELOW: Final = (
    "/v1/",
    "/v1/x",
    "/v1/x/../y",
    "/v1/./x",
    "/v1/%2e/x",
    "/v1/a%2fb",
    "/v1/x?/../../v2",
    "/v1/x?%2e%2e",
    "/v1/...",
    "/v1/x..y",
    "/v1//x",
)
OUTSIDE: Final = (
    "/v2/",
    "/v1",
    "/V1/",
    "/",
    "//v1/",
    "/v1?/v1/",
    "/v1x/",
    "/v1%2fx",
    "/%76%31/",
    "/v1/..",
    "/v1/../v2/",
    "/v1/../v1/../v2",
    "/v1/%2e%2e/v2",
    "/v1/%2E%2e/v2",
    "/v1/.%2e/v2",
    "/v1/%2e./v2",
    "/v1/..%2fv2",
    "/v1/%2e%2e%2fv2",
    "/v1/..%2Fv2",
    "/v1/..%5cv2",
    "/v1/%252e%252e/v2",
    "/v1/%252e%252e%252fv2",
    "/v1/..;/v2",
    "/v1/..;x=y/v2",
    "/v1/%2e%2e;/v2",
    "/v1/x/../../v2",
    "/v1/x/%2e%2e/%2e%2e/v2",
    "/v1/./../v2",
    "/v1//../v2",
    "/v1/x//../../../v2",
    "/v1/x%2f..%2f..%2fv2",
)
UNREADABLE: Final = ("/v1/%25252e%25252e/v2", "/v1/%00", "/v1/%0d%0aX:y", "/v1/..\\v2", "/v1/%2500")


@in_one_loop
@pytest.mark.parametrize("path", BELOW)
async def test_a_path_below_the_prefix_gets_the_token_byte_for_byte(bench: Bench, path: str) -> None:
    wanted = (leaves(f"GET {path}", host=PREFIXED),)
    await bench.prove(Case(get(f"http://{PREFIXED}{path}"), (served(f"GET {path}"),), wanted, splits=False))


@in_one_loop
@pytest.mark.parametrize("path", OUTSIDE)
async def test_a_path_that_any_reader_resolves_out_of_the_prefix_gets_none(bench: Bench, path: str) -> None:
    await bench.prove(Case(get(f"http://{PREFIXED}{path}"), (refused(403, "route_mismatch"),), splits=False))


@in_one_loop
@pytest.mark.parametrize("path", UNREADABLE)
async def test_a_path_that_no_two_readers_agree_on_is_refused(bench: Bench, path: str) -> None:
    await bench.prove(refusal(get(f"http://{PREFIXED}{path}"), 400, "bad_request", splits=False))


@in_one_loop
async def test_another_method_than_the_route_names_gets_no_token(bench: Bench) -> None:
    for method in ("POST", "HEAD", "OPTIONS"):
        answer = Gets(403, reason="route_mismatch", head_only=method == "HEAD")
        await bench.prove(Case(get(f"http://{PREFIXED}/v1/", method=method), (answer,), splits=False))


# --- names ------------------------------------------------------------------------------------------------------------


class MovingNames(dict[str, list[str] | None]):
    """Answers that change with every look-up (DNS rebinding)."""

    def __init__(self, *answers: list[str]) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked = 0

    def get(self, key: str, default: object = None) -> list[str] | None:
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


async def test_a_name_that_moves_to_the_metadata_service_is_never_dialled(rig: Rig) -> None:
    rig.names = names = MovingNames(["127.0.0.1"], ["169.254.169.254"], ["::ffff:169.254.169.254"], ["fd00:ec2::254"])
    await rig.start(limits={"dns_ttl": "0s"})
    client = await rig.client()
    rig.secure.reply(ok(b"first", "Connection: close"))
    assert (await client.ask(get(f"{URL}/"))).body == b"first"
    assert names.asked == 1, "what was checked is what was dialled"
    for _ in range(3):
        answer = await client.ask(get(f"{URL}/"))
        assert (answer.status, answer.reason) == (403, "address_denied")
    assert (names.asked, len(rig.secure.requests)) == (4, 1)


async def test_of_a_mixed_answer_only_what_may_be_dialled_is(rig: Rig) -> None:
    rig.names[API] = ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "127.0.0.1"]
    await rig.start()
    client = await rig.client()
    assert (await client.ask(get(f"{URL}/"))).body == b"GET / 0"
