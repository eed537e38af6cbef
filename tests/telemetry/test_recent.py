"""The last requests: what is kept of them, what is shown, and what never is."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest

from sidecar.secrets import Secret
from sidecar.telemetry.recent import KEPT_BYTES, MOST, SHOWN, RecentRequests

NOW = 1_700_000_000.0


def note(
    recent: RecentRequests, target: bytes = b"/v1/orders", *, host: bytes = b"api.example.com", ago: float = 0.0
) -> None:
    start = time.perf_counter() - ago
    recent.note((start, 0.0125, b"GET", "orders-api", host, target[:KEPT_BYTES], 200, "injected", 3, ""))


def paths(recent: RecentRequests) -> list[str]:
    return [entry["path"] for entry in recent.entries(wall=NOW)]


def test_a_request_is_shown_with_what_became_of_it() -> None:
    recent = RecentRequests()
    note(recent, ago=2.0)
    [entry] = recent.entries(wall=NOW)
    assert entry.pop("at") == pytest.approx(NOW - 2, abs=0.5)
    assert entry == {
        "method": "GET",
        "route": "orders-api",
        "host": "api.example.com",
        "path": "/v1/orders",
        "status": 200,
        "duration_ms": 12.5,
        "injection": "injected",
        "generation": 3,
        "reason": "",
    }


def test_the_newest_comes_first_and_the_oldest_is_forgotten() -> None:
    recent = RecentRequests()
    for number in range(MOST + 2):
        note(recent, b"/%d" % number)
    assert paths(recent) == [f"/{number}" for number in range(MOST + 1, 1, -1)]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/v1/orders?api_key=canary", "/v1/orders"),
        (b"http://api.example.com/v1?x=canary", "/v1"),
        (b"http://user:canary@api.example.com/v1", "/v1"),
        (b"http://api.example.com", "/"),
        (b"*", "*"),
        (b"/caf\xc3\xa9", "/caf\\xc3\\xa9"),
        (b"/" + b"x" * 5000, "/" + "x" * (SHOWN - 1)),
    ],
)
def test_a_path_is_shown_without_its_query_and_no_longer_than_a_line(target: bytes, path: str) -> None:
    recent = RecentRequests()
    note(recent, target)
    assert paths(recent) == [path]


def test_a_live_secret_and_what_looks_like_a_token_are_taken_out() -> None:
    secret = Secret("canary-of-a-client")
    recent = RecentRequests()
    note(recent, b"/reset/canary-of-a-client/now")
    note(recent, b"/t/eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl")
    note(recent, host=b"canary-of-a-client.example.com")
    text = json.dumps(recent.entries(wall=NOW))
    assert secret.reveal() not in text
    assert "eyJ" not in text
    assert "/reset/[redacted]/now" in text


def test_what_reorders_text_on_a_screen_is_written_out() -> None:
    recent = RecentRequests()
    note(recent, host=b"a\x1b[2Jb")
    assert recent.entries(wall=NOW)[0]["host"] == "a\\u001b[2Jb"


def test_nothing_is_made_anew_while_nothing_comes() -> None:
    recent = RecentRequests()
    note(recent)
    first = recent.entries(wall=NOW)
    assert recent.entries(wall=NOW + 5) is first
    note(recent)
    assert len(recent.entries(wall=NOW + 5)) == 2


@pytest.mark.parametrize("kind", ["plain", "percent-encoded"])
def test_a_secret_that_is_longer_than_what_is_kept_of_a_path_is_not_shown_by_its_first_half(kind: str) -> None:
    recent = RecentRequests()
    secret = Secret("opaque/" + "Zz9" * 500)
    sent = secret.reveal() if kind == "plain" else quote(secret.reveal(), safe="")
    note(recent, b"/callback/" + sent.encode())
    assert paths(recent) == ["/callback/[redacted]"]


def test_a_long_host_and_a_long_method_are_cut_like_a_path() -> None:
    recent = RecentRequests()
    recent.note((0.0, 0.0, b"M" * 5000, "_unmatched", b"h" * 5000, b"/", 403, "", 0, "target_unmatched"))
    [entry] = recent.entries(wall=NOW)
    assert (entry["method"], entry["host"]) == ("M" * SHOWN, "h" * SHOWN)
